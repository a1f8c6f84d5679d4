//! How fast: how many at once, how soon after a request, how long after a failure.

use std::time::Duration;

use code_server_multi::api::State;
use code_server_multi::host::systemd::Event;
use tokio::time::{Instant, sleep};

use super::fake::world::{Unit, World};
use super::fake::{CALL, START, STOP};
use super::host::{Daemon, Host, LONG, config, name};

const DAN: &str = "[workspaces.dan]\n";
const ALICE: &str = "[workspaces.alice]\n";
const SOON: Duration = Duration::from_secs(3);

/// Waits until a workspace's report says so.
async fn until(daemon: &Daemon, workspace: &str, state: State) {
    let mut report = daemon.controller.report(&name(workspace)).unwrap();
    tokio::time::timeout(LONG, report.wait_for(|report| report.state == state))
        .await
        .unwrap_or_else(|_| panic!("{workspace} was never {state:?}"))
        .unwrap();
}

fn many(count: usize) -> String {
    let sections: Vec<_> = (0..count).map(|number| format!("[workspaces.u{number}]\n")).collect();
    sections.concat()
}

/// Seconds between the starts of a workspace.
fn gaps(host: &Host, workspace: &str) -> Vec<u64> {
    let world = host.world();
    let own: Vec<_> = world.starts.iter().filter(|(own, _)| *own == name(workspace)).collect();
    own.windows(2).map(|pair| (pair[1].1 - pair[0].1).as_secs()).collect()
}

#[tokio::test(start_paused = true)]
async fn fifty_workspaces_mount_and_start_eight_at_a_time() {
    let host = Host::new();
    let begun = Instant::now();
    let daemon = host.daemon(config(&many(50)));
    for number in 0..50 {
        until(&daemon, &format!("u{number}"), State::Ready).await;
    }
    let most = |world: &World| (world.most_starting, world.most_mounting);
    assert_eq!(most(&host.world()), (8, 8));
    // Seven waves, and what comes before and after them.
    assert!(
        begun.elapsed() < START * 7 + Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    sleep(LONG).await;
    daemon.assert_as_desired(&host).await;
}

#[tokio::test(start_paused = true)]
async fn looking_at_fifty_takes_no_longer_than_at_one() {
    let host = Host::new();
    let daemon = host.daemon(config(&many(50)));
    sleep(LONG).await;
    let begun = Instant::now();
    assert!(daemon.controller.plan().await.is_empty());
    // The image, who is there, and everybody.
    assert!(begun.elapsed() < CALL * 4, "{:?}", begun.elapsed());
}

/// The gateway goes through all workspaces for each report that changed. It changed with nearly every look: some counter of
/// the kernel's does.
#[tokio::test(start_paused = true)]
async fn a_look_that_shows_nothing_new_tells_nobody() {
    let host = Host::new();
    let daemon = host.daemon(config(DAN));
    until(&daemon, "dan", State::Ready).await;
    sleep(SOON).await;
    let mut report = daemon.controller.report(&name("dan")).unwrap();
    report.borrow_and_update();
    let before = host.world().calls;
    daemon.controller.kick(&name("dan"));
    sleep(SOON).await;
    assert_eq!(host.world().calls, before + 1);
    assert!(!report.has_changed().unwrap());
    daemon.stop("dan").await;
    until(&daemon, "dan", State::Stopped).await;
}

#[tokio::test(start_paused = true)]
async fn a_workspace_that_fails_delays_no_other() {
    let host = Host::new();
    host.world().hanging.insert(name("u0"));
    for number in 1..10 {
        let words = "start the container".to_owned();
        host.world().refused.insert((name(&format!("u{number}")), words));
    }
    let begun = Instant::now();
    let daemon = host.daemon(config(&many(30)));
    for number in 10..30 {
        until(&daemon, &format!("u{number}"), State::Ready).await;
    }
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    until(&daemon, "u5", State::Failed).await;
    assert_eq!(daemon.report("u5").findings[0].code, "made-up");
    host.world().hanging.clear();
    host.world().refused.clear();
    sleep(LONG).await;
    daemon.assert_as_desired(&host).await;
}

/// At once, then after 1, 2, 4 seconds and so on to a minute.
#[tokio::test(start_paused = true)]
async fn an_editor_that_keeps_ending_is_started_ever_later_and_again_at_once_when_it_was_steady() {
    let host = Host::new();
    host.world().mortal.insert(name("dan"), Duration::from_secs(1));
    let daemon = host.daemon(config(DAN));
    sleep(Duration::from_secs(400)).await;
    let found = gaps(&host, "dan");
    // Each gap holds the 1.3 s that the editor lived.
    assert_eq!(found[..10], [1, 2, 3, 5, 9, 17, 33, 61, 61, 61]);
    assert_eq!(daemon.report("dan").findings[0].code, "editor-exited");

    host.world().mortal.insert(name("dan"), Duration::from_secs(700));
    sleep(Duration::from_secs(2000)).await;
    let found = gaps(&host, "dan");
    assert_eq!(found.last(), Some(&700), "the pause after a steady run: {found:?}");
    host.assert_nothing_forbidden();
}

#[tokio::test(start_paused = true)]
async fn a_request_ends_the_pause_after_a_failure() {
    let host = Host::new();
    host.world().mortal.insert(name("dan"), Duration::from_secs(1));
    let daemon = host.daemon(config(DAN));
    sleep(Duration::from_secs(200)).await;
    host.world().mortal.clear();
    let before = host.world().starts.len();
    daemon.start("dan").await;
    until(&daemon, "dan", State::Ready).await;
    assert_eq!(host.world().starts.len(), before + 1);
    daemon.assert_as_desired(&host).await;
}

#[tokio::test(start_paused = true)]
async fn stopping_does_not_wait_for_a_start_that_hangs() {
    let host = Host::new();
    host.world().hanging.insert(name("dan"));
    let daemon = host.daemon(config(DAN));
    sleep(SOON).await;
    assert!(matches!(host.world().place(&name("dan")).unit, Unit::Starting { .. }));
    let asked = Instant::now();
    daemon.stop("dan").await;
    until(&daemon, "dan", State::Stopped).await;
    assert!(asked.elapsed() < STOP + Duration::from_secs(1), "{:?}", asked.elapsed());
    sleep(LONG).await;
    daemon.assert_as_desired(&host).await;
}

/// Also when its turn to start has not come yet.
#[tokio::test(start_paused = true)]
async fn what_is_stopped_while_it_queues_is_never_started() {
    let host = Host::new();
    for number in 0..10 {
        host.world().hanging.insert(name(&format!("u{number}")));
    }
    let daemon = host.daemon(config(&many(10)));
    sleep(SOON).await;
    let started: Vec<_> = host.world().starts.iter().map(|(name, _)| name.clone()).collect();
    let queued = (0..10)
        .map(|number| format!("u{number}"))
        .find(|own| !started.contains(&name(own)));
    let queued = queued.expect("ten of ten were started at once");
    let asked = Instant::now();
    daemon.stop(&queued).await;
    until(&daemon, &queued, State::Stopped).await;
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    assert!(!daemon.controller.busy(&name(&queued)));
    sleep(LONG).await;
    assert!(
        !host.world().starts.iter().any(|(own, _)| *own == name(&queued)),
        "it was started all the same"
    );
    host.assert_nothing_forbidden();
}

/// The one that is stopped need not wait until starts that hang are given up.
#[tokio::test(start_paused = true)]
async fn stopping_does_not_wait_for_the_starts_of_others() {
    let host = Host::new();
    let daemon = host.daemon(config(DAN));
    until(&daemon, "dan", State::Ready).await;
    for number in 0..8 {
        host.world().hanging.insert(name(&format!("u{number}")));
    }
    daemon.configure(config(&format!("{DAN}{}", many(8))));
    sleep(SOON).await;
    assert_eq!(host.world().most_starting, 8);
    let asked = Instant::now();
    daemon.stop("dan").await;
    until(&daemon, "dan", State::Stopped).await;
    assert!(asked.elapsed() < STOP + Duration::from_secs(1), "{:?}", asked.elapsed());
}

#[tokio::test(start_paused = true)]
async fn asked_twice_a_restart_is_carried_out_also_during_the_first() {
    let host = Host::new();
    let daemon = host.daemon(config(&format!("{DAN}{ALICE}")));
    until(&daemon, "dan", State::Ready).await;
    for wait in [0, 1, 100, 250, 400, 700, 5_000] {
        let before = host.world().starts.len();
        daemon.restart("dan").await;
        sleep(Duration::from_millis(wait)).await;
        let between = host.world().starts.len();
        daemon.restart("dan").await;
        let asked = Instant::now();
        while daemon.controller.busy(&name("dan")) {
            sleep(Duration::from_millis(1)).await;
            assert!(asked.elapsed() < LONG, "busy for ever");
        }
        assert_eq!(daemon.report("dan").state, State::Ready, "{wait} ms apart");
        let world = host.world();
        assert!(world.starts.len() > between.max(before), "{wait} ms apart");
    }
    assert!(gaps(&host, "alice").is_empty());
    daemon.assert_as_desired(&host).await;
}

/// It is busy until it is ready, although the second request gives up waiting for the first one's job.
#[tokio::test(start_paused = true)]
async fn a_second_request_during_a_start_waits_for_its_end() {
    let host = Host::new();
    let daemon = host.daemon(config(DAN));
    sleep(START).await;
    assert!(matches!(host.world().place(&name("dan")).unit, Unit::Starting { .. }));
    daemon.start("dan").await;
    while daemon.controller.busy(&name("dan")) {
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(daemon.report("dan").state, State::Ready);
    daemon.assert_as_desired(&host).await;
}

/// Each event of whatever unit began the ten minutes anew, so that on a busy host they never ended.
#[tokio::test(start_paused = true)]
async fn everything_is_looked_at_after_ten_minutes_whatever_else_happens() {
    let host = Host::new();
    let daemon = host.daemon(config(DAN));
    until(&daemon, "dan", State::Ready).await;
    sleep(SOON).await;
    let before = host.world().calls;
    for minute in 1..=11 {
        let _ = host.world().signals.send(Event::Unit("cron.service".to_owned()));
        sleep(Duration::from_secs(60)).await;
        assert!(
            minute > 9 || host.world().calls == before,
            "looked at after {minute} minutes"
        );
    }
    // The image, who is there, and dan.
    assert_eq!(host.world().calls, before + 3);
}

/// Nobody looks at what could not be seen, and then everything is: systemd was away, and units of others came and went.
#[tokio::test(start_paused = true)]
async fn while_systemd_is_away_it_is_asked_every_five_seconds() {
    let host = Host::new();
    let daemon = host.daemon(config(DAN));
    until(&daemon, "dan", State::Ready).await;
    sleep(SOON).await;
    let before = host.world().calls;
    let _ = host.world().signals.send(Event::Lost);
    sleep(Duration::from_secs(16)).await;
    assert_eq!(host.world().calls, before + 3 * 3);
}

/// Mounting takes its time, and eight do it at once: whoever waited for his turn could not be stopped meanwhile.
#[tokio::test(start_paused = true)]
async fn who_queues_for_a_mount_can_be_stopped_at_once() {
    let host = Host::new();
    host.world().mount_takes = Duration::from_secs(30);
    let daemon = host.daemon(config(&many(20)));
    sleep(SOON).await;
    let world_has = |own: &str| {
        let line = format!("{own}: mount");
        host.world().log.iter().any(|own| own.starts_with(&line))
    };
    sleep(Duration::from_secs(31)).await;
    // The second eight are at it; the last in the order of names waits.
    let queued = "u9".to_owned();
    assert!(!world_has(&queued), "all of them were mounted at once");
    let asked = Instant::now();
    daemon.stop(&queued).await;
    until(&daemon, &queued, State::Stopped).await;
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    sleep(LONG).await;
    daemon.assert_as_desired(&host).await;
}
