//! Every key there is, by section, which of them hold secrets by mistake, and the hint for one that there isn't.

use crate::model::config::schema::{DEFAULTS, GATEWAY, IMAGE, NGINX, TOP, WORKSPACE};

/// Sections with their keys, the top level first; `NAME` stands for a workspace's name.
pub const SECTIONS: [(&str, &[&str]); 6] = [
    ("", TOP),
    ("image", IMAGE),
    ("nginx", NGINX),
    ("gateway", GATEWAY),
    ("defaults", DEFAULTS),
    ("workspaces.NAME", WORKSPACE),
];

/// Keys whose values no message repeats: where a secret itself gets pasted by mistake.
pub const HIDDEN: [&str; 4] = ["password_file", "certificate_key", "environment", "secret_environment"];

/// What people write for a key, where the words are too far apart to be found by likeness.
const ALIASES: [(&str, &str); 10] = [
    ("password", "password_file"),
    ("hashed_password", "password_file"),
    ("memory", "memory_limit"),
    ("cpu", "cpu_limit"),
    ("cpus", "cpu_limit"),
    ("env", "environment"),
    ("secrets", "secret_environment"),
    ("user", "account"),
    ("users", "workspaces"),
    ("base", "workspace_base"),
];

/// How alike two words must be to offer one for the other (Jaro-Winkler, 1 is equal).
const ALIKE: f64 = 0.85;

pub(super) fn unknown_hint(key: &str, known: &[&str]) -> String {
    let alias = ALIASES
        .iter()
        .find(|(alias, real)| *alias == key && known.contains(real));
    if let Some((_, real)) = alias {
        return format!("did you mean {real}?");
    }
    let elsewhere: Vec<String> = SECTIONS
        .iter()
        .filter(|(_, keys)| keys.contains(&key))
        .map(|(section, _)| {
            if section.is_empty() {
                "above the first section".to_owned()
            } else {
                format!("below [{section}]")
            }
        })
        .collect();
    if !elsewhere.is_empty() {
        return format!("it belongs {}", elsewhere.join(" or "));
    }
    // Likeness takes time with the square of the length.
    let best = if key.len() > 64 {
        None
    } else {
        known
            .iter()
            .map(|known| (strsim::jaro_winkler(key, known), known))
            .max_by(|a, b| a.0.total_cmp(&b.0))
    };
    match best {
        Some((score, known)) if score >= ALIKE => format!("did you mean {known}?"),
        _ => format!("known here: {}", known.join(", ")),
    }
}
