//! OOM: processes that the kernel ended for want of memory: what is new in its counters, and what is said of the last day.
//! The counters end with a run of a workspace; what was told before is read back from the journal.

use std::collections::{BTreeMap, VecDeque};

use crate::model::names::WorkspaceName;
use crate::model::size::format_bytes_rounded;
use crate::model::status::Trouble;

/// Microseconds for which it is still said.
pub const DAY: i64 = 86_400_000_000;
/// What systemd noted at about the time of an event of ours is the same.
const ABOUT: i64 = 120_000_000;
/// More would say nothing more.
const KEPT: usize = 1000;

/// The kernel's counters of a unit (memory.events, cgroups(7)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Oom {
    pub kills: u64,
    /// How often the unit's own limit left nothing to allocate; without that it was the machine that had nothing left.
    pub at_limit: u64,
}

/// Some that were ended at about the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kills {
    /// Microseconds since 1970.
    pub at: i64,
    pub number: u64,
    /// Because of the workspace's own limit, or because the machine had nothing left; nothing where nobody knows.
    pub at_limit: Option<bool>,
}

/// What the journal has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Noted {
    /// By us, with the number.
    Ours(Kills),
    /// By systemd, which says neither how many nor why, but is always there.
    Systemds { at: i64 },
}

/// Of all workspaces, as long as the daemon runs.
#[derive(Debug, Default)]
pub struct Memory {
    /// Whether what the journal has was taken in: before that, what is new is not known.
    whole: bool,
    of: BTreeMap<WorkspaceName, Own>,
}

#[derive(Debug, Default)]
struct Own {
    /// The run and its counters when last seen.
    run: Option<(u64, Oom)>,
    /// What was told.
    told: VecDeque<Kills>,
    /// When systemd noted one that nobody counted.
    uncounted: VecDeque<i64>,
}

/// What was told of a run so far.
struct Before {
    kills: u64,
    /// What [`Oom::at_limit`] was then, if anybody saw.
    at_limit: Option<u64>,
}

impl Memory {
    /// The counters of a run (when its main process was started, microseconds since 1970). Says what is new.
    pub fn saw(&mut self, name: &WorkspaceName, run: u64, oom: Oom, now: i64) -> Option<Kills> {
        let whole = self.whole;
        let own = self.of.entry(name.clone()).or_default();
        // Two may look at the same time, and the one who looked first tell last: counters never fall.
        if own
            .run
            .is_some_and(|(seen, last)| seen == run && oom.kills < last.kills)
        {
            return None;
        }
        let before = own.before(run);
        own.run = Some((run, oom));
        if !whole {
            return None;
        }
        own.forget_counted();
        own.rose(&before, oom, now)
    }

    /// Takes in what the journal has. Says what the counters had more by then: it happened while no daemon looked.
    pub fn remember(&mut self, noted: Vec<(WorkspaceName, Noted)>, now: i64) -> Vec<(WorkspaceName, Kills)> {
        for (name, noted) in noted {
            let own = self.of.entry(name).or_default();
            match noted {
                Noted::Ours(kills) => own.tell(kills),
                Noted::Systemds { at } if at > now - DAY => own.keep_uncounted(at),
                Noted::Systemds { .. } => {}
            }
        }
        self.whole = true;
        let rose = |(name, own): (&WorkspaceName, &mut Own)| {
            let told = &own.told;
            own.uncounted
                .retain(|at| !told.iter().any(|kills| (kills.at - at).abs() < ABOUT));
            // What was seen before the journal was read was not told yet.
            let (run, oom) = own.run.take()?;
            let before = own.before(run);
            own.run = Some((run, oom));
            own.forget_counted();
            Some((name.clone(), own.rose(&before, oom, now)?))
        };
        self.of.iter_mut().filter_map(rose).collect()
    }

    /// What to say of it, for a day.
    pub fn trouble(&self, name: &WorkspaceName, memory_max: u64, now: i64) -> Option<Trouble> {
        let recent = self.of.get(name)?.shown().filter(|kills| kills.at > now - DAY);
        let (number, since, at_limit) = recent.fold((0, now, None), |(number, since, at_limit), kills| {
            // Raising the limit is the nearer way out, so one at the limit counts for more.
            (number + kills.number, since.min(kills.at), at_limit.max(kills.at_limit))
        });
        if number == 0 {
            return None;
        }
        let what = if number == 1 {
            format!("a process at {}", clock(since))
        } else {
            format!("{number} processes since {}", clock(since))
        };
        let (why, way_out) = match at_limit {
            Some(true) => (
                format!(
                    ", because memory_limit ({}) was reached",
                    format_bytes_rounded(memory_max)
                ),
                format!(
                    "raise workspaces.{name}.memory_limit, or run less in it at once; `csm events {name}` shows when"
                ),
            ),
            Some(false) => (
                ", because the machine had no memory left".to_owned(),
                "`csm top` shows who takes how much: lower the limits, or give the machine more memory".to_owned(),
            ),
            None => (
                " for want of memory, while no daemon looked".to_owned(),
                format!(
                    "`journalctl -k -g oom-kill` shows whose: with CONSTRAINT_MEMCG raise \
                     workspaces.{name}.memory_limit, else the machine has too little (`csm top`)"
                ),
            ),
        };
        Some(Trouble::new(
            "oom-killed",
            format!("the kernel ended {what}{why}"),
            way_out,
        ))
    }
}

impl Own {
    /// What is known of a run: its counters when last seen, or what was told of it by daemons before this one.
    fn before(&self, run: u64) -> Before {
        match self.run {
            Some((seen, oom)) if seen == run => Before {
                kills: oom.kills,
                at_limit: Some(oom.at_limit),
            },
            // It began under the eyes of this daemon.
            Some(_) => Before {
                kills: 0,
                at_limit: Some(0),
            },
            None => {
                let told = self.told.iter().filter(|kills| kills.at.unsigned_abs() >= run);
                let kills = told.map(|kills| kills.number).sum();
                Before {
                    kills,
                    at_limit: (kills == 0).then_some(0),
                }
            }
        }
    }

    fn rose(&mut self, before: &Before, oom: Oom, now: i64) -> Option<Kills> {
        let number = oom.kills.checked_sub(before.kills).filter(|number| *number > 0)?;
        let kills = Kills {
            at: now,
            number,
            at_limit: match before.at_limit {
                Some(at_limit) => Some(oom.at_limit > at_limit),
                // It never was at its limit; else it may have been before.
                None => (oom.at_limit == 0).then_some(false),
            },
        };
        self.tell(kills);
        Some(kills)
    }

    fn tell(&mut self, kills: Kills) {
        if self.told.len() == KEPT
            && let (Some(oldest), Some(next)) = (self.told.pop_front(), self.told.front_mut())
        {
            // Its number still counts for what was told of the run.
            next.number += oldest.number;
        }
        self.told.push_back(kills);
    }

    fn keep_uncounted(&mut self, at: i64) {
        if self.uncounted.len() == KEPT {
            self.uncounted.pop_front();
        }
        self.uncounted.push_back(at);
    }

    /// The counters of a run know better than what systemd noted of it.
    fn forget_counted(&mut self) {
        if let Some((run, _)) = self.run {
            self.uncounted.retain(|at| at.unsigned_abs() < run);
        }
    }

    /// Everything that is known to have been ended.
    fn shown(&self) -> impl Iterator<Item = Kills> {
        let uncounted = self.uncounted.iter().map(|at| Kills {
            at: *at,
            number: 1,
            at_limit: None,
        });
        self.told.iter().copied().chain(uncounted)
    }
}

fn clock(at: i64) -> String {
    jiff::Timestamp::from_microsecond(at)
        .map(|at| at.strftime("%Y-%m-%d %H:%MZ").to_string())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000_000;
    /// 2026-03-01 12:00 UTC.
    const NOON: i64 = 1_772_366_400_000_000;
    const RUN: u64 = NOON.unsigned_abs() - 3600 * 1_000_000;

    fn dan() -> WorkspaceName {
        WorkspaceName::parse("dan").unwrap()
    }

    fn oom(kills: u64) -> Oom {
        Oom { kills, at_limit: kills }
    }

    fn kills(at: i64, number: u64) -> Kills {
        Kills {
            at,
            number,
            at_limit: Some(true),
        }
    }

    fn message(memory: &Memory, now: i64) -> Option<String> {
        memory.trouble(&dan(), 700 << 20, now).map(|trouble| trouble.message)
    }

    #[test]
    fn what_is_new_is_told_once() {
        let mut memory = Memory::default();
        assert_eq!(memory.remember(Vec::new(), NOON), []);
        for (run, count, new) in [
            (RUN, 0, None),
            (RUN, 1, Some(1)),
            (RUN, 1, None),
            (RUN, 4, Some(3)),
            // Another run counts from the start again.
            (RUN + 9, 2, Some(2)),
            (RUN + 9, 2, None),
        ] {
            let told = memory.saw(&dan(), run, oom(count), NOON).map(|kills| kills.number);
            assert_eq!(told, new, "{run} {count}");
        }
        assert_eq!(
            message(&memory, NOON + MINUTE).as_deref(),
            Some("the kernel ended 6 processes since 2026-03-01 12:00Z, because memory_limit (700M) was reached")
        );
        assert_eq!(message(&memory, NOON + DAY), None);
    }

    #[test]
    fn a_new_daemon_goes_on_from_the_journal() {
        let ours = |at, number| (dan(), Noted::Ours(kills(at, number)));
        let systemds = |at| (dan(), Noted::Systemds { at });
        let before_run = RUN.cast_signed() - 10 * MINUTE;
        for (noted, counter, new, shown) in [
            // All of it was told.
            (vec![ours(NOON, 2), systemds(NOON - MINUTE)], 2, None, Some(2)),
            // One happened while no daemon ran.
            (vec![ours(NOON, 2), systemds(NOON)], 3, Some(1), Some(3)),
            (vec![systemds(NOON)], 1, Some(1), Some(1)),
            // It ended a run that no daemon saw the end of; the same, told.
            (vec![systemds(before_run)], 0, None, Some(1)),
            (
                vec![ours(before_run, 3), systemds(before_run + MINUTE)],
                0,
                None,
                Some(3),
            ),
            (vec![], 0, None, None),
        ] {
            let mut memory = Memory::default();
            // Nothing is told before it is known what was told.
            assert_eq!(memory.saw(&dan(), RUN, oom(counter), NOON), None);
            let told: Vec<u64> = memory
                .remember(noted.clone(), NOON + MINUTE)
                .into_iter()
                .map(|(_, kills)| kills.number)
                .collect();
            assert_eq!(told, new.into_iter().collect::<Vec<_>>(), "{noted:?}");
            let sum = memory.of[&dan()].shown().map(|kills| kills.number).sum::<u64>();
            assert_eq!(sum, shown.unwrap_or(0), "{noted:?}");
            assert_eq!(memory.saw(&dan(), RUN, oom(counter), NOON), None);
        }
    }

    /// A restart of the daemon told anew what was told more than a day before, or what was looked at only after the
    /// journal was read.
    #[test]
    fn what_was_told_of_a_run_that_is_days_old_is_not_told_again() {
        let run = NOON.unsigned_abs() - 3 * DAY.unsigned_abs();
        let two_days_ago = NOON - 2 * DAY;
        let noted = || {
            vec![
                (dan(), Noted::Ours(kills(run.cast_signed() - MINUTE, 7))),
                (dan(), Noted::Ours(kills(two_days_ago, 5))),
                (dan(), Noted::Systemds { at: two_days_ago }),
                (dan(), Noted::Systemds { at: NOON - MINUTE }),
            ]
        };
        for (counter, new) in [(5, None), (6, Some(1))] {
            let number = |kills: Option<Kills>| kills.map(|kills| kills.number);
            let mut looked_first = Memory::default();
            assert_eq!(looked_first.saw(&dan(), run, oom(counter), NOON), None);
            let told = looked_first.remember(noted(), NOON);
            assert_eq!(number(told.first().map(|(_, kills)| *kills)), new);
            assert_eq!(looked_first.saw(&dan(), run, oom(counter), NOON), None);

            let mut read_first = Memory::default();
            assert_eq!(read_first.remember(noted(), NOON), []);
            assert_eq!(number(read_first.saw(&dan(), run, oom(counter), NOON)), new);
            assert_eq!(read_first.saw(&dan(), run, oom(counter), NOON), None);
            // What the counters know of is not said twice.
            let said = |memory: &Memory| memory.trouble(&dan(), 700 << 20, NOON + 1).map(|said| said.message);
            assert_eq!(said(&looked_first), said(&read_first));
            assert_eq!(said(&read_first).is_some(), new.is_some());
        }
    }

    /// The worker and who hears of a kill look at the same counters.
    #[test]
    fn a_look_that_comes_late_tells_nothing_anew() {
        let mut memory = Memory::default();
        memory.remember(Vec::new(), NOON);
        for (count, new) in [(2, Some(2)), (1, None), (2, None), (3, Some(1))] {
            let told = memory.saw(&dan(), RUN, oom(count), NOON).map(|kills| kills.number);
            assert_eq!(told, new, "{count}");
        }
    }

    /// It was told as the workspace's own limit, whatever it was: the way out was the wrong one on a machine without memory.
    #[test]
    fn of_what_nobody_counted_no_cause_is_told() {
        let mut memory = Memory::default();
        memory.remember(vec![(dan(), Noted::Systemds { at: NOON })], NOON);
        let trouble = memory.trouble(&dan(), 700 << 20, NOON).unwrap();
        assert_eq!(
            trouble.message,
            "the kernel ended a process at 2026-03-01 12:00Z for want of memory, while no daemon looked"
        );
        assert!(!trouble.remediation.starts_with("raise"), "{}", trouble.remediation);
        // Of a run that was told of before, the counters at that time are not known.
        for (at_limit, cause) in [(3, None), (0, Some(false))] {
            let mut memory = Memory::default();
            memory.remember(vec![(dan(), Noted::Ours(kills(NOON, 2)))], NOON);
            let told = memory.saw(&dan(), RUN, Oom { kills: 3, at_limit }, NOON).unwrap();
            assert_eq!(told.at_limit, cause);
        }
    }

    #[test]
    fn one_process_and_a_machine_without_memory_have_their_own_words() {
        let mut memory = Memory::default();
        memory.remember(Vec::new(), NOON);
        let short = Oom { kills: 1, at_limit: 0 };
        assert!(memory.saw(&dan(), RUN, short, NOON).is_some());
        assert_eq!(
            message(&memory, NOON).as_deref(),
            Some("the kernel ended a process at 2026-03-01 12:00Z, because the machine had no memory left")
        );
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut memory = Memory::default();
        memory.remember(Vec::new(), NOON);
        for count in 1..5000 {
            memory.saw(&dan(), RUN, oom(count), NOON);
        }
        assert_eq!(memory.of[&dan()].told.len(), KEPT);
        assert_eq!(memory.of[&dan()].shown().map(|kills| kills.number).sum::<u64>(), 4999);
    }
}
