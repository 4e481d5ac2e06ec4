//! The envelope of an event: Dynamo's, in MessagePack.

use crate::discovery::event::PublisherId;
use crate::wire::dynamo::headers::{TRACEPARENT, TRACESTATE, X_REQUEST_ID};
use crate::wire::msgpack::{self, Sink, Token, token};
use crate::wire::parse::{Error, ErrorKind, Reader, narrow};

/// An event as it travels.
///
/// Written as a map of these five fields in this order, each in its shortest form and the payload as bytes. Read as Dynamo
/// 1.6.1 reads it: fields in any order and others between them, an array of the five, the payload as text, and anything
/// behind. Source: a capture of Dynamo's publishers, and its subscriber fed with each variant.
///
/// An event of a trace has up to three fields more, before the payload; one of none is Dynamo's to the byte. Dynamo 1.6.1 passes
/// over them, as over all that it does not know.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Envelope<'a> {
    /// Whose it is.
    pub publisher: PublisherId,
    /// Its number among those of its publisher, from 0.
    pub sequence: u64,
    /// When it was published, in milliseconds since the epoch of Unix.
    pub published_at: u64,
    /// Its topic, as it is called: nothing in it is escaped.
    pub topic: &'a str,
    /// What it says, most often a MessagePack map.
    pub payload: &'a [u8],
    /// W3C `traceparent`, as it came: [`TraceContext::read`](crate::wire::context::TraceContext::read) judges it.
    pub traceparent: Option<&'a str>,
    /// W3C `tracestate`, likewise.
    pub tracestate: Option<&'a str>,
    /// A client's correlation id, likewise.
    pub x_request_id: Option<&'a str>,
}

const PUBLISHER: &str = "publisher_id";
const SEQUENCE: &str = "sequence";
const PUBLISHED_AT: &str = "published_at";
const TOPIC: &str = "topic";
const PAYLOAD: &str = "payload";

/// Fields of an envelope.
const FIELDS: u32 = 5;

impl<'a> Envelope<'a> {
    /// Reads the envelope at the start of `bytes`; what follows it is not looked at.
    ///
    /// # Errors
    /// [`Error`] with the place of what is no envelope.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        match token(&mut reader)? {
            Token::Map(entries) => {
                let mut fields = Fields::default();
                for _ in 0..entries {
                    fields.read(&mut reader)?;
                }
                fields.envelope().ok_or(Error::new(ErrorKind::Missing, reader.offset()))
            }
            Token::Array(FIELDS) => Ok(Self {
                publisher: PublisherId(number(&mut reader)?),
                sequence: number(&mut reader)?,
                published_at: number(&mut reader)?,
                topic: text(&mut reader)?,
                payload: blob(&mut reader)?,
                traceparent: None,
                tracestate: None,
                x_request_id: None,
            }),
            _ => Err(Error::new(ErrorKind::BadMsgpack, 0)),
        }
    }

    /// Bytes that [`Envelope::write`] adds.
    ///
    /// # Errors
    /// As there.
    pub fn written_len(&self) -> Result<usize, Error> {
        let mut count = Count(0);
        self.write(&mut count)?;
        Ok(count.0)
    }

    /// Writes it as Dynamo does.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] for a topic or payload of 4 GiB, [`ErrorKind::NoRoom`] if `out` is too small.
    pub fn write(&self, out: &mut impl Sink) -> Result<(), Error> {
        // A length that does not fit is found before anything is written.
        narrow::<u32>(self.payload.len(), u32::MAX.into(), 0)?;
        let trace = [(TRACEPARENT, self.traceparent), (TRACESTATE, self.tracestate), (X_REQUEST_ID, self.x_request_id)];
        let carried = || trace.into_iter().filter_map(|(name, text)| Some((name, Token::Str(text?.as_bytes()))));
        out.token(Token::Map(carried().fold(FIELDS, |fields, _| fields + 1)))?;
        let own = [
            (PUBLISHER, Token::Uint(self.publisher.0)),
            (SEQUENCE, Token::Uint(self.sequence)),
            (PUBLISHED_AT, Token::Uint(self.published_at)),
            (TOPIC, Token::Str(self.topic.as_bytes())),
        ];
        for (name, value) in own.into_iter().chain(carried()).chain([(PAYLOAD, Token::Bin(self.payload))]) {
            out.token(Token::Str(name.as_bytes()))?;
            out.token(value)?;
        }
        Ok(())
    }
}

/// What a map has held so far.
#[derive(Default)]
struct Fields<'a> {
    publisher: Option<u64>,
    sequence: Option<u64>,
    published_at: Option<u64>,
    topic: Option<&'a str>,
    payload: Option<&'a [u8]>,
    traceparent: Option<&'a str>,
    tracestate: Option<&'a str>,
    x_request_id: Option<&'a str>,
}

impl<'a> Fields<'a> {
    /// Reads one entry. A name that is not an envelope's is passed over with its value.
    fn read(&mut self, reader: &mut Reader<'a>) -> Result<(), Error> {
        let at = reader.offset();
        let name = msgpack::value(reader)?;
        let name = match token(&mut Reader::new(name)) {
            Ok(Token::Str(name)) => name,
            _ => &[],
        };
        let first = match name {
            _ if name == PUBLISHER.as_bytes() => self.publisher.replace(number(reader)?).is_none(),
            _ if name == SEQUENCE.as_bytes() => self.sequence.replace(number(reader)?).is_none(),
            _ if name == PUBLISHED_AT.as_bytes() => self.published_at.replace(number(reader)?).is_none(),
            _ if name == TOPIC.as_bytes() => self.topic.replace(text(reader)?).is_none(),
            _ if name == PAYLOAD.as_bytes() => self.payload.replace(blob(reader)?).is_none(),
            _ => {
                self.carry(name, msgpack::value(reader)?);
                true
            }
        };
        if first { Ok(()) } else { Err(Error::new(ErrorKind::Unexpected, at)) }
    }

    /// Keeps a value of a trace. One that is no text is passed over like a name that is not known.
    fn carry(&mut self, name: &[u8], value: &'a [u8]) {
        let place = match name {
            _ if name == TRACEPARENT.as_bytes() => &mut self.traceparent,
            _ if name == TRACESTATE.as_bytes() => &mut self.tracestate,
            _ if name == X_REQUEST_ID.as_bytes() => &mut self.x_request_id,
            _ => return,
        };
        *place = text(&mut Reader::new(value)).ok();
    }

    fn envelope(self) -> Option<Envelope<'a>> {
        Some(Envelope {
            publisher: PublisherId(self.publisher?),
            sequence: self.sequence?,
            published_at: self.published_at?,
            topic: self.topic?,
            payload: self.payload?,
            traceparent: self.traceparent,
            tracestate: self.tracestate,
            x_request_id: self.x_request_id,
        })
    }
}

fn number(reader: &mut Reader<'_>) -> Result<u64, Error> {
    let at = reader.offset();
    match token(reader)? {
        Token::Uint(number) => Ok(number),
        _ => Err(Error::new(ErrorKind::BadMsgpack, at)),
    }
}

fn text<'a>(reader: &mut Reader<'a>) -> Result<&'a str, Error> {
    let at = reader.offset();
    core::str::from_utf8(blob(reader)?).map_err(|_| Error::new(ErrorKind::NotUtf8, at))
}

fn blob<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Error> {
    let at = reader.offset();
    match token(reader)? {
        Token::Bin(bytes) | Token::Str(bytes) => Ok(bytes),
        _ => Err(Error::new(ErrorKind::BadMsgpack, at)),
    }
}

/// Counts what would be written.
struct Count(usize);

impl Sink for Count {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.0 = self.0.saturating_add(bytes.len());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    const ENVELOPE: Envelope<'_> = Envelope {
        publisher: PublisherId(0x1d_804e_a721_2cd8),
        sequence: 3,
        published_at: 1_795_448_959_958,
        topic: "kv_metrics",
        payload: &[0x81, 0xA1, b'a', 1],
        traceparent: None,
        tracestate: None,
        x_request_id: None,
    };

    fn written(envelope: &Envelope<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        envelope.write(&mut out).unwrap();
        assert_eq!(envelope.written_len(), Ok(out.len()));
        out
    }

    /// A map of these names and values.
    fn map(fields: &[(&str, Token<'_>)]) -> Vec<u8> {
        let mut out = Vec::new();
        out.token(Token::Map(fields.len() as u32)).unwrap();
        for (name, value) in fields {
            out.token(Token::Str(name.as_bytes())).unwrap();
            out.token(*value).unwrap();
        }
        out
    }

    fn fields() -> [(&'static str, Token<'static>); 5] {
        [
            (PUBLISHER, Token::Uint(ENVELOPE.publisher.0)),
            (SEQUENCE, Token::Uint(3)),
            (PUBLISHED_AT, Token::Uint(ENVELOPE.published_at)),
            (TOPIC, Token::Str(b"kv_metrics")),
            (PAYLOAD, Token::Bin(ENVELOPE.payload)),
        ]
    }

    #[test]
    fn an_envelope_is_written_in_dynamos_order_and_shortest_form() {
        assert_eq!(written(&ENVELOPE), map(&fields()));
        let small = Envelope { publisher: PublisherId(1), published_at: 2, topic: "t", payload: &[], ..ENVELOPE };
        assert_eq!(written(&small).len(), 1 + (13 + 1) + (9 + 1) + (13 + 1) + (6 + 2) + (8 + 2));
        let mut tight = [0; 20];
        let error = ENVELOPE.write(&mut crate::wire::parse::Writer::new(&mut tight)).unwrap_err();
        assert_eq!(error.kind, ErrorKind::NoRoom);
    }

    #[test]
    fn what_dynamo_accepts_is_read_alike() {
        let mut turned = fields();
        turned.reverse();
        let more = [&fields()[..2], &[("later", Token::Nil)], &fields()[2..]].concat();
        let mut textual = fields();
        textual[4].1 = Token::Str(ENVELOPE.payload);
        let mut array = Vec::new();
        array.token(Token::Array(5)).unwrap();
        fields().iter().for_each(|(_, value)| array.token(*value).unwrap());
        let behind = [written(&ENVELOPE), [0xC1, 7].into()].concat();
        for bytes in [map(&fields()), map(&turned), map(&more), map(&textual), array, behind] {
            assert_eq!(Envelope::read(&bytes), Ok(ENVELOPE), "{bytes:x?}");
        }
    }

    #[test]
    fn what_dynamo_refuses_is_refused_with_its_place() {
        let error = |bytes: &[u8]| Envelope::read(bytes).unwrap_err();
        for left_out in 0..5 {
            let mut fewer = fields().to_vec();
            fewer.remove(left_out);
            let bytes = map(&fewer);
            assert_eq!(error(&bytes), Error::new(ErrorKind::Missing, bytes.len()), "without field {left_out}");
        }
        let twice = [&fields()[..], &fields()[1..2]].concat();
        assert_eq!(error(&map(&twice)), Error::new(ErrorKind::Unexpected, written(&ENVELOPE).len()));
        for (field, wrong) in
            [(0, Token::Int(-1)), (1, Token::Float(1.0)), (2, Token::Nil), (3, Token::Uint(1)), (4, Token::Array(0))]
        {
            let mut bad = fields();
            bad[field].1 = wrong;
            let at = map(&bad[..field]).len() + 1 + bad[field].0.len();
            assert_eq!(error(&map(&bad)), Error::new(ErrorKind::BadMsgpack, at), "field {field}");
        }
        let mut no_text = fields();
        no_text[3].1 = Token::Str(&[0xFF]);
        assert_eq!(error(&map(&no_text)).kind, ErrorKind::NotUtf8);
        for (bytes, kind) in [
            (&[][..], ErrorKind::Truncated),
            (&[0xC1], ErrorKind::BadMsgpack),
            (&[0x94, 1, 2, 3, 4], ErrorKind::BadMsgpack),
            (&[0xDF, 0xFF, 0xFF, 0xFF, 0xFF, 0xA0, 0xC0], ErrorKind::Truncated),
        ] {
            assert_eq!(error(bytes).kind, kind, "{bytes:x?}");
        }
    }

    #[test]
    fn an_event_of_a_trace_has_its_fields_before_the_payload_and_one_of_none_has_five() {
        let traced =
            Envelope { traceparent: Some("00-a"), tracestate: Some("a=1"), x_request_id: Some("x"), ..ENVELOPE };
        let mut expected = fields().to_vec();
        let carried = [("traceparent", "00-a"), ("tracestate", "a=1"), ("x-request-id", "x")];
        expected.splice(4..4, carried.map(|(name, text)| (name, Token::Str(text.as_bytes()))));
        assert_eq!(written(&traced), map(&expected));
        assert_eq!(Envelope::read(&map(&expected)), Ok(traced));
        assert_eq!(written(&ENVELOPE)[0], 0x85);
        // What is no text is none.
        expected[4].1 = Token::Uint(7);
        expected[5].1 = Token::Bin(&[0xFF]);
        let left = Envelope { traceparent: None, tracestate: None, ..traced };
        assert_eq!(Envelope::read(&map(&expected)), Ok(left));
    }
}
