//! `csm scaffold`: what to write and to run for a new workspace, for the admin to copy. It changes nothing anywhere.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::json;
use zeroize::Zeroizing;

use crate::api::Status;
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::{Outcome, Screen, check, password};
use crate::model::config::{self, Config};
use crate::model::layout::Layout;
use crate::model::names::WorkspaceName;

/// One part, to be piped to where it belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Shell lines that make the account, for a host without NixOS
    Account,
    /// The section of config.toml
    Toml,
    /// The lines of configuration.nix
    Nix,
}

/// What is printed is made of this and nothing else.
struct Stanza<'a> {
    name: &'a WorkspaceName,
    config: &'a Path,
    /// Nothing when the configuration can't be read.
    url: Option<String>,
}

pub async fn run(
    client: &Client,
    screen: &Screen,
    name: &WorkspaceName,
    path: &Path,
    only: Option<Part>,
) -> Result<Outcome, CliError> {
    let config = check::read(path).map(|bytes| config::parse_bytes(&bytes));
    let url = match &config {
        Ok(Ok(config)) => {
            refuse_known(name, path, config)?;
            Some(config.url(name))
        }
        Ok(Err(_)) => {
            let path = path.display();
            screen.note(&format!(
                "{path} has problems, so the address is not known: csm check-config {path}\n"
            ));
            None
        }
        Err(error) => {
            screen.note(&format!("{}The address is not known without it.\n", error.report()));
            None
        }
    };
    refuse_running(client, name).await?;
    let stanza = Stanza {
        name,
        config: path,
        url,
    };
    if let Some(part) = only {
        screen.print(&stanza.part(part))?;
        return Ok(Outcome::Done);
    }
    let made = password::random(password::fill)?;
    screen.print(&if screen.json { stanza.json() } else { stanza.text() })?;
    // Not with the rest, which people put into files and repositories.
    let made = Zeroizing::new(String::from_utf8_lossy(&made).into_owned());
    screen.note(&Zeroizing::new(said(name, &made)));
    Ok(Outcome::Done)
}

fn refuse_known(name: &WorkspaceName, path: &Path, config: &Config) -> Result<(), CliError> {
    if config.workspaces.contains_key(name) {
        return Err(known(name, &path.display().to_string()));
    }
    Ok(())
}

/// The file may be another than the daemon's, or not read yet. No daemon, no objection.
async fn refuse_running(client: &Client, name: &WorkspaceName) -> Result<(), CliError> {
    let Ok(answer) = client.get("/v1/workspaces").await else {
        return Ok(());
    };
    let status: Status = answer.parse()?;
    if status
        .workspaces
        .iter()
        .any(|workspace| workspace.name == name.as_str())
    {
        return Err(known(name, "the running configuration"));
    }
    Ok(())
}

fn known(name: &WorkspaceName, place: &str) -> CliError {
    CliError::Input {
        message: format!("the workspace {name} is in {place} already"),
        hint: "csm status NAME shows it, csm password NAME gives it another password",
    }
}

fn said(name: &WorkspaceName, password: &str) -> String {
    format!(
        "A password for {name}, made at random, shown once and kept nowhere: {password}\n\
         It is on standard error, so that it does not get into a file with the rest.\n"
    )
}

impl Stanza<'_> {
    fn part(&self, part: Part) -> String {
        match part {
            Part::Account => self.account(),
            Part::Toml => self.toml(),
            Part::Nix => self.nix(),
        }
    }

    /// The lines of docs/operations.md, for one name. The range is chosen when they run: one that was free when this was
    /// printed may be taken by then.
    fn account(&self) -> String {
        let account = format!("csm-{}", self.name);
        let home = Layout::default().of(self.name).account_home;
        let home = home.display();
        format!(
            "getent passwd {account} >/dev/null || useradd --system --user-group --no-create-home \\\n    \
             --home-dir {home} --shell /usr/sbin/nologin {account}\n\
             touch /etc/subuid /etc/subgid\n\
             grep -q \"^{account}:\" /etc/subuid || {{\n  \
             first=$(awk -F: '{FIRST_FREE}' /etc/subuid /etc/subgid)\n  \
             echo \"{account}:$first:65536\" >>/etc/subuid\n  \
             echo \"{account}:$first:65536\" >>/etc/subgid\n\
             }}\n"
        )
    }

    fn toml(&self) -> String {
        let file = self.password_file();
        format!(
            "\n[workspaces.{}]\n\
             # password_file = \"{}\"   # instead of `csm password {}`\n\
             # memory_limit = \"4G\"\n\
             # cpu_limit = 2\n",
            self.name,
            file.display(),
            self.name
        )
    }

    fn nix(&self) -> String {
        let name = self.name;
        format!(
            "services.code-server-multi.users.{name} = {{\n  \
             passwordFile = config.sops.secrets.code-server-{name}.path;\n  \
             # memoryLimit = \"4G\";\n  \
             # cpuLimit = \"2\";\n\
             }};\n\
             sops.secrets.code-server-{name} = {{ }};\n"
        )
    }

    fn password_file(&self) -> PathBuf {
        let directory = Path::new(config::DEFAULT_PATH).parent().unwrap_or(Path::new("/"));
        directory.join("passwords").join(self.name.as_str())
    }

    fn text(&self) -> String {
        let (name, config) = (self.name, self.config.display());
        let file = self.password_file();
        let (directory, file) = (file.parent().unwrap_or(&file).display(), file.display());
        let url = self
            .url
            .as_deref()
            .unwrap_or("https://NAME.DOMAIN/, as the configuration says");
        let mut text =
            format!("{name} will be at {url}\nNothing was written or changed: take what fits this machine.\n");
        let mut add = |title: &str, body: &str| {
            let body = body.trim_start_matches('\n');
            let _ = write!(text, "\n{title}\n\n{}", indented(body));
        };
        add(
            "On NixOS, in configuration.nix; then nixos-rebuild switch:",
            &self.nix(),
        );
        let secret = format!(
            "sops secrets.yaml, and there this line:\n\n  code-server-{name}: PASSWORD\n\n\
             The module makes the account; nothing else is needed.\n"
        );
        add(
            "and the password, in an editor so that no command line has it:",
            &secret,
        );
        add(
            &format!("Elsewhere, as root. The account (csm scaffold {name} --only account | sh):"),
            &self.account(),
        );
        add(
            &format!("its section (csm scaffold {name} --only toml >>{config}), then csm reload:"),
            &self.toml(),
        );
        let ways = format!(
            "csm password {name}      asks for it twice; PASSWORD is on standard error here\n\n\
             or, with the line password_file above, a file of root's alone. Paste PASSWORD, Enter, Ctrl-D:\n\n\
             install -d -m 0700 {directory}\n\
             install -m 0600 /dev/stdin {file}\n"
        );
        add("and the password:", &ways);
        text
    }

    fn json(&self) -> String {
        let answer = json!({
            "name": self.name.as_str(),
            "url": self.url,
            "account": self.account(),
            "toml": self.toml(),
            "nix": self.nix(),
            "password_file": self.password_file(),
        });
        format!("{answer}\n")
    }
}

/// The same in docs/operations.md; a test compares them.
pub const FIRST_FREE: &str = "BEGIN { top = 1000000 } $2 + $3 > top { top = $2 + $3 } END { print top }";

fn indented(text: &str) -> String {
    text.lines()
        .map(|line| {
            if line.is_empty() {
                "\n".to_owned()
            } else {
                format!("  {line}\n")
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stanza(name: &WorkspaceName) -> Stanza<'_> {
        Stanza {
            name,
            config: Path::new(config::DEFAULT_PATH),
            url: Some("https://erin.code.example.org/".to_owned()),
        }
    }

    #[test]
    fn the_password_comes_with_words_of_its_own() {
        let name = WorkspaceName::parse("erin").unwrap();
        insta::assert_snapshot!(said(&name, "abcde-fghjk-mnpqr-stuvw"), @r"
        A password for erin, made at random, shown once and kept nowhere: abcde-fghjk-mnpqr-stuvw
        It is on standard error, so that it does not get into a file with the rest.
        ");
    }

    #[test]
    fn the_section_is_right_with_and_without_its_comments() {
        let least =
            "domain = 'code.example.org'\n[nginx]\ncertificate = '/etc/ssl/c.pem'\ncertificate_key = '/etc/ssl/k.pem'";
        for name in ["erin", "a", "a-1", "a-name-of-twenty-seven-char"] {
            let name = WorkspaceName::parse(name).unwrap();
            let toml = stanza(&name).toml();
            // Also where the file does not end in a newline.
            for toml in [
                toml.clone(),
                toml.replace("# ", "").replace("   instead of", " # instead of"),
            ] {
                let config =
                    config::parse(&format!("{least}{toml}")).unwrap_or_else(|problems| panic!("{problems:?}\n{toml}"));
                assert!(config.workspaces.contains_key(&name), "{toml}");
            }
        }
    }
}
