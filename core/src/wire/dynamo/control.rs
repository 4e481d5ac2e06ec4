//! The JSON a Dynamo call travels with: the control message of the request, the handshake and prologue of a stream.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::wire::codec::Codec;
use crate::wire::dynamo::typed_failure::{self, Failure};
use crate::wire::json;
use crate::wire::misfit::{Field, Misfit, misfit, shown};
use crate::wire::parse::{Error, ErrorKind};

/// Bytes of a control message a sender allows itself; Dynamo's bound too.
pub const MAX_CONTROL: usize = 131_072;
/// The `transport` of a call-home over TCP.
pub const TCP: &str = "tcp_server";
/// The `transport` of a response over QUIC, which this build does not speak.
const QUIC: &str = "quic-response";

/// The header of a request's two-part payload. Unknown keys are ignored on reading; keys are written in Dynamo's order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Control {
    /// The context id of the call. Must equal `context` inside [`Control::connection_info`].
    pub id: String,
    /// Whether the input is one value or a stream.
    pub request_type: RequestType,
    /// Always a stream in practice.
    pub response_type: ResponseType,
    /// Encoding of body and items; JSON if not given.
    #[serde(default)]
    pub payload_codec: Codec,
    /// Where to bring the response.
    pub connection_info: ConnectionInfo,
    /// What the caller wants the handler to know. Not written if empty.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// When the frontend sent it, in nanoseconds since the UNIX epoch. Dynamo 1.6.1 sends a header instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frontend_send_ts_ns: Option<u64>,
    /// Where to fetch the request items, exactly if the input is a stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_stream_connection_info: Option<ConnectionInfo>,
}

/// The shape of a call's input.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestType {
    /// One value, the body of the request.
    SingleIn,
    /// A stream of items over a connection of its own.
    ManyIn,
}

/// The shape of a call's output. Both are served as a stream.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResponseType {
    /// One item. Never sent by Dynamo, understood by it.
    SingleOut,
    /// A stream of items.
    ManyOut,
}

/// How the worker reaches the frontend: a transport's name, and a text only that transport understands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ConnectionInfo {
    /// [`TCP`], or something this build does not speak.
    pub transport: String,
    /// For [`TCP`], a [`CallHome`] as JSON text.
    pub info: String,
}

/// Where and how to dial home over TCP.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CallHome {
    /// `host:port`, IPv6 in brackets or, from Dynamo 1.2, without.
    pub address: String,
    /// Names this stream at the frontend; used once.
    pub subject: String,
    /// The context id of the call.
    pub context: String,
    /// Which of the call's streams this is.
    pub stream_type: StreamType,
}

impl CallHome {
    const FIELDS: &[Field] = &[
        Field::required::<String>("address", "a text"),
        Field::required::<String>("subject", "a text"),
        Field::required::<String>("context", "a text"),
        Field::required::<StreamType>("stream_type", "response or request"),
    ];

    /// Where to dial, if `address` is an IP address and a port. Dynamo 1.2 writes `::1:4100` for `[::1]:4100`.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        self.address.parse().ok().or_else(|| {
            let (ip, port) = self.address.rsplit_once(':')?;
            Some(SocketAddr::new(IpAddr::V6(ip.parse().ok()?), port.parse().ok()?))
        })
    }

    /// The response stream's place in a control message that [`Control::read`] refuses, if that much of it can be read: so
    /// that its sender can be told.
    pub fn from_broken_control(header: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Place {
            id: String,
            connection_info: ConnectionInfo,
        }
        let place: Place = json::read(header).ok()?;
        place.connection_info.call_home(&place.id, StreamType::Response).ok()
    }
}

/// Which of a call's two streams a call-home connection carries.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamType {
    /// Items of the response, worker to frontend.
    Response,
    /// Items of the request, frontend to worker.
    Request,
}

impl Control {
    const FIELDS: &[Field] = &[
        Field::required::<String>("id", "a text"),
        Field::required::<RequestType>("request_type", "single_in or many_in"),
        Field::required::<ResponseType>("response_type", "single_out or many_out"),
        Field::optional::<Codec>("payload_codec", "json or msgpack"),
        Field::required::<ConnectionInfo>("connection_info", ConnectionInfo::SHAPE),
        Field::optional::<BTreeMap<String, String>>("metadata", "an object of texts"),
        Field::optional::<Option<u64>>("frontend_send_ts_ns", "a whole number"),
        Field::optional::<Option<ConnectionInfo>>("request_stream_connection_info", ConnectionInfo::SHAPE),
    ];

    /// Reads a control message.
    ///
    /// # Errors
    /// [`ErrorKind::BadJson`] if it is not JSON, a required key is missing, or an enumerated value is unknown;
    /// [`Control::misfit`] says which.
    pub fn read(header: &[u8]) -> Result<Self, Error> {
        json::read(header)
    }

    /// What is wrong with a control message that [`Control::read`] refused with `error`.
    pub fn misfit(header: &[u8], error: Error) -> Misfit {
        misfit(header, error, Self::FIELDS)
    }

    /// Writes the control message.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] beyond [`MAX_CONTROL`].
    pub fn write(&self) -> Result<Vec<u8>, Error> {
        json::write(self, MAX_CONTROL)
    }

    /// Where to bring the response, checked against the rest of the message.
    ///
    /// # Errors
    /// See [`CallHomeError`].
    pub fn response_stream(&self) -> Result<CallHome, CallHomeError> {
        self.connection_info.call_home(&self.id, StreamType::Response)
    }

    /// Where to fetch the request items, checked against the rest of the message.
    ///
    /// # Errors
    /// See [`CallHomeError`]; [`CallHomeError::Missing`] if the message names no such place.
    pub fn request_stream(&self) -> Result<CallHome, CallHomeError> {
        let info = self.request_stream_connection_info.as_ref().ok_or(CallHomeError::Missing)?;
        info.call_home(&self.id, StreamType::Request)
    }
}

impl ConnectionInfo {
    const SHAPE: &str = "an object with the texts transport and info";

    /// The place `call_home` names.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] beyond [`MAX_CONTROL`].
    pub fn new(call_home: &CallHome) -> Result<Self, Error> {
        let info = String::from_utf8(json::write(call_home, MAX_CONTROL)?);
        let info = info.map_err(|_| Error::new(ErrorKind::NotUtf8, 0))?;
        Ok(Self { transport: TCP.into(), info })
    }

    fn call_home(&self, id: &str, expected: StreamType) -> Result<CallHome, CallHomeError> {
        match self.transport.as_str() {
            TCP => {}
            QUIC => return Err(CallHomeError::Quic),
            name => return Err(CallHomeError::UnknownTransport { stream: expected, name: shown(name).into() }),
        }
        let info = self.info.as_bytes();
        let malformed = |error| CallHomeError::Malformed(misfit(info, error, CallHome::FIELDS));
        let call_home: CallHome = json::read(info).map_err(malformed)?;
        if call_home.stream_type != expected {
            return Err(CallHomeError::WrongStream);
        }
        if call_home.context != id {
            return Err(CallHomeError::WrongContext);
        }
        Ok(call_home)
    }
}

/// Why a worker may not dial the place a control message names.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CallHomeError {
    /// The message names no place for this stream.
    Missing,
    /// The response is wanted over QUIC, which this build does not speak.
    Quic,
    /// The transport is not one this build knows. Dynamo 1.7 has `velo_response`, and others may follow.
    UnknownTransport {
        /// What it was to carry.
        stream: StreamType,
        /// Its name, the beginning of it in harmless letters.
        name: Box<str>,
    },
    /// The text is not what the transport demands.
    Malformed(Misfit),
    /// The place is for the call's other stream.
    WrongStream,
    /// The place belongs to another call: `context` is not the message's `id`.
    WrongContext,
}

impl fmt::Display for CallHomeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("no connection info for this stream"),
            Self::Quic => {
                f.write_str("responses over QUIC are not supported here, set DYN_RESPONSE_PLANE=tcp at the caller")
            }
            Self::UnknownTransport { stream, name } => {
                let what = if *stream == StreamType::Request { "request" } else { "response" };
                write!(f, "{what} transport {name} not supported")
            }
            Self::Malformed(error) => write!(f, "connection info: {error}"),
            Self::WrongStream => f.write_str("connection info is for the other stream"),
            Self::WrongContext => f.write_str("connection info belongs to another call"),
        }
    }
}

impl core::error::Error for CallHomeError {}

/// The first frame of a call-home connection: which stream it carries.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Handshake {
    /// See [`CallHome::subject`].
    pub subject: String,
    /// See [`CallHome::stream_type`].
    pub stream_type: StreamType,
}

impl Handshake {
    /// Reads a handshake.
    ///
    /// # Errors
    /// [`ErrorKind::BadJson`] as [`Control::read`].
    pub fn read(header: &[u8]) -> Result<Self, Error> {
        json::read(header)
    }

    /// Writes the handshake.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] beyond [`MAX_CONTROL`].
    pub fn write(&self) -> Result<Vec<u8>, Error> {
        json::write(self, MAX_CONTROL)
    }
}

/// The second frame of a response stream: whether the handler has produced its stream.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Prologue {
    /// `None` if the stream is there, else what went wrong, for display.
    #[serde(default)]
    pub error: Option<String>,
    /// The same as a typed failure, if the worker knows it.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "typed_failure::in_prologue")]
    pub typed_error: Option<Failure>,
}

impl Prologue {
    /// Reads a prologue.
    ///
    /// # Errors
    /// [`ErrorKind::BadJson`] if it is not a JSON object of this shape.
    pub fn read(header: &[u8]) -> Result<Self, Error> {
        json::read(header)
    }

    /// Writes the prologue.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] beyond [`MAX_CONTROL`].
    pub fn write(&self) -> Result<Vec<u8>, Error> {
        json::write(self, MAX_CONTROL)
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;
    use crate::wire::dynamo::failure_key::Key;

    const WIRE: &str = concat!(
        r#"{"id":"c-1","request_type":"single_in","response_type":"many_out","payload_codec":"msgpack","#,
        r#""connection_info":{"transport":"tcp_server","info":"{\"address\":\"127.0.0.1:41002\",\"subject\":\"s-1\","#,
        r#"\"context\":\"c-1\",\"stream_type\":\"response\"}"},"metadata":{"a":"1","ü":"☃"}}"#
    );

    fn call_home() -> CallHome {
        CallHome {
            address: "127.0.0.1:41002".into(),
            subject: "s-1".into(),
            context: "c-1".into(),
            stream_type: StreamType::Response,
        }
    }

    fn control() -> Control {
        Control {
            id: "c-1".into(),
            request_type: RequestType::SingleIn,
            response_type: ResponseType::ManyOut,
            payload_codec: Codec::Msgpack,
            connection_info: ConnectionInfo::new(&call_home()).unwrap(),
            metadata: [("ü".into(), "☃".into()), ("a".into(), "1".into())].into(),
            frontend_send_ts_ns: None,
            request_stream_connection_info: None,
        }
    }

    #[test]
    fn a_control_message_comes_apart_into_its_fields() {
        let read = Control::read(WIRE.as_bytes()).unwrap();
        assert_eq!(read, control());
        assert_eq!(read.response_stream(), Ok(call_home()));
        assert_eq!(read.request_stream(), Err(CallHomeError::Missing));
    }

    #[test]
    fn a_control_message_is_written_in_dynamos_order() {
        assert_eq!(control().write(), Ok(WIRE.as_bytes().to_vec()));
    }

    #[test]
    fn a_control_message_that_is_too_long_is_not_written() {
        let mut control = control();
        control.metadata.insert("long".into(), "x".repeat(MAX_CONTROL));
        assert!(matches!(control.write(), Err(Error { kind: ErrorKind::TooLarge { limit: 131_072, .. }, .. })));
    }

    #[test]
    fn missing_optional_keys_have_defaults_and_unknown_keys_are_ignored() {
        let info = r#""connection_info":{"transport":"x","info":"y","z":0}"#;
        let text = std::format!(
            r#" {{"later":[{{}}],{info},"response_type":"single_out","request_type":"many_in","id":""}} "#
        );
        let read = Control::read(text.as_bytes()).unwrap();
        assert_eq!((read.payload_codec, read.response_type), (Codec::Json, ResponseType::SingleOut));
        let unknown = CallHomeError::UnknownTransport { stream: StreamType::Response, name: "x".into() };
        assert_eq!(read.response_stream(), Err(unknown));
    }

    #[test]
    fn a_control_message_that_breaks_a_rule_is_refused() {
        for (from, to) in [("msgpack", "cbor"), ("many_out", "none_out"), ("\"id\"", "\"di\""), ("{\"id", "[{\"id")] {
            let error = Control::read(WIRE.replacen(from, to, 1).as_bytes()).unwrap_err();
            assert_eq!(error.kind, ErrorKind::BadJson, "{from}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_control_message_is_named_with_its_value() {
        let said = |from: &str, to: &str| {
            let wire = WIRE.replacen(from, to, 1);
            let error = Control::read(wire.as_bytes()).unwrap_err();
            Control::misfit(wire.as_bytes(), error).to_string()
        };
        for (from, to, words) in [
            (r#""msgpack""#, r#""cbor""#, r#"`payload_codec` is "cbor", not json or msgpack"#),
            (r#""msgpack""#, "null", "`payload_codec` is null, not json or msgpack"),
            (r#""response_type":"many_out","#, "", "`response_type` is missing"),
            ("many_out", "none_out", r#"`response_type` is "none_out", not single_out or many_out"#),
            (r#""single_in""#, "7", "`request_type` is 7, not single_in or many_in"),
            (r#""id":"c-1","#, "", "`id` is missing"),
            (r#""a":"1""#, r#""a":1"#, r#"`metadata` is {"a":1,"ü":"☃"}, not an object of texts"#),
            (r#""transport":"tcp_server","#, "", "`connection_info` is"),
            (r#"{"id":"c-1""#, r#"{"id":"c-1","id":"c-1""#, "malformed JSON at byte"),
        ] {
            let said = said(from, to);
            assert!(said.starts_with(&words.replace('☃', "?")), "{said}");
        }
        let mut place = control();
        place.connection_info.info = r#"{"address":"a","subject":"s","context":"c-1","stream_type":"both"}"#.into();
        let error = place.response_stream().unwrap_err();
        assert_eq!(error.to_string(), r#"connection info: `stream_type` is "both", not response or request"#);
    }

    #[test]
    fn a_worker_dials_only_what_belongs_to_the_call() {
        let other = Control { id: "c-2".into(), ..control() };
        assert_eq!(other.response_stream(), Err(CallHomeError::WrongContext));
        let both = Control { request_stream_connection_info: Some(control().connection_info), ..control() };
        assert_eq!(both.request_stream(), Err(CallHomeError::WrongStream));
        let mut broken = control();
        broken.connection_info.info.push('x');
        assert!(matches!(broken.response_stream(), Err(CallHomeError::Malformed(_))));
    }

    #[test]
    fn a_handshake_leads_back_to_its_bytes() {
        let bytes = br#"{"subject":"e28a2fb1-ce9f-4c44-b324-4c357816aa2d","stream_type":"response"}"#;
        let handshake = Handshake::read(bytes).unwrap();
        assert_eq!((handshake.stream_type, bytes.len()), (StreamType::Response, 75));
        assert_eq!(handshake.write(), Ok(bytes.to_vec()));
        assert!(Handshake::read(br#"{"subject":"s"}"#).is_err());
    }

    #[test]
    fn a_prologue_leads_back_to_its_bytes() {
        assert_eq!(Prologue::default().write(), Ok(b"{\"error\":null}".to_vec()));
        assert_eq!(Prologue::read(b"{}"), Ok(Prologue::default()));
        let failed = Prologue { error: Some("no".into()), typed_error: Some(Failure::new(Key::Unclassified, "no")) };
        let bytes = concat!(
            r#"{"error":"no","typed_error":{"error_type":"Unknown","class":"Internal","reason":"runtime.unclassified","#,
            r#""message":"no","diagnostic":"no"}}"#
        );
        assert_eq!(failed.write(), Ok(bytes.as_bytes().to_vec()));
        assert_eq!(Prologue::read(bytes.as_bytes()), Ok(failed));
        assert!(Prologue::read(b"not json").is_err());
    }

    #[test]
    fn a_typed_error_of_unknown_type_without_class_is_ignored_in_a_prologue() {
        let typed =
            |json: &str| Prologue::read(std::format!(r#"{{"typed_error":{json}}}"#).as_bytes()).unwrap().typed_error;
        assert_eq!(typed(r#"{"error_type":"Martian","message":"m"}"#), None);
        assert_eq!(typed(r#"{"message":"m"}"#), None);
        assert_eq!(typed("null"), None);
        assert_eq!(typed(r#"{"error_type":"Unknown"}"#).map(|failure| failure.key()), Some(Key::Unclassified));
        assert_eq!(typed(r#"{"class":"Martian"}"#).map(|failure| failure.key()), Some(Key::InvalidError));
    }

    #[test]
    fn an_address_is_an_ip_and_a_port_with_or_without_brackets() {
        let addr = |address: &str| {
            let home = CallHome {
                address: address.into(),
                subject: String::new(),
                context: String::new(),
                stream_type: StreamType::Response,
            };
            home.socket_addr().map(|addr| alloc::format!("{addr}"))
        };
        for (written, read) in [
            ("127.0.0.1:4100", Some("127.0.0.1:4100")),
            ("[::1]:4100", Some("[::1]:4100")),
            ("::1:4100", Some("[::1]:4100")),
            ("fe80::a:b:4100", Some("[fe80::a:b]:4100")),
            ("localhost:4100", None),
            ("127.0.0.1", None),
            ("::1:65536", None),
            ("", None),
        ] {
            assert_eq!(addr(written).as_deref(), read, "{written}");
        }
    }
}
