//! Entries of the journal with fields of our own (systemd.io/JOURNAL_NATIVE_PROTOCOL). A journald that doesn't read costs
//! the entry and never time: whoever writes here has workspaces to look after.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

const SOCKET: &str = "/run/systemd/journal/socket";

/// Whether journald reads our standard error (systemd.exec(5)). The variable alone says nothing: whatever a service or a
/// terminal of a desktop starts inherits it.
pub fn reads_us() -> bool {
    std::env::var("JOURNAL_STREAM").is_ok_and(|stream| is_stream(&stream, io::stderr()))
}

/// Whether `DEVICE:INODE` names this file.
fn is_stream(stream: &str, file: impl AsFd) -> bool {
    let (Ok(status), Some((device, inode))) = (rustix::fs::fstat(file), stream.split_once(':')) else {
        return false;
    };
    device.parse() == Ok(status.st_dev) && inode.parse() == Ok(status.st_ino)
}

/// The way to journald.
#[derive(Debug)]
pub struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Journal {
    /// Nothing is sent yet: journald may come later.
    pub fn new() -> io::Result<Self> {
        Self::at(Path::new(SOCKET))
    }

    /// The same with another socket.
    pub fn at(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        // guard: F31-nobody-waits
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            path: path.to_owned(),
        })
    }

    /// Sends one entry, or fails at once. It is small, so that it fits into one datagram.
    pub fn send(&self, fields: &[(&str, &str)]) -> io::Result<()> {
        self.socket.send_to(&datagram(fields), &self.path).map(drop)
    }
}

/// `KEY=value`, or with its length in front where the value has lines.
fn datagram(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(512);
    for (key, value) in fields {
        bytes.extend(key.as_bytes());
        if value.contains('\n') {
            bytes.push(b'\n');
            bytes.extend((value.len() as u64).to_le_bytes());
        } else {
            bytes.push(b'=');
        }
        bytes.extend(value.as_bytes());
        bytes.push(b'\n');
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `csm` under a service or a desktop logged to the journal, and told its user nothing.
    #[test]
    fn a_stream_of_somebody_elses_is_not_ours() {
        let (own, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let status = rustix::fs::fstat(&own).unwrap();
        let (device, inode) = (status.st_dev, status.st_ino);
        for (stream, is_ours) in [
            (format!("{device}:{inode}"), true),
            (format!("{device}:{}", inode + 1), false),
            (format!("{}:{inode}", device + 1), false),
            (inode.to_string(), false),
            (String::new(), false),
        ] {
            assert_eq!(is_stream(&stream, &own), is_ours, "{stream:?}");
        }
    }

    #[test]
    fn a_value_can_not_begin_another_field() {
        assert_eq!(
            datagram(&[("MESSAGE", "a=b"), ("CSM_CODE", "")]),
            b"MESSAGE=a=b\nCSM_CODE=\n"
        );
        assert_eq!(
            datagram(&[("MESSAGE", "a\nPRIORITY=0")]),
            b"MESSAGE\n\x0c\0\0\0\0\0\0\0a\nPRIORITY=0\n"
        );
    }
}
