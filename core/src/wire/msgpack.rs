//! The little MessagePack the protocol itself needs: tokens, skipping, and emission in the shortest form.

use core::fmt;

use crate::wire::parse::{Error, ErrorKind, Reader, Writer, narrow};

/// Containers a value may nest; deeper ones are refused.
pub const MAX_DEPTH: usize = 128;

/// One token. Containers are followed by their elements.
#[derive(Copy, Clone, PartialEq, Debug)]
pub enum Token<'a> {
    /// Nothing.
    Nil,
    /// A truth value.
    Bool(bool),
    /// An integer from 0 up.
    Uint(u64),
    /// An integer below 0.
    Int(i64),
    /// A float, widened if it was a float32.
    Float(f64),
    /// Text, which need not be UTF-8.
    Str(&'a [u8]),
    /// Bytes.
    Bin(&'a [u8]),
    /// An extension: its type and bytes.
    Ext(i8, &'a [u8]),
    /// An array of so many values.
    Array(u32),
    /// A map of so many pairs of values.
    Map(u32),
}

/// Reads one token.
///
/// # Errors
/// [`ErrorKind::Truncated`] if the bytes end inside it, [`ErrorKind::BadMsgpack`] for the byte that starts no token.
pub fn token<'a>(reader: &mut Reader<'a>) -> Result<Token<'a>, Error> {
    let at = reader.offset();
    Ok(match reader.u8()? {
        small @ 0..=0x7F => Token::Uint(small.into()),
        map @ 0x80..=0x8F => Token::Map(u32::from(map & 15)),
        array @ 0x90..=0x9F => Token::Array(u32::from(array & 15)),
        text @ 0xA0..=0xBF => Token::Str(reader.bytes(usize::from(text & 31))?),
        0xC0 => Token::Nil,
        0xC1 => return Err(Error::new(ErrorKind::BadMsgpack, at)),
        0xC2 => Token::Bool(false),
        0xC3 => Token::Bool(true),
        width @ 0xC4..=0xC6 => Token::Bin(sized(reader, width - 0xC4)?),
        width @ 0xC7..=0xC9 => {
            let len = length(reader, width - 0xC7)?;
            ext(reader, len)?
        }
        0xCA => Token::Float(f32::from_be_bytes(reader.array()?).into()),
        0xCB => Token::Float(f64::from_be_bytes(reader.array()?)),
        0xCC => Token::Uint(reader.u8()?.into()),
        0xCD => Token::Uint(reader.u16()?.into()),
        0xCE => Token::Uint(reader.u32()?.into()),
        0xCF => Token::Uint(reader.u64()?),
        0xD0 => signed(i8::from_be_bytes(reader.array()?).into()),
        0xD1 => signed(i16::from_be_bytes(reader.array()?).into()),
        0xD2 => signed(i32::from_be_bytes(reader.array()?).into()),
        0xD3 => signed(i64::from_be_bytes(reader.array()?)),
        fixed @ 0xD4..=0xD8 => ext(reader, 1 << (fixed - 0xD4))?,
        width @ 0xD9..=0xDB => Token::Str(sized(reader, width - 0xD9)?),
        0xDC => Token::Array(reader.u16()?.into()),
        0xDD => Token::Array(reader.u32()?),
        0xDE => Token::Map(reader.u16()?.into()),
        0xDF => Token::Map(reader.u32()?),
        negative @ 0xE0.. => signed(i8::from_be_bytes([negative]).into()),
    })
}

/// Reads past one value and returns its bytes.
///
/// # Errors
/// As [`token`]; [`ErrorKind::TooLarge`] if containers nest deeper than [`MAX_DEPTH`].
pub fn value<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Error> {
    let mut probe = reader.clone();
    walk(&mut probe, |_, _| Ok(()))?;
    reader.bytes(probe.offset() - reader.offset())
}

/// Writes one value as JSON text and returns how many bytes it took. Bytes and extensions become texts of hex, floats
/// JSON has no word for become `null`, text that is not UTF-8 gets replacement characters.
///
/// # Errors
/// The outer error is the text's, the inner one as [`value`]. What was written before an inner error stands.
pub fn write_json(bytes: &[u8], out: &mut impl fmt::Write) -> Result<Result<usize, Error>, fmt::Error> {
    let mut reader = Reader::new(bytes);
    let mut failed = Ok(());
    let walked = walk(&mut reader, |step, at| {
        let written = match step {
            Step::Value(token, place) => place.separator(out).and_then(|()| write_token(token, place, out)),
            Step::Close(close) => out.write_char(close),
        };
        failed = written;
        written.map_err(|_| Error::new(ErrorKind::NoRoom, at))
    });
    failed?;
    Ok(walked.map(|()| reader.offset()))
}

/// Where a value stands in its container.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Place {
    First,
    Later,
    FirstKey,
    LaterKey,
    OfKey,
}

impl Place {
    fn separator(self, out: &mut impl fmt::Write) -> fmt::Result {
        match self {
            Self::First | Self::FirstKey => Ok(()),
            Self::Later | Self::LaterKey => out.write_char(','),
            Self::OfKey => out.write_char(':'),
        }
    }

    const fn is_key(self) -> bool {
        matches!(self, Self::FirstKey | Self::LaterKey)
    }
}

enum Step<'a> {
    Value(Token<'a>, Place),
    Close(char),
}

#[derive(Copy, Clone)]
struct Open {
    map: bool,
    /// Values still to come, keys included.
    left: u64,
    place: Place,
}

/// Visits every token of one value, and every end of a container, without recursion.
fn walk<'a>(reader: &mut Reader<'a>, mut visit: impl FnMut(Step<'a>, usize) -> Result<(), Error>) -> Result<(), Error> {
    let mut open = heapless::Vec::<Open, MAX_DEPTH>::new();
    loop {
        let at = reader.offset();
        let place = open.last().map_or(Place::First, |open| open.place);
        let token = token(reader)?;
        visit(Step::Value(token, place), at)?;
        if let Some(container) = open.last_mut() {
            container.left = container.left.saturating_sub(1);
            container.place = match container.place {
                Place::First | Place::Later => Place::Later,
                Place::FirstKey | Place::LaterKey => Place::OfKey,
                Place::OfKey => Place::LaterKey,
            };
        }
        let entered = match token {
            Token::Array(len) => Some(Open { map: false, left: len.into(), place: Place::First }),
            Token::Map(len) => Some(Open { map: true, left: u64::from(len) * 2, place: Place::FirstKey }),
            _ => None,
        };
        if let Some(container) = entered {
            let kind = ErrorKind::TooLarge { declared: MAX_DEPTH as u64 + 1, limit: MAX_DEPTH as u64 };
            open.push(container).map_err(|_| Error::new(kind, at))?;
        }
        while let Some(done) = open.last().filter(|container| container.left == 0) {
            visit(Step::Close(if done.map { '}' } else { ']' }), reader.offset())?;
            open.pop();
        }
        if open.is_empty() {
            return Ok(());
        }
    }
}

fn write_token(token: Token<'_>, place: Place, out: &mut impl fmt::Write) -> fmt::Result {
    // A JSON key is a text; anything else in that place is quoted.
    let quoted = place.is_key() && !matches!(token, Token::Str(_) | Token::Bin(_) | Token::Ext(..));
    if quoted {
        out.write_char('"')?;
    }
    match token {
        Token::Nil => out.write_str("null")?,
        Token::Bool(value) => write!(out, "{value}")?,
        Token::Uint(value) => write!(out, "{value}")?,
        Token::Int(value) => write!(out, "{value}")?,
        Token::Float(value) if value.is_finite() => write!(out, "{value:?}")?,
        Token::Float(_) => out.write_str("null")?,
        Token::Str(text) => write_text(text, out)?,
        Token::Bin(bytes) | Token::Ext(_, bytes) => {
            out.write_char('"')?;
            bytes.iter().try_for_each(|byte| write!(out, "{byte:02x}"))?;
            out.write_char('"')?;
        }
        Token::Array(_) => out.write_char('[')?,
        Token::Map(_) => out.write_char('{')?,
    }
    if quoted { out.write_char('"') } else { Ok(()) }
}

fn write_text(text: &[u8], out: &mut impl fmt::Write) -> fmt::Result {
    out.write_char('"')?;
    for chunk in text.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '"' => out.write_str("\\\"")?,
                '\\' => out.write_str("\\\\")?,
                '\n' => out.write_str("\\n")?,
                '\u{0}'..='\u{1F}' => write!(out, "\\u{:04x}", u32::from(letter))?,
                _ => out.write_char(letter)?,
            }
        }
        if !chunk.invalid().is_empty() {
            out.write_char(char::REPLACEMENT_CHARACTER)?;
        }
    }
    out.write_char('"')
}

const fn signed(value: i64) -> Token<'static> {
    if value < 0 { Token::Int(value) } else { Token::Uint(value.unsigned_abs()) }
}

fn ext<'a>(reader: &mut Reader<'a>, len: usize) -> Result<Token<'a>, Error> {
    let kind = i8::from_be_bytes(reader.array()?);
    Ok(Token::Ext(kind, reader.bytes(len)?))
}

fn sized<'a>(reader: &mut Reader<'a>, width: u8) -> Result<&'a [u8], Error> {
    let len = length(reader, width)?;
    reader.bytes(len)
}

fn length(reader: &mut Reader<'_>, width: u8) -> Result<usize, Error> {
    let at = reader.offset();
    match width {
        0 => Ok(reader.u8()?.into()),
        1 => Ok(reader.u16()?.into()),
        _ => usize::try_from(reader.u32()?).map_err(|_| Error::new(ErrorKind::Truncated, at)),
    }
}

/// Where emitted bytes go: a [`Writer`] over a slice, or with `alloc` a vector.
pub trait Sink {
    /// Adds `bytes` at the end.
    ///
    /// # Errors
    /// [`ErrorKind::NoRoom`] if they do not fit.
    fn put(&mut self, bytes: &[u8]) -> Result<(), Error>;

    /// Emits a token in its shortest form; the elements of a container are emitted after it.
    ///
    /// # Errors
    /// As [`Sink::put`]; [`ErrorKind::TooLarge`] if a text or blob exceeds 4 GiB.
    fn token(&mut self, token: Token<'_>) -> Result<(), Error> {
        match token {
            Token::Nil => self.put(&[0xC0]),
            Token::Bool(value) => self.put(&[0xC2 + u8::from(value)]),
            Token::Uint(value) => put_uint(self, value),
            Token::Int(value) if value >= 0 => put_uint(self, value.unsigned_abs()),
            Token::Int(value) => put_negative(self, value),
            Token::Float(value) => {
                self.put(&[0xCB])?;
                self.put(&value.to_be_bytes())
            }
            Token::Str(text) => {
                let len = narrow(text.len(), u32::MAX.into(), 0)?;
                put_len(self, len, [Some((0xA0, 31)), Some((0xD9, 0xFF))], [0xDA, 0xDB])?;
                self.put(text)
            }
            Token::Bin(bytes) => {
                let len = narrow(bytes.len(), u32::MAX.into(), 0)?;
                put_len(self, len, [None, Some((0xC4, 0xFF))], [0xC5, 0xC6])?;
                self.put(bytes)
            }
            Token::Ext(kind, bytes) => {
                let len: u32 = narrow(bytes.len(), u32::MAX.into(), 0)?;
                match len {
                    1 | 2 | 4 | 8 | 16 => self.put(&[0xD4 + len.trailing_zeros() as u8])?,
                    _ => put_len(self, len, [None, Some((0xC7, 0xFF))], [0xC8, 0xC9])?,
                }
                self.put(&kind.to_be_bytes())?;
                self.put(bytes)
            }
            Token::Array(len) => put_len(self, len, [Some((0x90, 15)), None], [0xDC, 0xDD]),
            Token::Map(len) => put_len(self, len, [Some((0x80, 15)), None], [0xDE, 0xDF]),
        }
    }
}

impl Sink for Writer<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.bytes(bytes)
    }
}

#[cfg(feature = "alloc")]
impl Sink for alloc::vec::Vec<u8> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

fn put_uint(sink: &mut (impl Sink + ?Sized), value: u64) -> Result<(), Error> {
    let [.., a, b, c, d] = value.to_be_bytes();
    match value {
        0..=0x7F => sink.put(&[d]),
        0x80..=0xFF => sink.put(&[0xCC, d]),
        0x100..=0xFFFF => sink.put(&[0xCD, c, d]),
        0x1_0000..=0xFFFF_FFFF => sink.put(&[0xCE, a, b, c, d]),
        _ => {
            sink.put(&[0xCF])?;
            sink.put(&value.to_be_bytes())
        }
    }
}

fn put_negative(sink: &mut (impl Sink + ?Sized), value: i64) -> Result<(), Error> {
    let [.., a, b, c, d] = value.to_be_bytes();
    match value {
        -32.. => sink.put(&[d]),
        -0x80.. => sink.put(&[0xD0, d]),
        -0x8000.. => sink.put(&[0xD1, c, d]),
        -0x8000_0000.. => sink.put(&[0xD2, a, b, c, d]),
        _ => {
            sink.put(&[0xD3])?;
            sink.put(&value.to_be_bytes())
        }
    }
}

/// Writes a length in the first form that holds it: inside the marker (base, most), in one byte (marker, most), in two or
/// four bytes.
fn put_len(
    sink: &mut (impl Sink + ?Sized),
    len: u32,
    [inside, one]: [Option<(u8, u32)>; 2],
    [two, four]: [u8; 2],
) -> Result<(), Error> {
    let [a, b, c, d] = len.to_be_bytes();
    match (inside, one) {
        (Some((base, most)), _) if len <= most => sink.put(&[base | d]),
        (_, Some((marker, most))) if len <= most => sink.put(&[marker, d]),
        _ if len <= 0xFFFF => sink.put(&[two, c, d]),
        _ => sink.put(&[four, a, b, c, d]),
    }
}

#[cfg(test)]
mod tests {
    use std::string::String;
    use std::vec;
    use std::vec::Vec;

    use super::*;

    fn emitted(token: Token<'_>) -> Vec<u8> {
        let mut out = vec![0; 70_100];
        let mut writer = Writer::new(&mut out);
        writer.token(token).unwrap();
        let len = writer.written();
        out.truncate(len);
        out
    }

    fn json(bytes: &[u8]) -> (String, Result<usize, Error>) {
        let mut text = String::new();
        let used = write_json(bytes, &mut text).unwrap();
        (text, used)
    }

    #[test]
    fn tokens_come_apart_and_are_built_again_in_their_shortest_form() {
        let long = vec![b'x'; 70_000];
        let texts = [0, 31, 32, 255, 256, 65_535, 65_536].map(|len| Token::Str(&long[..len]));
        let blobs = [0, 255, 256, 65_535, 65_536].map(|len| Token::Bin(&long[..len]));
        let exts = [0, 1, 2, 3, 4, 8, 16, 17, 255, 256, 65_536].map(|len| Token::Ext(-7, &long[..len]));
        let uints = [0, 127, 128, 255, 256, 65_535, 65_536, u64::from(u32::MAX), 1 << 32, u64::MAX].map(Token::Uint);
        let ints = [-1, -32, -33, -128, -129, -32_768, -32_769, -(1 << 31), -(1 << 31) - 1, i64::MIN].map(Token::Int);
        let counts = [0, 15, 16, 65_535, 65_536, u32::MAX];
        let rest = [Token::Nil, Token::Bool(true), Token::Bool(false), Token::Float(-0.5)];
        let all = texts.into_iter().chain(blobs).chain(exts).chain(uints).chain(ints).chain(rest);
        for expected in all.chain(counts.map(Token::Array)).chain(counts.map(Token::Map)) {
            let bytes = emitted(expected);
            let mut reader = Reader::new(&bytes);
            assert_eq!(token(&mut reader), Ok(expected));
            assert_eq!(reader.remaining(), 0);
            for cut in [0, 1, bytes.len() / 2, bytes.len() - 1] {
                if cut < bytes.len() {
                    assert!(token(&mut Reader::new(&bytes[..cut])).is_err(), "{cut} of {}", bytes.len());
                }
            }
        }
    }

    #[test]
    fn integers_take_as_many_bytes_as_the_standard_says() {
        let lens = |values: &[i64]| values.iter().map(|value| emitted(Token::Int(*value)).len()).collect::<Vec<_>>();
        assert_eq!(lens(&[0, 127, 128, 255, 256, 65_535, 65_536, 1 << 32]), [1, 1, 2, 2, 3, 3, 5, 9]);
        assert_eq!(lens(&[-1, -32, -33, -128, -129, -32_769, i64::MIN]), [1, 1, 2, 2, 3, 5, 9]);
        assert_eq!(emitted(Token::Str(&[b'x'; 32]))[..2], [0xD9, 32]);
    }

    #[test]
    fn impossible_lengths_run_out_of_input_without_allocating() {
        for bytes in [[0xDF, 0xFF, 0xFF, 0xFF, 0xFF], [0xDB, 0xFF, 0xFF, 0xFF, 0xFF], [0xC6, 0xFF, 0xFF, 0xFF, 0xFF]] {
            let error = value(&mut Reader::new(&bytes)).unwrap_err();
            assert_eq!(error, Error::new(ErrorKind::Truncated, 5), "{bytes:x?}");
        }
        assert_eq!(value(&mut Reader::new(&[0xC1])), Err(Error::new(ErrorKind::BadMsgpack, 0)));
    }

    #[test]
    fn a_value_is_skipped_with_all_it_contains_and_nothing_more() {
        let bytes = [0x82, 0xA1, b'a', 0x92, 1, 0x80, 0xA1, b'b', 0xC0, 0xFF];
        let mut reader = Reader::new(&bytes);
        assert_eq!(value(&mut reader), Ok(&bytes[..9]));
        assert_eq!(reader.remaining(), 1);
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| [vec![0x91; depth], vec![0xC0]].concat();
        assert!(value(&mut Reader::new(&nested(MAX_DEPTH))).is_ok());
        let error = value(&mut Reader::new(&nested(MAX_DEPTH + 1))).unwrap_err();
        assert_eq!(error, Error::new(ErrorKind::TooLarge { declared: 129, limit: 128 }, MAX_DEPTH));
    }

    #[test]
    fn a_value_reads_as_json() {
        let bytes = [0x83, 0xA1, b'"', 0x93, 1, 0xE0, 0xC3, 1, 0xC4, 2, 0xAB, 0xCD, 0xA1, 0xFF, 0x80, 0x99];
        assert_eq!(json(&bytes), ("{\"\\\"\":[1,-32,true],\"1\":\"abcd\",\"\u{FFFD}\":{}}".into(), Ok(15)));
        assert_eq!(json(&[0xCA, 0x3F, 0x80, 0, 0]).0, "1.0");
        assert_eq!(json(&[0xCA, 0x7F, 0x80, 0, 0]).0, "null");
        assert_eq!(json(&[0x90]).0, "[]");
        assert_eq!(json(&[0xA3, 1, b'\n', b'\\']).0, "\"\\u0001\\n\\\\\"");
        assert_eq!(json(&[0x92, 7]), ("[7".into(), Err(Error::new(ErrorKind::Truncated, 2))));
    }
}
