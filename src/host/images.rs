//! IMAGES: the one store, its owner's Podman, and what is in it. Podman runs as that account in transient units; the
//! daemon only hands over an open archive and reads an id.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use tokio::io::AsyncReadExt as _;

use crate::host::files::{self, Access, FileError, ReadError};
use crate::host::systemd::{Systemd, SystemdError};
use crate::model::desired::Machine;
use crate::model::layout::IMAGES_ACCOUNT;
use crate::model::names::{ImageId, ImageRef};
use crate::model::podman;
use crate::model::systemd::{ANY_LINE, UnitSpec, Value, exec};

const UNIT: &str = "code-server-multi-images.service";
const LOOK: Duration = Duration::from_secs(60);
const LOAD: Duration = Duration::from_secs(30 * 60);
/// An archive may be large; this only keeps a device or a mistake from being read for ever.
const MOST_ARCHIVE: u64 = 64 << 30;

#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("can't open the archive {}", path.display())]
    Archive {
        path: std::path::PathBuf,
        #[source]
        source: ReadError,
    },
    #[error("can't make a pipe to Podman")]
    Pipe(#[source] std::io::Error),
    #[error("podman as {IMAGES_ACCOUNT} failed: {said}")]
    Podman {
        said: String,
        #[source]
        source: Box<SystemdError>,
    },
    #[error("podman printed something that is no image id")]
    Id,
}

/// The image asked for, when Podman's list last changed, and the id it had then.
type Answer = (ImageRef, Option<SystemTime>, Option<ImageId>);

/// The store, and the last answer about it. One Podman at a time.
#[derive(Default)]
pub struct Images {
    turn: tokio::sync::Mutex<()>,
    last: Mutex<Option<Answer>>,
}

impl Images {
    /// Makes the store's directories and its owner's configuration.
    pub fn prepare(machine: &Machine) -> Result<(), FileError> {
        let own = Access {
            uid: machine.images.uid,
            gid: machine.images.gid,
            mode: 0o700,
        };
        files::ensure_directory(&machine.layout.image_home(), own)?;
        files::ensure_directory(&machine.layout.image_store(), own)?;
        let configuration = machine.layout.image_podman();
        files::ensure_directory(&configuration, Access::root(0o755))?;
        for (name, text) in [
            ("storage.conf", podman::image_storage_conf(machine)),
            ("containers.conf", podman::containers_conf(None)),
            ("registries.conf", podman::REGISTRIES_CONF.to_owned()),
        ] {
            let path = configuration.join(name);
            if !files::holds(&path, text.as_bytes()) {
                files::write_whole(&path, text.as_bytes(), Access::root(0o644))?;
            }
        }
        Ok(())
    }

    /// The id that `name` has in the store, or nothing. Podman is only asked when its list of images has changed.
    pub async fn look(
        &self,
        systemd: &Systemd,
        machine: &Machine,
        name: &ImageRef,
    ) -> Result<Option<ImageId>, ImageError> {
        let _turn = self.turn.lock().await;
        let stamp = stamp(machine);
        if let Some((last, at, id)) = self.last().as_ref()
            && (last, *at) == (name, stamp)
        {
            return Ok(id.clone());
        }
        let id = match stamp {
            // Podman has never written there.
            None => None,
            Some(_) => match podman_unit(systemd, machine, podman::image_id(name.as_str()), None, LOOK).await {
                Ok(id) => Some(ImageId::parse(id.trim()).map_err(|_| ImageError::Id)?),
                // 125: no such image (podman(1)); anything else that went wrong says so in its own words.
                Err(ImageError::Podman { said, .. }) if said.contains("image not known") => None,
                Err(error) => return Err(error),
            },
        };
        *self.last() = Some((name.clone(), stamp, id.clone()));
        Ok(id)
    }

    pub async fn load(&self, systemd: &Systemd, machine: &Machine, archive: &Path) -> Result<(), ImageError> {
        let _turn = self.turn.lock().await;
        let file = files::open_named(archive, MOST_ARCHIVE).map_err(|source| ImageError::Archive {
            path: archive.to_owned(),
            source,
        })?;
        podman_unit(systemd, machine, podman::load(), Some(file.into()), LOAD)
            .await
            .map(drop)
    }

    pub async fn pull(&self, systemd: &Systemd, machine: &Machine, name: &ImageRef) -> Result<(), ImageError> {
        let _turn = self.turn.lock().await;
        podman_unit(systemd, machine, podman::pull(name.as_str()), None, LOAD)
            .await
            .map(drop)
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Option<Answer>> {
        self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// When Podman last wrote the list of images.
fn stamp(machine: &Machine) -> Option<SystemTime> {
    let list = machine.layout.image_store().join("overlay-images/images.json");
    std::fs::symlink_metadata(list)
        .and_then(|metadata| metadata.modified())
        .ok()
}

/// Runs Podman as the images' account; the answer is what it printed. What it complains goes into the error.
async fn podman_unit(
    systemd: &Systemd,
    machine: &Machine,
    arguments: Vec<String>,
    input: Option<OwnedFd>,
    deadline: Duration,
) -> Result<String, ImageError> {
    let places = machine.layout.image_podman();
    let configuration = places.display();
    let spec = UnitSpec {
        name: UNIT.to_owned(),
        properties: vec![
            ("Description", Value::Text("code-server-multi image store".to_owned())),
            ("Type", Value::Text("oneshot".to_owned())),
            ("User", Value::Text(IMAGES_ACCOUNT.to_owned())),
            ("WorkingDirectory", Value::Text("/".to_owned())),
            ANY_LINE,
            ("CollectMode", Value::Text("inactive-or-failed".to_owned())),
            (
                "RuntimeDirectory",
                Value::Texts(vec!["code-server-multi-images".to_owned()]),
            ),
            ("RuntimeDirectoryMode", Value::U32(0o700)),
            (
                "TimeoutStartUSec",
                Value::U64(u64::try_from(deadline.as_micros()).unwrap_or(u64::MAX)),
            ),
            (
                "Environment",
                Value::Texts(vec![
                    format!("HOME={}", machine.layout.image_home().display()),
                    format!("PATH={}", machine.path),
                    "XDG_RUNTIME_DIR=/run/code-server-multi-images".to_owned(),
                    format!("CONTAINERS_CONF={configuration}/containers.conf"),
                    format!("CONTAINERS_STORAGE_CONF={configuration}/storage.conf"),
                    format!("CONTAINERS_REGISTRIES_CONF={configuration}/registries.conf"),
                ]),
            ),
            (
                "ExecStart",
                Value::Execs(vec![exec(&machine.podman.to_string_lossy(), arguments)]),
            ),
        ],
    };
    let (output, output_end) = pipe()?;
    let (errors, errors_end) = pipe()?;
    let mut fds = vec![
        ("StandardOutputFileDescriptor", output_end),
        ("StandardErrorFileDescriptor", errors_end),
    ];
    if let Some(input) = input {
        fds.push(("StandardInputFileDescriptor", input));
    }
    systemd.reset_failed(UNIT).await.map_err(|source| ImageError::Podman {
        said: String::new(),
        source: Box::new(source),
    })?;
    let (ended, output, errors) = tokio::join!(systemd.start(&spec, fds, deadline), read(output), read(errors));
    match ended {
        Ok(()) => Ok(output),
        Err(source) => Err(ImageError::Podman {
            said: last_line(&errors),
            source: Box::new(source),
        }),
    }
}

fn pipe() -> Result<(tokio::net::unix::pipe::Receiver, OwnedFd), ImageError> {
    let (reader, writer) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|errno| ImageError::Pipe(errno.into()))?;
    Ok((
        tokio::net::unix::pipe::Receiver::from_owned_fd(reader).map_err(ImageError::Pipe)?,
        writer,
    ))
}

/// Reads to the end and keeps the first 64 KiB.
async fn read(mut pipe: tokio::net::unix::pipe::Receiver) -> String {
    let mut kept = Vec::new();
    let mut buffer = vec![0; 8192];
    while let Ok(length @ 1..) = pipe.read(&mut buffer).await {
        if kept.len() < 64 * 1024 {
            kept.extend_from_slice(&buffer[..length]);
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

fn last_line(text: &str) -> String {
    text.lines()
        .rfind(|line| !line.trim().is_empty())
        .unwrap_or_default()
        .to_owned()
}
