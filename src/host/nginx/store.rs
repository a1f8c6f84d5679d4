//! Generations on disk: `generations/DIGEST/*.conf`, and links to the one nginx reads (`current`) and the one it was
//! last seen to serve (`good`). Written whole and synced before a link names them. Blocking.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use crate::model::nginx::generation::Generation;

/// A step that failed.
#[derive(Debug, thiserror::Error)]
#[error("{action} {}", path.display())]
pub struct StoreError {
    pub action: &'static str,
    pub path: PathBuf,
    #[source]
    pub source: io::Error,
}

/// Which link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// What nginx includes.
    Current,
    /// What nginx last answered with: the way back, also after a crash in the middle of a trial.
    Good,
}

impl Link {
    fn name(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Good => "good",
        }
    }
}

#[derive(Debug, Clone)]
pub struct Store {
    pub dir: PathBuf,
    /// The group that nginx reads as.
    pub gid: u32,
}

impl Store {
    /// Writes a generation unless it is there already, whole and readable for nginx.
    pub fn write(&self, generation: &Generation) -> Result<(), StoreError> {
        let target = self.generation(generation.digest());
        if self.read(generation.digest())?.is_some() {
            return self.hand_over_all(&target);
        }
        self.ensure_directory(&self.dir)?;
        self.ensure_directory(&self.generations())?;
        let new = self.generations().join(".new");
        remove_tree(&new)?;
        at("create", &new, DirBuilder::new().mode(0o700).create(&new))?;
        let before = self.link(Link::Current)?.map(|digest| self.generation(&digest));
        for (name, text) in generation.files() {
            let path = new.join(name);
            // One that is the same is on disk already: syncing a file for each workspace would take most of the time.
            if before.as_ref().is_some_and(|dir| linked(&dir.join(name), &text, &path)) {
                continue;
            }
            let open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
            let mut file = at("create", &path, open)?;
            // guard: F9-nginx-files
            at("write", &path, file.write_all(text.as_bytes()))?;
            at("sync", &path, file.sync_all())?;
        }
        self.hand_over_all(&new)?;
        sync(&new)?;
        // What was there under this name isn't what was written there.
        remove_tree(&target)?;
        at("rename to", &target, fs::rename(&new, &target))?;
        sync(&self.generations())
    }

    /// A generation as it was written; nothing when it is missing or was changed since.
    pub fn read(&self, digest: &str) -> Result<Option<Generation>, StoreError> {
        let dir = self.generation(digest);
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            entries => at("list", &dir, entries)?,
        };
        let mut files = BTreeMap::new();
        for entry in entries {
            let entry = at("list", &dir, entry)?;
            let path = entry.path();
            match (entry.file_name().into_string(), fs::read_to_string(&path)) {
                (Ok(name), Ok(text)) => files.insert(name, text),
                (_, Err(error)) if error.kind() != ErrorKind::InvalidData => return at("read", &path, Err(error)),
                _ => return Ok(None),
            };
        }
        Ok(Generation::from_written(digest, files))
    }

    /// The digest that a link names; nothing when there is no link, or one that isn't ours.
    pub fn link(&self, link: Link) -> Result<Option<String>, StoreError> {
        let path = self.dir.join(link.name());
        let target = match fs::read_link(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            target => at("read the link", &path, target)?,
        };
        let digest = target.to_str().and_then(|target| target.strip_prefix("generations/"));
        Ok(digest
            .filter(|digest| digest.bytes().all(|b| b.is_ascii_hexdigit()))
            .map(str::to_owned))
    }

    /// Points a link at a generation, in one step; with nothing the link is taken away.
    pub fn point(&self, link: Link, digest: Option<&str>) -> Result<(), StoreError> {
        let path = self.dir.join(link.name());
        if let Some(digest) = digest {
            let new = self.dir.join(format!(".{}.new", link.name()));
            remove_file(&new)?;
            at("link", &new, symlink(Path::new("generations").join(digest), &new))?;
            at("rename to", &path, fs::rename(&new, &path))?;
        } else {
            remove_file(&path)?;
        }
        sync(&self.dir)
    }

    /// Deletes the generations that aren't named.
    pub fn prune(&self, keep: &[&str]) -> Result<(), StoreError> {
        let dir = self.generations();
        for entry in at("list", &dir, fs::read_dir(&dir))? {
            let entry = at("list", &dir, entry)?;
            if !keep.iter().any(|digest| entry.file_name() == **digest) {
                remove_tree(&entry.path())?;
            }
        }
        Ok(())
    }

    fn generations(&self) -> PathBuf {
        self.dir.join("generations")
    }

    fn generation(&self, digest: &str) -> PathBuf {
        self.generations().join(digest)
    }

    fn ensure_directory(&self, path: &Path) -> Result<(), StoreError> {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            created => at("create", path, created)?,
        }
        self.hand_over(path, 0o750)
    }

    /// A directory that nginx can't list is an empty one to it, without a word: so owner and mode are set every time.
    fn hand_over_all(&self, dir: &Path) -> Result<(), StoreError> {
        for entry in at("list", dir, fs::read_dir(dir))? {
            self.hand_over(&at("list", dir, entry)?.path(), 0o640)?;
        }
        self.hand_over(dir, 0o750)
    }

    fn hand_over(&self, path: &Path, mode: u32) -> Result<(), StoreError> {
        at(
            "change the group of",
            path,
            std::os::unix::fs::lchown(path, None, Some(self.gid)),
        )?;
        at(
            "change the mode of",
            path,
            fs::set_permissions(path, Permissions::from_mode(mode)),
        )
    }
}

fn at<T>(action: &'static str, path: &Path, result: io::Result<T>) -> Result<T, StoreError> {
    result.map_err(|source| StoreError {
        action,
        path: path.to_owned(),
        source,
    })
}

/// Gives a file that holds this text a second name; says whether that worked.
fn linked(from: &Path, text: &str, to: &Path) -> bool {
    fs::read(from).is_ok_and(|own| own == text.as_bytes()) && fs::hard_link(from, to).is_ok()
}

fn sync(dir: &Path) -> Result<(), StoreError> {
    at("sync", dir, File::open(dir).and_then(|dir| dir.sync_all()))
}

fn remove_tree(path: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => at("remove", path, removed),
    }
}

fn remove_file(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => at("remove", path, removed),
    }
}
