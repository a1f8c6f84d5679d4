//! A set of files that nginx reads together, and the digest that names it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use blake2::{Blake2s256, Digest as _};

use crate::model::names::WorkspaceName;

/// What all workspaces share; sorts before every workspace's file.
pub const BASE_FILE: &str = "00-code-server-multi.conf";

/// Stands for the digest in the base file while the digest is being computed.
const PROBE_ANSWER: &str = "return 200 \"@GENERATION@\\n\";";

/// A whole set of files. Its digest names it, on disk and in nginx's answer to the probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// With `@GENERATION@` in place of the digest.
    files: BTreeMap<String, String>,
    digest: String,
}

impl Generation {
    /// A set of files; the base file may hold the probe's server with `@GENERATION@` for its answer.
    pub fn new(files: BTreeMap<String, String>) -> Self {
        let mut hash = Blake2s256::new();
        for part in files.iter().flat_map(|(name, text)| [name, text]) {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        let digest = hash.finalize().iter().take(8).fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        Self { files, digest }
    }

    /// What a directory named `digest` holds; nothing when it isn't what was once written there.
    pub fn from_written(digest: &str, mut files: BTreeMap<String, String>) -> Option<Self> {
        if let Some(base) = files.get_mut(BASE_FILE) {
            *base = base.replace(&PROBE_ANSWER.replace("@GENERATION@", digest), PROBE_ANSWER);
        }
        Some(Self::new(files)).filter(|generation| generation.digest == digest)
    }

    /// 16 hexadecimal digits.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Whether nginx tells, once it serves this generation.
    pub fn has_probe(&self) -> bool {
        self.files
            .get(BASE_FILE)
            .is_some_and(|text| text.contains(PROBE_ANSWER))
    }

    /// The loopback port that a file needs for its tunnel.
    pub fn tunnel_port(&self, file: &str) -> Option<u16> {
        let listens = |line: &str| {
            line.trim()
                .strip_prefix("listen 127.0.0.1:")?
                .strip_suffix(" default_server;")?
                .parse()
                .ok()
        };
        self.files.get(file)?.lines().find_map(listens)
    }

    /// File names and the texts to write.
    pub fn files(&self) -> impl Iterator<Item = (&str, String)> {
        let answer = PROBE_ANSWER.replace("@GENERATION@", &self.digest);
        self.files.iter().map(move |(name, text)| {
            let text = if name == BASE_FILE {
                text.replace(PROBE_ANSWER, &answer)
            } else {
                text.clone()
            };
            (name.as_str(), text)
        })
    }

    /// The files that `other` lacks or has otherwise.
    pub fn changed_since(&self, other: &Self) -> Vec<String> {
        let changed = |(name, text): &(&String, &String)| other.files.get(*name) != Some(text);
        self.files
            .iter()
            .filter(changed)
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// This generation's files named in `names`, and `older`'s for the rest of this generation's names.
    /// A file that this generation doesn't have is gone from the result too.
    #[must_use]
    pub fn on_top_of(&self, older: &Self, names: &[String]) -> Self {
        let pick = |(name, text): (&String, &String)| {
            let text = if names.contains(name) {
                Some(text)
            } else {
                older.files.get(name)
            };
            text.map(|text| (name.clone(), text.clone()))
        };
        Self::new(self.files.iter().filter_map(pick).collect())
    }

    /// No files at all: what was there before the first generation.
    pub fn empty() -> Self {
        Self::new(BTreeMap::new())
    }
}

/// The workspace that a file belongs to; nothing for the base file.
pub fn workspace_of(file: &str) -> Option<WorkspaceName> {
    WorkspaceName::parse(file.strip_suffix(".conf")?).ok()
}
