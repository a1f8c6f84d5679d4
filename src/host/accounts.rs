//! (being written)
use crate::model::account::{Account, AccountProblem};
use crate::model::names::AccountName;
pub fn look(name: &AccountName, _admin_group: &str) -> Result<Result<Account, AccountProblem>, std::io::Error> {
    let Some(user) = nix::unistd::User::from_name(name.as_str())? else { return Ok(Err(AccountProblem::Missing(name.clone()))) };
    let find = |file: &str| -> Result<u32, std::io::Error> {
        Ok(std::fs::read_to_string(file)?.lines().find_map(|l| l.strip_prefix(&format!("{name}:"))?.split(':').next()?.parse().ok()).unwrap_or(0))
    };
    Ok(Ok(Account { name: name.clone(), uid: user.uid.as_raw(), gid: user.gid.as_raw(), subuid: find("/etc/subuid")?, subgid: find("/etc/subgid")? }))
}
