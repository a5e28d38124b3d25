//! The answers of a connection that have not left yet.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tidelog_log::FileSlice;
use tidelog_protocol::Chunk;

use super::transport::Transport;
use crate::handlers::Response;

/// How many slices one write carries at most.
const SLICES_MAX: usize = 64;
/// How much of a file goes out in one call: more would let a single consumer hold up the others on its thread.
const FILE_CHUNK_BYTES: usize = 256 << 10;

/// A queue of bytes and pieces of files.
#[derive(Default)]
pub(crate) struct Output {
    queue: VecDeque<Piece>,
    bytes: usize,
}

enum Piece {
    Bytes(Bytes),
    File { slice: FileSlice, sent: usize },
}

impl Output {
    /// How many bytes wait in memory. Pieces of files do not count, they take none.
    pub(crate) fn pending_bytes(&self) -> usize {
        self.bytes
    }

    /// How many pieces wait, in memory and in files: each takes some memory of its own.
    pub(crate) fn pieces(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Puts an answer behind those that wait already.
    pub(crate) fn push(&mut self, response: Response) {
        for chunk in response.chunks {
            match chunk {
                Chunk::Bytes(bytes) => {
                    if !bytes.is_empty() {
                        self.bytes += bytes.len();
                        self.queue.push_back(Piece::Bytes(bytes));
                    }
                }
                Chunk::Deferred { token, .. } => {
                    let slice = response.files[token as usize].clone();
                    if !slice.is_empty() {
                        self.queue.push_back(Piece::File { slice, sent: 0 });
                    }
                }
            }
        }
    }

    /// Writes as much as the client takes; tells how many bytes were written.
    pub(crate) fn poll_write<T: Transport>(
        &mut self,
        transport: &mut T,
        cx: &mut Context<'_>,
    ) -> io::Result<usize> {
        let mut written = 0;
        while let Some(front) = self.queue.front_mut() {
            let wrote = match front {
                Piece::Bytes(_) => self.poll_write_bytes(transport, cx),
                Piece::File { slice, sent } => {
                    let wrote = poll_write_file(transport, cx, slice, *sent);
                    if let Poll::Ready(Ok(n)) = &wrote {
                        *sent += n;
                        if *sent == slice.len() {
                            self.queue.pop_front();
                        }
                    }
                    wrote
                }
            };
            match wrote {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(n)) => written += n,
                Poll::Ready(Err(e)) => return Err(e),
            }
        }
        Ok(written)
    }

    fn poll_write_bytes<T: Transport>(
        &mut self,
        transport: &mut T,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(&self.queue) {
            let Piece::Bytes(bytes) = piece else { break };
            *slice = IoSlice::new(bytes);
            count += 1;
        }
        let wrote = transport.poll_write(cx, &slices[..count]);
        if let Poll::Ready(Ok(wrote)) = &wrote {
            self.bytes -= wrote;
            let mut left = *wrote;
            while left > 0 {
                let Some(Piece::Bytes(bytes)) = self.queue.front_mut() else {
                    break;
                };
                if bytes.len() > left {
                    bytes.advance(left);
                    break;
                }
                left -= bytes.len();
                self.queue.pop_front();
            }
        }
        wrote
    }
}

/// Sends the next piece of a file: by the kernel where it can, through memory where not.
fn poll_write_file<T: Transport>(
    transport: &mut T,
    cx: &mut Context<'_>,
    slice: &FileSlice,
    sent: usize,
) -> Poll<io::Result<usize>> {
    let len = (slice.len() - sent).min(FILE_CHUNK_BYTES);
    let position = slice.position() + sent as u64;
    if let Some(fd) = slice.as_fd()
        && let Some(wrote) = transport.poll_send_file(cx, fd, position, len)
    {
        return wrote.map(|wrote| match wrote {
            // The file is shorter than promised: the answer cannot be completed.
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            wrote => wrote,
        });
    }
    let mut bytes = vec![0; len];
    slice.read_at(&mut bytes, sent)?;
    transport.poll_write(cx, &[IoSlice::new(&bytes)])
}
