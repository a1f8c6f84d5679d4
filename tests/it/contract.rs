//! What others build on, made from the code and kept beside it: the committed copies are what the code says.

mod answers;
mod api;
mod cli;
mod config;

use std::path::Path;

/// How every file here is made anew.
const RENEW: &str = "INSTA_UPDATE=always cargo test --test it contract";

/// Compares a committed file with what the code makes of it now; renews it when snapshots are being renewed.
#[track_caller]
fn assert_fresh(path: &str, made: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("INSTA_UPDATE").is_some_and(|update| update == "always") {
        std::fs::write(&file, made).unwrap();
    }
    let committed = read(path);
    assert!(
        committed == made,
        "{path} is not what the code says; renew it, then read the difference: {RENEW}"
    );
}

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_default()
}
