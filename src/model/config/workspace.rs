//! One `[workspaces.NAME]`, and `[defaults]`, which has the same keys but those that make a workspace itself.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::model::config::document::{Document, Read, Reported, Section, Wrong, echo};
use crate::model::config::{Apply, Limits, WorkspaceConfig, rules, values};
use crate::model::names::{AccountName, VariableName, WorkspaceName};
use crate::model::size;

pub(super) const MEMORY_LIMIT: u64 = 3 << 30;
pub(super) const MEMORY_LOW: u64 = 0;
pub(super) const CPU_LIMIT_USEC: u64 = size::CORE_USEC * 3 / 2;
pub(super) const CPU_WEIGHT: u64 = 100;
/// Above any build we know of, below what makes a fork bomb felt next door.
pub(super) const TASKS_MAX: u64 = 4096;
pub(super) const APPLY: Apply = Apply::Pending;
pub(super) const ENABLED: bool = true;

/// What `[defaults]` and a workspace both may set.
pub(super) struct Settings {
    memory_limit: Read<u64>,
    memory_soft_limit: Read<u64>,
    memory_low: Read<u64>,
    cpu_limit: Read<u64>,
    cpu_weight: Read<u64>,
    tasks_max: Read<u64>,
    variables: BTreeMap<VariableName, Variable>,
    apply: Read<Apply>,
}

/// A variable has one value, whichever of the two tables sets it: so a workspace's own replaces either kind of default.
#[derive(Clone)]
enum Variable {
    Text(String),
    File(PathBuf),
}

impl Settings {
    /// Nothing set: the defaults of this file alone.
    pub fn none() -> Self {
        Self {
            memory_limit: Ok(None),
            memory_soft_limit: Ok(None),
            memory_low: Ok(None),
            cpu_limit: Ok(None),
            cpu_weight: Ok(None),
            tasks_max: Ok(None),
            variables: BTreeMap::new(),
            apply: Ok(None),
        }
    }

    pub fn read(document: &mut Document<'_>, section: &Section<'_, '_>, base: Option<&Path>) -> Self {
        Self {
            memory_limit: section.read(document, "memory_limit", values::memory_limit),
            memory_soft_limit: section.read(document, "memory_soft_limit", values::memory_soft_limit),
            memory_low: section.read(document, "memory_low", values::memory_low),
            cpu_limit: section.read(document, "cpu_limit", values::cores),
            cpu_weight: section.read(document, "cpu_weight", values::cpu_weight),
            tasks_max: section.read(document, "tasks_max", values::tasks_max),
            variables: variables(document, section, base),
            apply: section.read(document, "apply", values::apply),
        }
    }

    /// The limits that result, with what is not set here from `fallback`. Only what is set here is reported here.
    pub fn limits(
        &self,
        document: &mut Document<'_>,
        section: &Section<'_, '_>,
        fallback: &Self,
    ) -> Result<Limits, Reported> {
        let memory_max = pick(self.memory_limit, fallback.memory_limit, MEMORY_LIMIT)?;
        let memory_high = match (self.memory_soft_limit?, self.memory_limit?) {
            (Some(soft), _) => soft,
            // A soft limit in [defaults] was chosen for the hard limit there, not for this one.
            (None, Some(_)) => soft_for(memory_max),
            (None, None) => fallback.memory_soft_limit?.unwrap_or(soft_for(memory_max)),
        };
        let memory_low = pick(self.memory_low, fallback.memory_low, MEMORY_LOW)?;
        let hard = size::format_bytes(memory_max);
        if self.memory_soft_limit?.is_some() && memory_high > memory_max {
            let soft = size::format_bytes(soft_for(memory_max));
            let wrong = Wrong::new(
                format!("above the hard limit, {hard}"),
                format!("leave it out for five sixths of memory_limit ({soft}), or raise memory_limit"),
            );
            section.refuse(document, "memory_soft_limit", wrong);
            return Err(Reported);
        }
        if memory_low > memory_max {
            if self.memory_low?.is_some() {
                let wrong = Wrong::new(
                    format!("above the hard limit, {hard}"),
                    "lower it, or leave it out: nothing is kept aside then",
                );
                return Err(section.refuse(document, "memory_low", wrong));
            }
            if self.memory_limit?.is_some() {
                let low = size::format_bytes(memory_low);
                let wrong = Wrong::new(
                    format!("below the memory_low of [defaults], {low}"),
                    "set memory_low here too",
                );
                return Err(section.refuse(document, "memory_limit", wrong));
            }
        }
        Ok(Limits {
            memory_max,
            memory_high,
            memory_low,
            cpu_quota_usec: pick(self.cpu_limit, fallback.cpu_limit, CPU_LIMIT_USEC)?,
            cpu_weight: pick(self.cpu_weight, fallback.cpu_weight, CPU_WEIGHT)?,
            tasks_max: pick(self.tasks_max, fallback.tasks_max, TASKS_MAX)?,
        })
    }
}

/// What only one workspace can have, with who has it.
pub(super) struct Taken {
    accounts: BTreeMap<AccountName, String>,
    ports: BTreeMap<u16, String>,
    listen: Vec<SocketAddr>,
}

impl Taken {
    pub fn new(listen: &[SocketAddr]) -> Self {
        Self {
            accounts: BTreeMap::new(),
            ports: BTreeMap::new(),
            listen: listen.to_vec(),
        }
    }
}

/// Reads a workspace. One with a bad name is read too, so that its other problems show at once.
pub(super) fn read(
    document: &mut Document<'_>,
    section: &Section<'_, '_>,
    name: Result<WorkspaceName, Reported>,
    defaults: &Settings,
    base: Option<&Path>,
    taken: &mut Taken,
) -> Result<(WorkspaceName, WorkspaceConfig), Reported> {
    let account = account(document, section, name.as_ref().ok(), taken);
    let password_file = section.read(document, "password_file", |value| {
        let path = values::path(value, "/run/secrets/dan-password")?;
        rules::secret(&path, base)?;
        Ok(path)
    });
    let port = port(document, section, taken);
    let own = Settings::read(document, section, base);
    let limits = own.limits(document, section, defaults);
    let enabled = section.read(document, "enabled", values::boolean);
    let mut environment = BTreeMap::new();
    let mut secret_environment = BTreeMap::new();
    let mut variables = defaults.variables.clone();
    variables.extend(own.variables);
    for (variable, value) in variables {
        match value {
            Variable::Text(text) => drop(environment.insert(variable, text)),
            Variable::File(path) => drop(secret_environment.insert(variable, path)),
        }
    }
    let workspace = WorkspaceConfig {
        account: account?,
        password_file: password_file?,
        port: port?,
        limits: limits?,
        environment,
        secret_environment,
        apply: pick(own.apply, defaults.apply, APPLY)?,
        enabled: enabled?.unwrap_or(ENABLED),
    };
    Ok((name?, workspace))
}

fn account(
    document: &mut Document<'_>,
    section: &Section<'_, '_>,
    name: Option<&WorkspaceName>,
    taken: &mut Taken,
) -> Result<AccountName, Reported> {
    let account = match (section.read(document, "account", values::account)?, name) {
        (Some(account), _) => account,
        (None, Some(name)) => AccountName::parse(&format!("csm-{name}")).map_err(|error| {
            section.refuse(
                document,
                "account",
                Wrong::new(error.rule, "set account, or choose a shorter name"),
            )
        })?,
        (None, None) => return Err(Reported),
    };
    // guard: A4-one-account
    match taken.accounts.insert(account.clone(), section.path().to_owned()) {
        None => Ok(account),
        Some(other) => {
            let message = format!("{account} is the account of {other} too, and would open one's files to the other");
            Err(section.refuse(
                document,
                "account",
                Wrong::new(message, "give each workspace an account of its own"),
            ))
        }
    }
}

fn port(document: &mut Document<'_>, section: &Section<'_, '_>, taken: &mut Taken) -> Read<u16> {
    let Some(port) = section.read(document, "port", values::high_port)? else {
        return Ok(None);
    };
    let hint = "choose another port, or leave it out: it is for SSH tunnels only";
    if taken.listen.iter().any(|address| address.port() == port) {
        return Err(section.refuse(
            document,
            "port",
            Wrong::new("nginx listens on it for HTTPS (nginx.listen)", hint),
        ));
    }
    if let Some(other) = taken.ports.insert(port, section.path().to_owned()) {
        return Err(section.refuse(document, "port", Wrong::new(format!("{other} has it too"), hint)));
    }
    Ok(Some(port))
}

fn variables(
    document: &mut Document<'_>,
    section: &Section<'_, '_>,
    base: Option<&Path>,
) -> BTreeMap<VariableName, Variable> {
    let mut all = BTreeMap::new();
    for (path, text, value) in section.entries(document, "environment") {
        let name = variable(document, &path, text);
        let value = document.read(&path, Some(value), echo("environment"), values::environment);
        if let (Some(name), Ok(Some(value))) = (name, value) {
            all.insert(name, Variable::Text(value));
        }
    }
    for (path, text, value) in section.entries(document, "secret_environment") {
        let name = variable(document, &path, text);
        let file = document.read(&path, Some(value), echo("secret_environment"), |value| {
            let file = values::path(value, "/run/secrets/api-key")?;
            rules::secret(&file, base)?;
            Ok(file)
        });
        if let Some(name) = name {
            if matches!(all.get(&name), Some(Variable::Text(_))) {
                let wrong = Wrong::new("set in environment too", "keep it in one of the two");
                document.report(path, None, wrong);
            } else if let Ok(Some(file)) = file {
                all.insert(name, Variable::File(file));
            }
        }
    }
    all
}

fn variable(document: &mut Document<'_>, path: &str, text: &str) -> Option<VariableName> {
    let checked = VariableName::parse(text)
        .map_err(|error| Wrong::new(error.rule, "write for example EDITOR = \"nano\""))
        .and_then(|name| rules::variable(&name).map(|()| name));
    checked
        .map_err(|wrong| document.report(path.to_owned(), None, wrong))
        .ok()
}

fn pick<T: Copy>(own: Read<T>, fallback: Read<T>, builtin: T) -> Result<T, Reported> {
    match own? {
        Some(value) => Ok(value),
        None => Ok(fallback?.unwrap_or(builtin)),
    }
}

/// Five sixths, in whole pages: the workspace is slowed down before anything in it is killed.
fn soft_for(hard: u64) -> u64 {
    hard * 5 / 6 / size::PAGE * size::PAGE
}
