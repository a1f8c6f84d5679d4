//! What each key means: the one list of keys, their types, defaults and words. The parser takes the names from here; the
//! JSON Schema and docs/configuration.md are made of it. It checks nothing: what is refused, and how, is the parser's.

use std::borrow::Cow;

use schemars::transform::{RecursiveTransform, Transform as _};
use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, json_schema};
use serde_json::{Value, json};

use crate::model::config::{build, keys, rules, values, workspace};
use crate::model::names::{RESERVED, WORKSPACE_NAME_MAX};
use crate::model::size;

/// What `csm config schema` prints. Made by [`schema`]; a test keeps it so.
pub const COMMITTED: &str = include_str!("schema.json");

/// When a change is in force, once the file has been read.
const LIVE: &str = "live";
const NGINX_RELOAD: &str = "nginx";
const PENDING: &str = "pending";
const NEXT_BOOT: &str = "next boot";
const IMAGE_MISSING: &str = "when the image is missing";

/// A section: its type for the schema, and the names of its keys for the parser.
macro_rules! section {
    ($(#[$about:meta])* $name:ident, $keys:ident { $($(#[$key_about:meta])* $key:ident: $kind:ty,)* }) => {
        pub(super) const $keys: &[&str] = &[$(stringify!($key)),*];

        $(#[$about])*
        #[derive(JsonSchema)]
        #[schemars(deny_unknown_fields, inline)]
        pub struct $name {
            $($(#[$key_about])* pub $key: $kind,)*
        }
    };
}

section! {
    /// The configuration of code-server-multi
    File, TOP {
        /// Workspaces are at NAME.DOMAIN. At most 189 characters, lower case
        #[schemars(extend("x-applies" = NGINX_RELOAD, "examples" = ["code.example.org"]))]
        domain: Domain,
        /// Homes are below it, at NAME/workspace, NAME/config and NAME/home. A directory of its own, outside /etc, /run,
        /// /tmp and the like
        #[schemars(extend("x-applies" = PENDING, "default" = build::WORKSPACE_BASE, "examples" = ["/srv/workspaces"]))]
        workspace_base: Option<Directory>,
        /// What runs after the machine has started: what ran before, everything, nothing
        #[schemars(extend("x-applies" = NEXT_BOOT, "default" = word(&values::START_ON_BOOT, build::START_ON_BOOT)))]
        start_on_boot: Option<StartOnBoot>,
        /// UDP ports of this host that no workspace takes, not even for a moment: those of services that may start later, as
        /// WireGuard. Nor are they free inside
        #[schemars(extend("x-applies" = PENDING, "default" = build::RESERVED_PORTS))]
        reserved_ports: Option<Ports>,
        /// The workspace image
        image: Option<Image>,
        /// The web server
        nginx: Nginx,
        /// Sign-in
        gateway: Option<Gateway>,
        /// What workspaces have that don't say otherwise. A workspace's own value wins; variables are merged one by one
        defaults: Option<Defaults>,
        /// One `[workspaces.NAME]` for each workspace
        workspaces: Option<Workspaces>,
    }
}

section! {
    /// The workspace image
    Image, IMAGE {
        /// The image of every workspace, from the shared store
        #[schemars(extend("x-applies" = PENDING, "default" = build::IMAGE))]
        name: Option<ImageReference>,
        /// A `podman save` archive that holds the image; loaded when the store lacks it. Not below `workspace_base`
        #[schemars(extend("x-applies" = IMAGE_MISSING, "examples" = ["/var/lib/images/workspace.tar"]))]
        archive: Option<Path>,
        /// `"missing"` fetches the image once if the store lacks it, and never again. The name must then begin with a
        /// registry
        #[schemars(extend("x-applies" = IMAGE_MISSING, "default" = word(&values::PULL, build::PULL)))]
        pull: Option<Pull>,
    }
}

section! {
    /// The web server
    Nginx, NGINX {
        /// Where the daemon writes; nginx's `http` block includes `current/*.conf` of it
        #[schemars(extend("x-applies" = NGINX_RELOAD, "default" = rules::SNIPPET_DIR))]
        snippet_dir: Option<Directory>,
        /// The unit that is reloaded
        #[schemars(extend("x-applies" = NGINX_RELOAD, "default" = build::NGINX_UNIT))]
        unit: Option<ServiceUnit>,
        /// The group nginx reads snippets as; `"www-data"` on Debian
        #[schemars(extend("x-applies" = NGINX_RELOAD, "default" = build::NGINX_GROUP))]
        group: Option<Group>,
        /// Where HTTPS is served, each `ADDRESS` or `ADDRESS:PORT`. Port 80 of each address redirects
        #[schemars(extend("x-applies" = NGINX_RELOAD, "default" = build::everywhere()))]
        listen: Option<Addresses>,
        /// The port that visitors see; set it where another machine forwards a different one
        #[schemars(extend("x-applies" = NGINX_RELOAD, "default" = build::HTTPS))]
        public_port: Option<PublicPort>,
        /// Whether the editor's hosts answer HTTP/1.1 that is no websocket. `false` turns away programs and proxies that know
        /// nothing newer, and with them the second answers that a workspace can give there (docs/security.md, A34)
        #[schemars(extend("x-applies" = NGINX_RELOAD, "default" = build::PLAIN_HTTP1))]
        plain_http1: Option<bool>,
        /// The chain for `*.DOMAIN` and `DOMAIN`, PEM
        #[schemars(extend("x-applies" = NGINX_RELOAD, "examples" = ["/etc/ssl/code.example.org/fullchain.pem"]))]
        certificate: Path,
        /// Its key, readable by nginx; never in the Nix store
        #[schemars(extend("x-applies" = NGINX_RELOAD, "examples" = ["/etc/ssl/code.example.org/key.pem"]))]
        certificate_key: Path,
    }
}

section! {
    /// Sign-in
    Gateway, GATEWAY {
        /// How long a sign-in lasts without use: 5 minutes to 30 days, as `"30m"`, `"1h 30m"`, `"7d"`
        #[schemars(extend("x-applies" = LIVE, "default" = build::session_lifetime()))]
        session_lifetime: Option<Duration>,
    }
}

section! {
    /// What workspaces have that don't say otherwise
    Defaults, DEFAULTS {
        /// The hard limit (`MemoryMax=`): above it the kernel kills a process of the workspace. At least 256M
        #[schemars(extend("x-applies" = LIVE, "default" = size::format_bytes(workspace::MEMORY_LIMIT),
                          "minimum" = values::MEMORY_LIMIT_MIN))]
        memory_limit: Option<Size>,
        /// Above it the workspace is slowed down and gives memory back (`MemoryHigh=`). At least 128M, at most the hard
        /// limit
        #[schemars(extend("x-applies" = LIVE, "x-default" = "five sixths of `memory_limit`",
                          "minimum" = values::MEMORY_SOFT_LIMIT_MIN))]
        memory_soft_limit: Option<Size>,
        /// Kept for the workspace while memory is short elsewhere (`MemoryLow=`), at most the hard limit
        #[schemars(extend("x-applies" = LIVE, "default" = workspace::MEMORY_LOW))]
        memory_low: Option<Size>,
        /// Processor time, as `1.5` or `"1.5"` (`CPUQuota=`)
        #[schemars(extend("x-applies" = LIVE, "default" = cores(workspace::CPU_LIMIT_USEC)))]
        cpu_limit: Option<Cores>,
        /// Its share when processors are short (`CPUWeight=`)
        #[schemars(extend("x-applies" = LIVE, "default" = workspace::CPU_WEIGHT))]
        cpu_weight: Option<CpuWeight>,
        /// Processes and threads (`TasksMax=`)
        #[schemars(extend("x-applies" = LIVE, "default" = workspace::TASKS_MAX))]
        tasks_max: Option<Tasks>,
        /// Environment variables: `EDITOR = "nano"`
        #[schemars(extend("x-applies" = PENDING, "examples" = [{ "EDITOR": "nano" }]))]
        environment: Option<Texts>,
        /// Environment variables whose values are in files: `ANTHROPIC_API_KEY = "/run/secrets/anthropic"`
        #[schemars(extend("x-applies" = PENDING, "examples" = [{ "ANTHROPIC_API_KEY": "/run/secrets/anthropic" }]))]
        secret_environment: Option<Files>,
        /// Whether what needs a restart waits for one, or restarts the workspace
        #[schemars(extend("x-applies" = LIVE, "default" = word(&values::APPLY, workspace::APPLY)))]
        apply: Option<Apply>,
    }
}

section! {
    /// A workspace
    Workspace, WORKSPACE {
        /// The account on the host that the workspace runs as. Each has one of its own; root, nobody, the service accounts
        /// and members of `csm-admin` are refused
        #[schemars(extend("x-applies" = PENDING, "x-default" = "`\"csm-NAME\"`"))]
        account: Option<Account>,
        /// The password as text or as an `$argon2id$` string; read again whenever it changes. Without it `csm password
        /// NAME` sets one
        #[schemars(extend("x-applies" = LIVE, "examples" = ["/run/secrets/dan-password"]))]
        password_file: Option<Path>,
        /// An HTTP server on 127.0.0.1 for use through an SSH tunnel, with the same sign-in
        #[schemars(extend("x-applies" = NGINX_RELOAD, "examples" = [8101]))]
        port: Option<HighPort>,
        /// As in `[defaults]`
        #[schemars(extend("x-applies" = LIVE, "x-default" = FROM_DEFAULTS, "minimum" = values::MEMORY_LIMIT_MIN))]
        memory_limit: Option<Size>,
        /// As in `[defaults]`
        #[schemars(extend("x-applies" = LIVE, "x-default" = FROM_DEFAULTS, "minimum" = values::MEMORY_SOFT_LIMIT_MIN))]
        memory_soft_limit: Option<Size>,
        /// As in `[defaults]`
        #[schemars(extend("x-applies" = LIVE, "x-default" = FROM_DEFAULTS))]
        memory_low: Option<Size>,
        /// As in `[defaults]`
        #[schemars(extend("x-applies" = LIVE, "x-default" = FROM_DEFAULTS))]
        cpu_limit: Option<Cores>,
        /// As in `[defaults]`
        #[schemars(extend("x-applies" = LIVE, "x-default" = FROM_DEFAULTS))]
        cpu_weight: Option<CpuWeight>,
        /// As in `[defaults]`
        #[schemars(extend("x-applies" = LIVE, "x-default" = FROM_DEFAULTS))]
        tasks_max: Option<Tasks>,
        /// Merged with those of `[defaults]`
        #[schemars(extend("x-applies" = PENDING, "x-default" = FROM_DEFAULTS))]
        environment: Option<Texts>,
        /// Merged with those of `[defaults]`
        #[schemars(extend("x-applies" = PENDING, "x-default" = FROM_DEFAULTS))]
        secret_environment: Option<Files>,
        /// As in `[defaults]`
        #[schemars(extend("x-applies" = LIVE, "x-default" = FROM_DEFAULTS))]
        apply: Option<Apply>,
        /// False stops the workspace and refuses its sign-in
        #[schemars(extend("x-applies" = LIVE, "default" = workspace::ENABLED))]
        enabled: Option<bool>,
    }
}

const FROM_DEFAULTS: &str = "`[defaults]`";

/// Types of values: what documents call them (`title`), and their shape.
macro_rules! kinds {
    ($($name:ident: $schema:expr;)*) => {
        $(
            pub struct $name;

            impl JsonSchema for $name {
                fn schema_name() -> Cow<'static, str> {
                    stringify!($name).into()
                }

                fn inline_schema() -> bool {
                    true
                }

                fn json_schema(_: &mut SchemaGenerator) -> Schema {
                    $schema
                }
            }
        )*
    };
}

kinds! {
    Domain: text("host name", r"^[a-z0-9.-]+$", values::DOMAIN_MAX);
    Directory: text("directory", PATH, values::PATH_MAX);
    Path: text("file", PATH, values::PATH_MAX);
    ImageReference: text("image reference", r"^[A-Za-z0-9._/:@-]+$", 255);
    ServiceUnit: text("service unit", r"\.service$", 255);
    Group: text("group", r"^[a-z_][a-z0-9_-]*$", 31);
    Account: text("account", r"^[a-z_][a-z0-9_-]*$", 31);
    Duration: json_schema!({ "title": "length of time", "type": "string" });
    Addresses: json_schema!({
        "title": "list of addresses", "type": "array", "items": { "type": "string" }, "minItems": 1, "uniqueItems": true,
    });
    Ports: json_schema!({
        "title": "list of ports", "type": "array", "items": { "type": "integer", "minimum": 1, "maximum": u16::MAX }, "uniqueItems": true,
    });
    Size: json_schema!({
        "title": "size", "type": ["string", "integer"], "minimum": 0, "pattern": r"^[0-9.]+(B|[KMGT](i|iB)?)?$",
    });
    Cores: json_schema!({
        "title": format!("cores, {} to {}", cores(values::CPU_MIN_USEC), cores(values::CPU_MAX_USEC)),
        "type": ["string", "number"], "minimum": cores(values::CPU_MIN_USEC), "maximum": cores(values::CPU_MAX_USEC),
    });
    CpuWeight: whole(1, values::CPU_WEIGHT_MAX, "");
    Tasks: whole(values::TASKS_MIN, values::TASKS_MAX, "");
    HighPort: whole(values::HIGH_PORT_MIN.into(), u16::MAX.into(), "");
    PublicPort: whole(1, u16::MAX.into(), ", not 80");
    StartOnBoot: choice(&values::START_ON_BOOT);
    Pull: choice(&values::PULL);
    Apply: choice(&values::APPLY);
    Texts: table("table of text", &json!({ "type": "string", "maxLength": values::ENVIRONMENT_VALUE_MAX }));
    Files: table("table of files", &json!({ "type": "string", "pattern": PATH, "maxLength": values::PATH_MAX }));
}

/// An absolute path in the letters that [`values::path`] lets through.
const PATH: &str = r"^/[A-Za-z0-9/._+=@~-]*$";

fn text(title: &str, pattern: &str, longest: usize) -> Schema {
    json_schema!({ "title": title, "type": "string", "pattern": pattern, "maxLength": longest })
}

fn whole(least: u64, most: u64, but: &str) -> Schema {
    json_schema!({ "title": format!("{least} to {most}{but}"), "type": "integer", "minimum": least, "maximum": most })
}

fn choice<T>(choices: &[(&str, T)]) -> Schema {
    let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
    let title: Vec<String> = words.iter().map(|word| format!("`\"{word}\"`")).collect();
    json_schema!({ "title": title.join(", "), "type": "string", "enum": words })
}

fn table(title: &str, values: &Value) -> Schema {
    json_schema!({
        "title": title, "type": "object", "additionalProperties": values,
        "propertyNames": { "pattern": "^[A-Za-z_][A-Za-z0-9_]*$", "maxLength": 128 },
    })
}

fn word<T: Copy + PartialEq>(choices: &[(&'static str, T)], chosen: T) -> &'static str {
    choices
        .iter()
        .find(|(_, choice)| *choice == chosen)
        .map_or("", |(word, _)| word)
}

/// Microseconds of processor time a second as a number of cores, whole where it is.
fn cores(usec: u64) -> Value {
    if usec.is_multiple_of(size::CORE_USEC) {
        return json!(usec / size::CORE_USEC);
    }
    // Millionths of at most a thousand cores are far inside what an f64 holds.
    #[expect(clippy::cast_precision_loss, reason = "10 digits of 15")]
    let cores = usec as f64 / size::CORE_USEC as f64;
    json!(cores)
}

/// Sections whose names are the admin's.
pub struct Workspaces;

impl JsonSchema for Workspaces {
    fn schema_name() -> Cow<'static, str> {
        "Workspaces".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "additionalProperties": generator.subschema_for::<Workspace>(),
            "propertyNames": {
                "pattern": "^[a-z][a-z0-9]*(-[a-z0-9]+)*$", "maxLength": WORKSPACE_NAME_MAX, "not": { "enum": RESERVED },
            },
        })
    }
}

/// The schema of a whole file, in the draft that editors know best. `x-applies` says when a change is in force, `x-default`
/// what holds where no fixed value is the default, `x-hidden` that no message ever repeats the value.
pub fn schema() -> Schema {
    let mut schema = SchemaSettings::draft07()
        .into_generator()
        .into_root_schema_for::<File>();
    RecursiveTransform(without_null).transform(&mut schema);
    RecursiveTransform(mark_hidden).transform(&mut schema);
    schema
}

/// TOML has no null: what may be missing is just missing.
fn without_null(schema: &mut Schema) {
    for key in ["type", "enum"] {
        let Some(Value::Array(values)) = schema.get_mut(key) else {
            continue;
        };
        values.retain(|value| !value.is_null() && value != "null");
        if let ("type", [only]) = (key, values.as_slice()) {
            let only = only.clone();
            schema.insert(key.to_owned(), only);
        }
    }
}

fn mark_hidden(schema: &mut Schema) {
    let Some(Value::Object(properties)) = schema.get_mut("properties") else {
        return;
    };
    for (_, property) in properties
        .iter_mut()
        .filter(|(key, _)| keys::HIDDEN.contains(&key.as_str()))
    {
        if let Value::Object(property) = property {
            property.insert("x-hidden".to_owned(), Value::Bool(true));
        }
    }
}
