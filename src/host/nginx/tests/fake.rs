//! An nginx and a systemd that do as they are told, and a publisher before them.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;
use tokio::task::JoinSet;

use crate::host::nginx::{JobResult, Publisher, RUNTIME_DIRECTORY, ReloadError, Reloader, Settings, UnitState};
use crate::model::nginx::tests::config;

/// An nginx that reads `current` when reloaded.
#[derive(Clone)]
pub struct Fake(Arc<Mutex<State>>);

pub struct State {
    pub dir: PathBuf,
    pub unit: UnitState,
    /// Files whose text contains one of these are refused.
    pub refused: Vec<String>,
    /// Refuses whatever is there.
    pub foreign: bool,
    /// Refuses after its reload job is done, as for a port that is taken.
    pub late: bool,
    pub drop_in: bool,
    pub served: Option<String>,
    pub reloads: usize,
}

impl Fake {
    pub fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.lock().unwrap());
    }

    pub fn reloads(&self) -> usize {
        std::mem::take(&mut self.0.lock().unwrap().reloads)
    }

    pub fn served(&self) -> Option<String> {
        self.0.lock().unwrap().served.clone()
    }
}

impl Reloader for Fake {
    async fn state(&self, _: &str) -> Result<UnitState, ReloadError> {
        Ok(self.0.lock().unwrap().unit)
    }

    async fn reload(&self, _: &str) -> Result<JobResult, ReloadError> {
        let mut state = self.0.lock().unwrap();
        state.reloads += 1;
        let entries = fs::read_dir(state.dir.join("current")).into_iter().flatten();
        let texts: Vec<String> = entries
            .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap())
            .collect();
        let bad = texts
            .iter()
            .any(|text| state.refused.iter().any(|word| text.contains(word)));
        if state.foreign || bad {
            return Ok(if state.late {
                JobResult::Done
            } else {
                JobResult::Failed("failed".to_owned())
            });
        }
        let digest = fs::read_link(state.dir.join("current")).ok();
        state.served = digest.map(|link| link.file_name().unwrap().to_str().unwrap().to_owned());
        Ok(JobResult::Done)
    }

    async fn complaint(&self, _: &str) -> Option<String> {
        let state = self.0.lock().unwrap();
        state
            .foreign
            .then(|| "unknown directive in /etc/nginx/own.conf:1".to_owned())
    }

    async fn runtime_directories(&self, _: &str) -> Result<Vec<String>, ReloadError> {
        let drop_in = self.0.lock().unwrap().drop_in;
        Ok(if drop_in {
            vec!["nginx".to_owned(), RUNTIME_DIRECTORY.to_owned()]
        } else {
            vec!["nginx".to_owned()]
        })
    }
}

pub struct World {
    pub dir: tempfile::TempDir,
    pub fake: Fake,
    pub publisher: Publisher<Fake>,
    pub _probe: JoinSet<()>,
}

pub fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let state = State {
        dir: dir.path().join("nginx"),
        unit: UnitState::Active,
        refused: Vec::new(),
        foreign: false,
        late: false,
        drop_in: true,
        served: None,
        reloads: 0,
    };
    let fake = Fake(Arc::new(Mutex::new(state)));
    let mut settings = Settings::new(&config(&[]).nginx);
    settings.snippet_dir = dir.path().join("nginx");
    settings.group = nix::unistd::Group::from_gid(nix::unistd::getegid())
        .unwrap()
        .unwrap()
        .name;
    settings.probe_socket = dir.path().join("probe.sock");
    // The fake serves at once or never, and is asked at least once.
    settings.probe_deadline = Duration::from_millis(30);
    settings.job_deadline = Duration::from_millis(200);
    let mut tasks = JoinSet::new();
    let listener = UnixListener::bind(&settings.probe_socket).unwrap();
    tasks.spawn(answer_probes(listener, fake.clone()));
    World {
        publisher: Publisher::new(settings, fake.clone()),
        dir,
        fake,
        _probe: tasks,
    }
}

async fn answer_probes(listener: UnixListener, fake: Fake) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            stream.read_buf(&mut request).await.unwrap();
        }
        let body = fake.served().map_or_else(String::new, |digest| digest + "\n");
        let status = if body.is_empty() { "404 Not Found" } else { "200 OK" };
        let reply = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(reply.as_bytes()).await.unwrap();
    }
}

impl World {
    pub fn link(&self, name: &str) -> Option<String> {
        let target = fs::read_link(self.dir.path().join("nginx").join(name)).ok()?;
        Some(target.file_name().unwrap().to_str().unwrap().to_owned())
    }

    pub fn file(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.dir.path().join("nginx/current").join(name)).ok()
    }

    pub fn generations(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(self.dir.path().join("nginx/generations")).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    /// What must hold after every publication.
    pub fn assert_serves(&self, digest: &str) {
        assert_eq!(self.fake.served().as_deref(), Some(digest));
        assert_eq!(self.link("current").as_deref(), Some(digest));
        assert_eq!(self.link("good").as_deref(), Some(digest));
    }
}
