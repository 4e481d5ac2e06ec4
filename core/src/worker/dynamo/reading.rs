//! What a Dynamo request says: a call, something to be refused where its answer goes, or in the ack.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use crate::dynamo::request::message::Message;
use crate::wire::codec::Codec;
use crate::wire::dynamo::ack::UNKNOWN_ENDPOINT;
use crate::wire::dynamo::control::{CallHome, Control, RequestType};
use crate::wire::dynamo::failure_key::Key as FailureKey;
use crate::wire::dynamo::headers::{self, Headers};
use crate::wire::dynamo::two_part::TwoPart;
use crate::wire::dynamo::typed_failure::Failure;
use crate::wire::mux::message::Open;
use crate::wire::parse::{Format, Limits, Parse};
use crate::worker::config::Config;
use crate::worker::dynamo::failures::failure;

/// What a request turns into.
pub(in crate::worker) enum Verdict {
    /// A call.
    Call(Call),
    /// An error prologue.
    Refusal(Destination, Codec, Failure),
}

/// What a request asks for.
pub(in crate::worker) struct Call {
    pub(in crate::worker) home: Destination,
    pub(in crate::worker) codec: Codec,
    pub(in crate::worker) header: Bytes,
    pub(in crate::worker) remaining_us: Option<u64>,
    /// Whether it has been tried before.
    pub(in crate::worker) repeated: bool,
    pub(in crate::worker) input: Input,
}

/// Where a stream of a call is to be brought or fetched.
pub(in crate::worker) struct Destination {
    pub(in crate::worker) subject: String,
    pub(in crate::worker) addr: SocketAddr,
}

/// The items of a request.
pub(in crate::worker) enum Input {
    /// One, here.
    Body(Bytes),
    /// Any number, to be fetched.
    Stream(Destination),
}

/// Text of a path an ack echoes, in bytes.
const MAX_ECHO: usize = 256;

/// The ack for a path nobody serves.
pub(in crate::worker) fn unknown_endpoint(path: &[u8]) -> Cow<'static, str> {
    let shown = String::from_utf8_lossy(path.get(..MAX_ECHO.min(path.len())).unwrap_or_default());
    let dots = if path.len() > MAX_ECHO { "..." } else { "" };
    alloc::format!("{UNKNOWN_ENDPOINT}{shown}{dots}").into()
}

/// Everything a request says, or the ack's text if it does not say where to bring an answer.
pub(in crate::worker) fn read_request(
    message: &Message<'_>,
    said: &Headers<'_>,
    path: &str,
    config: &Config,
) -> Result<Verdict, Cow<'static, str>> {
    let payload = &message.payload;
    let max = config.requests.max_message;
    if payload.len() > max {
        let text = alloc::format!("Server unavailable: message too large: {} bytes (max: {max} bytes)", payload.len());
        return Err(text.into());
    }
    let limits = Limits { max_body: max, ..Limits::default() };
    let part = match TwoPart::parse(payload, &limits) {
        Ok(Parse::Complete { value, .. }) => value,
        Ok(Parse::Incomplete { .. }) => return Err("Server unavailable: truncated payload".into()),
        Err(error) => return Err(alloc::format!("Server unavailable: payload: {error}").into()),
    };
    let refused = |error: &dyn fmt::Display| Cow::Owned(alloc::format!("Server unavailable: {error}"));
    let (control, home) = match Control::read(part.header) {
        Ok(control) => {
            let home = control.response_stream().map_err(|error| refused(&error))?;
            (Ok(control), home)
        }
        Err(error) => {
            let text = alloc::format!("control message: {}", Control::misfit(part.header, error));
            let home = CallHome::from_broken_control(part.header).ok_or_else(|| refused(&text))?;
            (Err(text), home)
        }
    };
    let home =
        place(home, message.peer, config).map_err(|why| refused(&format_args!("the call-home address {why}")))?;
    // From here on the caller can be told at home.
    let control = match control {
        Ok(control) => control,
        Err(text) => return Ok(Verdict::Refusal(home, Codec::Json, failure(FailureKey::InvalidArgument, &text))),
    };
    let codec = control.payload_codec;
    let body = payload.slice_ref(part.body);
    let input = match input(&control, &home, body, message.peer, config) {
        Ok(input) => input,
        Err(text) => return Ok(Verdict::Refusal(home, codec, failure(FailureKey::InvalidArgument, &text))),
    };
    // A header first; a caller behind something that drops headers still has the pair.
    let pair = control.metadata.get(headers::REMAINING).and_then(|text| text.parse().ok());
    let remaining_us = said.remaining_us().or(pair);
    let Some(header) = open_header(path, &control, said, remaining_us) else {
        let failure = failure(FailureKey::InvalidArgument, "an id, a header or a metadata entry is too long");
        return Ok(Verdict::Refusal(home, codec, failure));
    };
    let repeated = said.attempts() > 0;
    Ok(Verdict::Call(Call { home, codec, header, remaining_us, repeated, input }))
}

/// What the request brings, or where to fetch it; else what is wrong with it. A body without a place to fetch more is one
/// item, whatever the request calls itself: so does a Dynamo worker read it.
fn input(
    control: &Control,
    home: &Destination,
    body: Bytes,
    peer: Option<SocketAddr>,
    config: &Config,
) -> Result<Input, Cow<'static, str>> {
    let one = control.request_type == RequestType::SingleIn || control.request_stream_connection_info.is_none();
    if one && !body.is_empty() {
        return Ok(Input::Body(body));
    }
    if control.request_type == RequestType::SingleIn {
        return Err("the request has no body".into());
    }
    if !body.is_empty() {
        return Err("the request has a body and a stream of items".into());
    }
    let fetch = control.request_stream().map_err(|error| alloc::format!("the request stream: {error}"))?;
    if fetch.subject == home.subject {
        return Err("both streams of the call have one subject".into());
    }
    let fetch = place(fetch, peer, config).map_err(|why| alloc::format!("the request stream's address {why}"))?;
    Ok(Input::Stream(fetch))
}

/// Where to dial, or why not there.
fn place(home: CallHome, peer: Option<SocketAddr>, config: &Config) -> Result<Destination, &'static str> {
    let addr = home.socket_addr().ok_or("is not an IP address and port")?;
    if config.may_dial(addr.ip(), peer.map(|peer| peer.ip())) {
        Ok(Destination { subject: home.subject, addr })
    } else {
        Err("is not the requester's and not on the allow list")
    }
}

/// The same words a mux call opens with, so that the application reads both alike.
fn open_header(path: &str, control: &Control, said: &Headers<'_>, remaining_us: Option<u64>) -> Option<Bytes> {
    let open = Open {
        path,
        request_id: &control.id,
        remaining_us,
        traceparent: said.traceparent(),
        tracestate: said.tracestate(),
        codec: Some(control.payload_codec.name()),
        priority: said.priority(),
        tenant: said.tenant(),
        attempts: said.attempts(),
        x_request_id: said.x_request_id(),
        fields: &[],
    };
    let pairs = control.metadata.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    // What is ours stands in the fields above.
    let metadata = pairs.filter(|(key, _)| *key != headers::REMAINING);
    let mut bytes = Vec::new();
    open.write(metadata, |part| bytes.extend_from_slice(part)).ok()?;
    Some(bytes.into())
}

impl Config {
    /// Whether a requester at `peer` may have this worker dial `addr`. A requester on this host may name any address: it
    /// could dial it as well as we can. Others only their own, and what is allowed.
    pub(in crate::worker) fn may_dial(&self, addr: IpAddr, peer: Option<IpAddr>) -> bool {
        let canonical = addr.to_canonical();
        let peer = peer.map(|peer| peer.to_canonical());
        let requester = peer.is_some_and(|peer| peer.is_loopback() || peer == canonical);
        requester || self.call_home.iter().flatten().any(|prefix| prefix.contains(canonical))
    }
}
