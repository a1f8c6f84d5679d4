//! The entrypoint in a real `/bin/sh`: what is in a secret's file arrives as the variable's value, byte for byte, whatever
//! it means to a shell.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::Command;

use code_server_multi::model::podman;
use proptest::prelude::*;

/// Runs the entrypoint with these secrets' files, and gives the value that the command it becomes sees.
fn seen(files: &[(&str, &[u8])], variable: &str) -> Option<Vec<u8>> {
    let directory = tempfile::tempdir().unwrap();
    for (name, content) in files {
        std::fs::write(directory.path().join(name), content).unwrap();
    }
    let output = run(directory.path(), &["env", "-0"]);
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    let start = format!("{variable}=");
    let mut found = output
        .stdout
        .split(|byte| *byte == 0)
        .filter_map(|pair| pair.strip_prefix(start.as_bytes()));
    found.next().map(<[u8]>::to_vec)
}

fn run(secrets: &Path, command: &[&str]) -> std::process::Output {
    assert_eq!(podman::ENTRYPOINT.matches("/run/csm/secrets/").count(), 1);
    let script = podman::ENTRYPOINT.replace("/run/csm/secrets", secrets.to_str().unwrap());
    let path = secrets
        .parent()
        .unwrap()
        .join(format!("{}.entrypoint", secrets.file_name().unwrap().to_str().unwrap()));
    std::fs::write(&path, script).unwrap();
    let output = Command::new("/bin/sh")
        .arg(&path)
        .args(command)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .output();
    std::fs::remove_file(&path).unwrap();
    output.unwrap()
}

#[test]
fn a_secret_arrives_as_it_is() {
    for (content, value) in [
        ("plain", "plain"),
        ("one newline is dropped\n", "one newline is dropped"),
        ("two\n\n", "two\n"),
        ("\n", ""),
        ("in\nthe\nmiddle", "in\nthe\nmiddle"),
        ("$(touch evil) `id` $HOME ${PATH}", "$(touch evil) `id` $HOME ${PATH}"),
        (
            "it's \"quoted\" \\ and \\n escaped\\",
            "it's \"quoted\" \\ and \\n escaped\\",
        ),
        ("  spaces around\t ", "  spaces around\t "),
        ("* ? [a-z] ~ ; & | < > ! #", "* ? [a-z] ~ ; & | < > ! #"),
        ("-n", "-n"),
        ("A=B=C", "A=B=C"),
        (".", "."),
        (".\n", "."),
        ("%s %n", "%s %n"),
        ("\r\n", "\r"),
        ("grüße 🙂", "grüße 🙂"),
    ] {
        let found = seen(&[("API_KEY", content.as_bytes())], "API_KEY").unwrap();
        assert_eq!(String::from_utf8_lossy(&found), value, "{content:?}");
    }
    let bytes: Vec<u8> = (1..=255).collect();
    assert_eq!(seen(&[("RAW", &bytes)], "RAW"), Some(bytes));
}

#[test]
fn every_secret_arrives_and_nothing_else_is_left_behind() {
    let files: [(&str, &[u8]); 3] = [("A", b"1\n"), ("B_2", b"two words"), ("_c", b"3")];
    for (name, value) in [("A", "1"), ("B_2", "two words"), ("_c", "3")] {
        assert_eq!(seen(&files, name).as_deref(), Some(value.as_bytes()));
    }
    for own in ["csm_file", "csm_value"] {
        assert_eq!(seen(&files, own), None);
    }
    assert_eq!(seen(&[], "A"), None, "no secrets are no error");
}

#[test]
fn the_command_gets_its_arguments_as_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let output = run(directory.path(), &["printf", "%s|", "a b", "$(id)", "", "*", "'\"\\"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "a b|$(id)||*|'\"\\|");
}

/// A secret that is there and can't be read is not passed over.
#[test]
fn an_unreadable_secret_ends_the_start() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("A"), "x").unwrap();
    let script = podman::ENTRYPOINT
        .replace("/run/csm/secrets", directory.path().to_str().unwrap())
        // Root reads everything: what fails in its place is the program that reads.
        .replace("$(cat ", "$(false ");
    let status = Command::new("/bin/sh")
        .args(["-c", &script, "sh", "echo", "ran"])
        .output()
        .unwrap();
    assert_eq!((status.status.code(), status.stdout.as_slice()), (Some(78), &b""[..]));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_arrive(content in prop::collection::vec(1..=255_u8, 0..200)) {
        let value = content.strip_suffix(b"\n").unwrap_or(&content);
        let found = seen(&[("ANY", &content)], "ANY").unwrap();
        prop_assert_eq!(std::ffi::OsStr::from_bytes(&found), std::ffi::OsStr::from_bytes(value));
    }
}
