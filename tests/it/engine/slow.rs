//! Editors that take their time to start: waited for and started again while there is time, and told from those that are
//! broken.

use std::time::Duration;

use code_server_multi::api::{self, State};
use tokio::sync::broadcast::Receiver;
use tokio::time::{Instant, sleep};

use super::host::{Daemon, Host, LONG, config, name};

const DAN: &str = "[workspaces.dan]\n";
/// code-server's own limit, and what comes before it on a slow machine.
const GIVES_UP: Duration = Duration::from_secs(28);
/// What `model::start` gives a start.
const DEADLINE: Duration = Duration::from_secs(180);

/// A host on which dan's editor needs so long to answer, and ends by itself after `life`.
fn slow_host(takes: Duration, life: Option<Duration>) -> Host {
    let host = Host::new();
    {
        let mut world = host.world();
        world.putting_away = Duration::from_secs(2);
        world.slow.insert(name("dan"), takes);
        world.mortal.extend(life.map(|life| (name("dan"), life)));
    }
    host
}

fn at_ease(host: &Host) {
    let mut world = host.world();
    world.slow.clear();
    world.mortal.clear();
}

/// Every state that dan's report goes through, and the codes and words of its findings, until `end`.
async fn seen_until(daemon: &Daemon, end: Instant) -> (Vec<State>, Vec<String>) {
    let mut report = daemon.controller.report(&name("dan")).unwrap();
    let (mut states, mut findings) = (Vec::new(), Vec::new());
    loop {
        {
            let now = report.borrow_and_update();
            states.push(now.state);
            findings.extend(now.findings.iter().map(|own| format!("{}: {}", own.code, own.message)));
        }
        tokio::select! {
            changed = report.changed() => changed.unwrap(),
            () = tokio::time::sleep_until(end) => break,
        }
    }
    states.dedup();
    findings.dedup();
    (states, findings)
}

fn told(events: &mut Receiver<api::Event>) -> Vec<String> {
    std::iter::from_fn(|| events.try_recv().ok())
        .map(|event| format!("{} [{}] {}", event.kind, event.code.unwrap_or_default(), event.message))
        .collect()
}

/// It was `failed` with the first try, and so `csm start` said, while the second one was under way.
#[tokio::test(start_paused = true)]
async fn a_slow_start_that_was_given_up_goes_on_with_the_next_try() {
    let host = slow_host(LONG, Some(GIVES_UP));
    let daemon = host.daemon(config(""));
    let mut events = daemon.controller.events().follow();
    daemon.configure(config(DAN));
    let begun = Instant::now();
    let (states, findings) = seen_until(&daemon, begun + GIVES_UP + Duration::from_secs(3)).await;
    assert_eq!(states, [State::Starting]);
    insta::assert_snapshot!(findings.join("\n"), @"
    editor-slow: the editor takes more than 8 s to start. It is given 180 s in all
    editor-slow: the editor was slow to start and gave up; it is started again. It is given 180 s in all
    ");
    at_ease(&host);
    let (states, _) = seen_until(&daemon, begun + DEADLINE).await;
    assert_eq!(states, [State::Starting, State::Ready]);
    assert_eq!(host.world().starts.len(), 2);
    assert!(daemon.report("dan").findings.is_empty());
    daemon.assert_as_desired(&host).await;
    insta::assert_snapshot!(told(&mut events).join("\n"), @"
    starting [] starting: declared in the configuration
    starting [editor-slow] starting: the editor was slow to start and gave up; it is started again. It is given 180 s in all
    ready [] ready
    ");
}

/// With an editor that has no limit of its own.
#[tokio::test(start_paused = true)]
async fn a_slow_start_is_said_while_it_lasts() {
    let host = slow_host(Duration::from_secs(100), None);
    let daemon = host.daemon(config(DAN));
    let (states, findings) = seen_until(&daemon, Instant::now() + DEADLINE).await;
    assert_eq!(states, [State::Starting, State::Ready]);
    insta::assert_snapshot!(findings.join("\n"), @"editor-slow: the editor takes more than 8 s to start. It is given 180 s in all");
    assert!(daemon.report("dan").findings.is_empty());
    daemon.assert_as_desired(&host).await;
}

/// The deadline of a start decides, and says how long was waited; then it is tried as ever, until somebody asks.
#[tokio::test(start_paused = true)]
async fn a_start_that_is_given_up_again_and_again_has_failed_at_the_deadline() {
    let host = slow_host(LONG, Some(GIVES_UP));
    let daemon = host.daemon(config(""));
    let mut events = daemon.controller.events().follow();
    daemon.configure(config(DAN));
    let begun = Instant::now();
    let (states, _) = seen_until(&daemon, begun + Duration::from_secs(160)).await;
    assert_eq!(states, [State::Starting]);
    // The fifth try ends after 166 s, and after its pause there would be no time for a sixth.
    let (states, findings) = seen_until(&daemon, begun + Duration::from_secs(175)).await;
    assert_eq!(states, [State::Starting, State::Failed]);
    insta::assert_snapshot!(findings.last().unwrap(), @"editor-exited: the editor ended 5 times before it answered, and 166 s have gone by; it is started again after a pause");
    let all = told(&mut events);
    assert_eq!(
        all.iter()
            .filter(|one| one.starts_with("failed [editor-exited]"))
            .count(),
        1,
        "{all:#?}"
    );
    // The pauses grow: 1, 2, 4, 8 s after the tries, each with what it takes to put it away.
    let gaps: Vec<_> = {
        let world = host.world();
        world
            .starts
            .windows(2)
            .map(|pair| (pair[1].1 - pair[0].1).as_secs())
            .collect()
    };
    assert_eq!(gaps, [31, 32, 34, 38], "{gaps:?}");

    // Somebody asks, and it has all its time again.
    daemon.start("dan").await;
    let (states, _) = seen_until(&daemon, Instant::now() + GIVES_UP + Duration::from_secs(3)).await;
    assert_eq!(states.last(), Some(&State::Starting));
    assert_eq!(daemon.report("dan").findings[0].code, "editor-slow");
    at_ease(&host);
    sleep(LONG).await;
    daemon.assert_as_desired(&host).await;
}

/// It ends long before anybody's limit: nobody is made to wait for it.
#[tokio::test(start_paused = true)]
async fn an_editor_that_ends_at_once_is_broken_and_not_slow() {
    let host = slow_host(LONG, Some(Duration::from_secs(1)));
    let begun = Instant::now();
    let daemon = host.daemon(config(DAN));
    let mut report = daemon.controller.report(&name("dan")).unwrap();
    report.wait_for(|report| report.state == State::Failed).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(daemon.report("dan").findings[0].code, "editor-exited");
}

/// Nor when what it left takes longer to put away than a slow start would last.
#[tokio::test(start_paused = true)]
async fn an_editor_that_is_long_put_away_was_not_slow_to_start() {
    let host = slow_host(LONG, Some(Duration::from_secs(1)));
    host.world().putting_away = Duration::from_secs(15);
    let daemon = host.daemon(config(DAN));
    let (states, findings) = seen_until(&daemon, Instant::now() + Duration::from_secs(60)).await;
    assert!(states.contains(&State::Failed), "{states:?}");
    assert!(findings.iter().all(|one| !one.contains("editor-slow")), "{findings:#?}");
}

/// What is broken shows itself at the next try too.
#[tokio::test(start_paused = true)]
async fn an_editor_that_ends_at_once_after_a_slow_try_has_failed() {
    let host = slow_host(LONG, Some(GIVES_UP));
    let daemon = host.daemon(config(DAN));
    let (states, _) = seen_until(&daemon, Instant::now() + GIVES_UP + Duration::from_secs(3)).await;
    assert_eq!(states, [State::Starting]);
    host.world().mortal.insert(name("dan"), Duration::from_secs(1));
    let begun = Instant::now();
    let mut report = daemon.controller.report(&name("dan")).unwrap();
    report.wait_for(|report| report.state == State::Failed).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let report = daemon.report("dan");
    assert_eq!(report.findings[0].code, "editor-exited");
    assert!(
        report.findings.iter().all(|own| own.code != "editor-slow"),
        "{:?}",
        report.findings
    );
}

#[tokio::test(start_paused = true)]
async fn an_editor_that_says_nothing_has_failed_at_the_deadline() {
    let host = slow_host(LONG * 2, None);
    let begun = Instant::now();
    let daemon = host.daemon(config(DAN));
    let mut report = daemon.controller.report(&name("dan")).unwrap();
    report.wait_for(|report| report.state == State::Failed).await.unwrap();
    let took = begun.elapsed();
    assert!(took > DEADLINE && took < DEADLINE + Duration::from_secs(2), "{took:?}");
    let findings = daemon.report("dan").findings;
    insta::assert_snapshot!(findings[0].message, @"the container runs, but its editor did not answer within 180 s");
    assert_eq!((findings.len(), findings[0].code), (1, "editor-silent"));
}

/// It had answered, so its end says nothing about its start.
#[tokio::test(start_paused = true)]
async fn an_editor_that_ends_after_it_was_ready_was_not_slow_to_start() {
    let host = slow_host(Duration::from_secs(20), Some(Duration::from_secs(40)));
    let daemon = host.daemon(config(DAN));
    let (_, findings) = seen_until(&daemon, Instant::now() + Duration::from_secs(300)).await;
    assert!(
        findings
            .iter()
            .any(|one| one.starts_with("editor-exited: the editor ended 2 times by itself")),
        "{findings:#?}"
    );
    assert!(findings.iter().all(|one| !one.contains("gave up")), "{findings:#?}");
}
