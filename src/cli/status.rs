//! `csm status`: all workspaces as a table with what is wrong below it, or one workspace in full.

use crate::api::{Status, WorkspaceStatus};
use crate::cli::text::{self, BAD, HEAD, Look, WAIT, count, finding, printable, problem};
use crate::model::size::{format_bytes_rounded, format_cores};

const NOTHING: &str = "-";

pub fn all(status: &Status, look: Look) -> String {
    let mut text = if status.workspaces.is_empty() {
        nobody(status)
    } else {
        table(&status.workspaces, look)
    };
    for note in notes(status, look) {
        text.push('\n');
        text.push_str(&note);
    }
    text
}

fn nobody(status: &Status) -> String {
    format!(
        "No workspaces are configured.\nHint: add a table [workspaces.NAME] to {}, then run: csm reload\n",
        printable(&status.configuration.path)
    )
}

fn table(workspaces: &[WorkspaceStatus], look: Look) -> String {
    let head = ["NAME", "STATE", "SINCE", "MEMORY", "PENDING", "URL"];
    let mut rows = vec![head.iter().map(|cell| look.paint(HEAD, cell)).collect()];
    rows.extend(workspaces.iter().map(|workspace| {
        vec![
            printable(&workspace.name).into_owned(),
            look.state(workspace.state),
            look.ago(&workspace.since),
            workspace.memory_bytes.map_or(NOTHING.to_owned(), |used| {
                format!(
                    "{} of {}",
                    format_bytes_rounded(used),
                    format_bytes_rounded(workspace.limits.memory_max)
                )
            }),
            if workspace.pending.is_empty() {
                NOTHING.to_owned()
            } else {
                look.paint(WAIT, &list(&workspace.pending))
            },
            printable(&workspace.url).into_owned(),
        ]
    }));
    text::table(&rows)
}

fn notes(status: &Status, look: Look) -> Vec<String> {
    let mut notes = Vec::new();
    let configuration = &status.configuration;
    if !configuration.problems.is_empty() {
        let problems: String = configuration.problems.iter().map(|one| problem(one, "  ")).collect();
        notes.push(format!(
            "{}: {} has {}; what was read {} stays in force.\n{problems}",
            look.paint(BAD, "Configuration"),
            printable(&configuration.path),
            count(configuration.problems.len(), "problem"),
            look.ago(&configuration.loaded_at),
        ));
    }
    if status.image.state != "present" || status.image.finding.is_some() {
        let found: String = status.image.finding.iter().map(|one| finding(one, "  ")).collect();
        notes.push(format!(
            "{}: {} is {}.\n{found}",
            look.paint(WAIT, "Image"),
            printable(&status.image.name),
            printable(&status.image.state)
        ));
    }
    if let Some(found) = &status.nginx.finding {
        notes.push(format!("{}:\n{}", look.paint(BAD, "nginx"), finding(found, "  ")));
    }
    if !status.degraded.is_empty() {
        let found: String = status.degraded.iter().map(|one| finding(one, "  ")).collect();
        notes.push(format!("{}:\n{found}", look.paint(BAD, "This machine")));
    }
    for workspace in status
        .workspaces
        .iter()
        .filter(|workspace| !workspace.findings.is_empty())
    {
        notes.push(findings(workspace, look));
    }
    let pending: Vec<&str> = status
        .workspaces
        .iter()
        .filter(|one| !one.pending.is_empty())
        .map(|one| one.name.as_str())
        .collect();
    if !pending.is_empty() {
        notes.push(format!(
            "Hint: apply what is pending: csm restart {}\n",
            printable(&pending.join(" "))
        ));
    }
    notes
}

fn findings(workspace: &WorkspaceStatus, look: Look) -> String {
    let found: String = workspace.findings.iter().map(|one| finding(one, "  ")).collect();
    format!(
        "{} is {}:\n{found}",
        printable(&workspace.name),
        look.state(workspace.state)
    )
}

/// Everything about one workspace.
pub fn one(workspace: &WorkspaceStatus, look: Look) -> String {
    let limits = &workspace.limits;
    let memory = match workspace.memory_bytes {
        Some(used) => format!(
            "{} of {}",
            format_bytes_rounded(used),
            format_bytes_rounded(limits.memory_max)
        ),
        None => format!("at most {}", format_bytes_rounded(limits.memory_max)),
    };
    let intent = &workspace.intent;
    let decided = match &intent.at {
        Some(at) => format!(
            "by {} {} ({})",
            printable(&intent.by),
            look.ago(at),
            printable(&intent.why)
        ),
        None => format!("by {} ({})", printable(&intent.by), printable(&intent.why)),
    };
    let mut rows = vec![
        (
            "State",
            format!("{}, since {}", look.state(workspace.state), look.ago(&workspace.since)),
        ),
        (
            "Wanted",
            format!("{} {decided}", if intent.running { "running" } else { "stopped" }),
        ),
        ("URL", printable(&workspace.url).into_owned()),
        ("Account", printable(&workspace.account).into_owned()),
        ("Unit", unit(workspace)),
        ("Image", workspace.image.as_deref().map_or(NOTHING.to_owned(), short_id)),
        (
            "Memory",
            format!(
                "{memory}, slowed down above {}{}",
                format_bytes_rounded(limits.memory_high),
                kept(limits.memory_low)
            ),
        ),
        (
            "Processor",
            format!(
                "{} cores, weight {}",
                format_cores(limits.cpu_quota_usec),
                limits.cpu_weight
            ),
        ),
        ("Tasks", format!("at most {}", limits.tasks_max)),
    ];
    if !workspace.pending.is_empty() {
        let what = look.paint(WAIT, &list(&workspace.pending));
        rows.push((
            "Pending",
            format!("{what} (apply it: csm restart {})", printable(&workspace.name)),
        ));
    }
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|(key, value)| vec![key.to_owned(), value])
        .collect();
    let mut text = format!(
        "{}\n{}",
        look.paint(HEAD, &printable(&workspace.name)),
        text::table(&rows)
    );
    if !workspace.findings.is_empty() {
        text.push('\n');
        text.push_str(&findings(workspace, look));
    }
    text
}

fn unit(workspace: &WorkspaceStatus) -> String {
    let process = workspace
        .main_pid
        .map(|pid| format!(", main process {pid}"))
        .unwrap_or_default();
    format!("{}{process}", printable(&workspace.unit))
}

fn short_id(id: &str) -> String {
    printable(&id.chars().take(12).collect::<String>()).into_owned()
}

fn kept(memory_low: u64) -> String {
    if memory_low == 0 {
        String::new()
    } else {
        format!(", {} kept for it", format_bytes_rounded(memory_low))
    }
}

fn list(words: &[String]) -> String {
    printable(&words.join(", ")).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::*;

    fn look() -> Look {
        Look {
            colour: false,
            now: "2026-03-01T12:00:00Z".parse().unwrap(),
        }
    }

    fn workspace(name: &str, state: State) -> WorkspaceStatus {
        WorkspaceStatus {
            name: name.into(),
            url: format!("https://{name}.code.example.org"),
            state,
            busy: false,
            since: "2026-03-01T11:57:00Z".into(),
            account: format!("csm-{name}"),
            unit: format!("csm-{name}.service"),
            findings: Vec::new(),
            pending: Vec::new(),
            intent: IntentStatus {
                running: true,
                by: "default".into(),
                why: "never decided".into(),
                at: None,
            },
            limits: LimitsStatus {
                memory_max: 3 << 30,
                memory_high: 2_684_354_560,
                memory_low: 0,
                cpu_quota_usec: 1_500_000,
                cpu_weight: 100,
                tasks_max: 4096,
            },
            image: Some("5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef".into()),
            main_pid: Some(4711),
            memory_bytes: Some(812 << 20),
        }
    }

    fn blocked(name: &str) -> WorkspaceStatus {
        WorkspaceStatus {
            findings: vec![Finding {
                code: "account-missing".into(),
                message: format!("the account csm-{name} does not exist"),
                remediation: format!("create it: useradd --system csm-{name}"),
            }],
            image: None,
            main_pid: None,
            memory_bytes: None,
            ..workspace(name, State::Blocked)
        }
    }

    fn status(workspaces: Vec<WorkspaceStatus>) -> Status {
        Status {
            api: VERSION,
            version: "0.1.0".into(),
            configuration: ConfigurationStatus {
                path: "/etc/code-server-multi/config.toml".into(),
                loaded_at: "2026-03-01T10:00:00Z".into(),
                problems: Vec::new(),
            },
            image: ImageStatus {
                name: "localhost/workspace:1".into(),
                id: Some("5f70".into()),
                state: "present".into(),
                finding: None,
            },
            nginx: NginxStatus {
                generation: Some("12".into()),
                finding: None,
            },
            degraded: Vec::new(),
            workspaces,
        }
    }

    #[test]
    fn a_healthy_machine_is_a_table_and_nothing_else() {
        let text = all(
            &status(vec![
                workspace("alice", State::Ready),
                workspace("dan", State::Starting),
            ]),
            look(),
        );
        insta::assert_snapshot!(text, @"
        NAME   STATE     SINCE      MEMORY      PENDING  URL
        alice  ready     3 min ago  812M of 3G  -        https://alice.code.example.org
        dan    starting  3 min ago  812M of 3G  -        https://dan.code.example.org
        ");
    }

    #[test]
    fn an_empty_machine_names_the_next_step() {
        insta::assert_snapshot!(all(&status(Vec::new()), look()), @"
        No workspaces are configured.
        Hint: add a table [workspaces.NAME] to /etc/code-server-multi/config.toml, then run: csm reload
        ");
    }

    #[test]
    fn what_is_wrong_stands_below_with_its_way_out() {
        let mut dan = workspace("dan", State::Ready);
        dan.pending = vec!["image".into(), "environment".into()];
        let mut all_wrong = status(vec![blocked("bob"), dan]);
        all_wrong.configuration.problems.push(ConfigProblem {
            key: "workspaces.dan.memory_limit".into(),
            value: Some("\"4X\"".into()),
            message: "is not a size".into(),
            hint: "write a size such as 4G".into(),
        });
        all_wrong.image.state = "loading".into();
        all_wrong.nginx.finding = Some(Finding {
            code: "nginx-test-failed".into(),
            message: "nginx refuses dan.conf".into(),
            remediation: "see: nginx -t".into(),
        });
        all_wrong.degraded.push(Finding {
            code: "bus-lost".into(),
            message: "systemd does not answer".into(),
            remediation: String::new(),
        });
        insta::assert_snapshot!(all(&all_wrong, look()), @r#"
        NAME  STATE    SINCE      MEMORY      PENDING             URL
        bob   blocked  3 min ago  -           -                   https://bob.code.example.org
        dan   ready    3 min ago  812M of 3G  image, environment  https://dan.code.example.org

        Configuration: /etc/code-server-multi/config.toml has 1 problem; what was read 2 h ago stays in force.
          workspaces.dan.memory_limit: "4X": is not a size
            Hint: write a size such as 4G

        Image: localhost/workspace:1 is loading.

        nginx:
          nginx-test-failed: nginx refuses dan.conf
            Hint: see: nginx -t

        This machine:
          bus-lost: systemd does not answer

        bob is blocked:
          account-missing: the account csm-bob does not exist
            Hint: create it: useradd --system csm-bob

        Hint: apply what is pending: csm restart dan
        "#);
    }

    #[test]
    fn one_workspace_is_shown_in_full() {
        let mut dan = workspace("dan", State::Ready);
        dan.pending = vec!["image".into()];
        dan.intent = IntentStatus {
            running: true,
            by: "admin".into(),
            why: "csm start".into(),
            at: Some(dan.since.clone()),
        };
        dan.limits.memory_low = 512 << 20;
        insta::assert_snapshot!(one(&dan, look()), @"
        dan
        State      ready, since 3 min ago
        Wanted     running by admin 3 min ago (csm start)
        URL        https://dan.code.example.org
        Account    csm-dan
        Unit       csm-dan.service, main process 4711
        Image      5f70bf18a086
        Memory     812M of 3G, slowed down above 2.5G, 512M kept for it
        Processor  1.5 cores, weight 100
        Tasks      at most 4096
        Pending    image (apply it: csm restart dan)
        ");
        insta::assert_snapshot!(one(&blocked("bob"), look()), @"
        bob
        State      blocked, since 3 min ago
        Wanted     running by default (never decided)
        URL        https://bob.code.example.org
        Account    csm-bob
        Unit       csm-bob.service
        Image      -
        Memory     at most 3G, slowed down above 2.5G
        Processor  1.5 cores, weight 100
        Tasks      at most 4096

        bob is blocked:
          account-missing: the account csm-bob does not exist
            Hint: create it: useradd --system csm-bob
        ");
    }

    #[test]
    fn colour_is_used_only_when_asked_for() {
        let coloured = Look { colour: true, ..look() };
        let machine = status(vec![workspace("dan", State::Failed)]);
        assert!(all(&machine, coloured).contains("\u{1b}[1m\u{1b}[31mfailed\u{1b}[0m"));
        assert!(!all(&machine, look()).contains('\u{1b}'));
    }
}
