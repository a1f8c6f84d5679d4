//! LAYOUT: where everything of the product lies on a host. Only this file joins these paths.

use std::path::{Path, PathBuf};

use crate::model::names::WorkspaceName;

/// A constant can be joined only of literals.
macro_rules! in_run {
    ($rest:literal) => {
        concat!("/run/code-server-multi", $rest)
    };
}

pub const STATE: &str = "/var/lib/code-server-multi";
pub const RUN: &str = in_run!("");
/// Where the daemon answers admins, and the gateway.
pub const ADMIN_SOCKET: &str = in_run!("/admin.sock");
pub const GATEWAY_SOCKET: &str = in_run!("/gateway.sock");
/// Account that owns the one image store.
pub const IMAGES_ACCOUNT: &str = "code-server-multi-images";
/// Account of the gateway service.
pub const GATEWAY_ACCOUNT: &str = "code-server-multi-gateway";
/// Group of the editors' sockets; nginx is given it.
pub const WEB_GROUP: &str = "code-server-multi-web";
/// Group whose members administer every workspace.
pub const ADMIN_GROUP: &str = "csm-admin";

/// The directories of the product itself; `root` is prefixed to both (empty on a real host, a directory in tests).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    pub state: PathBuf,
    pub run: PathBuf,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            state: STATE.into(),
            run: RUN.into(),
        }
    }
}

impl Layout {
    pub fn intents(&self) -> PathBuf {
        self.state.join("intent")
    }

    pub fn passwords(&self) -> PathBuf {
        self.state.join("passwords")
    }

    pub fn image_home(&self) -> PathBuf {
        self.state.join("images")
    }

    pub fn image_store(&self) -> PathBuf {
        self.state.join("images/store")
    }

    pub fn image_podman(&self) -> PathBuf {
        self.state.join("podman/.images")
    }

    /// The marker that tells a start of the daemon from a start of the machine: /run is empty after a boot.
    pub fn booted(&self) -> PathBuf {
        self.run.join("booted")
    }

    pub fn fronts(&self) -> PathBuf {
        self.run.join("front")
    }

    pub fn entrypoint(&self) -> PathBuf {
        self.run.join("entrypoint")
    }

    pub fn of(&self, name: &WorkspaceName) -> Places {
        let name = name.as_str();
        let run = self.run.join("run").join(name);
        Places {
            podman: self.state.join("podman").join(name),
            helpers: self.state.join("podman").join(name).join("bin"),
            account_home: self.state.join("accounts").join(name),
            container_store: self.state.join("accounts").join(name).join("storage"),
            mounts: self.run.join("mounts").join(name),
            images_view: self.run.join("mounts").join(name).join("images"),
            data_view: self.run.join("mounts").join(name).join("data"),
            secrets: self.run.join("secrets").join(name),
            front: self.run.join("front").join(format!("{name}.sock")),
            front_target: Path::new("../run").join(name).join(SOCKET),
            socket: run.join(SOCKET),
            run,
            runtime: Path::new("/run").join(format!("csm-{name}")),
        }
    }
}

/// File name of the editor's socket.
pub const SOCKET: &str = "http.sock";

/// What one workspace has on a host, its home aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Root-owned Podman configuration.
    pub podman: PathBuf,
    /// What Podman runs before it looks for programs elsewhere.
    pub helpers: PathBuf,
    /// The account's HOME outside: never the workspace's home.
    pub account_home: PathBuf,
    pub container_store: PathBuf,
    /// Directory of the idmapped views: root's, and only the account's group may pass through it.
    pub mounts: PathBuf,
    pub images_view: PathBuf,
    pub data_view: PathBuf,
    pub secrets: PathBuf,
    pub front: PathBuf,
    /// What the front link says; relative, so that it means the same in every mount namespace.
    pub front_target: PathBuf,
    pub socket: PathBuf,
    /// The tmpfs with the socket.
    pub run: PathBuf,
    /// XDG_RUNTIME_DIR of Podman, made by systemd for the unit's life.
    pub runtime: PathBuf,
}

/// Directories of a workspace's home under `workspace_base/NAME`, on disk and in the container.
pub const HOME_PARTS: [(&str, &str); 3] = [
    ("home", "/home/coder"),
    ("workspace", "/home/coder/project"),
    ("config", "/home/coder/.local/share/code-server"),
];

/// Directories inside `home` on which the other parts are mounted, outermost first.
pub const MOUNT_POINTS: [&str; 4] = ["project", ".local", ".local/share", ".local/share/code-server"];
