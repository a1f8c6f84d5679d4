//! From one configuration to the next: what is done, and what the world is after it.

use std::sync::Arc;
use std::time::Duration;

use code_server_multi::api::State;
use code_server_multi::host::watch::Watch;
use code_server_multi::model::unit::Part;
use code_server_multi::serve::config_file;
use code_server_multi::serve::triggers::RESYNC;
use insta::assert_snapshot;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::fake::world::Unit;
use super::host::{Host, LONG, TOP, config, name};

const DAN: &str = "[workspaces.dan]\n";
const ALICE: &str = "[workspaces.alice]\n";

#[tokio::test(start_paused = true)]
async fn users_come_change_and_go() {
    let host = Host::new();
    let daemon = host.daemon(config(DAN));
    sleep(LONG).await;
    assert_snapshot!(host.log(), @"
dan: make the home's directories
dan: mount images
dan: mount data
dan: mount run
dan: write the secrets
dan: start the container
dan: wait until the editor answers
dan: put the editor on the web
");
    assert_snapshot!(host.picture(), @r#"
dan: running with 3072 MiB, mounted ["images", "data", "run"], on the web, has a home
"#);

    daemon.configure(config(&format!("{DAN}{ALICE}")));
    sleep(LONG).await;
    assert_snapshot!(host.log(), @"
alice: make the home's directories
alice: mount images
alice: mount data
alice: mount run
alice: write the secrets
alice: start the container
alice: wait until the editor answers
alice: put the editor on the web
");

    daemon.configure(config(&format!(
        "{DAN}memory_limit = '2G'\nmemory_soft_limit = '2G'\n{ALICE}"
    )));
    sleep(LONG).await;
    assert_snapshot!(host.log(), @"
dan: set the limits
");

    // A change that needs a restart waits for one.
    let changed = format!("{DAN}memory_limit = '2G'\nmemory_soft_limit = '2G'\nenvironment = {{ A = 'b' }}\n");
    daemon.configure(config(&format!("{changed}{ALICE}")));
    sleep(LONG).await;
    assert_snapshot!(host.log(), @"

");
    assert_eq!(daemon.report("dan").pending, [Part::Environment]);
    assert_eq!(daemon.report("dan").state, State::Ready);

    daemon.configure(config(&format!("{changed}apply = 'now'\n{ALICE}")));
    sleep(LONG).await;
    assert_snapshot!(host.log(), @"
dan: take the editor off the web
dan: stop the container
dan: unmount run
dan: mount run
dan: write the secrets
dan: start the container
dan: wait until the editor answers
dan: put the editor on the web
");
    assert_eq!(daemon.report("dan").pending, []);

    daemon.configure(config(&format!("{changed}apply = 'now'\n")));
    sleep(LONG).await;
    assert_snapshot!(host.log(), @"
alice: take the editor off the web
alice: stop the container
alice: unmount run
alice: unmount data
alice: unmount images
");
    assert!(
        daemon.controller.report(&name("alice")).is_none(),
        "its worker stays for ever"
    );
    assert_snapshot!(host.picture(), @r#"
alice: absent, mounted [], has a home
dan: running with 2048 MiB, mounted ["images", "data", "run"], on the web, has a home
"#);

    daemon.configure(config(&format!("{DAN}{ALICE}enabled = false\n")));
    sleep(LONG).await;
    assert_snapshot!(host.log(), @"
dan: set the limits
");

    daemon.configure(config(&format!("{DAN}{ALICE}")));
    sleep(LONG).await;
    assert_snapshot!(host.log(), @"
alice: mount images
alice: mount data
alice: mount run
alice: write the secrets
alice: start the container
alice: wait until the editor answers
alice: put the editor on the web
");
    assert_snapshot!(host.picture(), @r#"
alice: running with 3072 MiB, mounted ["images", "data", "run"], on the web, has a home
dan: running with 3072 MiB, mounted ["images", "data", "run"], on the web, has a home
"#);
    daemon.assert_as_desired(&host).await;
}

#[tokio::test(start_paused = true)]
async fn a_missing_image_is_loaded_before_anything_starts() {
    let host = Host::new();
    host.world().image = None;
    let daemon = host.daemon(config(DAN));
    sleep(LONG).await;
    assert_snapshot!(host.log(), @"
dan: make the home's directories
dan: mount images
dan: mount data
dan: mount run
load the image from its archive
dan: write the secrets
dan: start the container
dan: wait until the editor answers
dan: put the editor on the web
");
    daemon.assert_as_desired(&host).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_stopped_stays_stopped_over_daemons_and_power_cuts() {
    let host = Host::new();
    let daemon = host.daemon(config(&format!("{DAN}{ALICE}")));
    sleep(LONG).await;
    daemon.stop("dan").await;
    daemon.kill();
    let daemon = host.daemon(config(&format!("{DAN}{ALICE}")));
    sleep(LONG).await;
    daemon.assert_as_desired(&host).await;
    daemon.kill();
    host.world().lose_power();
    host.log();
    let daemon = host.daemon(config(&format!("{DAN}{ALICE}")));
    sleep(LONG).await;
    assert_eq!(daemon.states()[&name("dan")], State::Stopped);
    assert_eq!(daemon.states()[&name("alice")], State::Ready);
    assert!(!host.log().contains("dan: start the container"));
    daemon.assert_as_desired(&host).await;
}

#[tokio::test(start_paused = true)]
async fn a_new_daemon_leaves_running_editors_alone() {
    let host = Host::new();
    host.daemon(config(DAN)).kill();
    let daemon = host.daemon(config(DAN));
    sleep(LONG).await;
    daemon.kill();
    host.log();
    let daemon = host.daemon(config(DAN));
    sleep(LONG).await;
    assert_eq!(host.log(), "");
    daemon.assert_as_desired(&host).await;
}

#[tokio::test(start_paused = true)]
async fn what_the_configuration_does_not_know_is_put_away_and_its_home_kept() {
    let host = Host::new();
    let daemon = host.daemon(config(&format!("{DAN}{ALICE}")));
    sleep(LONG).await;
    daemon.kill();
    host.log();
    let daemon = host.daemon(config(DAN));
    sleep(LONG).await;
    assert_snapshot!(host.log(), @"
alice: take the editor off the web
alice: stop the container
alice: unmount run
alice: unmount data
alice: unmount images
");
    assert!(host.world().place(&name("alice")).home);
    daemon.assert_as_desired(&host).await;
}

/// Its worker stays until the stop that another daemon began has ended, however often everybody is counted meanwhile.
#[tokio::test(start_paused = true)]
async fn what_is_still_stopping_is_not_forgotten() {
    let host = Host::new();
    let daemon = host.daemon(config(&format!("{DAN}{ALICE}")));
    sleep(LONG).await;
    daemon.configure(config(DAN));
    while host.world().place(&name("alice")).unit != Unit::Stopping {
        sleep(Duration::from_millis(1)).await;
    }
    daemon.kill();
    let daemon = host.daemon(config(DAN));
    sleep(Duration::from_millis(50)).await;
    assert_eq!(host.world().place(&name("alice")).unit, Unit::Stopping);
    daemon.controller.resync().await;
    sleep(Duration::from_secs(10)).await;
    assert!(
        host.world().place(&name("alice")).mounts.is_empty(),
        "{}",
        host.picture()
    );
    daemon.assert_as_desired(&host).await;
}

/// The net below inotify, which says nothing of what is written by another name.
#[tokio::test(start_paused = true)]
async fn a_file_that_nobody_saw_change_is_in_force_within_ten_minutes() {
    let host = Host::new();
    let daemon = host.daemon(config(DAN));
    sleep(LONG).await;
    let (file, elsewhere) = (
        host.directory.path().join("config.toml"),
        host.directory.path().join("elsewhere"),
    );
    std::fs::write(&file, format!("{TOP}{DAN}")).unwrap();
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::hard_link(&file, elsewhere.join("config.toml")).unwrap();
    let (watch, token) = (Arc::new(Watch::new().unwrap()), CancellationToken::new());
    let watching = config_file::watch(host.app(&daemon, file.clone()), watch, file, token);
    let change = async {
        sleep(Duration::from_secs(1)).await;
        std::fs::write(elsewhere.join("config.toml"), format!("{TOP}{DAN}{ALICE}")).unwrap();
        sleep(RESYNC).await;
    };
    tokio::select! {
        () = watching => panic!("it ended"),
        () = change => {}
    }
    assert!(daemon.controller.desired().workspaces.contains_key(&name("alice")));
}
