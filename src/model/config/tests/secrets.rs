//! Where secrets may lie, what is never repeated, and whose variables are whose.

use super::*;

#[test]
fn secrets_are_kept_where_no_workspace_writes() {
    for (path, message) in [
        (
            "/var/lib/vscode/dan/home/.pw",
            "below workspace_base, where workspaces can write",
        ),
        (
            "/nix/store/abc-pw",
            "in the Nix store, which everybody on the machine can read",
        ),
        ("/tmp/pw", "below /tmp, where anybody can create files"),
        ("/dev/shm/pw", "below /dev/shm, where anybody can create files"),
        (
            "/run/code-server-multi/run/dan/pw",
            "in a directory of this service that workspaces can write",
        ),
        (
            "/var/lib/code-server-multi/accounts/dan/pw",
            "in a directory of this service that workspaces can write",
        ),
        ("/etc/../tmp/pw", "has . or .. in it"),
        ("pw", "not an absolute path"),
    ] {
        assert_eq!(
            complaints(&format!("[workspaces.dan]\npassword_file = '{path}'")),
            [format!("workspaces.dan.password_file: {message}")]
        );
        assert_eq!(
            complaints(&format!("[workspaces.dan.secret_environment]\nKEY = '{path}'")),
            [format!("workspaces.dan.secret_environment.KEY: {message}")]
        );
        assert_eq!(
            complaints(&format!("[defaults.secret_environment]\nKEY = '{path}'")),
            [format!("defaults.secret_environment.KEY: {message}")]
        );
    }
}

#[test]
fn what_may_be_a_secret_is_never_repeated() {
    for more in [
        "password = 'CANARY'",
        "[workspaces.dan]\npassword = 'CANARY'",
        "[workspaces.dan]\npassword_file = 'CANARY'",
        "[workspaces.dan]\npassword_file = { value = 'CANARY' }",
        "[workspaces.dan.secret_environment]\nKEY = 'CANARY'",
        "[workspaces.dan.environment]\nKEY = \"CANARY\\n\"",
        "[workspaces.dan.environment]\nKEY = ['CANARY']",
        "[workspaces.dan.environment]\nCSM_KEY = 'CANARY'",
        "[nginx]\ncertificate_key = 'CANARY'",
        "[workspaces.dan]\nsecret_environment = 'CANARY'",
        "[workspaces.dan.secret_environment]\nKEY = 'CANARY",
        "[workspaces.dan.secret_environment]\nKEY = CANARY",
        "[workspaces.dan.secret_environment]\nKEY = 'CANARY' 'CANARY'",
    ] {
        let text = with(more).replacen(
            "certificate_key = '/etc/ssl/k.pem'\n",
            if more.contains("certificate_key") {
                ""
            } else {
                "certificate_key = '/k/k'\n"
            },
            1,
        );
        let problems = problems(&text);
        assert!(!problems.contains("CANARY"), "{more}: {problems}");
    }
}

#[test]
fn variables_that_are_not_the_admins_are_refused() {
    for name in [
        "HOME",
        "PATH",
        "USER",
        "CSM_X",
        "PASSWORD",
        "HASHED_PASSWORD",
        "GITHUB_TOKEN",
        "UID",
        "IFS",
        "A-B",
        "1A",
        "A=B",
        "",
    ] {
        for table in ["environment", "secret_environment"] {
            let found = complaints(&format!("[workspaces.dan.{table}]\n'{name}' = '/etc/x'"));
            assert_eq!(found.len(), 1, "{table} {name:?}: {found:?}");
            assert!(found[0].starts_with(&format!("workspaces.dan.{table}.")), "{found:?}");
        }
    }
}

#[test]
fn a_workspaces_own_variable_replaces_either_kind_of_default() {
    let config = parse(&with(
        "[defaults]\nenvironment = { A = '1', B = '1' }\nsecret_environment = { C = '/etc/c' }\n\
         [workspaces.dan]\nenvironment = { C = '2' }\nsecret_environment = { B = '/etc/b' }",
    ))
    .unwrap();
    let dan = &config.workspaces[&WorkspaceName::parse("dan").unwrap()];
    assert_eq!(
        format!("{:?}", dan.environment),
        r#"{VariableName("A"): "1", VariableName("C"): "2"}"#
    );
    assert_eq!(
        format!("{:?}", dan.secret_environment),
        r#"{VariableName("B"): "/etc/b"}"#
    );
    assert_eq!(
        complaints("[defaults]\nenvironment = { A = '1' }\nsecret_environment = { A = '/etc/a' }"),
        ["defaults.secret_environment.A: set in environment too"]
    );
}
