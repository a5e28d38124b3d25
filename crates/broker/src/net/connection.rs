//! One task per connection: it reads requests, starts them in order, and sends the answers in the same order.
//!
//! Requests overlap: a produce that waits for the disk does not hold back the next one, which has been started
//! before the first is answered. All complete requests that have arrived are started before anything is written, and
//! all answers that are ready leave in one vectored write.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tidelog_protocol::frame::{self, FrameError};

use super::output::Output;
use super::transport::Transport;
use crate::clock::real::{self, Sleep};
use crate::handlers::{Answer, Closed, Peer, Service};

/// How many requests of one connection may be in progress before the broker stops reading from it.
const REQUESTS_IN_PROGRESS_MAX: usize = 256;
/// How many bytes the requests in progress may hold, their frames and the answers that wait for their turn, before the
/// broker stops reading from a connection. One request may be larger.
const BYTES_IN_PROGRESS_MAX: usize = 16 << 20;
/// How many bytes of answers may wait for the client before the broker stops starting its requests.
const OUTPUT_PENDING_BYTES_MAX: usize = 4 << 20;
/// How many pieces of answers may wait likewise.
const OUTPUT_PIECES_MAX: usize = 1024;
/// How long requests in progress are still served for a client that will send no more, and has probably gone.
const GRACE_AFTER_END: Duration = Duration::from_secs(1);
/// How much room a read offers when nothing is known of the frame to come.
const READ_BYTES: usize = 64 << 10;
/// How many bytes a request may have of which the flush is waited for on the thread of the connection: with more to come
/// the thread had better go on reading.
const FLUSHED_HERE_BYTES_MAX: usize = 64 << 10;
/// How long a connection that does nothing keeps its buffer: one that is busy uses the same memory again and again.
const BUFFER_KEPT: Duration = Duration::from_secs(1);

/// A started request.
type Started = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// The state of one connection.
pub(crate) struct Connection<T> {
    transport: T,
    service: Arc<dyn Service>,
    peer: Arc<Peer>,
    /// How many connections the thread serves, if all it does is to serve connections.
    thread_connections: Option<Arc<AtomicUsize>>,
    input: BytesMut,
    /// The longest frame this client has sent whole: so much it is trusted to send again.
    frame_bytes_seen: usize,
    in_progress: VecDeque<Step>,
    /// What they hold together.
    bytes_in_progress: usize,
    output: Output,
    idle_timeout: Duration,
    idle: Pin<Box<Sleep>>,
    last_active: Instant,
    input_ended: bool,
}

/// A request of which the answer has not been handed to the output.
struct Step {
    /// The length of its frame, or of its answer.
    bytes: usize,
    state: State,
}

enum State {
    Waiting(Started),
    Done(Answer),
}

impl Step {
    /// Polls the request if it has no answer yet; tells whether it has one now.
    fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        if let State::Waiting(started) = &mut self.state {
            let Poll::Ready(answer) = started.as_mut().poll(cx) else {
                return false;
            };
            self.bytes = answer.len();
            self.state = State::Done(answer);
        }
        true
    }
}

impl<T: Transport> Connection<T> {
    pub(crate) fn new(
        transport: T,
        service: Arc<dyn Service>,
        peer: Peer,
        thread_connections: Option<Arc<AtomicUsize>>,
    ) -> Self {
        let idle_timeout = service.settings().connections_max_idle;
        service.traffic().connection_accepted();
        Self {
            transport,
            service,
            peer: Arc::new(peer),
            thread_connections,
            input: BytesMut::new(),
            frame_bytes_seen: 0,
            in_progress: VecDeque::new(),
            bytes_in_progress: 0,
            output: Output::default(),
            idle_timeout,
            idle: Box::pin(real::sleep(BUFFER_KEPT.min(idle_timeout))),
            last_active: real::now(),
            input_ended: false,
        }
    }

    /// Serves the connection until either side closes it.
    pub(crate) async fn run(mut self) {
        let closed = std::future::poll_fn(|cx| self.poll(cx)).await;
        tracing::debug!(peer = %self.peer.address, %closed, "connection closed");
    }

    /// Makes all progress that can be made; ready when the connection is over.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Closed> {
        // A connection that always has something to do gives way to the others now and then.
        for _ in 0..16 {
            let mut progress = match self.poll_read(cx) {
                Ok(progress) => progress,
                Err(closed) => return Poll::Ready(closed),
            };
            self.peer.due_flushes.start(|| self.may_wait());
            progress |= match self.collect_answers(cx) {
                Ok(progress) => progress,
                Err(closed) => return Poll::Ready(closed),
            };
            match self.output.poll_write(&mut self.transport, cx) {
                Ok(0) => {}
                Ok(written) => {
                    self.service.traffic().written(written);
                    progress = true;
                }
                Err(e) => return Poll::Ready(Closed::Io(e)),
            }
            if self.input_ended && self.in_progress.is_empty() && self.output.is_empty() {
                return Poll::Ready(Closed::ByClient);
            }
            if !progress {
                return self.poll_idle(cx);
            }
            self.last_active = real::now();
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads what has arrived and starts every request that is complete.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Result<bool, Closed> {
        let mut progress = self.start_requests(cx)?;
        if self.input_ended || !self.has_room() {
            return Ok(progress);
        }
        let wanted = self.read_size();
        self.input.reserve(wanted);
        match self.transport.poll_read(cx, &mut self.input) {
            Poll::Pending => {}
            Poll::Ready(Ok(0)) => {
                self.input_ended = true;
                let end = real::now() + GRACE_AFTER_END;
                self.idle.as_mut().reset(end.into());
                progress = true;
            }
            Poll::Ready(Ok(read)) => {
                self.service.traffic().read(read);
                self.start_requests(cx)?;
                progress = true;
            }
            Poll::Ready(Err(e)) => return Err(Closed::Io(e)),
        }
        Ok(progress)
    }

    /// How much room to offer: what is missing of the frame, but never much more than what the client has shown that
    /// it really sends.
    fn read_size(&self) -> usize {
        let arrived = self.input.len();
        let missing = self.input.first_chunk().map_or(0, |prefix| {
            let length = usize::try_from(i32::from_be_bytes(*prefix)).unwrap_or(0);
            (size_of::<i32>() + length).saturating_sub(arrived)
        });
        let trusted = READ_BYTES.max(arrived).max(self.frame_bytes_seen);
        missing.clamp(READ_BYTES, trusted)
    }

    fn has_room(&self) -> bool {
        self.in_progress.len() < REQUESTS_IN_PROGRESS_MAX
            && self.bytes_in_progress < BYTES_IN_PROGRESS_MAX
            && self.output.pending_bytes() < OUTPUT_PENDING_BYTES_MAX
            && self.output.pieces() < OUTPUT_PIECES_MAX
    }

    /// Starts the complete requests in the buffer, in order.
    fn start_requests(&mut self, cx: &mut Context<'_>) -> Result<bool, Closed> {
        let mut progress = false;
        while self.has_room() {
            let max = self.service.settings().socket_request_max_bytes;
            let frame = match frame::next_frame(&mut self.input, max) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(e) => return Err(self.refuse_frame(e)),
            };
            progress = true;
            self.frame_bytes_seen = self.frame_bytes_seen.max(frame.len());
            let mut step = Step {
                bytes: frame.len(),
                state: State::Waiting(Arc::clone(&self.service).start(&self.peer, frame)?),
            };
            step.poll(cx);
            self.bytes_in_progress += step.bytes;
            self.in_progress.push_back(step);
        }
        Ok(progress)
    }

    /// Whether nothing is lost if the thread waits for a disk: it serves only this connection, which waits for the answer
    /// of a single small request.
    fn may_wait(&self) -> bool {
        let alone = |connections: &Arc<AtomicUsize>| connections.load(Ordering::Relaxed) == 1;
        self.thread_connections.as_ref().is_some_and(alone)
            && self.in_progress.len() == 1
            && self.bytes_in_progress <= FLUSHED_HERE_BYTES_MAX
            && self.input.is_empty()
    }

    fn refuse_frame(&self, error: FrameError) -> Closed {
        tracing::warn!(peer = %self.peer.address, %error, "refused a frame, the connection is closed");
        Closed::BadRequest(error.to_string())
    }

    /// Moves the answers that are ready, as far as they are next in order, to the output.
    fn collect_answers(&mut self, cx: &mut Context<'_>) -> Result<bool, Closed> {
        let mut progress = false;
        while let Some(step) = self.in_progress.front_mut() {
            let before = step.bytes;
            let done = step.poll(cx);
            self.bytes_in_progress = self.bytes_in_progress - before + step.bytes;
            if !done {
                break;
            }
            let Some(Step {
                bytes,
                state: State::Done(answer),
            }) = self.in_progress.pop_front()
            else {
                break;
            };
            self.bytes_in_progress -= bytes;
            progress = true;
            match answer {
                Answer::Send(response) => self.output.push(response),
                Answer::Silent => {}
                Answer::Close(closed) => return Err(closed),
                #[cfg(feature = "testing")]
                Answer::Last(response) => {
                    self.output.push(response);
                    self.input = BytesMut::new();
                    self.in_progress.clear();
                    self.bytes_in_progress = 0;
                    self.input_ended = true;
                }
            }
        }
        Ok(progress)
    }

    /// Waits for the time when the buffer of an idle connection is given back, and then for the time when the connection
    /// is closed. Both start anew with every progress.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Closed> {
        while self.idle.as_mut().poll(cx).is_ready() {
            if self.input_ended {
                return Poll::Ready(Closed::ByClient);
            }
            let now = real::now();
            let holds_buffer = self.input.is_empty() && self.input.capacity() > 0;
            if holds_buffer && now >= self.last_active + BUFFER_KEPT {
                self.input = BytesMut::new();
            }
            if now >= self.last_active + self.idle_timeout && self.in_progress.is_empty() {
                return Poll::Ready(Closed::Idle);
            }
            let next = if self.input.capacity() > 0 {
                BUFFER_KEPT
            } else {
                self.idle_timeout
            };
            // Never in the past: what is in progress may outlast both.
            let next = (self.last_active + next).max(now + BUFFER_KEPT);
            self.idle.as_mut().reset(next.into());
        }
        Poll::Pending
    }
}

impl<T> Drop for Connection<T> {
    fn drop(&mut self) {
        self.service.traffic().connection_closed();
    }
}

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ByClient => f.write_str("the client closed it"),
            Self::Idle => f.write_str("nothing was sent for connections.max.idle.ms"),
            Self::BadRequest(why) => f.write_str(why),
            #[cfg(feature = "testing")]
            Self::ByFault(why) => f.write_str(why),
            Self::Io(e) if e.kind() == io::ErrorKind::ConnectionReset => {
                f.write_str("the client reset it")
            }
            Self::Io(e) => e.fmt(f),
        }
    }
}
