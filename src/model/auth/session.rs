//! Sessions: who is signed in where, and what ends that. Holds hashes of tokens, never a token.
//! The time is seconds since 1970, because sessions outlive the process.

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use blake2::{Blake2b256, Digest};
use zeroize::Zeroizing;

use crate::model::names::WorkspaceName;

/// A session ends after this long however much it is used.
pub const AGE_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// Browsers signed in to one workspace at once, and to all. Beyond it the one unused for longest is signed out.
pub const PER_WORKSPACE_MAX: usize = 64;
pub const TOTAL_MAX: usize = 4096;

const TOKEN_BYTES: usize = 32;

/// What a browser holds: 256 random bits.
pub struct Token(Zeroizing<[u8; TOKEN_BYTES]>);

impl Token {
    pub fn new(random: [u8; TOKEN_BYTES]) -> Self {
        Self(Zeroizing::new(random))
    }

    /// From a cookie's value.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; TOKEN_BYTES]);
        // 32 bytes are 43 digits; the decoder asks for room by its estimate, which is rounded up for other lengths.
        let length = (value.len() == 43).then(|| URL_SAFE_NO_PAD.decode_slice(value, bytes.as_mut_slice()).ok())??;
        (length == TOKEN_BYTES).then_some(Self(bytes))
    }

    /// For the cookie's value.
    pub fn encode(&self) -> Zeroizing<String> {
        Zeroizing::new(URL_SAFE_NO_PAD.encode(self.0.as_slice()))
    }

    pub fn id(&self) -> SessionId {
        SessionId(Blake2b256::digest(self.0.as_slice()).into())
    }
}

/// The hash of a token: finds a session and can't be turned into a cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub [u8; 32]);

/// Which password a session was opened with: the hash of its argon2 string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp(pub [u8; 32]);

impl Stamp {
    pub fn of(password_string: &str) -> Self {
        Self(Blake2b256::digest(password_string.as_bytes()).into())
    }
}

/// What a workspace's sessions must have been opened with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// The daemon was not heard of yet: sessions from before the restart go on.
    Anything,
    Stamp(Stamp),
    /// No such workspace, or nobody may be signed in to it now.
    Nobody,
}

/// Where a session was made, which is the one place that it opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Door {
    pub workspace: WorkspaceName,
    /// Through a tunnel: plain HTTP, with the cookies of everything on localhost.
    pub tunnel: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub door: Door,
    pub stamp: Stamp,
    pub created: u64,
    pub last_used: u64,
}

impl Session {
    /// A clock that was set back makes a session older than it is by nothing, never younger.
    fn is_over(&self, now: u64, lifetime: Duration) -> bool {
        now.saturating_sub(self.last_used) >= lifetime.as_secs()
            || now.saturating_sub(self.created) >= AGE_MAX.as_secs()
    }
}

#[derive(Debug, Default)]
pub struct Sessions {
    by_id: HashMap<SessionId, Session>,
}

impl Sessions {
    /// Sessions as they were written down; what is too much is left out, the least recently used first.
    pub fn restore(entries: impl Iterator<Item = (SessionId, Session)>) -> Self {
        let mut sessions = Self::default();
        for (id, session) in entries {
            sessions.insert(id, session);
        }
        sessions
    }

    /// In no order.
    pub fn iter(&self) -> impl Iterator<Item = (&SessionId, &Session)> {
        self.by_id.iter()
    }

    pub fn create(&mut self, id: SessionId, door: Door, stamp: Stamp, now: u64) {
        self.insert(
            id,
            Session {
                door,
                stamp,
                created: now,
                last_used: now,
            },
        );
    }

    /// Whether the session opens this door; if so, it counts as used now. What has ended is forgotten.
    pub fn use_now(&mut self, id: &SessionId, door: &Door, expected: Expected, now: u64, lifetime: Duration) -> bool {
        let Some(session) = self.by_id.get_mut(id) else {
            return false;
        };
        if session.is_over(now, lifetime) {
            self.by_id.remove(id);
            return false;
        }
        // guard: A37-door
        let opens = &session.door == door
            && match expected {
                Expected::Anything => true,
                Expected::Stamp(stamp) => session.stamp == stamp,
                Expected::Nobody => false,
            };
        if opens {
            session.last_used = session.last_used.max(now);
        }
        opens
    }

    /// Ends one; says whether it was there.
    pub fn end(&mut self, id: &SessionId) -> bool {
        self.by_id.remove(id).is_some()
    }

    /// Ends the sessions of a workspace that were opened with another password; all of them when none is given.
    pub fn end_others(&mut self, workspace: &WorkspaceName, stamp: Option<Stamp>) -> usize {
        self.end_where(|session| &session.door.workspace == workspace && Some(session.stamp) != stamp)
    }

    /// Ends the sessions of workspaces that are no more.
    pub fn end_absent(&mut self, is_there: impl Fn(&WorkspaceName) -> bool) -> usize {
        self.end_where(|session| !is_there(&session.door.workspace))
    }

    pub fn end_expired(&mut self, now: u64, lifetime: Duration) -> usize {
        self.end_where(|session| session.is_over(now, lifetime))
    }

    fn end_where(&mut self, ends: impl Fn(&Session) -> bool) -> usize {
        let before = self.by_id.len();
        self.by_id.retain(|_, session| !ends(session));
        before - self.by_id.len()
    }

    fn insert(&mut self, id: SessionId, session: Session) {
        let of_workspace = self
            .by_id
            .values()
            .filter(|other| other.door.workspace == session.door.workspace)
            .count();
        if of_workspace >= PER_WORKSPACE_MAX {
            self.evict(Some(&session.door.workspace));
        } else if self.by_id.len() >= TOTAL_MAX {
            self.evict(None);
        }
        self.by_id.insert(id, session);
    }

    fn evict(&mut self, of: Option<&WorkspaceName>) {
        let oldest = self
            .by_id
            .iter()
            .filter(|(_, session)| of.is_none_or(|workspace| &session.door.workspace == workspace))
            .min_by_key(|(id, session)| (session.last_used, **id))
            .map(|(id, _)| *id);
        if let Some(id) = oldest {
            self.by_id.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn name(text: &str) -> WorkspaceName {
        WorkspaceName::parse(text).unwrap()
    }

    fn at(text: &str) -> Door {
        Door {
            workspace: name(text),
            tunnel: false,
        }
    }

    fn id(number: usize) -> SessionId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        Token::new(bytes).id()
    }

    fn opens(sessions: &mut Sessions, number: usize, workspace: &str, stamp: &str, now: u64) -> bool {
        sessions.use_now(&id(number), &at(workspace), Expected::Stamp(Stamp::of(stamp)), now, DAY)
    }

    fn one() -> Sessions {
        let mut sessions = Sessions::default();
        sessions.create(id(1), at("dan"), Stamp::of("first"), 1000);
        sessions
    }

    #[test]
    fn tokens_round_trip_and_nothing_else_parses() {
        let token = Token::new([0xfb; 32]);
        let text = token.encode();
        assert_eq!(text.len(), 43);
        assert_eq!(Token::parse(text.as_bytes()).unwrap().id(), token.id());
        assert_ne!(token.id().0, [0xfb; 32]);
        let long = format!("{}A", text.as_str());
        for bad in [
            "",
            "x",
            &text[..42],
            &long,
            &"=".repeat(43),
            &"+".repeat(43),
            &"é".repeat(21),
        ] {
            assert!(Token::parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_session_opens_its_own_workspace_only() {
        let mut sessions = one();
        assert!(opens(&mut sessions, 1, "dan", "first", 1001));
        assert!(!opens(&mut sessions, 1, "alice", "first", 1001));
        assert!(!opens(&mut sessions, 2, "dan", "first", 1001));
        assert!(
            opens(&mut sessions, 1, "dan", "first", 1001),
            "asking for another must not end it"
        );
    }

    #[test]
    fn a_tunnels_session_and_the_hosts_own_open_nothing_of_the_other() {
        let through = |name: &str, tunnel| Door { tunnel, ..at(name) };
        let mut sessions = Sessions::default();
        sessions.create(id(1), through("dan", true), Stamp::of("first"), 1000);
        sessions.create(id(2), through("dan", false), Stamp::of("first"), 1000);
        let mut opens = |number, tunnel| {
            let expected = Expected::Stamp(Stamp::of("first"));
            sessions.use_now(&id(number), &through("dan", tunnel), expected, 1001, DAY)
        };
        assert!(opens(1, true) && opens(2, false));
        assert!(!opens(1, false) && !opens(2, true));
    }

    #[test]
    fn another_password_refuses_it_at_once() {
        let mut sessions = one();
        assert!(!opens(&mut sessions, 1, "dan", "second", 1001));
        assert!(!sessions.use_now(&id(1), &at("dan"), Expected::Nobody, 1001, DAY));
        assert!(sessions.use_now(&id(1), &at("dan"), Expected::Anything, 1001, DAY));
        assert_eq!(sessions.end_others(&name("dan"), Some(Stamp::of("first"))), 0);
        assert_eq!(sessions.end_others(&name("alice"), None), 0);
        assert_eq!(sessions.end_others(&name("dan"), Some(Stamp::of("second"))), 1);
        assert!(!opens(&mut sessions, 1, "dan", "first", 1001));
    }

    #[test]
    fn it_slides_but_not_for_ever() {
        let mut sessions = one();
        let mut now = 1000;
        let step = DAY.as_secs() - 1;
        let mut steps = 0;
        while opens(&mut sessions, 1, "dan", "first", now + step) {
            now += step;
            steps += 1;
        }
        assert_eq!(steps, 30);
        let mut sessions = one();
        assert!(!opens(&mut sessions, 1, "dan", "first", 1000 + DAY.as_secs()));
        assert_eq!(sessions.iter().count(), 0);
        let mut sessions = one();
        assert_eq!(sessions.end_expired(1000 + DAY.as_secs() - 1, DAY), 0);
        assert_eq!(sessions.end_expired(1000 + DAY.as_secs(), DAY), 1);
    }

    #[test]
    fn a_clock_set_back_ends_nothing_and_prolongs_nothing() {
        let mut sessions = one();
        assert!(opens(&mut sessions, 1, "dan", "first", 10));
        assert_eq!(sessions.iter().next().unwrap().1.last_used, 1000);
    }

    #[test]
    fn too_many_sign_out_the_least_recently_used_of_the_same_workspace() {
        let mut sessions = Sessions::default();
        sessions.create(id(9999), at("alice"), Stamp::of("a"), 1);
        for number in 0..PER_WORKSPACE_MAX {
            sessions.create(id(number), at("dan"), Stamp::of("first"), 1000 + number as u64);
        }
        assert!(opens(&mut sessions, 0, "dan", "first", 5000));
        sessions.create(id(100), at("dan"), Stamp::of("first"), 5001);
        assert!(opens(&mut sessions, 0, "dan", "first", 5002));
        assert!(!opens(&mut sessions, 1, "dan", "first", 5002));
        assert!(opens(&mut sessions, 2, "dan", "first", 5002));
        assert!(opens(&mut sessions, 9999, "alice", "a", 5002));
    }

    #[test]
    fn there_is_a_total() {
        let of = |number: usize| name(&format!("w{}", number / PER_WORKSPACE_MAX));
        let session = |number: usize| Session {
            door: at(of(number).as_str()),
            stamp: Stamp::of("x"),
            created: 0,
            last_used: number as u64,
        };
        let sessions = Sessions::restore((0..TOTAL_MAX + 10).map(|number| (id(number), session(number))));
        assert_eq!(sessions.iter().count(), TOTAL_MAX);
        assert!(sessions.iter().all(|(_, session)| session.last_used >= 10));
    }

    #[test]
    fn absent_workspaces_lose_theirs() {
        let mut sessions = one();
        sessions.create(id(2), at("alice"), Stamp::of("a"), 1000);
        assert_eq!(sessions.end_absent(|workspace| workspace.as_str() == "alice"), 1);
        assert!(!opens(&mut sessions, 1, "dan", "first", 1001));
        assert!(opens(&mut sessions, 2, "alice", "a", 1001));
    }
}
