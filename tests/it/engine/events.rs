//! What is told of workspaces: an event for each change, in order, none twice, each with its reason.

use code_server_multi::api;
use code_server_multi::model::oom::{Kills, Noted};
use code_server_multi::model::status::Trouble;
use tokio::sync::broadcast::Receiver;
use tokio::time::sleep;

use super::fake::world::{Unit, crash, kill, lock};
use super::host::{Daemon, Host, LONG, config, name};

const DAN: &str = "[workspaces.dan]\n";

fn follow(daemon: &Daemon) -> Receiver<api::Event> {
    daemon.controller.events().follow()
}

/// What was told since the last time, one a line.
fn told(follower: &mut Receiver<api::Event>) -> String {
    let line = |event: api::Event| {
        let code = event.code.map(|code| format!(" [{code}]")).unwrap_or_default();
        format!("{}{code} {}\n", event.workspace.unwrap_or_default(), event.message)
    };
    let lines: Vec<String> = std::iter::from_fn(|| follower.try_recv().ok()).map(line).collect();
    lines.concat()
}

#[tokio::test(start_paused = true)]
async fn each_change_is_told_once_and_with_its_reason() {
    let host = Host::new();
    let daemon = host.daemon(config(""));
    let mut events = follow(&daemon);
    daemon.configure(config(DAN));
    sleep(LONG).await;
    insta::assert_snapshot!(told(&mut events), @"
    dan starting: declared in the configuration
    dan ready
    ");

    daemon.stop("dan").await;
    sleep(LONG).await;
    insta::assert_snapshot!(told(&mut events), @"
    dan stopping: csm stop
    dan stopped: csm stop
    ");
    daemon.start("dan").await;
    sleep(LONG).await;
    insta::assert_snapshot!(told(&mut events), @"
    dan starting: csm start
    dan ready
    ");
    daemon.restart("dan").await;
    sleep(LONG).await;
    insta::assert_snapshot!(told(&mut events), @"
    dan stopping: csm restart
    dan starting: csm restart
    dan ready
    ");

    crash(&host.world, &name("dan"));
    sleep(LONG).await;
    insta::assert_snapshot!(told(&mut events), @"
    dan starting: its editor ended or stopped answering
    dan ready
    ");

    daemon.configure(config("[workspaces.dan]\nmemory_limit = '1G'\n"));
    sleep(LONG).await;
    insta::assert_snapshot!(told(&mut events), @"dan limits are now 1G of memory, 1.5 cores, 4096 tasks");
    daemon.configure(config(
        "[workspaces.dan]\nmemory_limit = '1G'\nenvironment = { A = 'b' }\n",
    ));
    sleep(LONG).await;
    insta::assert_snapshot!(told(&mut events), @"dan waits for a restart: environment");
    daemon.configure(config(
        "[workspaces.dan]\nmemory_limit = '1G'\nenvironment = { A = 'b' }\napply = 'now'\n",
    ));
    sleep(LONG).await;
    insta::assert_snapshot!(told(&mut events), @r#"
    dan stopping: its configuration was changed (apply = "now")
    dan starting: its configuration was changed (apply = "now")
    dan ready
    "#);
    daemon.configure(config("[workspaces.dan]\nenabled = false\n"));
    sleep(LONG).await;
    insta::assert_snapshot!(told(&mut events), @"
    dan stopping: enabled = false in the configuration
    dan disabled: enabled = false in the configuration
    ");
    daemon.configure(config(DAN));
    sleep(LONG).await;
    insta::assert_snapshot!(told(&mut events), @"
    dan starting: it is enabled again
    dan ready
    ");
    daemon.configure(config(""));
    sleep(LONG).await;
    insta::assert_snapshot!(told(&mut events), @"
    dan stopping: it is no longer in the configuration
    dan stopped: it is no longer in the configuration
    dan removed; its home stays
    ");
    host.assert_nothing_forbidden();
}

#[tokio::test(start_paused = true)]
async fn a_new_daemon_does_not_tell_again_what_it_finds() {
    let host = Host::new();
    let sections = "[workspaces.dan]\n[workspaces.alice]\n[workspaces.sam]\nenabled = false\n";
    let daemon = host.daemon(config(sections));
    sleep(LONG).await;
    daemon.stop("alice").await;
    sleep(LONG).await;
    daemon.kill();
    let daemon = host.daemon(config(sections));
    let mut events = follow(&daemon);
    sleep(LONG).await;
    assert_eq!(told(&mut events), "");
    daemon.kill();

    // What happened meanwhile is told by what it leads to, and not with the words of whoever once started it.
    host.world().place(&name("dan")).unit = Unit::Absent;
    let daemon = host.daemon(config(sections));
    let mut events = follow(&daemon);
    sleep(LONG).await;
    insta::assert_snapshot!(told(&mut events), @"
    dan starting: it should run, and did not when the daemon started
    dan ready
    ");
    daemon.stop("dan").await;
    daemon.start("alice").await;
    sleep(LONG).await;
    insta::assert_snapshot!(told(&mut events), @"
    dan stopping: csm stop
    alice starting: csm start
    dan stopped: csm stop
    alice ready
    ");
}

fn missing(file: &str) -> Trouble {
    Trouble::new("secret-missing", format!("{file} is not there"), "put it there")
}

/// Each restart of the daemon told it again.
#[tokio::test(start_paused = true)]
async fn what_was_blocked_when_the_daemon_started_is_told_when_it_is_not_any_more() {
    let host = Host::new();
    host.world().place(&name("dan")).files = vec![missing("/run/secrets/dan")];
    let daemon = host.daemon(config(""));
    let mut events = follow(&daemon);
    daemon.configure(config(DAN));
    sleep(LONG).await;
    insta::assert_snapshot!(told(&mut events), @"dan [secret-missing] blocked: /run/secrets/dan is not there");
    daemon.kill();
    let daemon = host.daemon(config(DAN));
    let mut events = follow(&daemon);
    sleep(LONG).await;
    assert_eq!(told(&mut events), "");
    host.world().place(&name("dan")).files.clear();
    daemon.controller.kick(&name("dan"));
    sleep(LONG).await;
    insta::assert_snapshot!(told(&mut events), @"
    dan starting: nothing keeps it from starting any more
    dan ready
    ");
}

/// It was told with the code of a secret that is missing, which keeps nothing that runs from being ready.
#[tokio::test(start_paused = true)]
async fn a_failure_is_told_with_its_own_code_and_not_with_another_troubles() {
    let host = Host::new();
    let daemon = host.daemon(config(DAN));
    sleep(LONG).await;
    let mut events = follow(&daemon);
    {
        let mut world = host.world();
        world
            .refused
            .insert((name("dan"), "wait until the editor answers".to_owned()));
        let place = world.place(&name("dan"));
        place.files = vec![missing("/run/secrets/dan")];
        let Unit::Running(editor) = &mut place.unit else {
            panic!("dan does not run");
        };
        editor.answers_from = tokio::time::Instant::now() + LONG;
    }
    daemon.controller.kick(&name("dan"));
    sleep(std::time::Duration::from_millis(500)).await;
    insta::assert_snapshot!(told(&mut events), @"
    dan starting: its editor ended or stopped answering
    dan [made-up] failed: a fault was asked for
    ");
    let codes: Vec<_> = daemon.report("dan").findings.iter().map(|own| own.code).collect();
    assert_eq!(codes, ["made-up", "secret-missing"]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_told_with_its_code_each_time_it_is_tried() {
    let host = Host::new();
    let words = "start the container".to_owned();
    lock(&host.world).refused.insert((name("dan"), words));
    let daemon = host.daemon(config(""));
    let mut events = follow(&daemon);
    daemon.configure(config(DAN));
    sleep(std::time::Duration::from_secs(2)).await;
    insta::assert_snapshot!(told(&mut events), @"
    dan starting: declared in the configuration
    dan [made-up] failed: a fault was asked for
    dan starting: it is tried again
    dan [made-up] failed: a fault was asked for
    ");
    lock(&host.world).refused.clear();
    sleep(LONG).await;
    insta::assert_snapshot!(told(&mut events), @"
    dan starting: it is tried again
    dan ready
    ");
}

fn trouble(daemon: &Daemon) -> Option<Trouble> {
    daemon.controller.events().oom_trouble(&name("dan"), 1 << 30)
}

#[tokio::test(start_paused = true)]
async fn what_the_kernel_ends_is_told_once_and_said_for_a_day() {
    let host = Host::new();
    let daemon = host.daemon(config(DAN));
    daemon.controller.events().remember_oom(Vec::new());
    let mut events = follow(&daemon);
    sleep(LONG).await;
    told(&mut events);
    kill(&host.world, &name("dan"), 1);
    sleep(LONG).await;
    assert_eq!(
        told(&mut events),
        "dan the kernel ended a process, because memory_limit was reached\n"
    );
    kill(&host.world, &name("dan"), 3);
    sleep(LONG).await;
    assert_eq!(
        told(&mut events),
        "dan the kernel ended 2 processes, because memory_limit was reached\n"
    );
    // Another run counts from the start, and what is said goes on.
    daemon.restart("dan").await;
    sleep(LONG).await;
    told(&mut events);
    kill(&host.world, &name("dan"), 1);
    sleep(LONG).await;
    assert_eq!(
        told(&mut events),
        "dan the kernel ended a process, because memory_limit was reached\n"
    );
    let said = trouble(&daemon).expect("it is said");
    assert_eq!(said.code, "oom-killed");
    assert!(
        said.message.starts_with("the kernel ended 4 processes since "),
        "{}",
        said.message
    );
    daemon.kill();

    // A new daemon says nothing before it knows what was told, and then only what was not.
    let daemon = host.daemon(config(DAN));
    let mut events = follow(&daemon);
    sleep(LONG).await;
    assert_eq!((told(&mut events).as_str(), trouble(&daemon)), ("", None));
    let run = daemon
        .report("dan")
        .running
        .and_then(|running| running.started)
        .unwrap();
    let kills = Kills {
        at: run.cast_signed(),
        number: 1,
        at_limit: Some(true),
    };
    daemon
        .controller
        .events()
        .remember_oom(vec![(name("dan"), Noted::Ours(kills))]);
    sleep(LONG).await;
    assert_eq!(told(&mut events), "");
    kill(&host.world, &name("dan"), 2);
    sleep(LONG).await;
    assert_eq!(
        told(&mut events),
        "dan the kernel ended a process, because memory_limit was reached\n"
    );
}

/// By the worker's next look the run was gone, and its counters with it.
#[tokio::test(start_paused = true)]
async fn a_kill_that_ends_the_run_is_told() {
    let host = Host::new();
    let daemon = host.daemon(config(DAN));
    daemon.controller.events().remember_oom(Vec::new());
    sleep(LONG).await;
    let mut events = follow(&daemon);
    kill(&host.world, &name("dan"), 1);
    crash(&host.world, &name("dan"));
    sleep(LONG).await;
    insta::assert_snapshot!(told(&mut events), @"
    dan the kernel ended a process, because memory_limit was reached
    dan starting: its editor ended or stopped answering
    dan ready
    ");
}
