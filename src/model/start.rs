//! START: an editor that takes its time to start, and whether it is given more. Durations come in, words go out.
//!
//! What is slow is told from what is broken by time alone. An editor gives up its own start when one half of it has waited
//! too long for the other (code-server: ten seconds, status 1), while one that is broken ends as soon as it would have
//! answered. What it wrote about that is not read: root reads nothing that a workspace says. How busy the processors are
//! would not do either: nothing counts what a hypervisor keeps back, or an emulated processor's slowness.

use std::time::Duration;

use crate::model::names::WorkspaceName;
use crate::model::status::Trouble;
use crate::model::unit::START_SECONDS;

/// From here on a start is slow. An editor answers half a second after its container runs. Less than the shortest limit that
/// is known of editors, because word of the container comes late on a busy machine.
pub const SLOW: Duration = Duration::from_secs(8);

/// What a start may take, from when it is begun until the editor answers, in one try or in several.
pub const DEADLINE: Duration = Duration::from_secs(180);

/// How long an editor that has had its start's time, and still runs, is waited for between two looks at it.
pub const SILENT: Duration = Duration::from_secs(60);

/// Tries of one start that came to nothing for want of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tries {
    /// Editors that ended by themselves before they answered.
    pub gave_up: u32,
    /// Containers that Podman had not started when systemd ended it.
    pub cut_off: u32,
}

impl Tries {
    pub fn all(self) -> u32 {
        self.gave_up + self.cut_off
    }

    fn words(self) -> Option<String> {
        let times = |count: u32| match count {
            1 => String::new(),
            more => format!(" {more} times"),
        };
        let editor = format!("the editor was slow to start and gave up{}", times(self.gave_up));
        let podman = format!(
            "Podman took more than {START_SECONDS} s to start the container and was ended{}",
            times(self.cut_off)
        );
        match (self.cut_off, self.gave_up) {
            (0, 0) => None,
            (0, _) => Some(editor),
            (_, 0) => Some(podman),
            _ => Some(format!("{podman}, and {editor}")),
        }
    }
}

/// Whether an editor that ended by itself did so because it was slow; `answered`: whether it had ever answered.
// guard: F30-slow
pub fn was_slow(answered: bool, lived: Duration) -> bool {
    !answered && lived >= SLOW
}

/// Whether a container that was not started in so long a time, for this reason, lacked only time: systemd ends a Podman that
/// takes longer.
pub fn was_cut_off(why: &Trouble, took: Duration) -> bool {
    why.code == "start-failed" && took >= Duration::from_secs(START_SECONDS)
}

/// How long to wait for an editor that runs now, of a start that has lasted so long: what is left of the start's time, and as
/// long as a try has to last to be called slow.
pub fn patience(lasted: Duration) -> Duration {
    DEADLINE.saturating_sub(lasted).max(SLOW)
}

/// What there is to say of a start that has lasted so long, with the tries on the way. Nothing of one that may be quick yet,
/// or has no time left.
pub fn slow(name: &WorkspaceName, lasted: Duration, tries: Tries) -> Option<Trouble> {
    if lasted >= DEADLINE {
        return None;
    }
    let what = match tries.words() {
        Some(words) => format!("{words}; it is started again"),
        None if lasted < SLOW => return None,
        None => format!("the workspace takes more than {} s to start", SLOW.as_secs()),
    };
    Some(Trouble::new(
        "editor-slow",
        format!("{what}. It is given {} s in all", DEADLINE.as_secs()),
        format!("wait: the machine may be busy (`csm top`); `csm logs {name}` shows what Podman and the editor say"),
    ))
}

/// The same once the time is up.
pub fn too_slow(name: &WorkspaceName, lasted: Duration, tries: Tries) -> Trouble {
    let code = if tries.gave_up == 0 {
        "start-failed"
    } else {
        "editor-exited"
    };
    Trouble::new(
        code,
        format!(
            "{}, and {} s have gone by; it is started again after a pause",
            tries.words().unwrap_or_default(),
            lasted.as_secs()
        ),
        format!(
            "`csm logs {name}` shows the last words; `csm top` whether the machine is busy; `csm restart {name}` tries at once"
        ),
    )
}

/// An editor that still runs, and has had its start's time.
pub fn silent(name: &WorkspaceName) -> Trouble {
    Trouble::new(
        "editor-silent",
        "the container runs, but its editor does not answer; it is waited for on".to_owned(),
        format!("`csm logs {name}` shows what it says; `csm restart {name}` starts it anew"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dan() -> WorkspaceName {
        WorkspaceName::parse("dan").unwrap()
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn tries(cut_off: u32, gave_up: u32) -> Tries {
        Tries { gave_up, cut_off }
    }

    #[test]
    fn slow_is_who_took_long_and_never_answered() {
        for (answered, lived, slow) in [
            (false, 0, false),
            (false, 1, false),
            (false, 7, false),
            (false, 8, true),
            (false, 10, true),
            (false, 28, true),
            (false, 3600, true),
            (true, 7, false),
            (true, 28, false),
            (true, 3600, false),
        ] {
            assert_eq!(was_slow(answered, seconds(lived)), slow, "{answered} {lived} s");
        }
    }

    #[test]
    fn podman_was_slow_if_it_took_all_its_time_and_nothing_else_is_known() {
        for (code, took, slow) in [
            ("start-failed", 1, false),
            ("start-failed", 59, false),
            ("start-failed", 60, true),
            ("start-failed", 65, true),
            ("storage-corrupt", 65, false),
            ("podman-missing", 65, false),
        ] {
            let why = Trouble::new(code, "it did not start", "look");
            assert_eq!(was_cut_off(&why, seconds(took)), slow, "{code} {took} s");
        }
    }

    #[test]
    fn an_editor_that_runs_is_waited_for_as_long_as_its_start_has_time() {
        for (lasted, waits) in [
            (0, 180),
            (1, 179),
            (31, 149),
            // It has been begun in time, so it may show what it is.
            (179, 8),
            (239, 8),
        ] {
            assert_eq!(patience(seconds(lasted)), seconds(waits), "{lasted} s");
        }
    }

    #[test]
    fn a_slow_start_is_said_from_when_it_is_one_until_its_time_is_up() {
        for (lasted, earlier, begins) in [
            (0, tries(0, 0), None),
            (7, tries(0, 0), None),
            (8, tries(0, 0), Some("the workspace takes more than 8 s to start")),
            (179, tries(0, 0), Some("the workspace takes more than 8 s to start")),
            (180, tries(0, 0), None),
            // One has given up by then, so it was slow, whatever a clock says.
            (
                7,
                tries(0, 1),
                Some("the editor was slow to start and gave up; it is started again"),
            ),
            (
                60,
                tries(0, 3),
                Some("the editor was slow to start and gave up 3 times; it is started again"),
            ),
            (
                61,
                tries(1, 0),
                Some("Podman took more than 60 s to start the container and was ended; it is started again"),
            ),
            (
                161,
                tries(2, 1),
                Some(
                    "Podman took more than 60 s to start the container and was ended 2 times, and the editor was slow to \
                     start and gave up; it is started again",
                ),
            ),
            (180, tries(0, 3), None),
        ] {
            let said = slow(&dan(), seconds(lasted), earlier);
            assert!(said.iter().all(|said| said.code == "editor-slow"));
            let expected = begins.map(|begins| format!("{begins}. It is given 180 s in all"));
            assert_eq!(said.map(|said| said.message), expected, "{lasted} s, {earlier:?}");
        }
    }

    #[test]
    fn what_comes_after_the_deadline_says_how_long_was_waited() {
        for (earlier, code, message) in [
            (
                tries(0, 1),
                "editor-exited",
                "the editor was slow to start and gave up, and 200 s have gone by; it is started again after a pause",
            ),
            (
                tries(3, 0),
                "start-failed",
                "Podman took more than 60 s to start the container and was ended 3 times, and 200 s have gone by; it is \
                 started again after a pause",
            ),
        ] {
            let said = too_slow(&dan(), seconds(200), earlier);
            assert_eq!((said.code, said.message.as_str()), (code, message));
        }
    }

    /// Else a try could end for its own limit and be taken for one that is broken, or have no time for a second one; and who
    /// waits for a start would give up before its last try has ended.
    #[test]
    fn the_limits_of_others_lie_between_ours() {
        const CODE_SERVER: Duration = Duration::from_secs(10);
        const CSM_START: Duration = Duration::from_secs(300);
        assert!(SLOW < CODE_SERVER && CODE_SERVER * 3 < DEADLINE);
        assert!(DEADLINE + Duration::from_secs(START_SECONDS) + SLOW < CSM_START);
    }
}
