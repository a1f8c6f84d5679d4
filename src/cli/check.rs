//! `csm check-config`: every problem of a configuration file, without a daemon.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::json;

use crate::api::ConfigProblem;
use crate::cli::error::CliError;
use crate::cli::text::count;
use crate::cli::{Outcome, Screen};
use crate::model::config::{self, Problem};

pub fn run(screen: &Screen, path: &Path) -> Result<Outcome, CliError> {
    let result = config::parse_bytes(&read(path)?);
    if screen.json {
        let problems: Vec<ConfigProblem> = result.as_ref().err().into_iter().flatten().map(on_the_wire).collect();
        let json = json!({ "path": path, "ok": problems.is_empty(), "problems": problems });
        screen.print(&format!("{json}\n"))?;
    }
    match result {
        Ok(config) if screen.json => drop(config),
        Ok(config) => {
            let workspaces = count(config.workspaces.len(), "workspace");
            screen.print(&format!(
                "{} is fine: {workspaces} under {}\n",
                path.display(),
                config.domain
            ))?;
        }
        Err(problems) => {
            let problems = problems.iter().map(on_the_wire).collect();
            return Err(CliError::Configuration {
                path: path.to_owned(),
                problems,
            });
        }
    }
    Ok(Outcome::Done)
}

fn on_the_wire(problem: &Problem) -> ConfigProblem {
    ConfigProblem {
        key: problem.key.clone(),
        value: problem.value.clone(),
        message: problem.message.clone(),
        hint: problem.hint.clone(),
    }
}

/// Not more than is looked at: the name may lead to something endless.
pub fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(config::SIZE_MAX as u64 + 1).read_to_end(&mut bytes))
        .map_err(|source| CliError::File {
            path: path.to_owned(),
            source,
        })?;
    Ok(bytes)
}
