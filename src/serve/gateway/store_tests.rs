//! The file of sessions: written, read back, damaged.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::model::auth::session::Token;

fn some() -> State {
    let dan = WorkspaceName::parse("dan").unwrap();
    let mut state = State::new(Sessions::default(), KnownSources::default(), Duration::from_secs(7200));
    state
        .sessions
        .create(Token::new([1; 32]).id(), dan.clone(), Stamp::of("a"), 1000);
    state
        .sessions
        .create(Token::new([2; 32]).id(), dan.clone(), Stamp::of("b"), 2000);
    state
        .known_sources
        .remember(&dan, Source::of(Some("192.0.2.7"), false), 1500);
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
    let dan = WorkspaceName::parse("dan").unwrap();
    assert_eq!(state.lifetime, Duration::from_secs(7200));
    assert!(state.use_session(&Token::new([1; 32]).id(), &dan, 2001));
    assert!(state.use_session(&Token::new([2; 32]).id(), &dan, 2001));
    assert!(
        state
            .known_sources
            .knows(&dan, &Source::of(Some("192.0.2.7"), false), 2001)
    );
    let mode = fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
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
        good.replace("192.0.2.7", "<b>"),
        good.replace("\"stamp\":\"", "\"stamp\":\"!"),
    ];
    for content in bad {
        let (dir, store) = written(&content);
        assert_eq!(store.load(1001).sessions.iter().count(), 0, "{content}");
        assert_eq!(fs::read_to_string(dir.path().join(BAD_FILE)).unwrap(), content);
        assert!(!dir.path().join(FILE).exists());
    }
}
