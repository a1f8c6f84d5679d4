//! What the process of `host::exec` does before it is the command: it says that it is there, and waits, as the workspace's
//! account, until the daemon has moved it into the workspace's cgroup.

use std::io;
use std::os::unix::process::CommandExt as _;

/// Writes one byte to standard output, reads one from standard input, so that what follows is the command's, and becomes
/// the command. Returns only when that failed; the end of the input before the byte means that nobody wants it any more.
pub fn wait_and_become(command: &[String]) -> io::Error {
    let Some((program, arguments)) = command.split_first() else {
        return io::Error::from(io::ErrorKind::InvalidInput);
    };
    let mut byte = [0_u8; 1];
    // Moved before it has said so, systemd would put it back into its unit's cgroup on the way here.
    if let Err(errno) = rustix::io::write(io::stdout(), &byte) {
        return errno.into();
    }
    // Unbuffered: `Stdin` would take more than its byte.
    match rustix::io::read(io::stdin(), &mut byte) {
        Ok(1) => std::process::Command::new(program).args(arguments).exec(),
        Ok(_) => io::Error::from(io::ErrorKind::UnexpectedEof),
        Err(errno) => errno.into(),
    }
}
