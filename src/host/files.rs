//! Files as root may touch them: written whole or not at all, and never through a path that somebody else can bend
//! (openat2(2): RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH).

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;

#[derive(Debug, thiserror::Error)]
#[error("can't {doing} {}", path.display())]
pub struct FileError {
    doing: &'static str,
    path: PathBuf,
    #[source]
    pub source: io::Error,
}

/// Adds what was attempted to an I/O error.
pub trait Doing<T> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, FileError>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, FileError> {
        self.map_err(|source| FileError {
            doing,
            path: path.to_owned(),
            source: source.into(),
        })
    }
}

/// Owner and mode of something to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
}

impl Access {
    pub const fn root(mode: u32) -> Self {
        Self { uid: 0, gid: 0, mode }
    }
}

/// Writes a file so that either the old or the new content is there, also after a power cut: a new file of a name of its
/// own (O_EXCL), fsync, rename, fsync of the directory. An error means that the old one is there: where only the last of
/// these failed, it is put back. `path`'s directory has to be one that only root writes.
pub fn write_whole(path: &Path, content: &[u8], access: Access) -> Result<(), FileError> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput)).doing("write", path);
    };
    let directory = open_directory(parent)?;
    // guard: F2-beside
    let temporary = format!(".{}.new", name.to_string_lossy());
    let second = format!(".{}.old", name.to_string_lossy());
    // Left by a writer that was killed; ours to remove, since only root writes here.
    // guard: F2-leftover
    let _ = rustix::fs::unlinkat(&directory, &temporary, AtFlags::empty());
    let _ = rustix::fs::unlinkat(&directory, &second, AtFlags::empty());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(&directory, &temporary, flags, Mode::from_raw_mode(0o600)).doing("create", path)?;
    let kept = rustix::fs::linkat(&directory, name, &directory, &second, AtFlags::empty());
    let written = (|| {
        let mut file = std::fs::File::from(fd);
        file.write_all(content).doing("write", path)?;
        give(file.as_fd(), access).doing("set the owner and mode of", path)?;
        // guard: F2-synced F17-durable
        file.sync_all().doing("write", path)?;
        rustix::fs::renameat(&directory, &temporary, &directory, name).doing("rename into place", path)
    })();
    // guard: F9-torn-file
    if written.is_err() {
        let _ = rustix::fs::unlinkat(&directory, &temporary, AtFlags::empty());
    }
    let lasting = written.and_then(|()| {
        // guard: F2-name-synced F17-durable-name
        let synced = rustix::fs::fsync(&directory).doing("write the directory of", path);
        if synced.is_err() {
            let _ = match kept {
                // guard: F9-put-back
                Ok(()) => rustix::fs::renameat(&directory, &second, &directory, name),
                Err(Errno::NOENT) => rustix::fs::unlinkat(&directory, name, AtFlags::empty()),
                // There is one, and no way to keep it.
                Err(_) => Ok(()),
            };
        }
        synced
    });
    let _ = rustix::fs::unlinkat(&directory, &second, AtFlags::empty());
    lasting
}

/// Removes a file; that there is none is as good.
pub fn remove(path: &Path) -> Result<(), FileError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).doing("remove", path),
        _ => Ok(()),
    }
}

/// Opens a directory that only root can have put there.
pub fn open_directory(path: &Path) -> Result<OwnedFd, FileError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).doing("open the directory", path)
}

/// Opens a directory beneath another, whatever stands between: a symlink anywhere fails with ELOOP.
pub fn open_beneath(directory: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    // guard: A17-no-last-link A17-directories
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // guard: A17-no-link
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(directory, path, flags, Mode::empty(), resolve)?)
}

fn give(fd: BorrowedFd<'_>, access: Access) -> io::Result<()> {
    rustix::fs::fchown(fd, Some(Uid::from_raw(access.uid)), Some(Gid::from_raw(access.gid)))?;
    rustix::fs::fchmod(fd, Mode::from_raw_mode(access.mode))?;
    Ok(())
}

/// What stands where a directory has to be.
#[derive(Debug)]
pub enum Spot {
    There(OwnedFd),
    Nothing,
    /// Not a directory, or a symlink.
    Obstacle,
    /// A directory of another user's.
    Foreign(u32),
}

/// Looks at `name` in a directory; `owner` is who has to own it.
pub fn look(directory: BorrowedFd<'_>, name: &str, owner: u32) -> io::Result<Spot> {
    match open_beneath(directory, Path::new(name)) {
        Ok(fd) => {
            let uid = rustix::fs::fstat(&fd)?.st_uid;
            // guard: F22-owner
            Ok(if uid == owner {
                Spot::There(fd)
            } else {
                Spot::Foreign(uid)
            })
        }
        Err(error) => match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
            Some(rustix::io::Errno::NOENT) => Ok(Spot::Nothing),
            Some(rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR | rustix::io::Errno::XDEV) => Ok(Spot::Obstacle),
            _ => Err(error),
        },
    }
}

/// Makes `name` in a directory and gives it away. The new directory is opened before it is given away, so that what
/// is changed is what was made.
pub fn make(directory: BorrowedFd<'_>, name: &str, access: Access) -> io::Result<OwnedFd> {
    rustix::fs::mkdirat(directory, name, Mode::from_raw_mode(0o700))?;
    let fd = open_beneath(directory, Path::new(name))?;
    give(fd.as_fd(), access)?;
    Ok(fd)
}

/// Makes a directory that only root can reach the parent of, or sets its owner and mode right.
pub fn ensure_directory(path: &Path, access: Access) -> Result<(), FileError> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error).doing("make", path),
        _ => {}
    }
    let fd = open_directory(path)?;
    let stat = rustix::fs::fstat(&fd).doing("look at", path)?;
    if (stat.st_uid, stat.st_gid, stat.st_mode & 0o7777) != (access.uid, access.gid, access.mode) {
        give(fd.as_fd(), access).doing("set the owner and mode of", path)?;
    }
    Ok(())
}

/// Whether a file's content is this.
pub fn holds(path: &Path, content: &[u8]) -> bool {
    std::fs::read(path).is_ok_and(|own| own == content)
}

/// Why a file that an admin named can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("there is no such file")]
    Missing,
    #[error("it is not a regular file")]
    NotRegular,
    #[error("it is empty")]
    Empty,
    #[error("it is larger than {0} bytes")]
    TooLarge(u64),
    #[error("it can't be read")]
    Io(#[source] io::Error),
}

/// Reads a file that an admin named. It may be reached through symlinks (sops-nix swaps one), but has to be a regular
/// file of at most `most` bytes; a FIFO or a device is refused without waiting for it.
pub fn read_named(path: &Path, most: u64) -> Result<Vec<u8>, ReadError> {
    let file = open_named(path, most)?;
    let mut content = Vec::new();
    file.take(most + 1).read_to_end(&mut content).map_err(ReadError::Io)?;
    match content.len() as u64 {
        // guard: F10-empty-key-read
        0 => Err(ReadError::Empty),
        length if length > most => Err(ReadError::TooLarge(most)),
        _ => Ok(content),
    }
}

/// Opens such a file without reading it; the same refusals.
pub fn open_named(path: &Path, most: u64) -> Result<std::fs::File, ReadError> {
    // guard: F10-fifo
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| match errno {
        rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR => ReadError::Missing,
        rustix::io::Errno::NXIO | rustix::io::Errno::ISDIR => ReadError::NotRegular,
        other => ReadError::Io(other.into()),
    })?;
    let stat = rustix::fs::fstat(&fd).map_err(|errno| ReadError::Io(errno.into()))?;
    // guard: F10-regular
    if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(ReadError::NotRegular);
    }
    match u64::try_from(stat.st_size).unwrap_or(u64::MAX) {
        // guard: F10-empty-key
        0 => Err(ReadError::Empty),
        size if size > most => Err(ReadError::TooLarge(most)),
        _ => Ok(std::fs::File::from(fd)),
    }
}
