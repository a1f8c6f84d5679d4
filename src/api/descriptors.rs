//! Open descriptors that travel with the bytes of a unix socket (SCM_RIGHTS, unix(7)): how the command line hands ends of
//! pipes or a terminal to the daemon with a request, and the daemon hands them on to the command's unit. Both ends are
//! here: nobody else sends or receives any.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixStream;

/// So many come with one connection at most: a line, and three pipes. Of a longer list none is kept.
pub const MOST: usize = 4;

/// What came with a connection's bytes so far. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Received(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    descriptors: Vec<OwnedFd>,
    too_many: bool,
}

/// More than [`MOST`] came; all are closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany;

impl Received {
    /// What came, in order, to be had once.
    pub fn take(&self) -> Result<Vec<OwnedFd>, TooMany> {
        let mut kept = self.kept();
        if kept.too_many {
            return Err(TooMany);
        }
        Ok(std::mem::take(&mut kept.descriptors))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, stream: &UnixStream, buffer: &mut [u8]) -> io::Result<usize> {
        // The kernel closes what there is no room for.
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut buffers = [IoSliceMut::new(buffer)];
        let got = rustix::net::recvmsg(stream, &mut buffers, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
        let mut kept = self.kept();
        kept.too_many |= got.flags.contains(ReturnFlags::CTRUNC);
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                kept.descriptors.extend(descriptors);
            }
        }
        kept.too_many |= kept.descriptors.len() > MOST;
        if kept.too_many {
            kept.descriptors.clear();
        }
        Ok(got.bytes)
    }
}

/// A connection that sends descriptors with its first bytes, or keeps those that come.
#[derive(Debug)]
pub struct Carrier {
    stream: UnixStream,
    outgoing: Vec<OwnedFd>,
    incoming: Option<Received>,
}

impl Carrier {
    /// Sends these with the first bytes that are written; then they are closed here.
    pub fn sending(stream: UnixStream, outgoing: Vec<OwnedFd>) -> Self {
        Self {
            stream,
            outgoing,
            incoming: None,
        }
    }

    /// Keeps what comes in `incoming`; without one the kernel closes it, as for every read(2).
    pub fn receiving(stream: UnixStream, incoming: Option<Received>) -> Self {
        Self {
            stream,
            outgoing: Vec::new(),
            incoming,
        }
    }

    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        let descriptors: Vec<BorrowedFd<'_>> = self.outgoing.iter().map(|own| own.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors"));
        }
        let buffers = [IoSlice::new(bytes)];
        Ok(rustix::net::sendmsg(
            &self.stream,
            &buffers,
            &mut ancillary,
            SendFlags::NOSIGNAL,
        )?)
    }
}

impl AsyncRead for Carrier {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let own = self.get_mut();
        let Some(incoming) = &own.incoming else {
            return Pin::new(&mut own.stream).poll_read(cx, buffer);
        };
        loop {
            ready!(own.stream.poll_read_ready(cx))?;
            let read = || incoming.read(&own.stream, buffer.initialize_unfilled());
            match own.stream.try_io(Interest::READABLE, read) {
                Ok(count) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Carrier {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let own = self.get_mut();
        if own.outgoing.is_empty() || bytes.is_empty() {
            return Pin::new(&mut own.stream).poll_write(cx, bytes);
        }
        loop {
            ready!(own.stream.poll_write_ready(cx))?;
            match own.stream.try_io(Interest::WRITABLE, || own.send(bytes)) {
                Ok(count) => {
                    own.outgoing.clear();
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read as _;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Read ends of as many pipes, each holding its number; their other ends, to see whether anybody still reads.
    fn pipes(count: u8) -> (Vec<OwnedFd>, Vec<OwnedFd>) {
        let pipe = |number| {
            let (reader, writer) = rustix::pipe::pipe().unwrap();
            rustix::io::write(&writer, &[number]).unwrap();
            (reader, writer)
        };
        (0..count).map(pipe).unzip()
    }

    fn has_reader(writer: &OwnedFd) -> bool {
        rustix::io::write(writer, b"x") != Err(rustix::io::Errno::PIPE)
    }

    async fn pass(descriptors: Vec<OwnedFd>) -> Received {
        let (near, far) = UnixStream::pair().unwrap();
        let received = Received::default();
        let mut receiver = Carrier::receiving(far, Some(received.clone()));
        let mut sender = Carrier::sending(near, descriptors);
        sender.write_all(b"hello").await.unwrap();
        sender.write_all(b" there").await.unwrap();
        drop(sender);
        let mut text = String::new();
        receiver.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "hello there");
        received
    }

    #[tokio::test]
    async fn descriptors_arrive_once_in_order_and_are_not_inherited() {
        let (descriptors, _writers) = pipes(4);
        let received = pass(descriptors).await;
        let came = received.take().unwrap();
        assert_eq!(came.len(), 4);
        for (number, descriptor) in (0_u8..).zip(came) {
            let flags = rustix::io::fcntl_getfd(&descriptor).unwrap();
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
            let mut byte = [0xff];
            File::from(descriptor).read_exact(&mut byte).unwrap();
            assert_eq!(byte[0], number);
        }
        assert_eq!(received.take().unwrap().len(), 0);
    }

    /// By hand, since our own sender has no room for so many.
    fn send_raw(stream: &std::os::unix::net::UnixStream, descriptors: &[OwnedFd]) {
        let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(|own| own.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&borrowed)));
        rustix::net::sendmsg(stream, &[IoSlice::new(b"x")], &mut ancillary, SendFlags::empty()).unwrap();
    }

    #[tokio::test]
    async fn too_many_are_all_closed_at_once_or_over_time() {
        for (batches, each) in [(1_u8, 5_u8), (1, 64), (3, 2)] {
            let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
            far.set_nonblocking(true).unwrap();
            let received = Received::default();
            let mut receiver = Carrier::receiving(UnixStream::from_std(far).unwrap(), Some(received.clone()));
            let mut writers = Vec::new();
            for _ in 0..batches {
                let (descriptors, others) = pipes(each);
                send_raw(&near, &descriptors);
                writers.extend(others);
                receiver.read_u8().await.unwrap();
            }
            assert_eq!(received.take().unwrap_err(), TooMany, "{batches} x {each}");
            assert!(!writers.iter().any(has_reader), "{batches} x {each}: one is still open");
        }
    }

    #[tokio::test]
    async fn nothing_is_kept_where_nothing_is_expected() {
        let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        far.set_nonblocking(true).unwrap();
        let mut receiver = Carrier::receiving(UnixStream::from_std(far).unwrap(), None);
        let (descriptors, writers) = pipes(3);
        send_raw(&near, &descriptors);
        drop(descriptors);
        receiver.read_u8().await.unwrap();
        assert!(!writers.iter().any(has_reader));
    }

    #[tokio::test]
    async fn what_was_not_taken_is_closed_with_the_connection() {
        let (descriptors, writers) = pipes(2);
        let received = pass(descriptors).await;
        assert!(writers.iter().all(has_reader));
        drop(received);
        assert!(!writers.iter().any(has_reader));
    }
}
