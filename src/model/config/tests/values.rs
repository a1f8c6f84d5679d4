//! Values that are refused or just still taken, as tables: what is written => what is said.

use super::*;

/// In [workspaces.dan]; the complaint follows the key and the value as written.
const REFUSED: &str = r#"
memory_limit = 0 => below the least that works, 256M
memory_limit = '255M' => below the least that works, 256M
memory_limit = -1 => below zero
memory_limit = 1.5 => must be a size, not a number with a fraction
memory_limit = true => must be a size, not true or false
memory_limit = '2GB' => GB and the like leave open whether 1000 or 1024 is meant
memory_limit = '65T' => larger than any machine
memory_limit = 99999999999999999999 => larger than any machine
memory_soft_limit = '100M' => below the least that works, 128M
memory_soft_limit = '4G' => above the hard limit, 3G
memory_low = '4G' => above the hard limit, 3G
memory_low = '' => not a size
cpu_limit = 0 => outside 0.1 to 1024 cores
cpu_limit = 0.0 => outside 0.1 to 1024 cores
cpu_limit = -1 => below zero
cpu_limit = -1.5 => not a number of cores
cpu_limit = nan => not a number of cores
cpu_limit = inf => not a number of cores
cpu_limit = '150%' => not a number of cores
cpu_limit = 2000 => outside 0.1 to 1024 cores
cpu_limit = 1.00000001 => finer than a millionth of a core
cpu_limit = [1] => must be a number of cores, not an array
cpu_weight = 0 => outside 1 to 10000
cpu_weight = 10001 => outside 1 to 10000
cpu_weight = '100' => must be a whole number, not text
tasks_max = 10 => outside 128 to 4194304
tasks_max = 1e3 => must be a whole number, not a number with a fraction
port = 0 => outside 1024 to 65535
port = 1023 => outside 1024 to 65535
port = 65536 => outside 1024 to 65535
port = '8000' => must be a whole number, not text
port = 443 => outside 1024 to 65535
apply = 'Now' => none of the words known here
enabled = 1 => must be true or false, not a whole number
account = 'root' => root, nobody, csm-admin and the service accounts can't run a workspace
account = 'code-server-multi-gateway' => root, nobody, csm-admin and the service accounts can't run a workspace
account = 'Dan' => an account name is lower-case letters, digits, _ and -, starting with a letter or _, at most 31 characters
account = "dan\nroot" => has control characters
"#;

/// Anywhere; `|` ends a line.
const REFUSED_IN_SECTIONS: &str = r"
reserved_ports = 51820 => reserved_ports = 51820: must be an array of ports, not a whole number
reserved_ports = [0] => reserved_ports[0] = 0: no port
reserved_ports = [65536] => reserved_ports[0] = 65536: no port
reserved_ports = [5353, 5353] => reserved_ports[1] = 5353: the same port a second time
reserved_ports = ['dns'] => reserved_ports[0] = 'dns': must be a whole number, not text
domain = 'x' | [workspaces] | dan = 1 => workspaces.dan: must be a table, not a whole number
[[workspaces]] => workspaces: must be a table, not an array
domain = '192.0.2.1' => domain = '192.0.2.1': an address is not a domain
workspace_base = '/srv' => workspace_base = '/srv': a top-level directory, whose owner and mode are not this service's to set
workspace_base = '/' => workspace_base = '/': a top-level directory, whose owner and mode are not this service's to set
workspace_base = '/etc/vscode' => workspace_base = '/etc/vscode': below /etc, which is the system's or does not last
workspace_base = '/run/vscode' => workspace_base = '/run/vscode': below /run, which is the system's or does not last
workspace_base = '//var//lib/' => workspace_base = '//var//lib/': a directory that holds what others put there
workspace_base = '/var/lib/code-server-multi/homes' => workspace_base = '/var/lib/code-server-multi/homes': overlaps /var/lib/code-server-multi, the daemon's own state
workspace_base = '/srv/./x' => workspace_base = '/srv/./x': has . or .. in it
workspace_base = '/srv/a b' => workspace_base = '/srv/a b': a path here is ASCII letters, digits and . _ - + = @ ~
workspace_base = '/srv/$x;}' => workspace_base = '/srv/$x;}': a path here is ASCII letters, digits and . _ - + = @ ~
[nginx] | unit = 'nginx' => nginx.unit = 'nginx': not the name of a service unit
[nginx] | unit = '-x.service' => nginx.unit = '-x.service': not the name of a service unit
[nginx] | unit = '../x.service' => nginx.unit = '../x.service': not the name of a service unit
[nginx] | unit = 'nginx@.service' => nginx.unit = 'nginx@.service': not the name of a service unit
[nginx] | unit = 'csm-dan.service' => nginx.unit = 'csm-dan.service': a unit of this service itself
[nginx] | group = 'a b' => nginx.group = 'a b': a group is lower-case letters, digits, _ and -, starting with a letter or _, at most 31 characters
[nginx] | listen = '0.0.0.0:443' => nginx.listen = '0.0.0.0:443': must be an array of addresses, not text
[nginx] | listen = [] => nginx.listen: nowhere to listen
[nginx] | listen = ['*:443'] => nginx.listen[0] = '*:443': not an IP address with or without a port
[nginx] | listen = ['::', '[::]:443'] => nginx.listen[1] = '[::]:443': the same address a second time
[nginx] | listen = ['0.0.0.0:80'] => nginx.listen[0] = '0.0.0.0:80': port 80 of each address is the redirect's
[nginx] | listen = ['0.0.0.0:0'] => nginx.listen[0] = '0.0.0.0:0': port 0 is none
[nginx] | listen = ['[fe80::1%2]:443'] => nginx.listen[0] = '[fe80::1%2]:443': nginx can't listen on an address with a zone
[nginx] | listen = ['224.0.0.1'] => nginx.listen[0] = '224.0.0.1': a multicast address can't be listened on
[nginx] | listen = [443] => nginx.listen[0] = 443: must be text, not a whole number
[nginx] | public_port = 80 => nginx.public_port = 80: port 80 only redirects to HTTPS
[nginx] | plain_http1 = 'no' => nginx.plain_http1 = 'no': must be true or false, not text
[nginx] | public_port = 0 => nginx.public_port = 0: outside 1 to 65535
[nginx] | snippet_dir = '/var/lib/vscode/nginx' => nginx.snippet_dir = '/var/lib/vscode/nginx': below workspace_base, where workspaces can write
[nginx] | snippet_dir = '/nix/store/x' => nginx.snippet_dir = '/nix/store/x': not a place where snippets can be written
[nginx] | snippet_dir = '/var/lib/code-server-multi/intent' => nginx.snippet_dir = '/var/lib/code-server-multi/intent': a directory that the daemon uses for something else
[image] | name = '-v' => image.name = '-v': an image reference is NAME, NAME:TAG or NAME@sha256:DIGEST, in letters, digits and . _ - / : @
[image] | pull = 'always' => image.pull = 'always': none of the words known here
[image] | pull = 'missing' => image.name: names no registry to pull from
[image] | pull = 'missing' | name = 'codercom/code-server' => image.name = 'codercom/code-server': names no registry to pull from
[image] | archive = 'image.tar' => image.archive = 'image.tar': not an absolute path
[image] | archive = '/var/lib/vscode/dan/home/x.tar' => image.archive = '/var/lib/vscode/dan/home/x.tar': below workspace_base, where workspaces can write
[gateway] | session_lifetime = 24 => gateway.session_lifetime = 24: must be text, not a whole number
[gateway] | session_lifetime = '24' => gateway.session_lifetime = '24': not a length of time
[gateway] | session_lifetime = '-24h' => gateway.session_lifetime = '-24h': not a length of time
[gateway] | session_lifetime = '31d' => gateway.session_lifetime = '31d': outside 5 minutes to 30 days
[gateway] | session_lifetime = '4m' => gateway.session_lifetime = '4m': outside 5 minutes to 30 days
[nginx] | listen = ['0.0.0.0:8443'] | [workspaces.a] | port = 8443 => workspaces.a.port = 8443: nginx listens on it for HTTPS (nginx.listen)
[workspaces.a] | port = 8000 | [workspaces.b] | port = 8000 => workspaces.b.port = 8000: workspaces.a has it too
[workspaces.a] | [workspaces.b] | account = 'csm-a' => workspaces.b.account = 'csm-a': csm-a is the account of workspaces.a too, and would open one's files to the other
";

fn cases(table: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    table
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| line.split_once(" => ").unwrap())
}

#[test]
fn values_out_of_range_are_refused() {
    for (setting, complaint) in cases(REFUSED) {
        let found = complaints(&format!("[workspaces.dan]\n{setting}"));
        let (key, value) = setting.split_once(" = ").unwrap();
        let echoed = if value.starts_with('[') {
            String::new()
        } else {
            format!(" = {value}")
        };
        assert_eq!(
            found,
            [format!("workspaces.dan.{key}{echoed}: {complaint}")],
            "{setting}"
        );
    }
}

#[test]
fn values_at_the_edges_are_taken() {
    for setting in [
        "memory_limit = '256M'",
        "memory_limit = '64T'",
        "memory_soft_limit = '3G'",
        "memory_low = '3G'",
        "cpu_limit = 0.1",
        "cpu_limit = 1e0",
        "cpu_limit = 1_024",
        "cpu_limit = '1.500000'",
        "cpu_weight = 10_000",
        "tasks_max = 0x80",
        "port = 1024",
        "port = 65535",
        "account = 'dan'",
        "password_file = '/etc/code-server-multi/dan'",
        "environment = { A = '' }",
    ] {
        assert_eq!(
            complaints(&format!("[workspaces.dan]\n{setting}")),
            Vec::<String>::new(),
            "{setting}"
        );
    }
}

#[test]
fn sections_refuse_what_does_not_fit_them() {
    for (more, complaint) in cases(REFUSED_IN_SECTIONS) {
        assert_eq!(complaints(&more.replace(" | ", "\n")), [complaint], "{more}");
    }
}
