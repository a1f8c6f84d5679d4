//! Publication, against an nginx that refuses what it is told to.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use super::{Culprit, NginxError, Proof, Published, Publisher, UnitState, probe};
use crate::model::nginx::generation::{BASE_FILE, Generation, workspace_of};
use crate::model::nginx::render;
use crate::model::nginx::tests::config;

mod fake;

use fake::world;

fn generation(names: &[(&str, Option<u16>)]) -> Generation {
    render(&config(names), true).unwrap()
}

fn refused(result: Result<Published, NginxError>) -> (Vec<String>, String) {
    match result {
        Err(NginxError::Refused { culprits, in_force }) => {
            for Culprit { file, workspace, .. } in &culprits {
                assert_eq!(*workspace, workspace_of(file));
            }
            (culprits.into_iter().map(|culprit| culprit.file).collect(), in_force)
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn puts_a_generation_in_force_once() {
    let world = world();
    let one = generation(&[("dan", None)]);
    let published = world.publisher.publish(&one).await.unwrap();
    assert_eq!(
        published,
        Published {
            digest: one.digest().to_owned(),
            reloaded: true,
            proof: Proof::Served
        }
    );
    world.assert_serves(one.digest());
    assert_eq!(world.fake.reloads(), 1);
    let again = world.publisher.publish(&one).await.unwrap();
    assert_eq!(
        (again.reloaded, again.proof, world.fake.reloads()),
        (false, Proof::Served, 0)
    );
    for (name, text) in one.files() {
        assert_eq!(world.file(name), Some(text));
    }
    let mode = |path: &str| {
        fs::metadata(world.dir.path().join("nginx").join(path))
            .unwrap()
            .permissions()
            .mode()
            & 0o7777
    };
    assert_eq!(
        (
            mode("."),
            mode("generations"),
            mode("current/."),
            mode("current/dan.conf")
        ),
        (0o750, 0o750, 0o750, 0o640)
    );
}

#[tokio::test]
async fn keeps_two_generations() {
    let world = world();
    let [one, two, three] = [8081, 8082, 8083].map(|port| generation(&[("dan", Some(port))]));
    for generation in [&one, &two, &three] {
        world.publisher.publish(generation).await.unwrap();
    }
    let kept: BTreeSet<String> = [two.digest().to_owned(), three.digest().to_owned()].into();
    assert_eq!(world.generations(), kept);
}

/// Each file is synced when it is written, which is most of what one more workspace costs.
#[tokio::test]
async fn writes_only_what_is_new() {
    let world = world();
    let inode = |name: &str| {
        fs::metadata(world.dir.path().join("nginx/current").join(name))
            .unwrap()
            .ino()
    };
    world.publisher.publish(&generation(&[("dan", None)])).await.unwrap();
    let before = inode("dan.conf");
    let two = generation(&[("alice", None), ("dan", None)]);
    world.publisher.publish(&two).await.unwrap();
    assert_eq!(inode("dan.conf"), before);
    for (name, text) in two.files() {
        assert_eq!(world.file(name), Some(text));
    }
    let other = generation(&[("alice", None), ("dan", Some(8443))]);
    world.publisher.publish(&other).await.unwrap();
    assert_ne!(inode("dan.conf"), before);
    assert!(world.file("dan.conf").unwrap().contains("127.0.0.1:8443"));
}

#[tokio::test]
async fn names_the_file_at_fault_and_serves_the_rest() {
    for late in [false, true] {
        for culprits in [&["c"][..], &["a"], &["e"], &["a", "d"], &["a", "b", "c", "d", "e"]] {
            let world = world();
            let before = generation(&[("a", None), ("c", None), ("gone", None)]);
            world.publisher.publish(&before).await.unwrap();
            let old_c = world.file("c.conf");
            world.fake.set(|state| state.late = late);
            let names = ["a", "b", "c", "d", "e"];
            let port = |name: &str| Some(9000 + u16::from(name.as_bytes()[0]));
            let ports: Vec<(&str, Option<u16>)> = names.iter().map(|name| (*name, port(name))).collect();
            let wanted = generation(&ports);
            let words = culprits
                .iter()
                .map(|name| format!("listen 127.0.0.1:{};", port(name).unwrap()))
                .collect();
            world.fake.set(|state| state.refused = words);

            let (found, in_force) = refused(world.publisher.publish(&wanted).await);
            let expected: Vec<String> = culprits.iter().map(|name| format!("{name}.conf")).collect();
            assert_eq!(found, expected);
            world.assert_serves(&in_force);
            assert_eq!(world.file("gone.conf"), None);
            for name in names {
                let file = format!("{name}.conf");
                let new = wanted.files().find(|(name, _)| *name == file).unwrap().1;
                match (culprits.contains(&name), name) {
                    (false, _) => assert_eq!(world.file(&file), Some(new)),
                    // It keeps what it had.
                    (true, "c") => assert_eq!(world.file(&file), old_c),
                    (true, "a") => assert!(world.file(&file).is_some()),
                    (true, _) => assert_eq!(world.file(&file), None),
                }
            }

            // Asked again while the cause lasts: one failing reload, no more, and the answer is the same.
            world.fake.reloads();
            assert_eq!(refused(world.publisher.publish(&wanted).await), (expected, in_force));
            assert_eq!(world.fake.reloads(), 1);
            // The cause is gone: mended without anyone's help.
            world.fake.set(|state| state.refused.clear());
            world.publisher.publish(&wanted).await.unwrap();
            world.assert_serves(wanted.digest());
        }
    }
}

#[tokio::test]
async fn finds_the_culprit_of_many_in_few_reloads() {
    let world = world();
    let names: Vec<String> = (0..32).map(|number| format!("w{number}")).collect();
    let wanted: Vec<(&str, Option<u16>)> = names
        .iter()
        .map(|name| (name.as_str(), (name == "w27").then_some(9000)))
        .collect();
    world
        .fake
        .set(|state| state.refused = vec!["listen 127.0.0.1:9000;".to_owned()]);
    let (culprits, in_force) = refused(world.publisher.publish(&generation(&wanted)).await);
    assert_eq!(culprits, ["w27.conf"]);
    world.assert_serves(&in_force);
    assert!(world.fake.reloads() <= 13);
}

#[tokio::test]
async fn a_bad_base_file_changes_nothing() {
    let world = world();
    let before = generation(&[("dan", None)]);
    world.publisher.publish(&before).await.unwrap();
    let mut config = config(&[("dan", None), ("eve", None)]);
    config.nginx.certificate = "/missing.pem".into();
    world.fake.set(|state| state.refused = vec!["/missing.pem".to_owned()]);
    let (culprits, in_force) = refused(world.publisher.publish(&render(&config, true).unwrap()).await);
    assert_eq!(
        (culprits, in_force.as_str()),
        (vec![BASE_FILE.to_owned()], before.digest())
    );
    world.assert_serves(before.digest());
}

#[tokio::test]
async fn old_files_that_fail_by_now_are_replaced() {
    let world = world();
    world
        .publisher
        .publish(&generation(&[("dan", None), ("eve", None)]))
        .await
        .unwrap();
    // The old certificate is gone, and one new file has a fault of its own.
    let words = ["/etc/cert/fullchain.pem", "listen 127.0.0.1:9000;"];
    world.fake.set(|state| state.refused = words.map(str::to_owned).into());
    let mut config = config(&[("dan", None), ("eve", Some(9000))]);
    config.nginx.certificate = "/new.pem".into();
    let (culprits, in_force) = refused(world.publisher.publish(&render(&config, true).unwrap()).await);
    assert_eq!(culprits, ["eve.conf"]);
    world.assert_serves(&in_force);
    assert!(world.file("dan.conf").unwrap().contains("/new.pem"));
    assert_eq!(world.file("eve.conf"), None);
}

#[tokio::test]
async fn a_configuration_that_fails_without_us_is_left_alone() {
    for late in [false, true] {
        let world = world();
        let before = generation(&[("dan", None)]);
        world.publisher.publish(&before).await.unwrap();
        world.fake.set(|state| (state.foreign, state.late) = (true, late));
        for _ in 0..2 {
            // A late refusal can't be told from one that served the old files on; they are in force in both cases.
            match world
                .publisher
                .publish(&generation(&[("dan", None), ("eve", None)]))
                .await
            {
                Err(error @ NginxError::Foreign { .. }) => {
                    assert!(!late);
                    assert!(
                        error
                            .to_string()
                            .ends_with("unknown directive in /etc/nginx/own.conf:1"),
                        "{error}"
                    );
                }
                Err(NginxError::Refused { in_force, .. }) => assert!(late && in_force == before.digest()),
                other => panic!("{other:?}"),
            }
            world.assert_serves(before.digest());
        }
        world.fake.set(|state| state.foreign = false);
        let wanted = generation(&[("dan", None), ("eve", None)]);
        world.publisher.publish(&wanted).await.unwrap();
        world.assert_serves(wanted.digest());
    }
}

#[tokio::test]
async fn a_failing_first_generation_leaves_no_link() {
    let world = world();
    world.fake.set(|state| state.foreign = true);
    let result = world.publisher.publish(&generation(&[("dan", None)])).await;
    assert!(matches!(result, Err(NginxError::Foreign { .. })), "{result:?}");
    assert_eq!((world.link("current"), world.link("good")), (None, None));
}

#[tokio::test]
async fn an_nginx_that_is_stopped_reads_it_when_it_starts() {
    let world = world();
    world.fake.set(|state| state.unit = UnitState::Inactive);
    let one = generation(&[("dan", None)]);
    let published = world.publisher.publish(&one).await.unwrap();
    assert_eq!((published.reloaded, published.proof), (false, Proof::NotRunning));
    assert_eq!(
        (world.link("current").as_deref(), world.link("good")),
        (Some(one.digest()), None)
    );
    assert_eq!(world.fake.reloads(), 0);
}

#[tokio::test]
async fn an_nginx_that_failed_finds_what_it_last_served() {
    for state in [UnitState::Failed, UnitState::Starting] {
        let world = world();
        let good = generation(&[("dan", None)]);
        world.publisher.publish(&good).await.unwrap();
        world.fake.set(|state| state.unit = UnitState::Inactive);
        let bad = generation(&[("dan", Some(9000))]);
        world.publisher.publish(&bad).await.unwrap();
        assert_eq!(world.link("current").as_deref(), Some(bad.digest()));
        world.fake.set(|fake| fake.unit = state);
        let result = world.publisher.publish(&bad).await;
        assert!(matches!(result, Err(NginxError::Down { .. })), "{result:?}");
        assert_eq!(world.link("current").as_deref(), Some(good.digest()));
    }
}

#[tokio::test]
async fn a_crash_between_swap_and_reload_is_made_good() {
    let world = world();
    let [good, bad] = [None, Some(9000)].map(|port| generation(&[("dan", port)]));
    world.publisher.publish(&good).await.unwrap();
    world.fake.set(|state| state.unit = UnitState::Inactive);
    world.publisher.publish(&bad).await.unwrap();
    world.fake.set(|state| state.unit = UnitState::Active);
    world
        .fake
        .set(|state| state.refused = vec!["listen 127.0.0.1:9000;".to_owned()]);
    let (culprits, in_force) = refused(world.publisher.publish(&bad).await);
    assert_eq!(culprits, ["dan.conf"]);
    world.assert_serves(&in_force);
    let old = good.files().find(|(name, _)| *name == "dan.conf").unwrap().1;
    assert_eq!(world.file("dan.conf"), Some(old));
}

#[tokio::test]
async fn a_generation_that_was_changed_on_disk_is_written_anew() {
    let world = world();
    let one = generation(&[("dan", None)]);
    world.fake.set(|state| state.unit = UnitState::Inactive);
    world.publisher.publish(&one).await.unwrap();
    fs::write(world.dir.path().join("nginx/current/dan.conf"), "broken").unwrap();
    fs::write(world.dir.path().join("nginx/current/more.conf"), "more").unwrap();
    world.publisher.publish(&one).await.unwrap();
    assert!(world.file("dan.conf").unwrap().contains("server_name dan"));
    assert_eq!(world.file("more.conf"), None);
}

#[tokio::test]
async fn without_the_drop_in_the_job_has_to_do() {
    let world = world();
    assert!(world.publisher.can_probe().await.unwrap());
    world.fake.set(|state| state.drop_in = false);
    assert!(!world.publisher.can_probe().await.unwrap());
    let one = render(&config(&[("dan", None)]), false).unwrap();
    world
        .fake
        .set(|state| state.refused = vec!["listen 127.0.0.1:9000;".to_owned()]);
    assert_eq!(world.publisher.publish(&one).await.unwrap().proof, Proof::Reloaded);
    assert!(!world.publisher.publish(&one).await.unwrap().reloaded);
    let two = render(&config(&[("dan", Some(9000)), ("eve", None)]), false).unwrap();
    let (culprits, in_force) = refused(world.publisher.publish(&two).await);
    assert_eq!(culprits, ["dan.conf"]);
    assert_eq!(world.link("current"), Some(in_force));
}

#[tokio::test]
async fn unknown_is_not_absent() {
    let world = world();
    let one = generation(&[("dan", None)]);
    let seen = world.publisher.observe().await;
    assert_eq!(seen.current, Ok(None));
    assert_eq!(seen.served.unwrap_err(), "nginx answers the probe with status 404");
    world.publisher.publish(&one).await.unwrap();
    let seen = world.publisher.observe().await;
    let digest = Ok(Some(one.digest().to_owned()));
    assert_eq!(
        (seen.current, seen.served, seen.state),
        (digest.clone(), digest, Ok(UnitState::Active))
    );
    world.fake.set(|state| state.unit = UnitState::Inactive);
    assert_eq!(world.publisher.observe().await.served, Ok(None));
    let missing = probe::served(&world.dir.path().join("missing.sock")).await;
    assert!(matches!(missing, Err(probe::ProbeError::Connect(_))));
}

#[test]
fn a_refusal_says_what_and_why() {
    let culprit = |file: &str, port, reason: &str| Culprit {
        file: file.to_owned(),
        workspace: workspace_of(file),
        port,
        reason: reason.to_owned(),
    };
    let refused = |culprits| NginxError::Refused {
        culprits,
        in_force: "0123456789abcdef".to_owned(),
    };
    let error = refused(vec![
        culprit("dan.conf", Some(9000), "not served within 5 s"),
        culprit("eve.conf", None, "why"),
    ]);
    assert_eq!(
        error.to_string(),
        "nginx refuses dan.conf (not served within 5 s), eve.conf (why)"
    );
    let (code, remedy) = error.remediation();
    assert_eq!(code, "nginx-snippet-refused");
    assert!(remedy.contains("who has port 9000 on 127.0.0.1"), "{remedy}");
    let (_, remedy) = refused(vec![culprit(BASE_FILE, None, "why")]).remediation();
    assert!(remedy.contains("certificate"), "{remedy}");
}

#[tokio::test]
async fn a_group_that_is_missing_is_named() {
    let world = world();
    let mut settings = world.publisher.settings.clone();
    settings.group = "no-such-group".to_owned();
    let error = Publisher::new(settings, world.fake.clone())
        .publish(&generation(&[]))
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "the group no-such-group of nginx does not exist");
    assert_eq!(error.remediation().0, "nginx-group-missing");
}
