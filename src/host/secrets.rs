//! SECRETS: files that an admin named, and where a change of one would show. A secret may lie behind symlinks (sops-nix
//! swaps `/run/secrets`), so every name on the way to it is one to watch.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

/// Symlinks followed on the way to one file (path_resolution(7) has 40).
const MOST_LINKS: u32 = 40;

/// Every directory entry that decides what a path leads to: each component's place after the links before it were
/// followed. Ends at the first that isn't there, so that its appearing shows too.
// guard: F10-each-link
pub fn waypoints(path: &Path) -> BTreeSet<PathBuf> {
    let mut seen = BTreeSet::new();
    let mut left: Vec<PathBuf> = parts(path);
    let mut at = PathBuf::from("/");
    let mut links = 0;
    while let Some(part) = left.pop() {
        if part == Path::new("..") {
            at.pop();
            continue;
        }
        let next = at.join(&part);
        seen.insert(next.clone());
        match std::fs::read_link(&next) {
            Ok(target) => {
                links += 1;
                if links > MOST_LINKS {
                    break;
                }
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                left.extend(parts(&target));
            }
            Err(_) if next.exists() => at = next,
            Err(_) => break,
        }
    }
    seen
}

/// The components of a path, last one first; `..` is kept, the root is not.
fn parts(path: &Path) -> Vec<PathBuf> {
    let named = path
        .components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    named.map(|part| PathBuf::from(part.as_os_str())).rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_link_on_the_way_is_a_waypoint() {
        let base = tempfile::tempdir().expect("a directory");
        let base = base.path().canonicalize().expect("its real path");
        std::fs::create_dir_all(base.join("secrets.d/1")).expect("a generation");
        std::fs::write(base.join("secrets.d/1/dan"), "x").expect("a secret");
        std::os::unix::fs::symlink("secrets.d/1", base.join("secrets")).expect("the link that is swapped");
        let seen = waypoints(&base.join("secrets/dan"));
        for entry in ["secrets", "secrets.d", "secrets.d/1", "secrets.d/1/dan"] {
            assert!(seen.contains(&base.join(entry)), "{entry} is missing in {seen:?}");
        }
        assert!(!seen.contains(&base.join("secrets/dan")));
    }

    #[test]
    fn a_file_that_is_not_there_yet_is_watched_for() {
        let base = tempfile::tempdir().expect("a directory");
        let base = base.path().canonicalize().expect("its real path");
        let seen = waypoints(&base.join("later/dan"));
        assert!(seen.contains(&base.join("later")) && !seen.contains(&base.join("later/dan")));
    }

    #[test]
    fn links_in_a_circle_come_to_an_end() {
        let base = tempfile::tempdir().expect("a directory");
        std::os::unix::fs::symlink("b", base.path().join("a")).expect("a link");
        std::os::unix::fs::symlink("a", base.path().join("b")).expect("a link back");
        assert!(!waypoints(&base.path().join("a")).is_empty());
    }
}
