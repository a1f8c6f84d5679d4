//! Measures the controller alone: the real one and its workers, on the made-up world of tests/it/engine. tokio's clock is
//! stopped, so what passes on the wall is work and not waiting. Prints JSON; tests/bench/fake.py calls it.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the world is shared with tests that use more of it, and whoever runs this wants to see it fail"
)]

#[path = "../it/engine"]
mod engine {
    pub mod fake;
    pub mod host;
}

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use code_server_multi::api::State;
use engine::host::{Daemon, Host, config, name};

/// Of these one in ten runs, the others were stopped.
const SIZES: [usize; 3] = [10, 100, 1000];
const ROUNDS: usize = 20;
/// In the world's time: longer than any look takes, shorter than any timer.
const SETTLED: Duration = Duration::from_secs(5);

fn main() {
    // `cargo test --benches` and the like ask for a list of tests, or for none to be run for long.
    if !std::env::args().any(|word| word == "--bench") {
        return;
    }
    let rows: Vec<String> = SIZES.into_iter().map(measured).collect();
    println!("[{}]", rows.join(","));
}

fn measured(known: usize) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let host = Host::new();
        let mut sections = String::new();
        for number in 0..known {
            let _ = writeln!(sections, "[workspaces.u{number}]");
            if number % 10 != 0 {
                let intent = "running = false\nby = 'admin'\nwhy = 'csm stop'\nat = '2026-03-01T12:00:00Z'\n";
                std::fs::write(host.directory.path().join(format!("intent/u{number}.toml")), intent).unwrap();
            }
        }
        let wanted = config(&sections);
        let before = anonymous();
        let daemon = host.daemon(wanted);
        settle(&daemon, known).await;
        let memory = anonymous() - before;

        let (mut looks, mut events, mut plans) = (Vec::new(), Vec::new(), Vec::new());
        let mut calls = (0, 0);
        for round in 0..ROUNDS {
            let begun = (Instant::now(), host.world().calls);
            daemon.controller.resync().await;
            tokio::time::sleep(SETTLED).await;
            looks.push(begun.0.elapsed());
            calls.0 = host.world().calls - begun.1;

            let begun = (Instant::now(), host.world().calls);
            daemon.controller.kick(&name(&format!("u{}", round % known)));
            tokio::time::sleep(SETTLED).await;
            events.push(begun.0.elapsed());
            calls.1 = host.world().calls - begun.1;

            let begun = Instant::now();
            assert!(daemon.controller.plan().await.is_empty());
            plans.push(begun.elapsed());
        }
        daemon.assert_as_desired(&host).await;
        host.assert_nothing_forbidden();
        format!(
            "{{\"known\":{known},\"resync_ms\":{},\"event_ms\":{},\"plan_ms\":{},\"resync_looks\":{},\"event_looks\":{},\
             \"anonymous_kb\":{memory}}}",
            list(&looks),
            list(&events),
            list(&plans),
            calls.0,
            calls.1,
        )
    })
}

/// Until those that should run are ready, and everybody has looked.
async fn settle(daemon: &Daemon, known: usize) {
    for number in (0..known).step_by(10) {
        let mut report = daemon.controller.report(&name(&format!("u{number}"))).unwrap();
        report.wait_for(|report| report.state == State::Ready).await.unwrap();
    }
    tokio::time::sleep(SETTLED).await;
}

fn list(times: &[Duration]) -> String {
    let words: Vec<_> = times
        .iter()
        .map(|time| format!("{:.4}", time.as_secs_f64() * 1000.0))
        .collect();
    format!("[{}]", words.join(","))
}

/// Kilobytes of this process that are no file's.
fn anonymous() -> u64 {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Anonymous:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
