//! A machine that fails at any one call: what is wanted comes about all the same, and nothing runs that should not.

use std::time::Duration;

use code_server_multi::api::State;
use code_server_multi::model::names::WorkspaceName;
use tokio::time::sleep;

use super::fake::world::Fault;
use super::host::{Host, LONG, config, name};

const BEFORE: &str = "[workspaces.dan]\n[workspaces.alice]\n[workspaces.bob]\n";
const AFTER: &str = "[workspaces.dan]\nenvironment = { A = 'b' }\napply = 'now'\n[workspaces.alice]\n\
                     memory_limit = '5G'\n[workspaces.eve]\n";

/// Every kind of step, with one fault at the n-th call. Says how many calls there were.
async fn story(number: u64, fault: Fault) -> u64 {
    let host = Host::new();
    host.world().image = None;
    host.world().faults.insert(number, fault);
    let daemon = host.daemon(config(BEFORE));
    sleep(Duration::from_secs(10)).await;
    daemon.stop("alice").await;
    sleep(Duration::from_secs(1)).await;
    daemon.configure(config(AFTER));
    sleep(Duration::from_secs(5)).await;
    daemon.restart("dan").await;
    daemon.start("alice").await;
    sleep(LONG).await;
    // One that never comes stays, and keeps nothing from being as desired.
    assert_eq!(
        host.world().faults.is_empty(),
        number != u64::MAX,
        "the fault did not come"
    );
    host.world().faults.clear();
    let calls = host.world().calls;
    daemon.assert_as_desired(&host).await;
    calls
}

async fn at_every_call(fault: Fault) {
    let calls = story(u64::MAX, fault).await;
    assert!(calls > 50, "the story has but {calls} calls");
    for number in 1..=calls {
        eprintln!("{fault:?} at call {number} of {calls}");
        story(number, fault).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_at_any_call_is_made_good() {
    at_every_call(Fault::Refused).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_lost_at_any_call_is_made_good() {
    at_every_call(Fault::Late).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_hangs_is_made_good() {
    at_every_call(Fault::Hangs).await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_at_any_call_is_made_good() {
    at_every_call(Fault::Panics).await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_after_any_call_is_made_good() {
    at_every_call(Fault::PanicsAfter).await;
}

/// A panic was swallowed with its worker: nobody looked after the workspace any more, and its status stayed as it was.
#[tokio::test(start_paused = true)]
async fn a_worker_that_panics_is_counted_and_shown_and_nobody_else_notices() {
    let host = Host::new();
    let daemon = host.daemon(config("[workspaces.dan]\n[workspaces.alice]\n"));
    sleep(LONG).await;
    let starts = host.world().starts.len();
    daemon.stop("dan").await;
    // Its next two calls: the look, and the look after the pause of a second.
    {
        let mut world = host.world();
        let calls = world.calls;
        world
            .faults
            .extend([(calls + 1, Fault::Panics), (calls + 2, Fault::Panics)]);
    }
    sleep(Duration::from_millis(500)).await;
    let report = daemon.report("dan");
    assert_eq!(report.findings[0].code, "worker-panicked");
    assert!(report.findings[0].message.contains("once"), "{:?}", report.findings);
    assert!(!daemon.controller.busy(&name("dan")), "somebody would wait for nobody");
    // After one and two seconds.
    sleep(Duration::from_secs(4)).await;
    let report = daemon.report("dan");
    assert_eq!(report.state, State::Stopped);
    assert!(report.findings[0].message.contains("2 times"), "{:?}", report.findings);
    assert!(daemon.report("alice").findings.is_empty());
    assert_eq!(host.world().starts.len(), starts);
    daemon.assert_as_desired(&host).await;
}

fn times(host: &Host, line: &str) -> usize {
    host.world().log.iter().filter(|own| own.starts_with(line)).count()
}

fn refuse(host: &Host, step: &str) -> (WorkspaceName, String) {
    let rule = (name("dan"), step.to_owned());
    host.world().refused.insert(rule.clone());
    rule
}

/// What can't be taken away is tried again after a pause that grows, like everything else.
#[tokio::test(start_paused = true)]
async fn a_stop_that_fails_is_not_repeated_without_a_pause() {
    let host = Host::new();
    let daemon = host.daemon(config(BEFORE));
    sleep(LONG).await;
    let rule = refuse(&host, "stop the container");
    daemon.stop("dan").await;
    sleep(Duration::from_secs(20)).await;
    // At 0, 1, 3, 7 and 15 s.
    assert_eq!(
        times(&host, "dan: stop the container: refused"),
        5,
        "{:#?}",
        host.world().log
    );
    assert_eq!(daemon.report("dan").findings[0].code, "made-up");
    host.world().refused.remove(&rule);
    sleep(LONG).await;
    daemon.assert_as_desired(&host).await;
}

/// A restart that was asked for is carried out, also if its stop failed at first.
#[tokio::test(start_paused = true)]
async fn a_restart_is_not_forgotten_when_its_stop_fails() {
    let host = Host::new();
    let daemon = host.daemon(config(BEFORE));
    sleep(LONG).await;
    let rule = refuse(&host, "stop the container");
    let before = host.world().starts.len();
    daemon.restart("dan").await;
    sleep(Duration::from_secs(5)).await;
    host.world().refused.remove(&rule);
    sleep(LONG).await;
    assert_eq!(host.world().starts.len(), before + 1);
    daemon.assert_as_desired(&host).await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_is_not_forgotten_when_the_service_can_not_be_seen() {
    let host = Host::new();
    let daemon = host.daemon(config(BEFORE));
    sleep(LONG).await;
    {
        let mut world = host.world();
        let calls = world.calls;
        // Eight looks in a row lose eight different facts, the service among them.
        world
            .faults
            .extend((calls + 1..calls + 9).map(|call| (call, Fault::Refused)));
    }
    let before = host.world().starts.len();
    daemon.restart("dan").await;
    sleep(LONG).await;
    assert_eq!(host.world().starts.len(), before + 1);
    daemon.assert_as_desired(&host).await;
}

/// It was answered with "nothing was changed", and carried out with the next look.
#[tokio::test(start_paused = true)]
async fn a_restart_that_can_not_be_written_down_is_not_carried_out() {
    let host = Host::new();
    let daemon = host.daemon(config(BEFORE));
    sleep(LONG).await;
    std::fs::remove_dir_all(host.directory.path().join("intent")).unwrap();
    let asked = daemon.controller.restart(&name("dan"), "csm restart").await;
    asked.unwrap_err();
    daemon.controller.kick(&name("dan"));
    sleep(LONG).await;
    assert_eq!(times(&host, "dan: stop the container"), 0);
    assert_eq!(daemon.report("dan").state, State::Ready);
}

/// Writing waits for the disk in a thread; what was asked for last is what is on disk and what comes about.
#[tokio::test(start_paused = true)]
async fn requests_at_the_same_time_are_written_down_one_after_the_other() {
    let host = Host::new();
    let daemon = host.daemon(config(BEFORE));
    sleep(LONG).await;
    host.world().wished.insert(name("dan"), false);
    let dan = name("dan");
    for last in [false, true] {
        let requests = (0..20).map(|number| daemon.controller.intend(&dan, (number % 2 == 0) != last, "csm"));
        for asked in futures_util::future::join_all(requests).await {
            asked.unwrap();
        }
        assert_eq!(host.world().may_run_by_intent(&dan), last);
        assert_eq!(daemon.controller.desired().workspaces[&dan].intent.running, last);
        sleep(LONG).await;
        daemon.assert_as_desired(&host).await;
    }
}

/// What is on disk and was not acted on would be acted on by the next daemon.
#[tokio::test(start_paused = true)]
async fn a_request_is_carried_out_although_its_caller_is_gone() {
    let host = Host::new();
    let daemon = host.daemon(config(BEFORE));
    sleep(LONG).await;
    host.world().wished.insert(name("dan"), false);
    {
        let dan = name("dan");
        let asked = std::pin::pin!(daemon.controller.intend(&dan, false, "csm stop"));
        assert!(futures_util::poll!(asked).is_pending());
    }
    sleep(LONG).await;
    assert_eq!(daemon.report("dan").state, State::Stopped);
    daemon.assert_as_desired(&host).await;
}

/// In the pause after some other failure, a running editor is not taken away that can't be brought back yet.
#[tokio::test(start_paused = true)]
async fn in_a_pause_no_running_editor_is_stopped_for_a_change() {
    let host = Host::new();
    let now = "[workspaces.dan]\napply = 'now'\n";
    let daemon = host.daemon(config(now));
    sleep(LONG).await;
    refuse(&host, "set the limits");
    daemon.configure(config(&format!("{now}cpu_weight = 7\n")));
    // For the image, later.
    host.world().excused.insert(name("dan"));
    sleep(Duration::from_secs(40)).await;
    assert_eq!(
        daemon.report("dan").state,
        State::Ready,
        "an editor that answers is ready, whatever failed"
    );
    host.log();
    // Its next try is at 63 s. Another image comes meanwhile, which it would have to be restarted for.
    host.world().image = Some("b".repeat(64).parse_image());
    daemon.controller.kick_image();
    sleep(Duration::from_secs(10)).await;
    assert_eq!(times(&host, "dan: stop"), 0, "{}", host.log());
    sleep(LONG).await;
    assert_eq!(times(&host, "dan: stop the container"), 1);
    daemon.assert_as_desired(&host).await;
}

trait ParseImage {
    fn parse_image(&self) -> code_server_multi::model::names::ImageId;
}

impl ParseImage for String {
    fn parse_image(&self) -> code_server_multi::model::names::ImageId {
        code_server_multi::model::names::ImageId::parse(self).unwrap()
    }
}
