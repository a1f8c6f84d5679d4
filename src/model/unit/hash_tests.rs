//! What a restart would change: which settings are in which part of the hash that rides on a service.

use super::tests::{FULL, TOP, account, image, machine, made_from, one};
use super::*;
use crate::model::{config, desired};

/// The parts that a restart would change, going from one configuration to another.
fn pending(before: &str, after: &str) -> Vec<Part> {
    made_from(before).1.differences(&made_from(after).1)
}

#[test]
fn each_part_of_the_hash_stands_for_its_own_settings() {
    let dan = "[workspaces.dan]\n";
    for (more, parts) in [
        ("", vec![]),
        ("memory_limit = '1G'\nmemory_soft_limit = '1G'", vec![]),
        (
            "memory_low = '64M'\ncpu_limit = '0.5'\ncpu_weight = 7\ntasks_max = 999",
            vec![],
        ),
        ("apply = 'now'\nport = 9001\npassword_file = '/run/secrets/p'", vec![]),
        ("environment = { A = 'b' }", vec![Part::Environment]),
        ("secret_environment = { A = '/run/secrets/a' }", vec![Part::Environment]),
        ("account = 'someone'", vec![Part::Runtime]),
    ] {
        assert_eq!(pending(dan, &format!("{dan}{more}")), parts, "{more}");
    }
    let workspace = one(dan);
    let account = account("csm-dan");
    let (_, old) = service(&workspace, &account, &machine(), &image('a'));
    let (_, new) = service(&workspace, &account, &machine(), &image('b'));
    assert_eq!(old.differences(&new), [Part::Image]);
    let moved = Machine {
        own_addresses: Vec::new(),
        ..machine()
    };
    assert_eq!(
        service(&workspace, &account, &moved, &image('a')).1,
        old,
        "denied networks are set live"
    );
    let other_podman = Machine {
        podman: "/opt/podman".into(),
        ..machine()
    };
    assert_eq!(
        old.differences(&service(&workspace, &account, &other_podman, &image('a')).1),
        [Part::Runtime]
    );
}

/// Every key that the schema calls pending is one whose change a running workspace shows as pending.
#[test]
fn what_the_schema_calls_pending_differs_in_the_hash() {
    let dan = "[workspaces.dan]\n";
    let of = |text: &str, digit| {
        let config = config::parse(text).expect("a right configuration");
        let mut desired = desired::build(&config, machine(), &[].into());
        let workspace = desired.workspaces.pop_first().expect("a workspace").1;
        let account = account(workspace.account.as_str());
        service(&workspace, &account, &machine(), &image(digit)).1
    };
    let before = of(&format!("{TOP}{dan}"), 'a');
    let mut tried = std::collections::BTreeSet::new();
    for (key, after) in [
        (
            "workspace_base",
            of(&format!("workspace_base = '/srv/homes'\n{TOP}{dan}"), 'a'),
        ),
        (
            "reserved_ports",
            of(&format!("reserved_ports = [5353]\n{TOP}{dan}"), 'a'),
        ),
        // Another name is another image.
        ("name", of(&format!("{TOP}{dan}"), 'b')),
        ("account", of(&format!("{TOP}{dan}account = 'someone'"), 'a')),
        (
            "environment",
            of(&format!("{TOP}{dan}environment = {{ A = 'b' }}"), 'a'),
        ),
        (
            "secret_environment",
            of(&format!("{TOP}{dan}secret_environment = {{ A = '/run/a' }}"), 'a'),
        ),
    ] {
        assert_eq!(before.differences(&after).len(), 1, "{key}");
        tried.insert(key.to_owned());
    }
    let mut pending = std::collections::BTreeSet::new();
    collect_pending(
        &serde_json::to_value(config::schema::schema()).expect("JSON"),
        "",
        &mut pending,
    );
    assert_eq!(tried, pending);
}

/// The names of properties that are marked so, wherever they are.
fn collect_pending(schema: &serde_json::Value, name: &str, found: &mut std::collections::BTreeSet<String>) {
    if let Some(fields) = schema.as_object() {
        if fields.get("x-applies").is_some_and(|applies| applies == "pending") {
            found.insert(name.to_owned());
        }
        for (key, inner) in fields {
            collect_pending(inner, key, found);
        }
    }
}

/// The shared mounts are part of what a service was made from: another owner of the store, another group of the web.
#[test]
fn other_mounts_are_another_runtime() {
    let workspace = one("[workspaces.dan]\n");
    let account = account("csm-dan");
    let (_, old) = service(&workspace, &account, &machine(), &image('a'));
    let mut other = machine();
    other.images.subuid += 65_536;
    for other in [
        Machine {
            web_gid: 951,
            ..machine()
        },
        other,
    ] {
        let (_, new) = service(&workspace, &account, &other, &image('a'));
        assert_eq!(old.differences(&new), [Part::Runtime]);
    }
}

/// `A=1` and `B=2` are not `A=1B` and `=2`: words are counted into the hash with their length.
#[test]
fn a_shifted_boundary_is_a_difference() {
    let with = |environment: &str| made_from(&format!("[workspaces.dan]\nenvironment = {{ {environment} }}")).1;
    assert_ne!(with("A = 'xB=y'"), with("A = 'x', B = 'y'"));
    assert_ne!(with("A = ''"), with("A = 'A='"));
}

#[test]
fn a_hash_is_read_back_from_the_description() {
    let (spec, hash) = made_from(FULL);
    assert_eq!(SpecHash::parse(description(&spec)), Some(hash));
    for foreign in [
        "",
        "Podman",
        "code-server-multi workspace",
        "code-server-multi workspace dan image=1",
    ] {
        assert_eq!(SpecHash::parse(foreign), None, "{foreign}");
    }
}
