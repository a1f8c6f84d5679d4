//! What `csm test` tries inside a workspace: a script for its shell, and the reading of what it prints.

/// One line a check: `ok` or `no`, the check's name, what was found; tabs between. Uses only what a workspace has by
/// definition (a shell and code-server, thus Node) and says of everything else whether it is there.
pub const SCRIPT: &str = r#"
say() { printf '%s\t%s\t%s\n' "$1" "$2" "$(printf '%s' "$3" | tr '\t\n' '  ' | cut -c1-200)"; }
version() {
  name=$1; shift
  if ! command -v "$1" >/dev/null 2>&1; then say no "$name" "not found in the image"
  elif found=$("$@" </dev/null 2>&1); then say ok "$name" "$(printf '%s' "$found" | head -n 1)"
  else say no "$name" "$(printf '%s' "$found" | tail -n 1)"; fi
}
for csm_home in /home/coder /home/coder/project /home/coder/.local/share/code-server; do
  if (umask 077; : >"$csm_home/.csm-test") 2>/dev/null && rm -f "$csm_home/.csm-test"; then say ok "writable $csm_home" "as $(id -un 2>/dev/null || id -u)"; else say no "writable $csm_home" "$(ls -ld "$csm_home" 2>&1)"; fi
done
version code-server code-server --version
version node node --version
version git git --version
version python3 python3 --version
version pip python3 -m pip --version
version yarn yarn --version
version gcc gcc --version
version make make --version
version tmux tmux -V
version ripgrep rg --version
version jq jq --version
version curl curl --version
version opencode opencode --version
version claude claude --version
node=$(command -v node || echo /usr/lib/code-server/lib/node)
"$node" -e '
const http = require("http");
const say = (ok, name, what) => console.log([ok ? "ok" : "no", name, what].join("\t"));
const socketPath = "/run/csm/http/http.sock";
const health = http.get({ socketPath, path: "/healthz", timeout: 5000 }, (answer) => {
  say(answer.statusCode === 200, "health", "HTTP " + answer.statusCode);
  answer.resume();
});
health.on("error", (error) => say(false, "health", error.message));
const upgrade = http.get({ socketPath, path: "/?reconnectionToken=csm-test&reconnection=false&skipWebSocketFrames=false", timeout: 5000,
  headers: { Connection: "Upgrade", Upgrade: "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "Y3NtLXRlc3QtY3NtLXRlcw==" } });
upgrade.on("upgrade", (answer, socket) => { say(true, "websocket", "HTTP 101"); socket.destroy(); });
upgrade.on("response", (answer) => { say(false, "websocket", "HTTP " + answer.statusCode); answer.resume(); });
upgrade.on("error", (error) => say(false, "websocket", error.message));
' 2>&1
"#;

/// What the terminal check runs in a pseudo-terminal.
pub const TERMINAL: &str = "test -t 0 && test -t 1 && printf 'ok\\tterminal\\t%s\\n' \"$(tty)\" || printf 'no\\tterminal\\tno pseudo-terminal\\n'";

/// One check as it came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    pub name: String,
    pub ok: bool,
    pub detail: String,
}

/// The checks that a script printed; other lines are passed over.
pub fn read(printed: &str) -> Vec<Checked> {
    let line = |line: &str| {
        let mut parts = line.trim_end_matches('\r').splitn(3, '\t');
        let ok = match parts.next()? {
            "ok" => true,
            "no" => false,
            _ => return None,
        };
        Some(Checked {
            ok,
            name: parts.next()?.to_owned(),
            detail: parts.next()?.to_owned(),
        })
    };
    printed.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_no_checks_are_passed_over() {
        let checks = read("warning: x\nok\tgit\tgit version 2\nno\tgcc\tnot found\r\nok\tshort\n");
        assert_eq!(checks.len(), 2);
        assert!(checks[0].ok && !checks[1].ok);
        assert_eq!(checks[1].detail, "not found");
    }
}
