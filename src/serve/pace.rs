//! How often something is told that anybody can bring about again and again: once a minute for each who does, with the
//! number of times in between.

use std::hash::Hash;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lru::LruCache;
use tokio::time::Instant;

const QUIET: Duration = Duration::from_secs(60);
/// More who do it at the same time are told more often than they should be.
const KEPT: NonZeroUsize = NonZeroUsize::new(256).unwrap();

#[derive(Debug)]
pub struct Pace<K: Hash + Eq> {
    /// When it was last told, and how often it came since.
    told: Mutex<LruCache<K, (Instant, u64)>>,
}

impl<K: Hash + Eq> Default for Pace<K> {
    fn default() -> Self {
        // Unbounded and trimmed by hand: the bounded kind takes its memory at once.
        Self {
            told: Mutex::new(LruCache::unbounded()),
        }
    }
}

impl<K: Hash + Eq> Pace<K> {
    /// Counts it. When it is to be told: how often it came before without being told.
    pub fn count(&self, key: K) -> Option<u64> {
        let now = Instant::now();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let more = match told.get_mut(&key) {
            Some((at, more)) if now - *at < QUIET => {
                *more += 1;
                return None;
            }
            Some((_, more)) => *more,
            None => 0,
        };
        told.put(key, (now, 0));
        while told.len() > KEPT.get() {
            told.pop_lru();
        }
        Some(more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_told_once_a_minute_with_what_came_between() {
        let pace = Pace::default();
        assert_eq!(pace.count("dan"), Some(0));
        assert_eq!(pace.count("alice"), Some(0));
        for _ in 0..5 {
            assert_eq!(pace.count("dan"), None);
        }
        tokio::time::advance(QUIET).await;
        assert_eq!(pace.count("dan"), Some(5));
        assert_eq!(pace.count("dan"), None);
        tokio::time::advance(QUIET).await;
        assert_eq!(pace.count("alice"), Some(0));
    }

    #[tokio::test(start_paused = true)]
    async fn its_memory_is_bounded() {
        let pace = Pace::default();
        for number in 0..10_000 {
            assert_eq!(pace.count(number), Some(0));
        }
        assert_eq!(pace.told.lock().unwrap().len(), KEPT.get());
    }
}
