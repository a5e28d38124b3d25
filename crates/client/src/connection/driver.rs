//! The task of a connection: writes what is asked, hands on what is answered.

use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use tidelog_protocol::Chunk;
use tidelog_protocol::frame::{self, FrameError};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::sync::{mpsc, oneshot};

use super::{Ended, Shared};
use crate::Stream;

/// How many pieces one write takes.
const SLICES_MAX: usize = 64;
/// While more than this waits to be written, no further request is taken.
const OUTPUT_BYTES_MAX: usize = 4 << 20;
/// How much one read takes at most.
const READ_BYTES: usize = 64 << 10;
/// How much is set aside at most for an answer like the last one.
const EXPECTED_BYTES_MAX: usize = 4 << 20;
/// In how many buffers at most large answers lie that may be read into again: while one is read, one waits, and one is in use.
const FORMER_MAX: usize = 2;

/// A request on its way.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) correlation_id: i32,
    pub(super) chunks: Vec<Chunk>,
    /// Whether the broker answers it; if not, whoever waits hears when it has been written.
    pub(super) has_answer: bool,
    pub(super) answered: oneshot::Sender<Bytes>,
}

/// Bytes to write, and who wants to know when they are written.
struct Piece {
    bytes: Bytes,
    written: Option<oneshot::Sender<Bytes>>,
}

pub(super) struct Driver {
    stream: Box<dyn Stream>,
    queued: mpsc::Receiver<Outgoing>,
    output: VecDeque<Piece>,
    output_bytes: usize,
    input: BytesMut,
    /// How large the last answer was. The next one is expected to be alike, and then is read into one buffer and never moved.
    answer_bytes: usize,
    /// What is left of the buffers of former answers. Where nobody has anything of one any more, it takes a further answer, which the
    /// system then need not find new memory for.
    former: VecDeque<BytesMut>,
    waiting: HashMap<i32, oneshot::Sender<Bytes>>,
    response_bytes_max: usize,
    shared: Arc<Shared>,
}

impl Driver {
    pub(super) fn new(
        stream: Box<dyn Stream>,
        queued: mpsc::Receiver<Outgoing>,
        response_bytes_max: usize,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            stream,
            queued,
            output: VecDeque::new(),
            output_bytes: 0,
            input: BytesMut::new(),
            answer_bytes: 0,
            former: VecDeque::new(),
            waiting: HashMap::new(),
            response_bytes_max,
            shared,
        }
    }

    /// Until the connection is dropped or fails. Whoever waits learns of it by the dropped sender, after the reason is noted.
    pub(super) async fn run(mut self) {
        let why = poll_fn(|cx| self.poll(cx)).await;
        tracing::debug!(address = self.shared.address, reason = ?why, "the connection has ended");
        self.shared.end(why);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        loop {
            if self.take_requests(cx) {
                return Poll::Ready(Ended::ByBroker);
            }
            let was_full = self.is_full();
            if let Err(error) = self.write(cx) {
                // What the broker said before it closed says more.
                return Poll::Ready(match self.read(cx) {
                    Ok(()) | Err(Ended::ByBroker) => Ended::Failed(error),
                    Err(why) => why,
                });
            }
            if let Err(why) = self.read(cx) {
                return Poll::Ready(why);
            }
            // What has been written makes room for requests that nobody has looked at, so that nothing would wake this task.
            if !was_full || self.is_full() {
                return Poll::Pending;
            }
        }
    }

    const fn is_full(&self) -> bool {
        self.output_bytes > OUTPUT_BYTES_MAX
    }

    /// Takes what is to be sent; true if nobody can ask any more.
    fn take_requests(&mut self, cx: &mut Context<'_>) -> bool {
        while !self.is_full() {
            match self.queued.poll_recv(cx) {
                Poll::Ready(Some(request)) => self.take(request),
                Poll::Ready(None) => return true,
                Poll::Pending => break,
            }
        }
        false
    }

    fn take(&mut self, request: Outgoing) {
        self.shared.counters.requests.add(1);
        for chunk in request.chunks {
            // A client defers no bytes to a file.
            if let Chunk::Bytes(bytes) = chunk {
                self.output_bytes += bytes.len();
                self.output.push_back(Piece {
                    bytes,
                    written: None,
                });
            }
        }
        match (request.has_answer, self.output.back_mut()) {
            (false, Some(last)) => last.written = Some(request.answered),
            _ => {
                self.waiting
                    .insert(request.correlation_id, request.answered);
            }
        }
    }

    fn write(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while !self.output.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let mut count = 0;
            for (slice, piece) in slices.iter_mut().zip(&self.output) {
                *slice = IoSlice::new(&piece.bytes);
                count += 1;
            }
            let stream = Pin::new(&mut self.stream);
            match stream.poll_write_vectored(cx, &slices[..count]) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(written)) => self.advance(written),
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(()),
            }
        }
        match Pin::new(&mut self.stream).poll_flush(cx) {
            Poll::Ready(Err(error)) => Err(error),
            _ => Ok(()),
        }
    }

    fn advance(&mut self, mut written: usize) {
        self.shared.counters.bytes_sent.add(written as u64);
        self.output_bytes -= written;
        while let Some(piece) = self.output.front_mut() {
            if written < piece.bytes.len() {
                piece.bytes.advance(written);
                return;
            }
            written -= piece.bytes.len();
            if let Some(Piece {
                written: Some(told),
                ..
            }) = self.output.pop_front()
            {
                // Whoever asked may have given up.
                let _ = told.send(Bytes::new());
            }
        }
    }

    /// Reads until nothing more is there.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<(), Ended> {
        loop {
            self.hand_on()?;
            match self.read_some(cx) {
                Poll::Ready(Ok(0)) => return Err(Ended::ByBroker),
                Poll::Ready(Ok(read)) => self.shared.counters.bytes_received.add(read as u64),
                // TLS was not ended in order, which is no less of an end: frames say how long they are.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(Ended::ByBroker);
                }
                Poll::Ready(Err(error)) => return Err(Ended::Failed(error)),
                Poll::Pending => return Ok(()),
            }
        }
    }

    fn read_some(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // What a frame needs has been reserved where it was found to be incomplete.
        let is_small = self.input.is_empty() && self.input.capacity() < self.answer_bytes;
        if self.input.capacity() == self.input.len() || is_small {
            self.make_room();
        }
        pin!(self.stream.read_buf(&mut self.input)).poll(cx)
    }

    fn make_room(&mut self) {
        // Rounded up, so that answers which are about alike fit in each other's place.
        let room = self.answer_bytes.next_multiple_of(READ_BYTES);
        if room <= READ_BYTES {
            self.former.clear();
            return self.input.reserve(READ_BYTES);
        }
        if !self.input.is_empty() {
            return self.input.reserve(room);
        }
        if self.input.try_reclaim(room) {
            return;
        }
        let mut former = self.former.iter_mut();
        let free = former.position(|it| it.try_reclaim(room));
        let free = free.and_then(|index| self.former.remove(index));
        let free = free.unwrap_or_else(|| BytesMut::with_capacity(room));
        if self.former.len() == FORMER_MAX {
            self.former.pop_front();
        }
        let last = std::mem::replace(&mut self.input, free);
        self.former.push_back(last);
    }

    /// Hands every answer that is there to whoever waits for it.
    fn hand_on(&mut self) -> Result<(), Ended> {
        loop {
            let invalid = |what: &str| {
                let error = io::Error::new(io::ErrorKind::InvalidData, what);
                Err(Ended::Failed(error))
            };
            let frame = match frame::next_frame(&mut self.input, self.response_bytes_max) {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(()),
                Err(error) => return Err(self.beyond_rescue(error)),
            };
            let Some(id) = frame.first_chunk() else {
                return invalid("an answer without a correlation id");
            };
            let Some(answered) = self.waiting.remove(&i32::from_be_bytes(*id)) else {
                return invalid("an answer to nothing that was asked");
            };
            self.shared.answers.fetch_add(1, Ordering::Relaxed);
            self.answer_bytes = (size_of::<i32>() + frame.len()).min(EXPECTED_BYTES_MAX);
            // Whoever asked may have given up.
            let _ = answered.send(frame);
        }
    }

    /// What has come instead of a frame.
    fn beyond_rescue(&self, error: FrameError) -> Ended {
        /// The first bytes of a TLS alert, which a server sends to who does not begin with a handshake.
        const TLS_ALERT: &[u8] = &[21, 3];
        // Who has answered before has proven to be a broker.
        let has_answered = self.shared.answers.load(Ordering::Relaxed) > 0;
        match &self.input[..] {
            _ if has_answered => Ended::Failed(io::Error::new(io::ErrorKind::InvalidData, error)),
            input if input.starts_with(TLS_ALERT) => Ended::Tls,
            input if input.starts_with(b"HTTP") => {
                Ended::NotKafka("it answers like a web server".into())
            }
            _ => Ended::NotKafka(error.to_string()),
        }
    }
}
