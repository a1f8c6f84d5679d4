//! The schema of the configuration, and the parts of docs/configuration.md that are made of it.

#![expect(clippy::format_push_string, reason = "texts are short, and read better so")]

use code_server_multi::model::config::keys::{HIDDEN, SECTIONS};
use code_server_multi::model::config::{self, schema};
use serde_json::Value;

use super::{RENEW, assert_fresh, read};

const DOCUMENT: &str = "docs/configuration.md";

/// What a file can't be without.
const LEAST: &str = "domain = 'code.example.org'\n[nginx]\ncertificate = '/etc/ssl/code.example.org/fullchain.pem'\n\
                     certificate_key = '/etc/ssl/code.example.org/key.pem'\n[workspaces.dan]\n";

fn schema() -> Value {
    schema::schema().to_value()
}

/// The object that describes a section; `workspaces.NAME` is any workspace.
fn section(schema: &Value, path: &str) -> Value {
    let parts = path.split('.').filter(|part| !part.is_empty());
    let found = parts.fold(schema, |object, part| match part {
        "NAME" => &object["additionalProperties"],
        part => &object["properties"][part],
    });
    assert!(found["properties"].is_object(), "{path} is not in the schema");
    found.clone()
}

fn is_required(section: &Value, key: &str) -> bool {
    let required = section["required"].as_array().into_iter().flatten();
    required.into_iter().any(|name| name == key)
}

#[test]
fn the_schema_is_fresh() {
    let text = serde_json::to_string_pretty(&schema()).unwrap();
    assert_fresh("src/model/config/schema.json", &format!("{text}\n"));
}

#[test]
fn the_schema_has_the_keys_that_the_parser_knows_and_no_other() {
    let schema = schema();
    for (path, keys) in SECTIONS {
        let section = section(&schema, path);
        let mut known = keys.to_vec();
        known.sort_unstable();
        let described: Vec<&String> = section["properties"].as_object().unwrap().keys().collect();
        assert_eq!(described, known, "[{path}]");
        assert_eq!(section["additionalProperties"], false, "[{path}]");
        for key in keys {
            let key_schema = &section["properties"][key];
            assert!(key_schema["description"].is_string(), "{path}.{key} has no words");
            assert_eq!(key_schema["x-hidden"] == true, HIDDEN.contains(key), "{path}.{key}");
            let is_section = SECTIONS.iter().any(|(other, _)| other.split('.').next() == Some(key));
            assert!(
                is_section || key_schema["x-applies"].is_string(),
                "{path}.{key}: when does it apply?"
            );
        }
    }
}

#[test]
fn the_defaults_of_the_schema_are_the_parsers() {
    let all = everything_at_its_default();
    let parsed = config::parse(&all).unwrap_or_else(|problems| panic!("{problems:#?}\n{all}"));
    assert_eq!(parsed, config::parse(LEAST).unwrap());
    // And a wrong one is seen: each default replaced by another makes another configuration.
    for (line, other) in [
        ("memory_limit = \"3G\"", "memory_limit = \"4G\""),
        ("enabled = true", "enabled = false"),
    ] {
        assert!(all.contains(line), "{all}");
        assert_ne!(config::parse(&all.replace(line, other)).unwrap(), parsed);
    }
}

fn json(toml: &str) -> Value {
    toml::from_str(toml).unwrap()
}

fn validator() -> jsonschema::Validator {
    jsonschema::draft7::new(&schema()).unwrap()
}

#[track_caller]
fn assert_accepts(validator: &jsonschema::Validator, toml: &str) {
    let document = json(toml);
    let errors: Vec<String> = validator
        .iter_errors(&document)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}\n{toml}");
}

#[test]
fn the_schema_takes_what_is_right() {
    jsonschema::meta::validate(&schema()).unwrap();
    let validator = validator();
    assert_accepts(&validator, &read("tests/data/config/full.toml"));
    assert_accepts(&validator, LEAST);
    assert_accepts(&validator, &everything_at_its_default());
    for document in [DOCUMENT, "README.md", "docs/operations.md", "docs/nginx.md"] {
        let text = read(document);
        let blocks = text
            .split("```toml\n")
            .skip(1)
            .filter_map(|rest| rest.split("\n```").next());
        for block in blocks.filter(|block| block.contains("domain =")) {
            assert_accepts(&validator, block);
        }
    }
}

#[test]
fn the_schema_takes_what_the_nixos_module_writes() {
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nix/golden");
    let validator = validator();
    let mut seen = 0;
    for directory in std::fs::read_dir(golden).unwrap() {
        let file = directory.unwrap().path().join("config.toml");
        if file.is_file() {
            assert_accepts(&validator, &std::fs::read_to_string(file).unwrap());
            seen += 1;
        }
    }
    assert!(seen >= 6, "only {seen} of the module's configurations were found");
}

/// Values that the parser takes, the schema takes; what is plainly wrong, both refuse. (What only the parser can see, such
/// as two workspaces with one account, the schema takes.)
#[test]
fn the_schema_and_the_parser_agree_on_values() {
    let validator = validator();
    let file = |section: &str, line: &str| match section {
        "" => format!("{line}\n{LEAST}"),
        "nginx" => LEAST.replace("[nginx]\n", &format!("[nginx]\n{line}\n")),
        "workspaces.dan" => format!("{LEAST}{line}\n"),
        section => format!("{LEAST}[{section}]\n{line}\n"),
    };
    for (section, right, wrong) in [
        ("", "start_on_boot = 'never'", "start_on_boot = 'sometimes'"),
        (
            "",
            "workspace_base = '/srv/homes/a+b=c@d~e'",
            "workspace_base = 'srv/homes'",
        ),
        ("", "workspace_base = '/srv/homes/'", "workspace_base = '/srv/$homes'"),
        ("image", "name = 'docker.io/a/b@sha256:00'", "name = 'a b'"),
        ("image", "archive = '/srv/x.tar'", "archive = true"),
        ("nginx", "unit = 'nginx-edge@1.service'", "unit = 'nginx'"),
        ("nginx", "group = '_www-data'", "group = 'WWW'"),
        ("nginx", "listen = ['192.0.2.1', '[::]']", "listen = []"),
        ("nginx", "public_port = 1", "public_port = 65536"),
        ("nginx", "plain_http1 = false", "plain_http1 = 0"),
        ("gateway", "session_lifetime = '1h 30m'", "session_lifetime = 5"),
        ("defaults", "memory_limit = '1.5GiB'", "memory_limit = '2GB'"),
        ("defaults", "memory_limit = 268435456", "memory_limit = 268435455"),
        ("defaults", "memory_limit = '268435456B'", "memory_limit = 'much'"),
        ("defaults", "memory_low = 0", "memory_low = -1"),
        ("defaults", "cpu_limit = 0.1", "cpu_limit = 0.01"),
        ("defaults", "cpu_limit = '1024'", "cpu_limit = 1025"),
        ("defaults", "cpu_weight = 10000", "cpu_weight = 10001"),
        ("defaults", "tasks_max = 128", "tasks_max = 127"),
        (
            "defaults",
            "environment = { EDITOR = 'x' }",
            "environment = { EDITOR = 1 }",
        ),
        ("defaults", "environment = { _A1 = '' }", "environment = { '1A' = '' }"),
        (
            "defaults",
            "secret_environment = { A = '/run/secrets/a' }",
            "secret_environment = { A = 'sk-123' }",
        ),
        ("defaults", "apply = 'now'", "apply = 'later'"),
        ("workspaces.dan", "account = '_dan'", "account = 'Dan'"),
        ("workspaces.dan", "port = 1024", "port = 1023"),
        (
            "workspaces.dan",
            "password_file = '/run/secrets/dan'",
            "password_file = 7",
        ),
        ("workspaces.dan", "enabled = false", "enabled = 'false'"),
        ("workspaces.a-1", "enabled = true", "colour = 'red'"),
        ("gateway", "session_lifetime = '7d'", "colour = 'red'"),
        ("image", "pull = 'never'", "colour = 'red'"),
        ("", "", "colour = 'red'"),
    ] {
        let (right, wrong) = (file(section, right), file(section, wrong));
        assert!(config::parse(&right).is_ok(), "{:?}\n{right}", config::parse(&right));
        assert_accepts(&validator, &right);
        assert!(config::parse(&wrong).is_err(), "{wrong}");
        assert!(!validator.is_valid(&json(&wrong)), "the schema takes\n{wrong}");
    }
    for name in ["Dan", "a--b", "-a", "admin", "a-name-of-twenty-eight-chars"] {
        let wrong = LEAST.replace("dan", name);
        assert!(config::parse(&wrong).is_err(), "{name}");
        assert!(!validator.is_valid(&json(&wrong)), "{name}");
    }
}

/// Between a pair of marks is what is made here; all else in the document is written by hand.
#[test]
fn the_document_is_fresh() {
    let schema = schema();
    let mut document = read(DOCUMENT);
    for (path, keys) in SECTIONS {
        let name = if path.is_empty() { "the top level" } else { path };
        document = replaced(&document, name, &rows(&section(&schema, path), keys));
    }
    document = replaced(
        &document,
        "hidden",
        &format!("{}.\n", HIDDEN.map(|key| format!("`{key}`")).join(", ")),
    );
    document = replaced(
        &document,
        "everything",
        &format!("```toml\n{}```\n", everything_at_its_default()),
    );
    assert_fresh(DOCUMENT, &document);
}

fn replaced(document: &str, name: &str, made: &str) -> String {
    let (begin, end) = (
        format!("<!-- made from the code: {name} -->\n"),
        "<!-- until here -->\n",
    );
    let (before, rest) = document
        .split_once(&begin)
        .unwrap_or_else(|| panic!("{DOCUMENT} has no place for {name}; {RENEW}"));
    let (_, after) = rest.split_once(end).unwrap();
    format!("{before}{begin}\n{made}\n{end}{after}")
}

fn rows(section: &Value, keys: &[&str]) -> String {
    let mut table = "| key | type | default | meaning | applies |\n|---|---|---|---|---|\n".to_owned();
    for key in keys {
        let about = &section["properties"][key];
        let text = |field: &str| about[field].as_str().unwrap_or_default().replace('\n', " ");
        let kind = match text("title") {
            title if !title.is_empty() => title,
            _ if about["type"] == "boolean" => "true or false".to_owned(),
            _ if about["properties"].is_object() => "section".to_owned(),
            _ => "sections".to_owned(),
        };
        let default = match (&about["default"], &about["x-default"]) {
            (Value::Null, Value::Null) if is_required(section, key) && kind != "section" => "none, required".to_owned(),
            (Value::Null, Value::Null) if kind == "section" => String::new(),
            (Value::Null, Value::Null) => "none".to_owned(),
            (Value::Null, words) => words.as_str().unwrap().to_owned(),
            (value, _) => format!("`{}`", toml_text(value)),
        };
        table += &format!(
            "| `{key}` | {kind} | {default} | {} | {} |\n",
            text("description"),
            text("x-applies")
        );
    }
    table
}

fn toml_text(value: &Value) -> String {
    toml::Value::try_from(value).unwrap().to_string()
}

/// A whole file with every key, at its default where it has one.
fn everything_at_its_default() -> String {
    let schema = schema();
    let mut text = String::new();
    for (path, keys) in SECTIONS {
        if !path.is_empty() {
            text += &format!("\n[{}]\n", path.replace("NAME", "dan"));
        }
        let section = section(&schema, path);
        for key in keys {
            let about = &section["properties"][key];
            let example = about["examples"].get(0);
            text += &match (&about["default"], &about["x-default"], example) {
                (Value::Null, Value::Null, Some(example)) if is_required(&section, key) => {
                    format!("{key} = {}    # no default\n", toml_text(example))
                }
                (Value::Null, Value::Null, Some(example)) => {
                    format!("# {key} = {}    # no default\n", toml_text(example))
                }
                (Value::Null, Value::Null, None) => String::new(),
                (Value::Null, words, _) => format!("# {key}: {}\n", words.as_str().unwrap()),
                (value, ..) => format!("{key} = {}\n", toml_text(value)),
            };
        }
    }
    text
}
