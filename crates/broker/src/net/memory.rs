//! Streams of bytes within the process.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::transport::Transport;
use crate::clock::real::{self, Sleep};

/// How many bytes may be under way in each direction before a writer must wait.
const CAPACITY_BYTES: usize = 256 << 10;
/// How much room an empty direction keeps.
const KEPT_BYTES: usize = 16 << 10;

/// One end of a connection within the process: a stream of bytes in both directions, like a TCP connection.
///
/// Writes wait while too much is under way. Dropping an end closes it in order: the other side reads what was written, and
/// then the end of the stream.
pub struct MemoryStream {
    incoming: Arc<Pipe>,
    outgoing: Arc<Pipe>,
    /// Until what is under way arrives.
    arrival: Option<Pin<Box<Sleep>>>,
}

/// One direction of a connection.
#[derive(Default)]
pub(super) struct Pipe(Mutex<State>);

#[derive(Default)]
struct State {
    /// Written and not read.
    bytes: BytesMut,
    /// How many bytes were ever written.
    written: u64,
    /// How many bytes have ever arrived: what comes after them cannot be read yet.
    arrived: u64,
    /// When what was written up to a position arrives, where that is later. The end of the stream has an entry too.
    arrivals: VecDeque<(u64, Instant)>,
    condition: Condition,
    /// The writer will write no more.
    has_ended: bool,
    /// The reader will read no more.
    is_closed: bool,
    /// The connection was broken off.
    is_reset: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// What a direction of the network is like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Condition {
    /// Nothing arrives.
    pub(super) is_cut: bool,
    /// How long everything takes.
    pub(super) delay: Duration,
}

/// A connection as the network sees it.
pub(super) struct Wire {
    /// From the side that opened it, and back.
    pipes: [Weak<Pipe>; 2],
}

/// The two ends of a new connection, that of the side that opens it first. The conditions are those of the way there and
/// the way back.
pub(super) fn pair(there: Condition, back: Condition) -> (MemoryStream, MemoryStream, Wire) {
    let there = Arc::new(Pipe::new(there));
    let back = Arc::new(Pipe::new(back));
    let wire = Wire {
        pipes: [Arc::downgrade(&there), Arc::downgrade(&back)],
    };
    let end = |incoming: &Arc<Pipe>, outgoing: &Arc<Pipe>| MemoryStream {
        incoming: Arc::clone(incoming),
        outgoing: Arc::clone(outgoing),
        arrival: None,
    };
    (end(&back, &there), end(&there, &back), wire)
}

impl Wire {
    /// Whether either end is still held.
    pub(super) fn is_open(&self) -> bool {
        self.pipes.iter().any(|pipe| pipe.strong_count() > 0)
    }

    /// The conditions have become these, on the way there and on the way back.
    pub(super) fn set_conditions(&self, there: Condition, back: Condition) {
        for (pipe, condition) in self.pipes.iter().zip([there, back]) {
            if let Some(pipe) = pipe.upgrade() {
                pipe.set_condition(condition);
            }
        }
    }

    /// Breaks it off: both ends fail at once.
    pub(super) fn reset(&self) {
        for pipe in &self.pipes {
            if let Some(pipe) = pipe.upgrade() {
                pipe.0.lock().reset();
            }
        }
    }
}

impl Pipe {
    fn new(condition: Condition) -> Self {
        Self(Mutex::new(State {
            condition,
            ..State::default()
        }))
    }

    fn set_condition(&self, condition: Condition) {
        let mut state = self.0.lock();
        if state.condition == condition {
            return;
        }
        state.condition = condition;
        if condition.delay.is_zero() {
            state.arrivals.clear();
            state.arrived = state.written;
        }
        state.wake_both();
    }
}

impl State {
    /// Something was written, or the end.
    fn send(&mut self) {
        if self.condition.delay.is_zero() && self.arrivals.is_empty() {
            self.arrived = self.written;
        } else {
            let at = real::task_now() + self.condition.delay;
            self.arrivals.push_back((self.written, at));
        }
        self.wake_reader();
    }

    /// How many bytes can be read now.
    fn receive(&mut self) -> usize {
        while let Some((position, _)) = self
            .arrivals
            .pop_front_if(|(_, at)| *at <= real::task_now())
        {
            self.arrived = position;
        }
        let under_way = usize::try_from(self.written - self.arrived).unwrap_or(usize::MAX);
        self.bytes.len().saturating_sub(under_way)
    }

    fn reset(&mut self) {
        self.is_reset = true;
        self.bytes = BytesMut::new();
        self.wake_both();
    }

    fn wake_both(&mut self) {
        self.wake_reader();
        self.wake_writer();
    }

    fn wake_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    fn wake_writer(&mut self) {
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }
}

impl MemoryStream {
    /// Hands up to `max` bytes that have arrived to `take`; 0 is the end of the stream.
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
        take: impl FnOnce(&[u8]),
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut state = self.incoming.0.lock();
            if state.is_reset {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            let count = state.receive().min(max);
            let has_arrived = !state.condition.is_cut;
            if has_arrived && count > 0 {
                take(&state.bytes[..count]);
                state.bytes.advance(count);
                if state.bytes.is_empty() && state.bytes.capacity() > KEPT_BYTES {
                    state.bytes = BytesMut::new();
                }
                state.wake_writer();
                return Poll::Ready(Ok(count));
            }
            let is_over = state.has_ended && state.bytes.is_empty() && state.arrivals.is_empty();
            if has_arrived && (is_over || max == 0) {
                return Poll::Ready(Ok(0));
            }
            state.reader = Some(cx.waker().clone());
            let Some((_, at)) = state.arrivals.front().copied().filter(|_| has_arrived) else {
                return Poll::Pending;
            };
            drop(state);
            let arrival = self
                .arrival
                .get_or_insert_with(|| Box::pin(real::task_sleep_until(at)));
            if arrival.deadline() != at {
                arrival.as_mut().reset(at);
            }
            if arrival.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Takes as many bytes of `slices` as there is room for.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.outgoing.0.lock();
        if state.is_reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        // That the other side has gone is not known while nothing arrives.
        if state.has_ended || (state.is_closed && !state.condition.is_cut) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if slices.iter().all(|slice| slice.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        let room = CAPACITY_BYTES - state.bytes.len();
        if room == 0 {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let mut taken = 0;
        for slice in slices {
            let count = slice.len().min(room - taken);
            state.bytes.extend_from_slice(&slice[..count]);
            taken += count;
        }
        state.written += taken as u64;
        state.send();
        Poll::Ready(Ok(taken))
    }

    /// Writes no more; the other side reads the end of the stream after what was written.
    fn end(&self) {
        let mut state = self.outgoing.0.lock();
        if !std::mem::replace(&mut state.has_ended, true) {
            state.send();
        }
    }
}

impl Drop for MemoryStream {
    fn drop(&mut self) {
        self.end();
        let mut incoming = self.incoming.0.lock();
        incoming.is_closed = true;
        incoming.wake_writer();
    }
}

impl AsyncRead for MemoryStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let max = into.remaining();
        let read = self
            .get_mut()
            .poll_receive(cx, max, |bytes| into.put_slice(bytes));
        read.map_ok(|_| ())
    }
}

impl AsyncWrite for MemoryStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_send(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_send(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end();
        Poll::Ready(Ok(()))
    }
}

impl Transport for MemoryStream {
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut BytesMut) -> Poll<io::Result<usize>> {
        let room = into.capacity() - into.len();
        self.poll_receive(cx, room, |bytes| into.extend_from_slice(bytes))
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(cx, slices)
    }

    fn poll_send_file(
        &mut self,
        _: &mut Context<'_>,
        _: BorrowedFd<'_>,
        _: u64,
        _: usize,
    ) -> Option<Poll<io::Result<usize>>> {
        None
    }
}

impl fmt::Debug for MemoryStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStream").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    use super::*;

    const CUT: Condition = Condition {
        is_cut: true,
        delay: Duration::ZERO,
    };
    const SLOW: Condition = Condition {
        is_cut: false,
        delay: Duration::from_secs(5),
    };

    #[tokio::test]
    async fn bytes_arrive_in_order_and_then_the_end() {
        let (mut client, mut server, _wire) = pair(Condition::default(), Condition::default());
        client.write_all(b"one ").await.unwrap();
        client.write_all(b"two").await.unwrap();
        client.shutdown().await.unwrap();
        assert!(client.write_all(b"three").await.is_err());
        let mut read = String::new();
        server.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, "one two");
        server.write_all(b"answer").await.unwrap();
        drop(server);
        let mut read = String::new();
        client.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, "answer");
    }

    #[tokio::test]
    async fn a_writer_waits_while_nobody_reads() {
        let (mut client, mut server, _wire) = pair(Condition::default(), Condition::default());
        let all = vec![7; CAPACITY_BYTES * 3 + 1];
        let sent = all.clone();
        let writing = tokio::spawn(async move {
            client.write_all(&sent).await.unwrap();
        });
        tokio::task::yield_now().await;
        assert!(!writing.is_finished());
        let mut read = Vec::new();
        server.read_to_end(&mut read).await.unwrap();
        assert!(read == all);
        writing.await.unwrap();
    }

    #[tokio::test]
    async fn nobody_can_write_to_who_has_gone() {
        let (mut client, server, _wire) = pair(Condition::default(), Condition::default());
        drop(server);
        let error = client.write_all(b"?").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_cut_arrives_when_it_is_healed() {
        let (mut client, mut server, wire) = pair(Condition::default(), Condition::default());
        wire.set_conditions(CUT, Condition::default());
        client.write_all(b"late").await.unwrap();
        drop(client);
        let mut read = String::new();
        let hour = Duration::from_secs(3600);
        assert!(timeout(hour, server.read_u8()).await.is_err());
        wire.set_conditions(Condition::default(), Condition::default());
        server.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, "late");
    }

    #[tokio::test(start_paused = true)]
    async fn a_delay_holds_back_bytes_and_the_end_alike() {
        let (mut client, mut server, _wire) = pair(SLOW, Condition::default());
        let began = Instant::now();
        client.write_all(b"slow").await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        drop(client);
        let mut read = [0; 4];
        server.read_exact(&mut read).await.unwrap();
        assert_eq!((&read, began.elapsed()), (b"slow", SLOW.delay));
        assert_eq!(server.read(&mut read).await.unwrap(), 0);
        assert_eq!(began.elapsed(), SLOW.delay + Duration::from_secs(2));
    }

    #[tokio::test]
    async fn a_reset_fails_both_ends_and_forgets_what_was_under_way() {
        let (mut client, mut server, wire) = pair(Condition::default(), Condition::default());
        client.write_all(b"lost").await.unwrap();
        wire.reset();
        for end in [&mut client, &mut server] {
            let read = end.read_u8().await.unwrap_err();
            let write = end.write_all(b"?").await.unwrap_err();
            assert_eq!(read.kind(), io::ErrorKind::ConnectionReset);
            assert_eq!(write.kind(), io::ErrorKind::ConnectionReset);
        }
        drop((client, server));
        assert!(!wire.is_open());
    }
}
