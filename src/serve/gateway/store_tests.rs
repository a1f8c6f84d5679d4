//! The file of sessions: written, read back, damaged.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::model::auth::session::Token;

fn dans(tunnel: bool) -> Door {
    Door {
        workspace: WorkspaceName::parse("dan").unwrap(),
        tunnel,
    }
}

fn device() -> DeviceId {
    DeviceId::of(&Token::new([3; 32]))
}

fn some() -> State {
    let mut state = State::new(Sessions::default(), KnownDevices::default(), Duration::from_secs(7200));
    state
        .sessions
        .create(Token::new([1; 32]).id(), dans(false), Stamp::of("a"), 1000);
    state
        .sessions
        .create(Token::new([2; 32]).id(), dans(true), Stamp::of("b"), 2000);
    state.known_devices.remember(&dans(false).workspace, device(), 1500);
    state
}

fn written(content: &str) -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.write(content.as_bytes()).unwrap();
    (dir, store)
}

#[test]
fn what_is_written_comes_back() {
    let (dir, store) = written(&serde_json::to_string(&Content::of(&some())).unwrap());
    let mut state = store.load(2001);
    assert_eq!(state.lifetime, Duration::from_secs(7200));
    assert!(state.use_session(&Token::new([1; 32]).id(), &dans(false), 2001));
    assert!(state.use_session(&Token::new([2; 32]).id(), &dans(true), 2001));
    assert!(!state.use_session(&Token::new([2; 32]).id(), &dans(false), 2001));
    assert!(state.known_devices.knows(&dans(false).workspace, &device(), 2001));
    let mode = fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn what_an_earlier_version_wrote_is_read_and_the_other_way_round() {
    let mut old: serde_json::Value =
        serde_json::from_str(&serde_json::to_string(&Content::of(&some())).unwrap()).unwrap();
    assert_eq!(
        old["known_sources"],
        serde_json::json!([]),
        "an earlier version needs it"
    );
    old.as_object_mut().unwrap().remove("known_devices");
    for session in old["sessions"].as_array_mut().unwrap() {
        session.as_object_mut().unwrap().remove("tunnel");
    }
    old["known_sources"] = serde_json::json!([{ "workspace": "dan", "source": "192.0.2.7", "at": 1500 }]);
    let (_dir, store) = written(&old.to_string());
    let mut state = store.load(2001);
    assert!(state.use_session(&Token::new([1; 32]).id(), &dans(false), 2001));
}

#[test]
fn no_token_is_on_disk() {
    let text = serde_json::to_string(&Content::of(&some())).unwrap();
    assert!(!text.contains(Token::new([1; 32]).encode().as_str()));
}

#[test]
fn what_has_run_out_is_left_behind() {
    let (_dir, store) = written(&serde_json::to_string(&Content::of(&some())).unwrap());
    assert_eq!(store.load(1000 + 7200).sessions.iter().count(), 1);
}

#[test]
fn nothing_is_there_at_first() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("deep/down")).unwrap();
    assert_eq!(store.load(1).sessions.iter().count(), 0);
    assert!(!dir.path().join("deep/down").join(BAD_FILE).exists());
}

#[test]
fn an_unreadable_file_is_set_aside() {
    let good = serde_json::to_string(&Content::of(&some())).unwrap();
    let bad = [
        String::new(),
        "{".to_owned(),
        good[..good.len() / 2].to_owned(),
        good.replace("\"version\":1", "\"version\":2"),
        good.replace("\"dan\"", "\"../dan\""),
        good.replace("\"device\":\"", "\"device\":\"!"),
        good.replace("\"stamp\":\"", "\"stamp\":\"!"),
    ];
    for content in bad {
        let (dir, store) = written(&content);
        assert_eq!(store.load(1001).sessions.iter().count(), 0, "{content}");
        assert_eq!(fs::read_to_string(dir.path().join(BAD_FILE)).unwrap(), content);
        assert!(!dir.path().join(FILE).exists());
    }
}
