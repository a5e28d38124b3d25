//! One connection: requests out, answers in, in the same order.

use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tidelog_protocol::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use tidelog_protocol::messages::envelope::{EnvelopeRequest, EnvelopeResponse};
use tidelog_protocol::{
    ApiKey, DecodeError, EncodeError, Message, Reader, Request, RequestHeader, Response,
    ResponseHeader, VersionRange, Writer, frame,
};
use tidelog_types::{ErrorCode, Str};
use tokio::sync::mpsc;

use super::{Config, OnBehalf, Outgoing, PeerError, Reply, SOFTWARE_NAME};
use crate::clock::real::{self, Sleep};
use crate::net::transport::Transport;

/// How many requests may be under way on one connection. A node takes that many before it stops reading.
const REQUESTS_IN_FLIGHT_MAX: usize = 64;
/// How much room a read offers.
const READ_BYTES: usize = 16 << 10;
/// How many slices one write carries at most.
const SLICES_MAX: usize = 16;

/// Why a connection is over.
pub(super) enum Ended {
    /// Nobody will send anything any more.
    Dropped,
    /// It broke, or the other side said what makes no sense.
    Lost(String),
    /// An answer did not come in time.
    TimedOut,
}

/// An open connection.
pub(super) struct Exchange {
    transport: Box<dyn Transport>,
    client_id: Str,
    request_timeout: Duration,
    response_bytes_max: usize,
    versions: HashMap<ApiKey, VersionRange>,
    correlation_id: i32,
    output: VecDeque<Bytes>,
    input: BytesMut,
    /// In the order in which they were sent, which is that of the answers and of the deadlines.
    in_flight: VecDeque<InFlight>,
    deadline: Pin<Box<Sleep>>,
}

/// A request that was sent.
struct InFlight {
    correlation_id: i32,
    expected: Expected,
    deadline: tokio::time::Instant,
    reply: Reply,
}

/// What the answer is to look like.
#[derive(Clone, Copy)]
struct Expected {
    key: ApiKey,
    version: i16,
    enveloped: bool,
}

impl Exchange {
    /// Asks the other node for the versions of all its APIs.
    pub(super) async fn open(transport: Box<dyn Transport>, config: &Config) -> io::Result<Self> {
        let mut exchange = Self {
            transport,
            client_id: config.client_id.clone(),
            request_timeout: config.request_timeout,
            response_bytes_max: config.response_bytes_max,
            versions: HashMap::new(),
            correlation_id: 0,
            output: VecDeque::new(),
            input: BytesMut::new(),
            in_flight: VecDeque::new(),
            deadline: Box::pin(real::sleep(config.request_timeout)),
        };
        exchange.versions = exchange.negotiate().await?;
        Ok(exchange)
    }

    /// Serves the connection until it is over.
    pub(super) async fn run(
        &mut self,
        first: Option<Outgoing>,
        queued: &mut mpsc::Receiver<Outgoing>,
    ) -> Ended {
        if let Some(first) = first {
            self.start(first);
        }
        poll_fn(|cx| self.poll(cx, queued)).await
    }

    /// Tells everybody who waits that no answer will come.
    pub(super) fn fail(&mut self, error: &PeerError) {
        for waiting in self.in_flight.drain(..) {
            (waiting.reply)(Err(error.clone()));
        }
    }

    /// Makes all progress that can be made; ready when the connection is over.
    fn poll(&mut self, cx: &mut Context<'_>, queued: &mut mpsc::Receiver<Outgoing>) -> Poll<Ended> {
        loop {
            let mut progress = false;
            while self.in_flight.len() < REQUESTS_IN_FLIGHT_MAX
                && let Poll::Ready(outgoing) = queued.poll_recv(cx)
            {
                let Some(outgoing) = outgoing else {
                    return Poll::Ready(Ended::Dropped);
                };
                self.start(outgoing);
                progress = true;
            }
            match self
                .transmit(cx)
                .and_then(|wrote| Ok(wrote | self.receive(cx)?))
            {
                Ok(moved) => progress |= moved,
                Err(error) => return Poll::Ready(Ended::Lost(error.to_string())),
            }
            if !progress {
                return self.poll_deadline(cx);
            }
        }
    }

    /// Waits for the time until which the oldest request must be answered.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        let Some(oldest) = self.in_flight.front() else {
            return Poll::Pending;
        };
        if self.deadline.deadline() != oldest.deadline {
            self.deadline.as_mut().reset(oldest.deadline);
        }
        ready!(self.deadline.as_mut().poll(cx));
        Poll::Ready(Ended::TimedOut)
    }

    /// Puts a request behind those that wait to be written.
    fn start(&mut self, outgoing: Outgoing) {
        let Outgoing {
            request,
            version_max,
            on_behalf,
            reply,
        } = outgoing;
        let correlation_id = self.next_correlation_id();
        match self.encode(correlation_id, (&request, version_max), on_behalf.as_ref()) {
            Ok((frame, expected)) => {
                self.output.push_back(frame);
                self.in_flight.push_back(InFlight {
                    correlation_id,
                    expected,
                    deadline: (real::now() + self.request_timeout).into(),
                    reply,
                });
            }
            Err(reason) => reply(Err(PeerError::Unsupported {
                api: request.key(),
                reason,
            })),
        }
    }

    const fn next_correlation_id(&mut self) -> i32 {
        self.correlation_id = self.correlation_id.wrapping_add(1) & i32::MAX;
        self.correlation_id
    }

    /// The newest version of an API that both sides know, up to `max`.
    fn version(&self, key: ApiKey, max: i16) -> Result<i16, String> {
        let ours = key.api().map(|api| api.supported);
        let theirs = self.versions.get(&key);
        let both = ours.zip(theirs).and_then(|(ours, theirs)| {
            let newest = ours.max.min(theirs.max).min(max);
            (newest >= ours.min.max(theirs.min)).then_some(newest)
        });
        both.ok_or_else(|| "no version of it is known to both sides".to_owned())
    }

    fn encode(
        &self,
        correlation_id: i32,
        (request, version_max): (&Request, i16),
        on_behalf: Option<&OnBehalf>,
    ) -> Result<(Bytes, Expected), String> {
        let expected = Expected {
            key: request.key(),
            version: self.version(request.key(), version_max)?,
            enveloped: on_behalf.is_some(),
        };
        let refused = |error: EncodeError| error.to_string();
        let header = |key, version| RequestHeader {
            api_key: key,
            api_version: version,
            correlation_id,
            client_id: Some(self.client_id.clone()),
        };
        let mut writer = Writer::contiguous();
        let whole = header(expected.key, expected.version);
        let Some(on_behalf) = on_behalf else {
            let frame = framed(&mut writer, &whole, |writer| {
                request.write(writer, expected.version)
            });
            return Ok((frame.map_err(refused)?, expected));
        };
        let envelope_version = self.version(ApiKey::Envelope, i16::MAX)?;
        whole.write(&mut writer).map_err(refused)?;
        request
            .write(&mut writer, expected.version)
            .map_err(refused)?;
        let envelope = EnvelopeRequest {
            request_data: writer.finish_contiguous().map_err(refused)?,
            request_principal: Some(on_behalf.principal.clone()),
            client_host_address: on_behalf.client_address.clone(),
        };
        let outer = header(ApiKey::Envelope, envelope_version);
        let frame = framed(&mut writer, &outer, |writer| {
            envelope.write(writer, envelope_version)
        });
        Ok((frame.map_err(refused)?, expected))
    }

    /// Writes as much as the other side takes; tells whether anything was written.
    fn transmit(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut progress = false;
        while !self.output.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let mut count = 0;
            for (slice, bytes) in slices.iter_mut().zip(&self.output) {
                *slice = IoSlice::new(bytes);
                count += 1;
            }
            let Poll::Ready(wrote) = self.transport.poll_write(cx, &slices[..count]) else {
                break;
            };
            let mut wrote = wrote?;
            if wrote == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            progress = true;
            while let Some(front) = self.output.front_mut() {
                if front.len() > wrote {
                    front.advance(wrote);
                    break;
                }
                wrote -= front.len();
                self.output.pop_front();
            }
        }
        Ok(progress)
    }

    /// Reads what has arrived and hands out the answers; tells whether anything was read.
    fn receive(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut progress = false;
        while let Poll::Ready(frame) = self.poll_frame(cx) {
            self.answer(frame?)?;
            progress = true;
        }
        Ok(progress)
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        loop {
            match frame::next_frame(&mut self.input, self.response_bytes_max) {
                Ok(Some(frame)) => return Poll::Ready(Ok(frame)),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Err(io::Error::other(error))),
            }
            self.input.reserve(READ_BYTES);
            let read = ready!(self.transport.poll_read(cx, &mut self.input))?;
            if read == 0 {
                return Poll::Ready(Err(io::Error::other("the other side closed it")));
            }
        }
    }

    /// Hands an answer to whoever waits for it.
    fn answer(&mut self, frame: Bytes) -> io::Result<()> {
        let waiting = self.in_flight.pop_front();
        let waiting =
            waiting.ok_or_else(|| io::Error::other("an answer to nothing that was asked"))?;
        if self.in_flight.is_empty() && self.input.is_empty() {
            // A connection that does nothing keeps no buffer.
            self.input = BytesMut::new();
        }
        match waiting.expected.read(frame, waiting.correlation_id) {
            Ok(response) => {
                (waiting.reply)(Ok(response));
                Ok(())
            }
            Err(error) => {
                (waiting.reply)(Err(PeerError::Lost(error.clone())));
                Err(io::Error::other(error))
            }
        }
    }

    /// The versions of every API that the other side has (KIP-35, KIP-511).
    async fn negotiate(&mut self) -> io::Result<HashMap<ApiKey, VersionRange>> {
        let request = ApiVersionsRequest {
            client_software_name: SOFTWARE_NAME.into(),
            client_software_version: env!("CARGO_PKG_VERSION").into(),
        };
        let mut version = ApiVersionsRequest::VERSIONS.max;
        loop {
            let correlation_id = self.next_correlation_id();
            let header = RequestHeader {
                api_key: ApiKey::ApiVersions,
                api_version: version,
                correlation_id,
                client_id: Some(self.client_id.clone()),
            };
            let asked = framed(&mut Writer::contiguous(), &header, |writer| {
                request.write(writer, version)
            });
            self.output.push_back(asked.map_err(io::Error::other)?);
            let frame = poll_fn(|cx| {
                self.transmit(cx)?;
                self.poll_frame(cx)
            });
            let frame = frame.await?;
            // A node that does not know the version says so in version 0, along with what it knows.
            let is_refused =
                frame.get(4..6) == Some(&ErrorCode::UNSUPPORTED_VERSION.code().to_be_bytes()[..]);
            let mut reader = Reader::new(frame);
            let in_version = if is_refused { 0 } else { version };
            let answer = ResponseHeader::read(&mut reader, ApiKey::ApiVersions, in_version)
                .and_then(|_| ApiVersionsResponse::read(&mut reader, in_version));
            let answer = answer.map_err(io::Error::other)?;
            let ranges = answer.api_keys.iter().map(|api| {
                let range = VersionRange::new(api.min_version, api.max_version);
                (api.api_key, range)
            });
            let ranges: HashMap<_, _> = ranges.collect();
            if !is_refused {
                return match answer.error_code.is_ok() {
                    true => Ok(ranges),
                    false => Err(io::Error::other(answer.error_code.to_string())),
                };
            }
            let known = ranges
                .get(&ApiKey::ApiVersions)
                .map_or(0, |range| range.max)
                .max(0);
            if known >= version {
                return Err(io::Error::other(
                    "it refuses the version of ApiVersions that it says it knows",
                ));
            }
            version = known;
        }
    }
}

impl Expected {
    /// Reads the answer; the error is a text for a log.
    fn read(self, frame: Bytes, correlation_id: i32) -> Result<Response, String> {
        let malformed = |error: DecodeError| format!("the answer is malformed: {error}");
        if !self.enveloped {
            return self.read_bare(frame, correlation_id).map_err(malformed)?;
        }
        let outer = Self {
            key: ApiKey::Envelope,
            version: 0,
            enveloped: false,
        };
        let envelope = outer.read_bare(frame, correlation_id).map_err(malformed)?;
        match envelope? {
            Response::Envelope(EnvelopeResponse {
                response_data: Some(inner),
                error_code: ErrorCode::NONE,
            }) => self.read_bare(inner, correlation_id).map_err(malformed)?,
            refused => Ok(refused),
        }
    }

    fn read_bare(
        self,
        frame: Bytes,
        correlation_id: i32,
    ) -> Result<Result<Response, String>, DecodeError> {
        let mut reader = Reader::new(frame);
        let header = ResponseHeader::read(&mut reader, self.key, self.version)?;
        if header.correlation_id != correlation_id {
            return Ok(Err("an answer to something else".to_owned()));
        }
        Response::read(&mut reader, self.key, self.version).map(Ok)
    }
}

/// A whole request in one piece: its length, header and body.
fn framed(
    writer: &mut Writer,
    header: &RequestHeader,
    body: impl FnOnce(&mut Writer) -> Result<(), EncodeError>,
) -> Result<Bytes, EncodeError> {
    let start = writer.mark();
    writer.put_u32(0);
    let after_length = writer.mark();
    header.write(writer)?;
    body(writer)?;
    let length = u32::try_from(writer.len_since(after_length)).unwrap_or(u32::MAX);
    writer.set_u32_at(start, length);
    writer.finish_contiguous()
}
