//! How often somebody may guess. Only *failed* attempts cost; nothing here ever touches a session that exists.
//!
//! - Each source has a bucket over all workspaces: 10 failures at once, then one a minute.
//! - Each workspace has a bucket over all sources: 30 failures at once, then one every 5 seconds. One source alone can't
//!   keep it empty (it earns less than the bucket does); while many do, sign-ins from new places wait for the next drop.
//! - The owner is not locked out: in a browser in which the workspace was signed in to before ([`devices`](super::devices)),
//!   neither of the two counts, but a bucket that belongs to that workspace and that browser alone.
//!
//! The time is what a monotonic clock says: a restart forgives everything.

use std::num::NonZeroUsize;
use std::time::Duration;

use lru::LruCache;

use crate::model::auth::devices::DeviceId;
use crate::model::auth::request::Source;
use crate::model::names::WorkspaceName;

/// How many buckets are kept; the one untouched for longest makes room.
const SOURCES_MAX: NonZeroUsize = NonZeroUsize::new(4096).unwrap();
const WORKSPACES_MAX: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

const SOURCE: Rate = Rate {
    burst: 10,
    refill: Duration::from_secs(60),
};
const WORKSPACE: Rate = Rate {
    burst: 30,
    refill: Duration::from_secs(5),
};

/// How many attempts a bucket holds, and how long one takes to come back.
#[derive(Debug, Clone, Copy)]
struct Rate {
    burst: u32,
    refill: Duration,
}

/// When the bucket will be full again says all there is to know (the generic cell rate algorithm).
#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    full_at: Duration,
}

impl Bucket {
    /// How long until an attempt can be taken; nothing when at once.
    fn wait(self, rate: Rate, now: Duration) -> Option<Duration> {
        let after = self.full_at.max(now) + rate.refill;
        after
            .saturating_sub(now)
            .checked_sub(rate.refill * rate.burst)
            .filter(|wait| !wait.is_zero())
    }

    fn take(&mut self, rate: Rate, now: Duration) {
        self.full_at = self.full_at.max(now) + rate.refill;
    }

    fn give_back(&mut self, rate: Rate) {
        self.full_at = self.full_at.saturating_sub(rate.refill);
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Place {
    /// A source, for all workspaces.
    Anywhere(Source),
    /// A tunnel, whose users all look alike: what one guesses at his workspace must not keep the others from theirs.
    Tunnel(WorkspaceName),
    /// A browser that a workspace knows.
    Known(WorkspaceName, DeviceId),
}

/// An attempt that was let through. It has been paid for; give it back when it turns out to be no guess.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Attempt {
    place: Place,
    workspace: Option<WorkspaceName>,
}

#[derive(Debug)]
pub struct Limiter {
    places: LruCache<Place, Bucket>,
    workspaces: LruCache<WorkspaceName, Bucket>,
}

impl Default for Limiter {
    fn default() -> Self {
        // Unbounded and trimmed by hand: the bounded kind takes its memory at once.
        Self {
            places: LruCache::unbounded(),
            workspaces: LruCache::unbounded(),
        }
    }
}

impl Limiter {
    /// Takes an attempt, or says how long to wait. Paid for beforehand, so that attempts at the same time all count.
    /// `device`: the browser, if the workspace knows it.
    pub fn take(
        &mut self,
        workspace: &WorkspaceName,
        source: &Source,
        device: Option<DeviceId>,
        now: Duration,
    ) -> Result<Attempt, Duration> {
        let known = device.is_some();
        let place = match device {
            // guard: A27-device
            Some(device) => Place::Known(workspace.clone(), device),
            None if source.is_tunnel() => Place::Tunnel(workspace.clone()),
            None => Place::Anywhere(source.clone()),
        };
        let of_place = self.places.peek(&place).and_then(|bucket| bucket.wait(SOURCE, now));
        let of_workspace = if known {
            None
        } else {
            self.workspaces
                .peek(workspace)
                .and_then(|bucket| bucket.wait(WORKSPACE, now))
        };
        if let Some(wait) = of_place.max(of_workspace) {
            return Err(wait);
        }
        bucket(&mut self.places, &place, SOURCES_MAX).take(SOURCE, now);
        if known {
            return Ok(Attempt { place, workspace: None });
        }
        bucket(&mut self.workspaces, workspace, WORKSPACES_MAX).take(WORKSPACE, now);
        Ok(Attempt {
            place,
            workspace: Some(workspace.clone()),
        })
    }

    pub fn give_back(&mut self, attempt: &Attempt) {
        if let Some(bucket) = self.places.peek_mut(&attempt.place) {
            bucket.give_back(SOURCE);
        }
        if let Some(bucket) = attempt
            .workspace
            .as_ref()
            .and_then(|name| self.workspaces.peek_mut(name))
        {
            bucket.give_back(WORKSPACE);
        }
    }
}

fn bucket<'a, K: std::hash::Hash + Eq + Clone>(
    buckets: &'a mut LruCache<K, Bucket>,
    key: &K,
    most: NonZeroUsize,
) -> &'a mut Bucket {
    while buckets.len() >= most.get() && !buckets.contains(key) {
        buckets.pop_lru();
    }
    buckets.get_or_insert_mut(key.clone(), Bucket::default)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dan() -> WorkspaceName {
        WorkspaceName::parse("dan").unwrap()
    }

    fn source(number: u32) -> Source {
        Source::of(Some(&std::net::Ipv4Addr::from_bits(number).to_string()), false)
    }

    /// A browser that dan's workspace knows.
    const KNOWN: Option<DeviceId> = Some(DeviceId([7; 32]));

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(1_000_000 + seconds)
    }

    /// How many attempts go through at one moment, up to a hundred.
    fn burst(limiter: &mut Limiter, from: &Source, device: Option<DeviceId>, now: Duration) -> usize {
        (0..100)
            .filter(|_| limiter.take(&dan(), from, device, now).is_ok())
            .count()
    }

    #[test]
    fn guesses_through_one_tunnel_do_not_close_the_others() {
        let mut limiter = Limiter::default();
        let tunnel = Source::of(Some("127.0.0.1"), true);
        assert_eq!(burst(&mut limiter, &tunnel, None, at(0)), 10);
        let alice = WorkspaceName::parse("alice").unwrap();
        assert!(limiter.take(&alice, &tunnel, None, at(0)).is_ok());
        // Of an address, the limit is over all workspaces.
        assert_eq!(burst(&mut limiter, &source(1), None, at(0)), 10);
        assert!(limiter.take(&alice, &source(1), None, at(0)).is_err());
    }

    #[test]
    fn a_source_gets_ten_then_one_a_minute() {
        let mut limiter = Limiter::default();
        assert_eq!(burst(&mut limiter, &source(1), None, at(0)), 10);
        assert_eq!(
            limiter.take(&dan(), &source(1), None, at(0)),
            Err(Duration::from_secs(60))
        );
        assert_eq!(
            limiter.take(&dan(), &source(1), None, at(59)),
            Err(Duration::from_secs(1))
        );
        assert_eq!(burst(&mut limiter, &source(1), None, at(60)), 1);
        assert_eq!(burst(&mut limiter, &source(1), None, at(180)), 2);
        assert_eq!(
            burst(&mut limiter, &source(1), None, at(100_000)),
            10,
            "no more than the bucket holds"
        );
        assert_eq!(
            burst(&mut limiter, &source(2), None, at(100_000)),
            10,
            "another source is another bucket"
        );
    }

    #[test]
    fn what_was_no_guess_is_given_back() {
        let mut limiter = Limiter::default();
        for _ in 0..1000 {
            let attempt = limiter.take(&dan(), &source(1), None, at(0)).unwrap();
            limiter.give_back(&attempt);
        }
        assert_eq!(burst(&mut limiter, &source(1), None, at(0)), 10);
    }

    #[test]
    fn a_workspace_bears_many_sources_only_so_often_and_its_owner_still_comes_in() {
        let mut limiter = Limiter::default();
        let through: usize = (0..1000)
            .map(|number| burst(&mut limiter, &source(number), None, at(0)))
            .sum();
        assert_eq!(through, 30);
        assert_eq!(
            limiter.take(&dan(), &source(5000), None, at(0)),
            Err(Duration::from_secs(5))
        );
        assert!(
            limiter.take(&dan(), &source(5000), KNOWN, at(0)).is_ok(),
            "a known browser has a budget of its own"
        );
        assert!(
            limiter.take(&dan(), &source(5000), None, at(5)).is_ok(),
            "nobody waits for longer than a drop takes"
        );
        let alice = WorkspaceName::parse("alice").unwrap();
        assert!(limiter.take(&alice, &source(5000), None, at(0)).is_ok());
    }

    #[test]
    fn one_source_alone_can_not_keep_a_workspace_shut() {
        let mut limiter = Limiter::default();
        for second in 0..3600 {
            burst(&mut limiter, &source(1), None, at(second));
            assert!(
                limiter
                    .workspaces
                    .peek(&dan())
                    .unwrap()
                    .wait(WORKSPACE, at(second))
                    .is_none(),
                "second {second}"
            );
        }
    }

    #[test]
    fn a_known_browser_is_limited_too_and_not_by_its_neighbours() {
        let mut limiter = Limiter::default();
        assert_eq!(burst(&mut limiter, &source(1), None, at(0)), 10);
        assert_eq!(burst(&mut limiter, &source(1), KNOWN, at(0)), 10);
    }

    #[test]
    fn a_refused_attempt_costs_nothing() {
        let mut limiter = Limiter::default();
        burst(&mut limiter, &source(1), None, at(0));
        let before = limiter.workspaces.peek(&dan()).unwrap().full_at;
        assert!(limiter.take(&dan(), &source(1), None, at(0)).is_err());
        assert_eq!(limiter.workspaces.peek(&dan()).unwrap().full_at, before);
    }

    #[test]
    fn memory_is_bounded() {
        let mut limiter = Limiter::default();
        let workspaces: Vec<_> = (0..2000)
            .map(|n| WorkspaceName::parse(&format!("w{n}")).unwrap())
            .collect();
        for number in 0..20_000 {
            let _ = limiter.take(
                &workspaces[number as usize % 2000],
                &source(number),
                (number % 2 == 0).then(|| DeviceId([u8::try_from(number % 256).unwrap(); 32])),
                at(0),
            );
        }
        assert_eq!(limiter.places.len(), SOURCES_MAX.get());
        assert!(limiter.workspaces.len() <= WORKSPACES_MAX.get());
    }
}
