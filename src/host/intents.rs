//! INTENT files: what the admin said of each workspace, one small file each, root's alone, on disk before it is acted on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::host::files::{self, Access, Doing as _, FileError};
use crate::model::desired::{Intent, IntentBy};
use crate::model::names::WorkspaceName;

#[derive(Debug, thiserror::Error)]
pub enum IntentError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("the intent file {} is not one: move it away", path.display())]
    Shape {
        path: PathBuf,
        #[source]
        source: Box<toml::de::Error>,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Shape {
    running: bool,
    by: IntentBy,
    why: String,
    at: Option<String>,
    #[serde(default)]
    restart_of: Option<u64>,
}

/// The directory of intent files.
#[derive(Debug, Clone)]
pub struct Intents {
    directory: PathBuf,
}

impl Intents {
    pub fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Every intent there is. One that can't be read is an error, not the default: that could start what was stopped.
    pub fn read(&self) -> Result<BTreeMap<WorkspaceName, Intent>, IntentError> {
        let mut intents = BTreeMap::new();
        for entry in std::fs::read_dir(&self.directory).doing("list", &self.directory)? {
            let path = entry.doing("list", &self.directory)?.path();
            let Some(name) = workspace_of(&path) else { continue };
            let text = std::fs::read_to_string(&path).doing("read", &path)?;
            let shape: Shape = toml::from_str(&text).map_err(|error| IntentError::Shape {
                path,
                source: Box::new(error),
            })?;
            intents.insert(
                name,
                Intent {
                    running: shape.running,
                    by: shape.by,
                    why: shape.why,
                    at: shape.at,
                    restart_of: shape.restart_of,
                },
            );
        }
        Ok(intents)
    }

    pub fn write(&self, name: &WorkspaceName, intent: &Intent) -> Result<(), IntentError> {
        let shape = Shape {
            running: intent.running,
            by: intent.by,
            why: intent.why.clone(),
            at: intent.at.clone(),
            restart_of: intent.restart_of,
        };
        let text = toml::to_string(&shape).unwrap_or_default();
        Ok(files::write_whole(
            &self.directory.join(format!("{name}.toml")),
            text.as_bytes(),
            Access::root(0o600),
        )?)
    }
}

fn workspace_of(path: &Path) -> Option<WorkspaceName> {
    WorkspaceName::parse(path.file_name()?.to_str()?.strip_suffix(".toml")?).ok()
}
