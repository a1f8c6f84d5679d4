//! DEVICES: browsers in which signing in to a workspace has worked. Each holds a token, and here is its hash. A browser that is known
//! has guesses of its own: what others guess, be they behind the same address, keeps nobody out of it.

use std::collections::HashMap;
use std::time::Duration;

use crate::model::auth::session::Token;
use crate::model::names::WorkspaceName;

/// How long after its last sign-in a browser is known.
pub const KNOWN_FOR: Duration = Duration::from_secs(180 * 24 * 3600);

/// Of each workspace; the one whose sign-in is longest ago makes room. Only somebody with the password makes one.
const PER_WORKSPACE_MAX: usize = 64;

/// The hash of a browser's token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceId(pub [u8; 32]);

impl DeviceId {
    pub fn of(token: &Token) -> Self {
        Self(token.id().0)
    }
}

/// The times are seconds since 1970: they outlive the process.
#[derive(Debug, Default)]
pub struct KnownDevices {
    by_workspace: HashMap<WorkspaceName, Vec<(DeviceId, u64)>>,
}

impl KnownDevices {
    pub fn knows(&self, workspace: &WorkspaceName, device: &DeviceId, now: u64) -> bool {
        self.by_workspace
            .get(workspace)
            .is_some_and(|devices| devices.iter().any(|(known, at)| known == device && is_fresh(*at, now)))
    }

    pub fn remember(&mut self, workspace: &WorkspaceName, device: DeviceId, at: u64) {
        let devices = self.by_workspace.entry(workspace.clone()).or_default();
        devices.retain(|(known, then)| *known != device && is_fresh(*then, at));
        devices.push((device, at));
        devices.sort_by_key(|(_, at)| std::cmp::Reverse(*at));
        devices.truncate(PER_WORKSPACE_MAX);
    }

    pub fn forget_absent(&mut self, is_there: impl Fn(&WorkspaceName) -> bool) {
        self.by_workspace.retain(|workspace, _| is_there(workspace));
    }

    /// In no order.
    pub fn iter(&self) -> impl Iterator<Item = (&WorkspaceName, &DeviceId, u64)> {
        self.by_workspace
            .iter()
            .flat_map(|(name, devices)| devices.iter().map(move |(device, at)| (name, device, *at)))
    }
}

fn is_fresh(at: u64, now: u64) -> bool {
    now.saturating_sub(at) < KNOWN_FOR.as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(number: u8) -> DeviceId {
        DeviceId::of(&Token::new([number; 32]))
    }

    #[test]
    fn they_fade_and_are_few() {
        let [dan, alice] = ["dan", "alice"].map(|name| WorkspaceName::parse(name).unwrap());
        let mut known = KnownDevices::default();
        known.remember(&dan, device(1), 1000);
        assert!(known.knows(&dan, &device(1), 1000 + KNOWN_FOR.as_secs() - 1));
        assert!(!known.knows(&dan, &device(1), 1000 + KNOWN_FOR.as_secs()));
        assert!(!known.knows(&dan, &device(2), 1000));
        assert!(!known.knows(&alice, &device(1), 1000));
        for number in 0..200 {
            known.remember(&dan, device(number), 2000 + u64::from(number));
            known.remember(&dan, device(number), 2000 + u64::from(number));
        }
        assert_eq!(known.iter().count(), PER_WORKSPACE_MAX);
        assert!(known.knows(&dan, &device(199), 3000));
        assert!(!known.knows(&dan, &device(1), 3000));
        known.forget_absent(|_| false);
        assert_eq!(known.iter().count(), 0);
    }
}
