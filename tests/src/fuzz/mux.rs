//! Target: mux frames and prefaces.

use ringplane_core::id::StreamId;
use ringplane_core::wire::mux::{Frame, Head, Meaning, Open, Preface};
use ringplane_core::wire::sniff::{self, Dialect};
use ringplane_core::wire::{Crc32c, Format, Limits, Parse, pretty};

use super::framing;
use crate::wire_laws;

/// Any bytes keep the laws of mux frames. As random bytes rarely have the right checksums, they are also sealed into a
/// frame: kind, flags, stream and the length of the header come from the first bytes.
pub fn mux(data: &[u8]) {
    framing::holds::<Frame<'_>>(data);
    framing::holds::<Preface>(data);
    framing::prints_as(data, Dialect::Mux);
    if let Some(dialect) = sniff::dialect(data) {
        framing::prints_as(data, dialect);
    }
    if let Some(sealed) = seal(data) {
        framing::holds::<Frame<'_>>(&sealed);
        let (frames, _) = wire_laws::frames::<Frame<'_>>(&sealed, &Limits::default());
        frames.iter().for_each(meaning_holds);
        let mut line = String::new();
        pretty::mux_frames(&sealed, &Limits::default(), &mut line).expect("a string takes every text");
        framing::line_holds(line.trim_end_matches('\n'));
    }
}

/// A frame with right checksums made of `data`: one byte each of kind, flags and stream, two of the header's length, then
/// header and body.
pub(super) fn seal(data: &[u8]) -> Option<Vec<u8>> {
    let ([kind, flags, stream, a, b], rest) = data.split_first_chunk()?;
    let (header, body) = rest.split_at(usize::from(u16::from_be_bytes([*a, *b])).min(rest.len()));
    let head = Head {
        kind: *kind,
        flags: *flags,
        stream: StreamId((*stream).into()),
        header_len: 0,
        body_len: 0,
        payload_crc: 0,
    };
    let frame = Frame { head, header, body };
    let mut out = vec![0; frame.emitted_len()];
    let written = frame.emit(&mut out).expect("both parts fit");
    assert_eq!(written, out.len());
    Some(out)
}

/// What a header says is written so that it says the same.
fn meaning_holds(frame: &Frame<'_>) {
    let Ok(meaning) = frame.meaning() else { return };
    let mut header = Vec::new();
    let mut put = |bytes: &[u8]| header.extend_from_slice(bytes);
    match &meaning {
        Meaning::Hello(hello) => put(&hello.to_bytes()),
        Meaning::Open(open) => open.write(open.metadata(), put).expect("what was read fits"),
        Meaning::Item { total } => total.iter().for_each(|total| put(&total.to_be_bytes())),
        Meaning::End(end) => end.write(put),
        Meaning::Cancel(mode) => put(&[*mode as u8]),
        Meaning::Credit(more) => put(&more.to_be_bytes()),
        Meaning::Status(status) => put(&status.to_bytes()),
        Meaning::Reject(reject) => reject.write(put),
        Meaning::Ping(token) | Meaning::Pong(token) => put(&token.to_be_bytes()),
        Meaning::GoAway(goaway) => goaway.write(put),
        Meaning::Load(load) => load.write(load.gauges(), put),
        Meaning::Unknown => return,
    }
    let kind = frame.head.kind().expect("only known kinds have a meaning");
    let head = Head::seal(kind, frame.head.flags, frame.head.stream, &header, frame.body, Crc32c::PORTABLE)
        .expect("what was read fits");
    let bytes = [&head, header.as_slice(), frame.body].concat();
    let Ok(Parse::Complete { value, .. }) = Frame::parse(&bytes, &Limits::default()) else {
        panic!("what was written is a frame");
    };
    let again = value.meaning().expect("what was written has a meaning");
    match (meaning, again) {
        (Meaning::Open(was), Meaning::Open(is)) => {
            assert!(was.metadata().eq(is.metadata()));
            assert_eq!(Open { fields: &[], ..was }, Open { fields: &[], ..is });
        }
        // Texts are cut where they are written.
        (Meaning::End(_) | Meaning::Reject(_) | Meaning::GoAway(_), _) if frame.header.len() > 4096 => {}
        (was, is) => assert_eq!(was, is),
    }
}
