//! The document of the admin API.

use std::collections::BTreeSet;

use code_server_multi::serve::admin;
use serde_json::Value;

fn document() -> Value {
    serde_json::to_value(admin::document()).unwrap()
}

#[test]
fn the_document_is_fresh() {
    let text = admin::document().to_pretty_json().unwrap();
    super::assert_fresh("docs/openapi.json", &format!("{text}\n"));
}

/// Routes come into the router by their document alone; a plain `.route(` would be one without.
#[test]
fn no_route_is_outside_the_document() {
    let source = include_str!("../../../src/serve/admin.rs");
    assert!(source.contains(".routes(routes!("), "the routes are somewhere else now");
    for way_around in [".route(", ".nest(", ".merge(", "_service("] {
        assert!(!source.contains(way_around), "{way_around}");
    }
}

/// Every operation says what it is for and how it is refused, every schema that is named is there, and all of it is used.
#[test]
fn the_document_is_whole() {
    let document = document();
    let mut unanswered = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        assert!(path.starts_with("/v1/"), "{path}");
        for (method, operation) in operations.as_object().unwrap() {
            assert!(
                operation["summary"].is_string(),
                "{method} {path} does not say what it is for"
            );
            let responses = operation["responses"].as_object().unwrap();
            if path.contains("{name}") {
                let names: Vec<_> = parameters(operation).collect();
                assert!(names.contains(&"name"), "{method} {path} does not describe {{name}}");
                unanswered.extend((!responses.contains_key("default")).then(|| format!("{method} {path}")));
            }
        }
    }
    assert_eq!(unanswered, Vec::<String>::new(), "a name can be unknown");

    let mut named = BTreeSet::new();
    references(&document, &mut named);
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let there: BTreeSet<String> = schemas.keys().cloned().collect();
    assert_eq!(named, there);
}

fn parameters(operation: &Value) -> impl Iterator<Item = &str> {
    let list = operation["parameters"].as_array().into_iter().flatten();
    list.filter_map(|parameter| parameter["name"].as_str())
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            let name = fields.get("$ref").and_then(Value::as_str);
            found.extend(
                name.and_then(|name| name.strip_prefix("#/components/schemas/"))
                    .map(str::to_owned),
            );
            fields.values().for_each(|field| references(field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}
