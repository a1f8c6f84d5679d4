//! From sections to a checked [`Config`]: reads every value, applies defaults, and compares values with each other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use crate::model::config::document::{Document, Echo, Read, Reported, Section, Wrong, kind};
use crate::model::config::workspace::{self, Settings, Taken};
use crate::model::config::{Config, Gateway, Image, Nginx, Pull, StartOnBoot, WorkspaceConfig, rules, schema, values};
use crate::model::names::{ImageRef, WorkspaceName};

pub(super) const WORKSPACE_BASE: &str = "/var/lib/vscode";
pub(super) const NGINX_UNIT: &str = "nginx.service";
pub(super) const NGINX_GROUP: &str = "nginx";
pub(super) const HTTPS: u16 = 443;
pub(super) const PLAIN_HTTP1: bool = true;
pub(super) const START_ON_BOOT: StartOnBoot = StartOnBoot::AsItWas;
pub(super) const PULL: Pull = Pull::Never;
/// WireGuard's.
pub(super) const RESERVED_PORTS: [u16; 1] = [51820];
const SESSION_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// The tag that the archive of this release holds.
pub(super) const IMAGE: &str = concat!("localhost/code-server-multi/workspace:", env!("CARGO_PKG_VERSION"));

/// The whole file. Every section is read to its end, whatever was wrong in those before.
pub(super) fn config(document: &mut Document<'_>, table: &DeTable<'_>) -> Result<Config, Reported> {
    let top = Section::root(document, table, schema::TOP);
    let domain = top.require(document, "domain", "code.example.org", values::domain);
    let workspace_base = read_workspace_base(document, &top);
    let base = workspace_base.as_deref().ok();
    let start_on_boot = top.read(document, "start_on_boot", values::start_on_boot);
    let reserved_ports = read_reserved_ports(document, &top);
    let image = read_image(document, &top, base);
    let nginx = read_nginx(document, &top, base);
    let gateway = read_gateway(document, &top);
    let workspaces = read_workspaces(document, &top, base, nginx.as_ref().ok());
    Ok(Config {
        domain: domain?,
        workspace_base: workspace_base?,
        start_on_boot: start_on_boot?.unwrap_or(START_ON_BOOT),
        reserved_ports: reserved_ports?,
        image: image?,
        nginx: nginx?,
        gateway: gateway?,
        workspaces: workspaces?,
    })
}

fn read_workspace_base(document: &mut Document<'_>, top: &Section<'_, '_>) -> Result<PathBuf, Reported> {
    let path = top.read(document, "workspace_base", |value| {
        let path = values::path(value, WORKSPACE_BASE)?;
        rules::workspace_base(&path)?;
        Ok(path)
    });
    Ok(path?.unwrap_or_else(|| PathBuf::from(WORKSPACE_BASE)))
}

fn read_image(document: &mut Document<'_>, top: &Section<'_, '_>, base: Option<&Path>) -> Result<Image, Reported> {
    let section = top.section(document, "image", schema::IMAGE);
    let name = section.read(document, "name", values::image);
    let archive = section.read(document, "archive", |value| {
        let example = "/var/lib/images/workspace.tar";
        let path = values::path(value, example)?;
        // Who can write the archive chooses what everybody runs.
        rules::trusted(
            &path,
            base,
            "put it where only root can write, for example below /var/lib/images",
        )?;
        Ok(path)
    });
    let pull = section.read(document, "pull", values::pull);
    let name = name.and_then(|name| name.map_or_else(default_image, Ok));
    if let (Ok(name), Ok(Some(Pull::Missing))) = (&name, &pull)
        && !names_registry(name)
    {
        let hint = "write it in full, for example \"docker.io/codercom/code-server:4.99.1\", or leave pull out";
        return Err(section.refuse(document, "name", Wrong::new("names no registry to pull from", hint)));
    }
    Ok(Image {
        name: name?,
        archive: archive?,
        pull: pull?.unwrap_or(PULL),
    })
}

fn default_image() -> Result<ImageRef, Reported> {
    ImageRef::parse(IMAGE).map_err(|_| Reported)
}

/// Whether a reference begins with a host, as the reference grammar tells them apart: a dot or a port before the first slash.
fn names_registry(name: &ImageRef) -> bool {
    name.as_str()
        .split_once('/')
        .is_some_and(|(host, _)| host.contains(['.', ':']))
}

fn read_nginx(document: &mut Document<'_>, top: &Section<'_, '_>, base: Option<&Path>) -> Result<Nginx, Reported> {
    let section = top.section(document, "nginx", schema::NGINX);
    let snippet_dir = section.read(document, "snippet_dir", |value| {
        let path = values::path(value, rules::SNIPPET_DIR)?;
        rules::snippet_dir(&path, base)?;
        Ok(path)
    });
    let unit = section.read(document, "unit", values::unit);
    let group = section.read(document, "group", values::group);
    let listen = read_listen(document, &section);
    let public_port = section.read(document, "public_port", values::public_port);
    let plain_http1 = section.read(document, "plain_http1", values::boolean);
    let place = "put it where only root can write, for example below /etc/ssl";
    let example = "/etc/ssl/code.example.org/fullchain.pem";
    let certificate = section.require(document, "certificate", example, |value| {
        let path = values::path(value, example)?;
        rules::trusted(&path, base, place)?;
        Ok(path)
    });
    let example = "/etc/ssl/code.example.org/key.pem";
    let certificate_key = section.require(document, "certificate_key", example, |value| {
        let path = values::path(value, example)?;
        rules::secret(&path, base)?;
        Ok(path)
    });
    Ok(Nginx {
        snippet_dir: snippet_dir?.unwrap_or_else(|| PathBuf::from(rules::SNIPPET_DIR)),
        unit: unit?.unwrap_or_else(|| NGINX_UNIT.to_owned()),
        group: group?.unwrap_or_else(|| NGINX_GROUP.to_owned()),
        listen: listen?,
        public_port: public_port?.unwrap_or(HTTPS),
        plain_http1: plain_http1?.unwrap_or(PLAIN_HTTP1),
        certificate: certificate?,
        certificate_key: certificate_key?,
    })
}

pub(super) fn everywhere() -> [SocketAddr; 2] {
    [
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, HTTPS)),
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, HTTPS)),
    ]
}

fn read_listen(document: &mut Document<'_>, section: &Section<'_, '_>) -> Result<Vec<SocketAddr>, Reported> {
    const HINT: &str = "write for example [\"0.0.0.0:443\", \"[::]:443\"], or leave it out for both";
    let addresses = read_list(
        document,
        section,
        "listen",
        ("address", "addresses", HINT),
        values::listen,
    )?;
    if addresses.as_ref().is_some_and(Vec::is_empty) {
        return Err(section.refuse(document, "listen", Wrong::new("nowhere to listen", HINT)));
    }
    Ok(addresses.unwrap_or_else(|| everywhere().to_vec()))
}

fn read_reserved_ports(document: &mut Document<'_>, top: &Section<'_, '_>) -> Result<BTreeSet<u16>, Reported> {
    const HINT: &str = "write for example [51820, 5353], or [] for none";
    let ports = read_list(
        document,
        top,
        "reserved_ports",
        ("port", "ports", HINT),
        values::udp_port,
    )?;
    Ok(ports.map_or_else(|| RESERVED_PORTS.into(), BTreeSet::from_iter))
}

/// An array of values of which none is there twice; nothing where the key is left out. Of `one` and `all` it is told, with the hint.
fn read_list<T: PartialEq>(
    document: &mut Document<'_>,
    section: &Section<'_, '_>,
    key: &str,
    (one, all, hint): (&str, &str, &str),
    parse: impl Fn(&DeValue<'_>) -> Result<T, Wrong>,
) -> Read<Vec<T>> {
    let Some(value) = section.value(key) else {
        return Ok(None);
    };
    let Some(array) = value.get_ref().as_array() else {
        let message = format!("must be an array of {all}, not {}", kind(value.get_ref()));
        return Err(section.refuse(document, key, Wrong::new(message, hint)));
    };
    let mut values: Vec<T> = Vec::new();
    let mut right = true;
    for (index, value) in array.iter().enumerate() {
        let key = format!("{}[{index}]", section.key(key));
        let read = document.read(&key, Some(value), Echo::Shown, |value| {
            let parsed = parse(value)?;
            if values.contains(&parsed) {
                return Err(Wrong::new(format!("the same {one} a second time"), "leave it out here"));
            }
            Ok(parsed)
        });
        match read {
            Ok(read) => values.extend(read),
            Err(Reported) => right = false,
        }
    }
    if right { Ok(Some(values)) } else { Err(Reported) }
}

/// As the file would say it.
pub(super) fn session_lifetime() -> String {
    format!("{}h", SESSION_LIFETIME.as_secs() / 3600)
}

fn read_gateway(document: &mut Document<'_>, top: &Section<'_, '_>) -> Result<Gateway, Reported> {
    let section = top.section(document, "gateway", schema::GATEWAY);
    let lifetime = section.read(document, "session_lifetime", values::duration);
    Ok(Gateway {
        session_lifetime: lifetime?.unwrap_or(SESSION_LIFETIME),
    })
}

fn read_workspaces(
    document: &mut Document<'_>,
    top: &Section<'_, '_>,
    base: Option<&Path>,
    nginx: Option<&Nginx>,
) -> Result<BTreeMap<WorkspaceName, WorkspaceConfig>, Reported> {
    let section = top.section(document, "defaults", schema::DEFAULTS);
    let defaults = Settings::read(document, &section, base);
    // Settles whether the defaults fit each other, once, instead of in every workspace that has them.
    let settled = defaults.limits(document, &section, &Settings::none());
    let mut taken = Taken::new(nginx.map_or(&[], |nginx| &nginx.listen));
    let mut all = BTreeMap::new();
    let mut right = settled.is_ok();
    for (path, text, value) in top.entries(document, "workspaces") {
        let name = WorkspaceName::parse(text).map_err(|error| {
            let hint = "rename it, for example [workspaces.dan]";
            document.report(path.clone(), None, Wrong::new(error.rule, hint))
        });
        let section = Section::of(document, path, Some(value), schema::WORKSPACE);
        match workspace::read(document, &section, name, &defaults, base, &mut taken) {
            Ok((name, workspace)) => {
                all.insert(name, workspace);
            }
            Err(Reported) => right = false,
        }
    }
    if right { Ok(all) } else { Err(Reported) }
}
