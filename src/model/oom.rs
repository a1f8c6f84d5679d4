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
    /// Because of the workspace's own limit.
    pub at_limit: bool,
}

/// What the journal has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Noted {
    /// By us, with the number.
    Ours(Kills),
    /// By systemd, which doesn't say how many, but is always there.
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
    kills: VecDeque<Kills>,
}

impl Memory {
    /// The counters of a run (when its main process was started, microseconds since 1970). Says what is new.
    pub fn saw(&mut self, name: &WorkspaceName, run: u64, oom: Oom, now: i64) -> Option<Kills> {
        let own = self.of.entry(name.clone()).or_default();
        let before = own.run.replace((run, oom)).filter(|(before, _)| *before == run);
        let before = before.map(|(_, oom)| oom).unwrap_or_default();
        if !self.whole {
            return None;
        }
        own.rose(before, oom, now)
    }

    /// Takes in what the journal has. Says what the counters had more by then: it happened while no daemon looked.
    pub fn remember(&mut self, noted: Vec<(WorkspaceName, Noted)>, now: i64) -> Vec<(WorkspaceName, Kills)> {
        let mut systemds = Vec::new();
        for (name, noted) in noted {
            match noted {
                Noted::Ours(kills) => self.of.entry(name).or_default().keep(kills),
                Noted::Systemds { at } => systemds.push((name, at)),
            }
        }
        for (name, at) in systemds {
            let own = self.of.entry(name).or_default();
            // The counters of the present run know better.
            let counted = own.run.is_some_and(|(run, _)| run <= at.unsigned_abs());
            if !counted && !own.kills.iter().any(|kills| (kills.at - at).abs() < ABOUT) {
                own.keep(Kills {
                    at,
                    number: 1,
                    at_limit: true,
                });
            }
        }
        self.whole = true;
        let rose = |(name, own): (&WorkspaceName, &mut Own)| {
            let (run, oom) = own.run?;
            let told = own.kills.iter().filter(|kills| kills.at.unsigned_abs() >= run);
            let before = Oom {
                kills: told.map(|kills| kills.number).sum(),
                at_limit: 0,
            };
            Some((name.clone(), own.rose(before, oom, now)?))
        };
        self.of.iter_mut().filter_map(rose).collect()
    }

    /// What to say of it, for a day.
    pub fn trouble(&self, name: &WorkspaceName, memory_max: u64, now: i64) -> Option<Trouble> {
        let recent = self.of.get(name)?.kills.iter().filter(|kills| kills.at > now - DAY);
        let (number, since, at_limit) = recent.fold((0, now, false), |(number, since, at_limit), kills| {
            (number + kills.number, since.min(kills.at), at_limit || kills.at_limit)
        });
        if number == 0 {
            return None;
        }
        let what = if number == 1 {
            format!("a process at {}", clock(since))
        } else {
            format!("{number} processes since {}", clock(since))
        };
        Some(if at_limit {
            Trouble::new(
                "oom-killed",
                format!(
                    "the kernel ended {what}, because memory_limit ({}) was reached",
                    format_bytes_rounded(memory_max)
                ),
                format!(
                    "raise workspaces.{name}.memory_limit, or run less in it at once; `csm events {name}` shows when"
                ),
            )
        } else {
            Trouble::new(
                "oom-killed",
                format!("the kernel ended {what}, because the machine had no memory left"),
                "`csm top` shows who takes how much: lower the limits, or give the machine more memory",
            )
        })
    }
}

impl Own {
    fn rose(&mut self, before: Oom, oom: Oom, now: i64) -> Option<Kills> {
        let number = oom.kills.checked_sub(before.kills).filter(|number| *number > 0)?;
        let kills = Kills {
            at: now,
            number,
            at_limit: oom.at_limit > before.at_limit,
        };
        self.keep(kills);
        Some(kills)
    }

    fn keep(&mut self, kills: Kills) {
        if self.kills.len() == KEPT {
            self.kills.pop_front();
        }
        self.kills.push_back(kills);
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
            at_limit: true,
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
            let sum = memory.of[&dan()].kills.iter().map(|kills| kills.number).sum::<u64>();
            assert_eq!(sum, shown.unwrap_or(0), "{noted:?}");
            assert_eq!(memory.saw(&dan(), RUN, oom(counter), NOON), None);
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
        assert_eq!(memory.of[&dan()].kills.len(), KEPT);
    }
}
