//! What a connection runs over.

use std::future::Future;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWrite, Interest};
use tokio::net::TcpStream;

/// A stream of bytes in both directions that may be able to send a piece of a file without copying it.
pub(crate) trait Transport: Send + Unpin {
    /// Reads what is there into the spare room of `into`; 0 means that the other side has ended the stream.
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut BytesMut) -> Poll<io::Result<usize>>;

    /// Writes as much of `slices` as fits.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>>;

    /// Sends up to `len` bytes of a file from `position` on; `None` where the transport cannot.
    fn poll_send_file(
        &mut self,
        cx: &mut Context<'_>,
        file: BorrowedFd<'_>,
        position: u64,
        len: usize,
    ) -> Option<Poll<io::Result<usize>>>;
}

impl Transport for TcpStream {
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut BytesMut) -> Poll<io::Result<usize>> {
        // `read_buf` fills spare capacity without clearing it first; it keeps no state between polls.
        std::pin::pin!(self.read_buf(into)).poll(cx)
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write_vectored(Pin::new(self), cx, slices)
    }

    fn poll_send_file(
        &mut self,
        cx: &mut Context<'_>,
        file: BorrowedFd<'_>,
        position: u64,
        len: usize,
    ) -> Option<Poll<io::Result<usize>>> {
        loop {
            match self.poll_write_ready(cx) {
                Poll::Pending => return Some(Poll::Pending),
                Poll::Ready(Err(e)) => return Some(Poll::Ready(Err(e))),
                Poll::Ready(Ok(())) => {}
            }
            let mut from = position;
            let sent = self.try_io(Interest::WRITABLE, || {
                Ok(rustix::fs::sendfile(&*self, file, Some(&mut from), len)?)
            });
            match sent {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Some(Poll::Ready(sent)),
            }
        }
    }
}
