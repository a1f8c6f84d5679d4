//! What the gateway knows: the daemon's last word on each workspace, the sessions, the limits. Changed by the watch on
//! the daemon and by sign-ins; always in one piece behind one lock.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::api::{self, GatewayEvent, GatewayWorkspace};
use crate::model::auth::devices::KnownDevices;
use crate::model::auth::limit::Limiter;
use crate::model::auth::session::{Door, Expected, SessionId, Sessions, Stamp};
use crate::model::auth::{PasswordString, check_string};
use crate::model::names::WorkspaceName;

pub struct State {
    pub sessions: Sessions,
    pub known_devices: KnownDevices,
    pub limiter: Limiter,
    /// How long a session lasts without use.
    pub lifetime: Duration,
    /// Something has changed that need not be written down at once.
    pub touched: bool,
    workspaces: HashMap<WorkspaceName, Workspace>,
    /// Named since the daemon began to list all there is.
    listed: HashSet<WorkspaceName>,
    synced: bool,
}

/// A workspace as the daemon last described it.
pub struct Workspace {
    pub state: api::State,
    pub message: String,
    /// Nothing when none is set, or when the one that is set can't be used.
    password: Option<PasswordString>,
    stamp: Option<Stamp>,
}

impl State {
    pub fn new(sessions: Sessions, known_devices: KnownDevices, lifetime: Duration) -> Self {
        Self {
            sessions,
            known_devices,
            limiter: Limiter::default(),
            lifetime,
            touched: false,
            workspaces: HashMap::new(),
            listed: HashSet::new(),
            synced: false,
        }
    }

    pub fn workspace(&self, name: &WorkspaceName) -> Option<&Workspace> {
        self.workspaces.get(name)
    }

    /// What to check a password against; nothing when nobody can sign in.
    pub fn password(&self, name: &WorkspaceName) -> Option<PasswordString> {
        self.workspaces
            .get(name)?
            .password
            .clone()
            .filter(|_| self.expected(name) != Expected::Nobody)
    }

    /// Whether a session opens a door now; counts as a use of it.
    pub fn use_session(&mut self, id: &SessionId, door: &Door, now: u64) -> bool {
        let expected = self.expected(&door.workspace);
        let opens = self.sessions.use_now(id, door, expected, now, self.lifetime);
        self.touched |= opens;
        opens
    }

    /// The daemon begins to say all there is.
    pub fn begin_list(&mut self) {
        self.listed.clear();
    }

    /// Takes in one event; says whether a session ended by it.
    pub fn apply(&mut self, event: GatewayEvent) -> bool {
        match event {
            GatewayEvent::Settings(settings) => {
                self.lifetime = Duration::from_secs(settings.session_lifetime_seconds);
                self.touched = true;
                false
            }
            GatewayEvent::Workspace(workspace) => self.set(workspace),
            GatewayEvent::Removed { name } => match WorkspaceName::parse(&name) {
                Ok(name) => self.remove(&name),
                Err(_) => false,
            },
            GatewayEvent::Synced {} => self.end_list(),
        }
    }

    fn expected(&self, name: &WorkspaceName) -> Expected {
        match self.workspaces.get(name) {
            Some(Workspace {
                state: api::State::Disabled,
                ..
            }) => Expected::Nobody,
            Some(workspace) => workspace.stamp.map_or(Expected::Nobody, Expected::Stamp),
            None if self.synced => Expected::Nobody,
            None => Expected::Anything,
        }
    }

    fn set(&mut self, described: GatewayWorkspace) -> bool {
        let GatewayWorkspace {
            name,
            host: _,
            state,
            message,
            password,
        } = described;
        let Ok(name) = WorkspaceName::parse(&name) else {
            tracing::warn!("the daemon named a workspace that can't be one");
            return false;
        };
        let stamp = password.as_deref().map(Stamp::of);
        let password = password.and_then(|text| match check_string(&text) {
            Ok(string) => Some(string),
            Err(error) => {
                tracing::warn!(workspace = %name, %error, "the password can't be used");
                None
            }
        });
        // No password is no other password: it may be unreadable for a moment, which refuses sessions and ends none.
        let ended = match (state, stamp) {
            (api::State::Disabled, _) => self.sessions.end_others(&name, None),
            (_, Some(stamp)) => self.sessions.end_others(&name, Some(stamp)),
            (_, None) => 0,
        };
        report(
            &name,
            ended,
            "signed out, the password was changed or the workspace disabled",
        );
        self.listed.insert(name.clone());
        self.workspaces.insert(
            name,
            Workspace {
                state,
                message,
                password,
                stamp,
            },
        );
        ended > 0
    }

    fn remove(&mut self, name: &WorkspaceName) -> bool {
        self.workspaces.remove(name);
        self.listed.remove(name);
        self.known_devices.forget_absent(|other| other != name);
        let ended = self.sessions.end_others(name, None);
        report(name, ended, "signed out, the workspace was removed");
        ended > 0
    }

    /// What the daemon did not name is gone.
    fn end_list(&mut self) -> bool {
        let listed = std::mem::take(&mut self.listed);
        self.workspaces.retain(|name, _| listed.contains(name));
        self.known_devices.forget_absent(|name| listed.contains(name));
        self.synced = true;
        let ended = self.sessions.end_absent(|name| listed.contains(name));
        if ended > 0 {
            tracing::info!(sessions = ended, "signed out, workspaces are gone");
        }
        ended > 0
    }
}

fn report(name: &WorkspaceName, sessions: usize, why: &'static str) {
    if sessions > 0 {
        tracing::info!(workspace = %name, sessions, why, "sessions ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::auth::NOBODY;
    use crate::model::auth::session::Token;

    const OTHER: &str = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA";

    fn workspace(name: &str, state: api::State, password: Option<&str>) -> GatewayEvent {
        GatewayEvent::Workspace(GatewayWorkspace {
            name: name.to_owned(),
            host: format!("{name}.code.example.org"),
            state,
            message: String::new(),
            password: password.map(str::to_owned),
        })
    }

    /// Dan's session is there, opened with the first password; the daemon has said nothing yet.
    fn restarted() -> (State, SessionId, Door) {
        let dan = Door {
            workspace: WorkspaceName::parse("dan").unwrap(),
            tunnel: false,
        };
        let id = Token::new([1; 32]).id();
        let mut sessions = Sessions::default();
        sessions.create(id, dan.clone(), Stamp::of(NOBODY), 1000);
        (
            State::new(sessions, KnownDevices::default(), Duration::from_secs(100)),
            id,
            dan,
        )
    }

    #[test]
    fn what_ends_a_session() {
        use api::State::{Blocked, Disabled, Failed, Ready, Stopped};
        // Events after the start; whether the session opens; whether it is still there.
        let cases: Vec<(Vec<GatewayEvent>, bool, bool)> = vec![
            (vec![], true, true),
            (vec![workspace("dan", Ready, Some(NOBODY))], true, true),
            (
                vec![workspace("dan", Stopped, Some(NOBODY)), GatewayEvent::Synced {}],
                true,
                true,
            ),
            (
                vec![workspace("dan", Failed, Some(NOBODY)), GatewayEvent::Synced {}],
                true,
                true,
            ),
            (vec![workspace("dan", Ready, Some(OTHER))], false, false),
            (vec![workspace("dan", Ready, Some("$argon2id$unusable"))], false, false),
            (vec![workspace("dan", Disabled, Some(NOBODY))], false, false),
            (vec![workspace("dan", Blocked, None)], false, true),
            (
                vec![workspace("dan", Blocked, None), workspace("dan", Ready, Some(NOBODY))],
                true,
                true,
            ),
            (vec![workspace("alice", Ready, Some(NOBODY))], true, true),
            (
                vec![workspace("alice", Ready, Some(NOBODY)), GatewayEvent::Synced {}],
                false,
                false,
            ),
            (vec![GatewayEvent::Removed { name: "dan".to_owned() }], true, false),
            (
                vec![GatewayEvent::Removed {
                    name: "../dan".to_owned(),
                }],
                true,
                true,
            ),
        ];
        for (number, (events, opens, stays)) in cases.into_iter().enumerate() {
            let (mut state, id, dan) = restarted();
            state.begin_list();
            let ended = events.into_iter().filter(|event| state.apply(event.clone())).count() > 0;
            assert_eq!(ended, !stays, "case {number}");
            assert_eq!(state.use_session(&id, &dan, 1001), opens && stays, "case {number}");
            assert_eq!(state.sessions.iter().count(), usize::from(stays), "case {number}");
        }
    }

    #[test]
    fn a_second_list_removes_what_it_lacks_and_only_when_it_is_whole() {
        let (mut state, id, dan) = restarted();
        for name in ["dan", "alice"] {
            state.apply(workspace(name, api::State::Ready, Some(NOBODY)));
        }
        state.apply(GatewayEvent::Synced {});
        state.begin_list();
        state.apply(workspace("alice", api::State::Ready, Some(NOBODY)));
        assert!(state.use_session(&id, &dan, 1001), "the list is not whole yet");
        state.begin_list();
        state.apply(GatewayEvent::Synced {});
        assert!(!state.use_session(&id, &dan, 1001));
        assert!(state.workspace(&dan.workspace).is_none());
    }

    #[test]
    fn nobody_signs_in_where_it_is_disabled_or_unset() {
        let (mut state, _, dan) = restarted();
        assert!(state.password(&dan.workspace).is_none());
        state.apply(workspace("dan", api::State::Stopped, Some(NOBODY)));
        assert!(state.password(&dan.workspace).is_some());
        for event in [
            workspace("dan", api::State::Disabled, Some(NOBODY)),
            workspace("dan", api::State::Ready, None),
            workspace("dan", api::State::Ready, Some("hunter2")),
        ] {
            state.apply(event);
            assert!(state.password(&dan.workspace).is_none());
        }
    }

    #[test]
    fn the_lifetime_is_the_daemons() {
        let (mut state, id, dan) = restarted();
        state.apply(GatewayEvent::Settings(api::GatewaySettings {
            session_lifetime_seconds: 10,
        }));
        assert!(!state.use_session(&id, &dan, 1010));
    }
}
