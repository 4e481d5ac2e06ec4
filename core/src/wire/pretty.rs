//! One line per frame, for people: the `decode` command, test output and fuzzing.

use core::fmt::{self, Display, Write};

use crate::wire::dynamo::ack::Ack;
use crate::wire::dynamo::request::Request;
use crate::wire::dynamo::two_part::{Shape, TwoPart};
use crate::wire::dynamo::word::Word;
use crate::wire::mux::frame::{Kind, Preface, flags};
use crate::wire::mux::message::{CancelMode, End, Frame, GoAway, Hello, Meaning, Open, Status, goaway};
use crate::wire::parse::{Error, Format, Limits, Parse, Reader};
use crate::wire::{line, msgpack};

/// Characters of a text that are shown.
const MAX_TEXT: usize = 120;
/// Bytes of a blob that are shown, as hex.
const MAX_BLOB: usize = 32;

/// Shows a frame on one line of bounded length.
///
/// A format that joins the printer implements `Display` for `Pretty` of its view.
#[derive(Copy, Clone, Debug)]
pub struct Pretty<'a, T: ?Sized>(pub &'a T);

impl Display for Pretty<'_, Request<'_>> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Request { path, headers, payload } = self.0;
        write!(f, "request {} path {} headers {}", self.0.emitted_len(), Text(path), Text(headers))?;
        // A payload always is in one piece, so its own limit is its length.
        let limits = Limits { max_header: payload.len(), max_body: payload.len(), ..Limits::default() };
        match TwoPart::parse_unverified(payload, &limits) {
            Ok(Parse::Complete { value, used }) => {
                write!(f, " | {}", Pretty(&value))?;
                match payload.len().saturating_sub(used) {
                    0 => Ok(()),
                    more => write!(f, " | {more} bytes more"),
                }
            }
            Ok(Parse::Incomplete { needed }) => write!(f, " | payload lacks {needed} bytes: {}", Blob(payload)),
            Err(error) => write!(f, " | payload: {error}: {}", Blob(payload)),
        }
    }
}

impl Display for Pretty<'_, Ack<'_>> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            Ack::Accepted => return f.write_str("ack accepted"),
            Ack::Overloaded(_) => "overloaded",
            Ack::Unavailable(_) => "unavailable",
            Ack::Other(_) => "other",
        };
        write!(f, "ack {name} {}", Text(self.0.text()))
    }
}

impl Display for Pretty<'_, TwoPart<'_>> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TwoPart { header, body, checksum } = self.0;
        match self.0.shape() {
            Shape::HeaderOnly if Word::read(header).is_ok() => write!(f, "word {}", Text(header))?,
            Shape::HeaderOnly => write!(f, "control {} {}", header.len(), Text(header))?,
            Shape::DataOnly => write!(f, "data {} {}", body.len(), Body(body))?,
            Shape::Both => {
                write!(f, "control {} {} data {} {}", header.len(), Text(header), body.len(), Body(body))?;
            }
            Shape::Empty => f.write_str("empty")?,
        }
        match (*checksum, self.0.verify()) {
            (0, _) => Ok(()),
            (_, Ok(())) => write!(f, " checksum {checksum:016x}"),
            (_, Err(_)) => write!(f, " checksum {checksum:016x} WRONG"),
        }
    }
}

impl Display for Pretty<'_, Preface> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "preface newest {} oldest {}", self.0.newest, self.0.oldest)
    }
}

impl Display for Pretty<'_, Frame<'_>> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Frame { head, header, body } = self.0;
        match head.kind() {
            Some(kind) => f.write_str(kind_name(kind))?,
            None => write!(f, "kind {}", head.kind)?,
        }
        write!(f, " {:?}", head.stream)?;
        flag_names(head.flags, f)?;
        match self.0.meaning() {
            Ok(meaning) => write_meaning(&meaning, header, f)?,
            Err(error) => write!(f, " header: {error}: {}", Blob(header))?,
        }
        if head.kind() == Some(Kind::Item) || !body.is_empty() {
            write!(f, " data {} {}", body.len(), Body(body))?;
        }
        Ok(())
    }
}

const fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Hello => "hello",
        Kind::Open => "open",
        Kind::Item => "item",
        Kind::End => "end",
        Kind::Cancel => "cancel",
        Kind::Credit => "credit",
        Kind::Status => "status",
        Kind::Reject => "reject",
        Kind::Ping => "ping",
        Kind::Pong => "pong",
        Kind::GoAway => "goaway",
        Kind::Load => "load",
    }
}

fn flag_names(byte: u8, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let names = [
        (flags::MORE, "more"),
        (flags::LAST, "last"),
        (flags::RESERVED, "reserved"),
        (flags::CONT, "cont"),
        (flags::OPTIONAL, "optional"),
    ];
    let mut unnamed = byte;
    for (flag, name) in names {
        if byte & flag != 0 {
            write!(f, " {name}")?;
            unnamed &= !flag;
        }
    }
    if unnamed == 0 { Ok(()) } else { write!(f, " flags {unnamed:02x}") }
}

fn write_meaning(meaning: &Meaning<'_>, header: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match meaning {
        Meaning::Hello(Hello { stream_window, connection_window, max_item, max_streams }) => write!(
            f,
            " stream-window {stream_window} connection-window {connection_window} max-item {max_item} max-streams {max_streams}"
        ),
        Meaning::Open(open) => write_open(open, f),
        Meaning::Item { total: Some(total) } => write!(f, " total {total}"),
        Meaning::Item { total: None } => Ok(()),
        Meaning::End(End { class, reason, message }) => {
            write!(f, " {}", class.map_or("ok", |class| class.name()))?;
            write_field(" reason ", Some(reason), f)?;
            write_field(" message ", Some(message), f)
        }
        Meaning::Cancel(CancelMode::Stop) => f.write_str(" stop"),
        Meaning::Cancel(CancelMode::Kill) => f.write_str(" kill"),
        Meaning::Credit(more) => write!(f, " {more}"),
        Meaning::Status(Status::Queued(ahead)) => write!(f, " queued {ahead}"),
        Meaning::Status(Status::Running) => f.write_str(" running"),
        Meaning::Reject(reject) => {
            write!(f, " {:?} retry-after {}ms", reject.code, reject.retry_after_ms)?;
            write_field(" message ", Some(reject.message), f)
        }
        Meaning::Ping(token) | Meaning::Pong(token) => write!(f, " {token}"),
        Meaning::GoAway(GoAway { code, last, message }) => {
            match goaway_name(*code) {
                Some(name) => write!(f, " {name} last {last:?}")?,
                None => write!(f, " code {code} last {last:?}")?,
            }
            write_field(" message ", Some(message), f)
        }
        Meaning::Load(load) => {
            write!(f, " running {} queued {} capacity {}", load.running, load.queued, load.capacity)?;
            load.gauges().try_for_each(|(name, value)| write!(f, " {}={value}", Text(name.as_bytes())))
        }
        Meaning::Unknown => write!(f, " header {} {}", header.len(), Blob(header)),
    }
}

fn write_open(open: &Open<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, " path {} id {}", Text(open.path.as_bytes()), Text(open.request_id.as_bytes()))?;
    if let Some(remaining) = open.remaining_us {
        write!(f, " remaining {remaining}us")?;
    }
    write_field(" traceparent ", open.traceparent, f)?;
    write_field(" tracestate ", open.tracestate, f)?;
    write_field(" codec ", open.codec, f)?;
    if open.priority != 0 {
        write!(f, " priority {}", open.priority)?;
    }
    write_field(" tenant ", open.tenant, f)?;
    if open.attempts > 0 {
        write!(f, " attempts {}", open.attempts)?;
    }
    write_field(" x-request-id ", open.x_request_id, f)?;
    if open.metadata().next().is_none() {
        return Ok(());
    }
    f.write_str(" metadata")?;
    let mut out = Bounded { out: f, left: MAX_TEXT };
    let written = open.metadata().try_for_each(|(key, value)| write!(out, " {key}={value}"));
    finish(written, out.left, f)
}

/// A text that says nothing when it is empty.
fn write_field(name: &str, text: Option<&str>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match text {
        None | Some("") => Ok(()),
        Some(text) => write!(f, "{name}{}", Text(text.as_bytes())),
    }
}

const fn goaway_name(code: u8) -> Option<&'static str> {
    Some(match code {
        goaway::DRAIN => "drain",
        goaway::MALFORMED => "malformed",
        goaway::CHECKSUM => "checksum",
        goaway::STATE => "state",
        goaway::CREDIT => "credit",
        goaway::STREAMS => "streams",
        goaway::FLOOD => "flood",
        goaway::TOO_LARGE => "too-large",
        goaway::SILENT => "silent",
        goaway::VERSION => "version",
        _ => return None,
    })
}

/// What one direction of a Dynamo connection carries.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Stream {
    /// Request frames, frontend to worker.
    Requests,
    /// Ack frames, worker to frontend.
    Acks,
    /// Two-part frames on a call-home connection, either direction, either stream.
    CallHome,
}

/// Prints a whole direction of a Dynamo connection, one line per frame with its offset. The last line says where the
/// bytes end inside a frame or break the format.
///
/// # Errors
/// Those of `out`.
pub fn dynamo_stream(bytes: &[u8], stream: Stream, limits: &Limits, out: &mut impl Write) -> fmt::Result {
    match stream {
        Stream::Requests => frames(bytes, |rest| Request::parse(rest, limits), out),
        Stream::Acks => frames(bytes, |rest| Ack::parse(rest, limits), out),
        Stream::CallHome => frames(bytes, |rest| TwoPart::parse_unverified(rest, limits), out),
    }
}

/// Prints one direction of a mux connection, the preface first: lines as those of [`dynamo_stream`]. Checksums are
/// verified; a wrong one ends the printing.
///
/// # Errors
/// Those of `out`.
pub fn mux_stream(bytes: &[u8], limits: &Limits, out: &mut impl Write) -> fmt::Result {
    let mut at = 0;
    if next_frame(bytes, &mut at, &mut |rest| Preface::parse(rest, limits), out)? {
        mux_frames_from(bytes, at, limits, out)?;
    }
    Ok(())
}

/// Prints mux frames from the middle of a connection, without a preface.
///
/// # Errors
/// Those of `out`.
pub fn mux_frames(bytes: &[u8], limits: &Limits, out: &mut impl Write) -> fmt::Result {
    mux_frames_from(bytes, 0, limits, out)
}

fn mux_frames_from(bytes: &[u8], mut at: usize, limits: &Limits, out: &mut impl Write) -> fmt::Result {
    while next_frame(bytes, &mut at, &mut |rest| Frame::parse(rest, limits), out)? {}
    Ok(())
}

/// Prints frame after frame, one line each with its offset, by a parser that looks at the start of what is left.
///
/// # Errors
/// Those of `out`.
pub fn frames<'a, T>(
    bytes: &'a [u8],
    mut parse: impl FnMut(&'a [u8]) -> Result<Parse<T>, Error>,
    out: &mut impl Write,
) -> fmt::Result
where
    for<'p> Pretty<'p, T>: Display,
{
    let mut at = 0;
    while next_frame(bytes, &mut at, &mut parse, out)? {}
    Ok(())
}

/// Prints the frame at `at` and moves behind it; whether another may follow.
fn next_frame<'a, T>(
    bytes: &'a [u8],
    at: &mut usize,
    parse: &mut impl FnMut(&'a [u8]) -> Result<Parse<T>, Error>,
    out: &mut impl Write,
) -> Result<bool, fmt::Error>
where
    for<'p> Pretty<'p, T>: Display,
{
    let rest = bytes.get(*at..).unwrap_or_default();
    if rest.is_empty() {
        return Ok(false);
    }
    match parse(rest) {
        Ok(Parse::Complete { value, used }) => {
            writeln!(out, "@{at} {}", Pretty(&value))?;
            // A frame has at least one byte; the bound keeps a wrong parser from printing for ever.
            *at = at.saturating_add(used.max(1));
            return Ok(true);
        }
        Ok(Parse::Incomplete { needed }) => {
            writeln!(out, "@{at} incomplete: {} bytes, at least {needed} more needed", rest.len())?;
        }
        Err(error) => writeln!(out, "@{at} error: {error}: {}", Blob(rest))?,
    }
    Ok(false)
}

/// Text of bounded length on one line: what [`line::is_plain`] is not and bytes that are not UTF-8 are escaped.
#[derive(Copy, Clone, Debug)]
pub struct Text<'a>(pub &'a [u8]);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Bounded { out: f, left: MAX_TEXT };
        let written = self.0.utf8_chunks().try_for_each(|chunk| {
            out.write_str(chunk.valid())?;
            chunk.invalid().iter().try_for_each(|byte| write!(out, "\\x{byte:02x}"))
        });
        finish(written, out.left, f)
    }
}

/// Bytes of bounded length as hex.
#[derive(Copy, Clone, Debug)]
pub struct Blob<'a>(pub &'a [u8]);

impl Display for Blob<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(MAX_BLOB).try_for_each(|byte| write!(f, "{byte:02x}"))?;
        if self.0.len() > MAX_BLOB { f.write_str("…") } else { Ok(()) }
    }
}

/// A payload in whatever codec it seems to be: MessagePack as JSON, text as it is, anything else as hex.
#[derive(Copy, Clone, Debug)]
pub struct Body<'a>(pub &'a [u8]);

impl Display for Body<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut reader = Reader::new(self.0);
        if msgpack::value(&mut reader).is_ok() && reader.remaining() == 0 {
            f.write_str("msgpack ")?;
            let mut out = Bounded { out: f, left: MAX_TEXT };
            let written = msgpack::write_json(self.0, &mut out).map(|_| ());
            finish(written, out.left, f)
        } else if core::str::from_utf8(self.0).is_ok() {
            write!(f, "text {}", Text(self.0))
        } else {
            write!(f, "bytes {}", Blob(self.0))
        }
    }
}

/// Passes so many characters on and then fails, which ends whatever is being printed.
struct Bounded<'f, 'b> {
    out: &'f mut fmt::Formatter<'b>,
    left: usize,
}

impl Write for Bounded<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            self.left = self.left.checked_sub(1).ok_or(fmt::Error)?;
            line::put(letter, self.out)?;
        }
        Ok(())
    }
}

/// Ends a bounded text: running out of room is no error of `f`.
fn finish(written: fmt::Result, left: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match written {
        Err(_) if left == 0 => f.write_str("…"),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::string::String;
    use std::vec::Vec;
    use std::{format, vec};

    use super::*;

    fn bytes<'a>(frame: &impl Format<'a>) -> Vec<u8> {
        let mut out = vec![0; frame.emitted_len()];
        frame.emit(&mut out).unwrap();
        out
    }

    fn printed(bytes: &[u8], stream: Stream) -> String {
        let mut out = String::new();
        dynamo_stream(bytes, stream, &Limits::default(), &mut out).unwrap();
        out
    }

    #[test]
    fn a_request_shows_its_payload_too() {
        let payload = bytes(&TwoPart::new(b"{\"id\":1}", b"\x81\xA1n\x05"));
        let request = Request { path: b"a/b", headers: b"{}", payload: &payload };
        let line = "request 49 path a/b headers {} | control 8 {\"id\":1} data 4 msgpack {\"n\":5}";
        assert_eq!(format!("{}", Pretty(&request)), line);
        let cut = Request { payload: &payload[..30], ..request };
        assert!(format!("{}", Pretty(&cut)).contains("payload lacks 6 bytes: 0000000000000008"));
        let more = [payload.clone(), vec![1]].concat();
        assert!(format!("{}", Pretty(&Request { payload: &more, ..request })).ends_with(" | 1 bytes more"));
    }

    #[test]
    fn acks_words_and_data_have_names() {
        let acks = [bytes(&Ack::Accepted), bytes(&Ack::from_text(b"Server unavailable: x\n"))].concat();
        assert_eq!(printed(&acks, Stream::Acks), "@0 ack accepted\n@4 ack unavailable Server unavailable: x\\n\n");
        let wrong = TwoPart { checksum: 7, ..TwoPart::new(b"\"stop\"", b"") };
        let frames = [TwoPart::new(b"", b""), TwoPart::with_checksum(b"", b"{\"a\":1}"), wrong];
        let checksum = crate::wire::checksum::xxh3(b"", b"{\"a\":1}");
        let lines = format!(
            "@0 empty\n@24 data 7 text {{\"a\":1}} checksum {checksum:016x}\n\
             @55 word \"stop\" checksum 0000000000000007 WRONG\n"
        );
        let all: Vec<u8> = frames.iter().flat_map(bytes).collect();
        assert_eq!(printed(&all, Stream::CallHome), lines);
    }

    #[test]
    fn the_last_line_says_where_it_ends_or_breaks() {
        let stop = bytes(&TwoPart::new(b"\"stop\"", b""));
        let short = [&stop[..], &stop[..28]].concat();
        let end = "@0 word \"stop\"\n@30 incomplete: 28 bytes, at least 2 more needed\n";
        assert_eq!(printed(&short, Stream::CallHome), end);
        assert_eq!(
            printed(&[0xFF; 40], Stream::Acks),
            format!("@0 error: 4294967299 bytes declared, 33554432 allowed at byte 0: {}…\n", "ff".repeat(32))
        );
        assert_eq!(printed(&[], Stream::Requests), "");
    }

    fn mux(kind: Kind, flags: u8, stream: u32, header: &[u8], body: &[u8]) -> Vec<u8> {
        let stream = crate::id::StreamId(stream);
        let crc = crate::wire::checksum::Crc32c::PORTABLE;
        [&crate::wire::mux::frame::Head::seal(kind, flags, stream, header, body, crc).unwrap(), header, body].concat()
    }

    #[test]
    fn a_mux_stream_is_printed_from_its_preface_to_its_end() {
        let item = mux(Kind::Item, flags::LAST, 1, &[], b"{}");
        let bytes = [&Preface::OURS.to_bytes()[..], &mux(Kind::Ping, 0, 0, &[0; 8], &[]), &item, &item[..9]].concat();
        let mut out = String::new();
        mux_stream(&bytes, &Limits::default(), &mut out).unwrap();
        let lines = "@0 preface newest 1 oldest 1\n@8 ping s0 0\n@36 item s1 last data 2 text {}\n\
                     @58 incomplete: 9 bytes, at least 11 more needed\n";
        assert_eq!(out, lines);
        out.clear();
        mux_frames(&[&item[..], &[0; 20]].concat(), &Limits::default(), &mut out).unwrap();
        assert!(out.contains("\n@22 error: checksum mismatch at byte 16: 0000"), "{out}");
    }

    #[test]
    fn a_mux_frame_whose_header_is_no_header_or_unknown_still_has_a_line() {
        let mut out = String::new();
        let short = mux(Kind::Credit, 0x50, 3, &[1, 2], &[]);
        mux_frames(&short, &Limits::default(), &mut out).unwrap();
        assert_eq!(out, "@0 credit s3 flags 50 header: truncated value at byte 0: 0102\n");
        let head = crate::wire::mux::frame::Head {
            kind: 99,
            flags: flags::OPTIONAL,
            stream: crate::id::StreamId(4),
            header_len: 1,
            body_len: 1,
            payload_crc: 0,
        };
        let unknown = Frame { head, header: &[7], body: &[8] };
        assert_eq!(format!("{}", Pretty(&unknown)), "kind 99 s4 optional header 1 07 data 1 msgpack 8");
    }

    #[test]
    fn lines_are_bounded_and_hold_no_control_characters() {
        let long = vec![b'x'; 5000];
        let text = format!("{}", Text(&long));
        assert_eq!(text.chars().count(), MAX_TEXT + 1);
        assert!(text.ends_with('…'));
        assert_eq!(format!("{}", Text(&long[..MAX_TEXT])).chars().count(), MAX_TEXT);
        assert_eq!(format!("{}", Text(b"a\n\xFF\x1b")), "a\\n\\xff\\u{1b}");
        let array = [&[0xDC, 0x13, 0x88][..], &[0xC0; 5000]].concat();
        assert_eq!(format!("{}", Body(&array)).chars().count(), "msgpack ".len() + MAX_TEXT + 1);
        assert_eq!(format!("{}", Body(&[0xC1, 0xFF])), "bytes c1ff");
    }
}
