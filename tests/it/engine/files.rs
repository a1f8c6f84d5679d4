//! Root's files against those who would bend them: intents, homes, secrets' copies.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};

use code_server_multi::host::homes;
use code_server_multi::host::intents::Intents;
use code_server_multi::host::systemd::Chain;
use code_server_multi::model::desired::{self, Intent, IntentBy, Machine, Workspace};
use code_server_multi::model::layout::Layout;
use code_server_multi::model::plan::Directories;
use tempfile::TempDir;

use super::fake::world::account;
use super::host::{Host, config, directory, name, needs_root};

#[test]
fn an_intent_is_read_back_as_it_was_written() {
    needs_root();
    let directory = directory();
    let intents = Intents::new(directory.path().to_owned());
    let mut intent = Intent {
        running: false,
        by: IntentBy::Admin,
        why: "\"csm stop\"\n= [tricky] 'ü' \u{1}".to_owned(),
        at: Some("2026-03-01T12:00:00Z".to_owned()),
        restart_of: Some(1_790_000_000_000_000),
    };
    for running in [false, true, false] {
        intent.running = running;
        intents.write(&name("dan"), &intent).unwrap();
        assert_eq!(intents.read().unwrap(), [(name("dan"), intent.clone())].into());
    }
    let mode = fs::metadata(directory.path().join("dan.toml"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o600);
}

/// The default would be to run: what can't be read must not start what was stopped.
#[test]
fn a_broken_intent_is_an_error_that_names_its_file() {
    for broken in [
        "",
        "running = ",
        "running = 'no'\nby = 'admin'\nwhy = ''",
        "running = true\nby = 'admin'\nwhy = ''\nx = 1",
        "\0\0\0",
    ] {
        let directory = directory();
        fs::write(directory.path().join("dan.toml"), broken).unwrap();
        let error = Intents::new(directory.path().to_owned()).read().unwrap_err();
        let path = directory.path().join("dan.toml");
        assert!(
            Chain(&error).to_string().contains(path.to_str().unwrap()),
            "{broken:?}: {error}"
        );
    }
    let directory = directory();
    fs::write(directory.path().join("dan.toml"), [0xff, 0xfe]).unwrap();
    let error = Intents::new(directory.path().to_owned()).read().unwrap_err();
    assert!(Chain(&error).to_string().contains("dan.toml"), "{error}");
    assert!(
        Intents::new(directory.path().join("nowhere")).read().is_err(),
        "no directory is not: no intents"
    );
}

/// What a killed writer leaves is neither read nor in the way.
#[test]
fn half_an_intent_is_harmless() {
    needs_root();
    let directory = directory();
    let intents = Intents::new(directory.path().to_owned());
    intents.write(&name("dan"), &Intent::default()).unwrap();
    fs::write(directory.path().join(".dan.toml.new"), "running = fal").unwrap();
    fs::write(directory.path().join("README"), "not an intent").unwrap();
    assert_eq!(intents.read().unwrap(), [(name("dan"), Intent::default())].into());
    let stopped = Intent {
        running: false,
        ..Intent::default()
    };
    intents.write(&name("dan"), &stopped).unwrap();
    assert_eq!(intents.read().unwrap(), [(name("dan"), stopped)].into());
    assert!(!directory.path().join(".dan.toml.new").exists());
    // Nor does a link that was planted there lead the writer elsewhere.
    let outside = directory.path().join("outside");
    fs::write(&outside, "mine").unwrap();
    symlink(&outside, directory.path().join(".dan.toml.new")).unwrap();
    intents.write(&name("dan"), &Intent::default()).unwrap();
    assert_eq!(fs::read_to_string(&outside).unwrap(), "mine");
}

/// A host's directories in a place of its own, with one workspace.
struct Rig {
    directory: TempDir,
    machine: Machine,
    workspace: Workspace,
}

impl Rig {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let layout = Layout {
            state: root.join("state"),
            run: root.join("run"),
        };
        for made in [
            "state",
            "state/podman",
            "state/accounts",
            "run",
            "run/run",
            "run/mounts",
            "run/secrets",
            "outside",
        ] {
            fs::create_dir(root.join(made)).unwrap();
        }
        let machine = Machine {
            layout,
            ..Host::new().machine()
        };
        let config = config("[workspaces.dan]\nsecret_environment = { KEY = '/key', OTHER = '/other' }\n");
        let mut workspace = desired::build(&config, machine.clone(), &[].into())
            .workspaces
            .pop_first()
            .unwrap()
            .1;
        workspace.home = root.join("base/dan");
        let files = [("KEY", root.join("key")), ("OTHER", root.join("other"))];
        for (variable, own) in workspace.secret_environment.values_mut().zip(files) {
            *variable = own.1;
        }
        Self {
            directory,
            machine,
            workspace,
        }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.directory.path().join(below)
    }

    fn look(&self) -> Directories {
        homes::look(&self.workspace, &account(&name("dan")), &self.machine).unwrap()
    }

    fn ensure(&self) -> Directories {
        homes::ensure(&self.workspace, &account(&name("dan")), &self.machine).unwrap()
    }
}

/// Path, kind, owner and mode of everything below, links not followed.
fn tree(path: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut left = vec![path.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&entry).unwrap();
            let below = entry.strip_prefix(path).unwrap().display().to_string();
            lines.push(format!(
                "{below} {:o} {}:{}",
                metadata.mode(),
                metadata.uid(),
                metadata.gid()
            ));
            if metadata.is_dir() {
                left.push(entry);
            }
        }
    }
    lines.sort();
    lines
}

#[test]
fn a_home_is_made_once() {
    let rig = Rig::new();
    assert_eq!(rig.look(), Directories::ToMake);
    assert!(!rig.path("base").exists(), "looking makes nothing");
    assert_eq!(rig.ensure(), Directories::InPlace);
    assert_eq!(rig.look(), Directories::InPlace);
    let made = tree(rig.directory.path());
    assert_eq!(rig.ensure(), Directories::InPlace);
    assert_eq!(tree(rig.directory.path()), made);
    insta::assert_snapshot!(tree(&rig.path("base")).join("\n"), @"
dan 40711 0:0
dan/config 40700 1001:1001
dan/home 40700 1001:1001
dan/home/.local 40700 1001:1001
dan/home/.local/share 40700 1001:1001
dan/home/.local/share/code-server 40700 1001:1001
dan/home/project 40700 1001:1001
dan/workspace 40700 1001:1001
");
}

#[test]
fn a_missing_part_is_made_and_what_is_there_is_kept() {
    let rig = Rig::new();
    rig.ensure();
    fs::write(rig.path("base/dan/workspace/thesis"), "years").unwrap();
    fs::remove_dir_all(rig.path("base/dan/home/.local")).unwrap();
    assert_eq!(rig.look(), Directories::ToMake);
    assert_eq!(rig.ensure(), Directories::InPlace);
    assert_eq!(
        fs::read_to_string(rig.path("base/dan/workspace/thesis")).unwrap(),
        "years"
    );
}

const PARTS: [&str; 7] = [
    "base/dan",
    "base/dan/home",
    "base/dan/workspace",
    "base/dan/config",
    "base/dan/home/project",
    "base/dan/home/.local",
    "base/dan/home/.local/share/code-server",
];

fn code(found: &Directories) -> &'static str {
    match found {
        Directories::Obstructed(trouble) => trouble.code,
        Directories::InPlace => "in place",
        Directories::ToMake => "to make",
    }
}

#[test]
fn a_link_in_the_place_of_any_part_is_reported_and_never_followed() {
    for part in PARTS {
        for relative in [true, false] {
            let rig = Rig::new();
            rig.ensure();
            fs::remove_dir_all(rig.path(part)).unwrap();
            chown(rig.path("outside"), Some(1001), Some(1001)).unwrap();
            let up = "../".repeat(part.matches('/').count());
            let target = if relative {
                PathBuf::from(format!("{up}outside"))
            } else {
                rig.path("outside")
            };
            symlink(target, rig.path(part)).unwrap();
            assert!(rig.path(part).is_dir(), "the link leads somewhere");
            let before = tree(rig.directory.path());
            assert_eq!(code(&rig.look()), "home-obstructed", "{part}");
            assert_eq!(code(&rig.ensure()), "home-obstructed", "{part}");
            assert_eq!(tree(rig.directory.path()), before, "{part}: something was changed");
        }
    }
}

/// A workspace that swaps its directories for links while root walks: what root makes lands in the home or nowhere.
#[test]
fn a_directory_swapped_in_the_middle_of_a_walk_leads_root_nowhere() {
    let rig = Rig::new();
    rig.ensure();
    chown(rig.path("outside"), Some(1001), Some(1001)).unwrap();
    let home = rig.path("base/dan/home");
    let (point, link, aside) = (home.join(".local"), home.join("link"), home.join("aside"));
    symlink(rig.path("outside"), &link).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    let mut found = std::collections::BTreeSet::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                // A directory, nothing, a link, nothing.
                let _ = fs::rename(&point, &aside);
                let _ = fs::remove_dir_all(&aside);
                let _ = fs::rename(&link, &point);
                std::thread::yield_now();
                let _ = fs::rename(&point, &link);
                std::thread::yield_now();
            }
        });
        let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
        // Until both ends have been met, a few thousand walks at least.
        for walk in 0.. {
            let end = homes::ensure(&rig.workspace, &account(&name("dan")), &rig.machine);
            found.insert(end.as_ref().map_or("error", code));
            let met = found.contains("home-obstructed") && found.contains("in place");
            if walk > 3000 && met || std::time::Instant::now() > until {
                break;
            }
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert!(
        found.contains("home-obstructed") && found.contains("in place"),
        "{found:?}"
    );
    assert_eq!(tree(&rig.path("outside")), [""; 0]);
    let owner = fs::metadata(rig.path("outside")).unwrap();
    assert_eq!((owner.uid(), owner.mode() & 0o7777), (1001, 0o755));
}

#[test]
fn a_file_in_the_place_of_any_part_is_reported_and_kept() {
    for part in PARTS {
        let rig = Rig::new();
        rig.ensure();
        fs::remove_dir_all(rig.path(part)).unwrap();
        fs::write(rig.path(part), "precious").unwrap();
        assert_eq!(code(&rig.ensure()), "home-obstructed", "{part}");
        assert_eq!(fs::read_to_string(rig.path(part)).unwrap(), "precious");
    }
}

#[test]
fn another_accounts_directory_is_reported_and_stays_its_own() {
    for part in PARTS {
        let rig = Rig::new();
        rig.ensure();
        chown(rig.path(part), Some(4242), Some(4242)).unwrap();
        let before = tree(rig.directory.path());
        assert_eq!(code(&rig.look()), "home-foreign", "{part}");
        assert_eq!(code(&rig.ensure()), "home-foreign", "{part}");
        assert_eq!(tree(rig.directory.path()), before, "{part}: something was changed");
    }
}

#[test]
fn secrets_are_copied_for_the_containers_user_alone_and_removed_when_no_longer_named() {
    let mut rig = Rig::new();
    rig.ensure();
    let owner = account(&name("dan"));
    let copies = rig.machine.layout.of(&name("dan")).secrets;
    fs::write(rig.path("key"), "sesame\n").unwrap();
    // A secret may lie behind a link, as sops-nix has it.
    fs::write(rig.path("elsewhere"), "open").unwrap();
    symlink(rig.path("elsewhere"), rig.path("other")).unwrap();
    homes::write_secrets(&rig.workspace, &owner, &rig.machine).unwrap();
    homes::write_secrets(&rig.workspace, &owner, &rig.machine).unwrap();
    let inner = owner.inner_uid();
    assert_eq!(
        tree(&copies),
        [
            format!("KEY 100400 {inner}:{inner}"),
            format!("OTHER 100400 {inner}:{inner}")
        ]
    );
    assert_eq!(fs::read_to_string(copies.join("KEY")).unwrap(), "sesame\n");
    let rotated = |rig: &Rig| homes::rotated(&rig.workspace, &rig.machine).unwrap();
    assert!(!rotated(&rig));
    fs::write(rig.path("elsewhere"), "shut").unwrap();
    assert!(rotated(&rig), "another content behind the link");
    fs::write(rig.path("elsewhere"), "").unwrap();
    assert!(!rotated(&rig), "an unusable file is no other secret");
    fs::write(rig.path("elsewhere"), "open").unwrap();
    fs::remove_file(copies.join("OTHER")).unwrap();
    assert!(!rotated(&rig), "the workspace was not given it");

    rig.workspace.secret_environment.pop_last();
    homes::write_secrets(&rig.workspace, &owner, &rig.machine).unwrap();
    assert_eq!(tree(&copies), [format!("KEY 100400 {inner}:{inner}")]);

    fs::remove_file(rig.path("key")).unwrap();
    let error = homes::write_secrets(&rig.workspace, &owner, &rig.machine).unwrap_err();
    let text = Chain(&error).to_string();
    assert!(text.ends_with("key for KEY: there is no such file"), "{text}");
}
