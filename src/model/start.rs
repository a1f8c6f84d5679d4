//! START: an editor that takes its time to start, and whether it is given more. Durations come in, words go out.
//!
//! What is slow is told from what is broken by time alone. An editor gives up its own start when one half of it has waited
//! too long for the other (code-server: ten seconds, status 1), while one that is broken ends as soon as it would have
//! answered. What it wrote about that is not read: root reads nothing that a workspace says. How busy the processors are
//! would not do either: nothing counts what a hypervisor keeps back, or an emulated processor's slowness.

use std::time::Duration;

use crate::model::names::WorkspaceName;
use crate::model::status::Trouble;

/// From here on a start is slow. An editor answers half a second after its container runs. Less than the shortest limit that
/// is known of editors, because word of the container comes late on a busy machine.
pub const SLOW: Duration = Duration::from_secs(8);

/// What a start may take, from when the container first runs until the editor answers, in one try or in several.
pub const DEADLINE: Duration = Duration::from_secs(180);

/// Whether an editor that ended by itself did so because it was slow; `answered`: whether it had ever answered.
// guard: F30-slow
pub fn was_slow(answered: bool, lived: Duration) -> bool {
    !answered && lived >= SLOW
}

/// What there is to say of a start that has lasted so long, with `ended` editors that gave up on the way. Nothing of one that
/// may be quick yet, or has no time left.
pub fn slow(name: &WorkspaceName, lasted: Duration, ended: u32) -> Option<Trouble> {
    if lasted >= DEADLINE || (ended == 0 && lasted < SLOW) {
        return None;
    }
    let what = match ended {
        0 => format!("the editor takes more than {} s to start", SLOW.as_secs()),
        1 => "the editor was slow to start and gave up; it is started again".to_owned(),
        more => format!("the editor was slow to start and gave up {more} times; it is started again"),
    };
    Some(Trouble::new(
        "editor-slow",
        format!("{what}. It is given {} s in all", DEADLINE.as_secs()),
        format!("wait: the machine may be busy (`csm top`); `csm logs {name}` shows what the editor says"),
    ))
}

/// The same once the time is up.
pub fn too_slow(name: &WorkspaceName, lasted: Duration, ended: u32) -> Trouble {
    let times = if ended == 1 {
        String::new()
    } else {
        format!(" {ended} times")
    };
    Trouble::new(
        "editor-exited",
        format!(
            "the editor ended{times} before it answered, and {} s have gone by; it is started again after a pause",
            lasted.as_secs()
        ),
        format!(
            "`csm logs {name}` shows its last words; `csm top` whether the machine is busy; `csm restart {name}` tries at once"
        ),
    )
}

/// An editor that still runs, and has had its time.
pub fn silent(name: &WorkspaceName) -> Trouble {
    Trouble::new(
        "editor-silent",
        format!(
            "the container runs, but its editor did not answer within {} s",
            DEADLINE.as_secs()
        ),
        format!("`csm logs {name}` shows what it says; `csm restart {name}` starts it anew"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dan() -> WorkspaceName {
        WorkspaceName::parse("dan").unwrap()
    }

    #[test]
    fn slow_is_who_took_long_and_never_answered() {
        for (answered, seconds, slow) in [
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
            assert_eq!(
                was_slow(answered, Duration::from_secs(seconds)),
                slow,
                "{answered} {seconds} s"
            );
        }
    }

    #[test]
    fn a_slow_start_is_said_from_when_it_is_one_until_its_time_is_up() {
        for (seconds, ended, begins) in [
            (0, 0, None),
            (7, 0, None),
            (8, 0, Some("the editor takes more than 8 s to start. ")),
            (179, 0, Some("the editor takes more than 8 s to start. ")),
            (180, 0, None),
            // One has given up by then, so it was slow, whatever a clock says.
            (
                7,
                1,
                Some("the editor was slow to start and gave up; it is started again. "),
            ),
            (
                28,
                1,
                Some("the editor was slow to start and gave up; it is started again. "),
            ),
            (
                60,
                3,
                Some("the editor was slow to start and gave up 3 times; it is started again. "),
            ),
            (180, 3, None),
        ] {
            let said = slow(&dan(), Duration::from_secs(seconds), ended);
            assert_eq!(said.is_some(), begins.is_some(), "{seconds} s, {ended}: {said:?}");
            let (Some(said), Some(begins)) = (said, begins) else {
                continue;
            };
            assert_eq!(said.code, "editor-slow");
            assert_eq!(said.message, format!("{begins}It is given 180 s in all"));
        }
    }

    #[test]
    fn what_comes_after_the_deadline_says_how_long_was_waited() {
        for (ended, message) in [
            (
                1,
                "the editor ended before it answered, and 200 s have gone by; it is started again after a pause",
            ),
            (
                4,
                "the editor ended 4 times before it answered, and 200 s have gone by; it is started again after a pause",
            ),
        ] {
            let said = too_slow(&dan(), Duration::from_secs(200), ended);
            assert_eq!((said.code, said.message.as_str()), ("editor-exited", message));
        }
        assert!(silent(&dan()).message.ends_with("did not answer within 180 s"));
    }

    /// Else a try could end for its own limit and be taken for one that is broken, or have no time for a second one.
    #[test]
    fn the_limits_of_editors_lie_between_ours() {
        const CODE_SERVER: Duration = Duration::from_secs(10);
        assert!(SLOW < CODE_SERVER && CODE_SERVER * 3 < DEADLINE);
    }
}
