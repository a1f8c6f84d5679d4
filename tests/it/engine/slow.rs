//! Editors that take their time to start: waited for and started again while there is time, and told from those that are
//! broken.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use code_server_multi::api::{self, State};
use code_server_multi::model::start::{DEADLINE, SILENT};
use code_server_multi::model::status::Trouble;
use code_server_multi::serve::worker::Report;
use tokio::sync::broadcast::Receiver;
use tokio::time::{Instant, sleep};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

use super::fake::world::Unit;
use super::host::{Daemon, Host, LONG, config, name};

const DAN: &str = "[workspaces.dan]\n";
/// code-server's own limit, and what comes before it on a slow machine.
const GIVES_UP: Duration = Duration::from_secs(28);

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
    editor-slow: the workspace takes more than 8 s to start. It is given 180 s in all
    editor-slow: the editor was slow to start and gave up; it is started again. It is given 180 s in all
    ");
    host.world().at_ease();
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
    let host = slow_host(Duration::from_secs(50), None);
    let daemon = host.daemon(config(DAN));
    let (states, findings) = seen_until(&daemon, Instant::now() + DEADLINE).await;
    assert_eq!(states, [State::Starting, State::Ready]);
    insta::assert_snapshot!(findings.join("\n"), @"editor-slow: the workspace takes more than 8 s to start. It is given 180 s in all");
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
    insta::assert_snapshot!(findings.last().unwrap(), @"editor-exited: the editor was slow to start and gave up 5 times, and 166 s have gone by; it is started again after a pause");
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
    host.world().at_ease();
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

/// It was `starting` for three minutes each time that it was waited for again, and nothing said why.
#[tokio::test(start_paused = true)]
async fn an_editor_that_says_nothing_has_failed_until_it_answers() {
    let host = slow_host(LONG * 6, None);
    let begun = Instant::now();
    let daemon = host.daemon(config(DAN));
    let mut report = daemon.controller.report(&name("dan")).unwrap();
    report.wait_for(|report| report.state == State::Failed).await.unwrap();
    let took = begun.elapsed();
    assert!(took >= DEADLINE && took < DEADLINE + Duration::from_secs(2), "{took:?}");
    let findings = daemon.report("dan").findings;
    insta::assert_snapshot!(findings[0].message, @"the container runs, but its editor does not answer; it is waited for on");
    assert_eq!((findings.len(), findings[0].code), (1, "editor-silent"));

    let (states, findings) = seen_until(&daemon, Instant::now() + DEADLINE * 3).await;
    assert_eq!(states, [State::Failed]);
    assert_eq!(findings.len(), 1, "{findings:#?}");
    // Somebody asks, and it is waited for anew.
    daemon.start("dan").await;
    let (states, _) = seen_until(&daemon, Instant::now() + DEADLINE + SILENT).await;
    assert_eq!(states, [State::Failed, State::Starting, State::Failed]);
    host.world().at_ease();
    let (states, _) = seen_until(&daemon, Instant::now() + SILENT * 2).await;
    assert_eq!(states, [State::Failed, State::Ready]);
    assert_eq!(host.world().starts.len(), 1);
    daemon.assert_as_desired(&host).await;
}

/// The last one of several tries was given as much as if it were the first.
#[tokio::test(start_paused = true)]
async fn all_tries_of_a_start_have_one_deadline() {
    let host = slow_host(LONG * 2, None);
    host.world().giving_up.insert(name("dan"), (2, GIVES_UP));
    let begun = Instant::now();
    let daemon = host.daemon(config(DAN));
    let (states, _) = seen_until(&daemon, begun + DEADLINE - Duration::from_secs(2)).await;
    assert_eq!(states, [State::Starting]);
    let (states, findings) = seen_until(&daemon, begun + DEADLINE + Duration::from_secs(2)).await;
    assert_eq!(states, [State::Starting, State::Failed]);
    assert!(findings.last().unwrap().starts_with("editor-silent: "), "{findings:#?}");
    assert_eq!(host.world().starts.len(), 3);
}

/// On a host that has no time for Podman either; systemd ends it after a minute. That was `failed` each time.
#[tokio::test(start_paused = true)]
async fn a_podman_that_is_slow_has_the_same_deadline() {
    let host = Host::new();
    host.world().hanging.insert(name("dan"));
    let begun = Instant::now();
    let daemon = host.daemon(config(DAN));
    let (states, findings) = seen_until(&daemon, begun + Duration::from_secs(175)).await;
    assert_eq!(states, [State::Starting]);
    insta::assert_snapshot!(findings.join("\n"), @"
    editor-slow: the workspace takes more than 8 s to start. It is given 180 s in all
    editor-slow: Podman took more than 60 s to start the container and was ended; it is started again. It is given 180 s in all
    editor-slow: Podman took more than 60 s to start the container and was ended 2 times; it is started again. It is given 180 s in all
    ");
    let (states, findings) = seen_until(&daemon, begun + Duration::from_secs(185)).await;
    assert_eq!(states, [State::Starting, State::Failed]);
    insta::assert_snapshot!(findings.last().unwrap(), @"start-failed: Podman took more than 60 s to start the container and was ended 3 times, and 183 s have gone by; it is started again after a pause");

    // Somebody asks, and the second try is quick.
    daemon.start("dan").await;
    sleep(SILENT).await;
    host.world().hanging.clear();
    let (states, _) = seen_until(&daemon, Instant::now() + SILENT).await;
    assert_eq!(states, [State::Starting, State::Ready]);
    daemon.assert_as_desired(&host).await;
}

/// `csm start` and others ask for that, and would take a try for the last one.
#[tokio::test(start_paused = true)]
async fn it_is_busy_between_two_tries() {
    let host = slow_host(LONG, Some(GIVES_UP));
    let daemon = host.daemon(config(DAN));
    daemon.stop("dan").await;
    sleep(LONG).await;
    daemon.start("dan").await;
    let mut report = daemon.controller.report(&name("dan")).unwrap();
    let again = |report: &Report| report.findings.iter().any(|own| own.message.contains("gave up"));
    report.wait_for(again).await.unwrap();
    let end = Instant::now() + DEADLINE;
    while daemon.report("dan").state == State::Starting {
        assert!(daemon.controller.busy(&name("dan")));
        assert!(Instant::now() < end, "it starts for ever");
        sleep(Duration::from_millis(100)).await;
    }
    sleep(Duration::from_millis(100)).await;
    assert!(!daemon.controller.busy(&name("dan")));
}

/// The host gets another address, and a second later the running editor is kept from it.
async fn assert_new_address_is_denied(host: &Host, daemon: &Daemon) {
    daemon
        .controller
        .set_addresses(vec!["192.0.2.7".parse().unwrap(), "192.0.2.8".parse().unwrap()]);
    sleep(Duration::from_secs(1)).await;
    let denied = match &host.world().place(&name("dan")).unit {
        Unit::Running(editor) => format!("{:?}", editor.live.denied),
        other => panic!("{other:?}"),
    };
    assert!(denied.contains("192.0.2.8"), "{denied}");
}

/// Which its owner could reach for as long as an editor that never answers was waited for.
#[tokio::test(start_paused = true)]
async fn an_address_that_comes_while_it_starts_is_denied_at_once() {
    let host = slow_host(LONG, None);
    let daemon = host.daemon(config(DAN));
    sleep(Duration::from_secs(20)).await;
    assert_new_address_is_denied(&host, &daemon).await;
    assert_eq!(daemon.report("dan").state, State::Starting);
}

/// Between two waits it is only looked at, and its owner could draw the pauses out to a minute each.
#[tokio::test(start_paused = true)]
async fn an_address_that_comes_between_two_waits_is_denied_at_once() {
    let host = slow_host(LONG * 2, None);
    let daemon = host.daemon(config(DAN));
    // Its time, five more waits, and the five pauses between them: the sixth pause lasts 32 s.
    let waits = DEADLINE + SILENT * 5 + Duration::from_secs(1 + 2 + 4 + 8 + 16);
    sleep(waits + Duration::from_secs(15)).await;
    assert_new_address_is_denied(&host, &daemon).await;
    assert_eq!(daemon.report("dan").state, State::Failed);
}

/// Nor is what is known written to the log each time that the wait goes on.
#[tokio::test(start_paused = true)]
async fn it_is_said_once() {
    let said = Arc::new(AtomicU32::new(0));
    let _log = tracing::subscriber::set_default(tracing_subscriber::registry().with(SlowOnes(said.clone())));
    let host = slow_host(LONG, None);
    let daemon = host.daemon(config(DAN));
    for last in [8, 9, 10] {
        sleep(Duration::from_secs(12)).await;
        daemon
            .controller
            .set_addresses(vec![format!("192.0.2.{last}").parse().unwrap()]);
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!(daemon.report("dan").findings[0].code, "editor-slow");
    assert_eq!(said.load(Ordering::SeqCst), 1);
}

/// Counts what is logged with the code of a slow start.
struct SlowOnes(Arc<AtomicU32>);

impl<S: tracing::Subscriber> Layer<S> for SlowOnes {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        struct Code(bool);
        impl tracing::field::Visit for Code {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0 |= field.name() == "code" && format!("{value:?}") == "\"editor-slow\"";
            }
        }
        let mut code = Code(false);
        event.record(&mut code);
        self.0.fetch_add(u32::from(code.0), Ordering::SeqCst);
    }
}

/// While it can't run, its time stands still.
#[tokio::test(start_paused = true)]
async fn the_time_of_a_start_stands_still_while_it_is_blocked_or_suspended() {
    let host = slow_host(LONG * 4, Some(GIVES_UP));
    let daemon = host.daemon(config(DAN));
    let mut report = daemon.controller.report(&name("dan")).unwrap();
    let gave_up = |report: &Report| report.findings.iter().any(|own| own.message.contains("gave up;"));
    report.wait_for(gave_up).await.unwrap();
    let trouble = Trouble::new("secret-unusable", "a file is missing", "mend it");
    host.world().place(&name("dan")).files = vec![trouble];
    daemon.controller.kick(&name("dan"));
    let (states, findings) = seen_until(&daemon, Instant::now() + DEADLINE * 2).await;
    assert_eq!(states, [State::Starting, State::Blocked]);
    assert!(findings.last().unwrap().starts_with("secret-unusable"), "{findings:#?}");
    assert!(!daemon.controller.busy(&name("dan")));

    host.world().place(&name("dan")).files.clear();
    host.world().mortal.clear();
    daemon.controller.kick(&name("dan"));
    let (states, _) = seen_until(&daemon, Instant::now() + SILENT - Duration::from_secs(5)).await;
    assert_eq!(states, [State::Blocked, State::Starting]);

    let freeze = |frozen: bool| {
        if let Unit::Running(editor) = &mut host.world().place(&name("dan")).unit {
            editor.frozen = frozen;
        }
        daemon.controller.kick(&name("dan"));
    };
    freeze(true);
    let (states, findings) = seen_until(&daemon, Instant::now() + DEADLINE * 2).await;
    assert_eq!(states.last(), Some(&State::Suspended));
    assert!(daemon.report("dan").findings.is_empty(), "{findings:#?}");
    freeze(false);
    let (states, _) = seen_until(&daemon, Instant::now() + SILENT - Duration::from_secs(5)).await;
    assert_eq!(states, [State::Suspended, State::Starting]);
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
