//! `ringplane decode`: recorded bytes of one direction of a connection, one line per frame.

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};

use clap::ValueEnum;
use ringplane_core::wire::parse::Limits;
use ringplane_core::wire::pretty::{Stream, mux_frames};
use ringplane_core::wire::sniff::{self, Dialect};

use crate::exit::{Exit, Failed};
use crate::streams::{Input, Output, written};

/// The largest recording read, in bytes.
pub(crate) const MAX_INPUT: u64 = 1 << 30;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The recording of one direction, as `record` makes them; - for stdin's
    #[arg(value_name = "FILE")]
    input: String,
    /// What it is; without this the bytes tell
    #[arg(long = "as", value_name = "KIND")]
    kind: Option<Kind>,
    /// The recording is written in hexadecimal digits; blanks, line breaks and colons between them are ignored
    #[arg(long)]
    hex: bool,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug, ValueEnum)]
enum Kind {
    /// ringplane's own frames, with or without the preface
    Mux,
    /// Dynamo's request frames, caller to worker
    Requests,
    /// Dynamo's acks, worker to caller
    Acks,
    /// Dynamo's call-home streams, either direction
    CallHome,
}

/// Decodes one recording.
pub(crate) fn run(args: &Args) -> Result<(), Failed> {
    let mut bytes = read(&args.input).map_err(|error| Failed::local(&args.input, error))?;
    if args.hex {
        bytes = from_hex(&bytes).map_err(|error| Failed::new(Exit::Local, format_args!("{}: {error}", args.input)))?;
    }
    let out = BufWriter::new(Output::stdout().map_err(|error| Failed::local("stdout", error))?);
    let mut lines = Lines { out, line: String::new(), bad: None, broken: None };
    let printed = print(&bytes, args.kind, &mut lines);
    let flushed = lines.out.flush();
    written(lines.broken.map_or(flushed, Err))?;
    printed?;
    lines.bad.map_or(Ok(()), |line| Err(Failed::new(Exit::Local, format_args!("{}: {line}", args.input))))
}

fn read(input: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let source: Box<dyn Read> = if input == "-" { Box::new(Input::new()?) } else { Box::new(File::open(input)?) };
    source.take(MAX_INPUT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_INPUT {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {MAX_INPUT} bytes")));
    }
    Ok(bytes)
}

/// What is wrong with a text of hexadecimal digits.
#[derive(PartialEq, Eq, Debug)]
enum HexError {
    Digit { offset: usize },
    Odd,
}

impl fmt::Display for HexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digit { offset } => write!(f, "no hexadecimal digit at byte {offset}"),
            Self::Odd => f.write_str("the last byte lacks a hexadecimal digit"),
        }
    }
}

fn from_hex(text: &[u8]) -> Result<Vec<u8>, HexError> {
    let mut bytes = Vec::with_capacity(text.len() / 2);
    let mut high = None;
    for (offset, letter) in text.iter().copied().enumerate() {
        if letter.is_ascii_whitespace() || letter == b':' {
            continue;
        }
        let digit = char::from(letter).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let digit = digit.ok_or(HexError::Digit { offset })?;
        match high.take() {
            None => high = Some(digit << 4),
            Some(high) => bytes.push(high | digit),
        }
    }
    if high.is_none() { Ok(bytes) } else { Err(HexError::Odd) }
}

fn print(bytes: &[u8], kind: Option<Kind>, lines: &mut Lines<impl Write>) -> Result<(), Failed> {
    let limits = Limits::default();
    let dialect = match kind {
        // A direction that carried nothing.
        _ if bytes.is_empty() => return Ok(()),
        Some(Kind::Mux) if !bytes.starts_with(&[0xFF, 0xFF]) => {
            // A failing output is told by `lines`.
            let _ = mux_frames(bytes, &limits, lines);
            return Ok(());
        }
        Some(Kind::Mux) => Some(Dialect::Mux),
        Some(Kind::Requests) => Some(Dialect::Dynamo(Stream::Requests)),
        Some(Kind::Acks) => Some(Dialect::Dynamo(Stream::Acks)),
        Some(Kind::CallHome) => Some(Dialect::Dynamo(Stream::CallHome)),
        None => sniff::dialect(bytes),
    };
    let why = "@0 incomplete: one byte tells nothing; say what it is with --as";
    let dialect = dialect.ok_or_else(|| Failed::new(Exit::Local, why))?;
    let _ = sniff::print(bytes, dialect, &limits, lines);
    Ok(())
}

/// Passes whole lines on, but keeps the one that says where the bytes break off: it is the error.
struct Lines<W> {
    out: W,
    line: String,
    bad: Option<String>,
    broken: Option<io::Error>,
}

impl<W: Write> fmt::Write for Lines<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.split_inclusive('\n') {
            self.line.push_str(part);
            if part.ends_with('\n') {
                self.end_line()?;
            }
        }
        Ok(())
    }
}

impl<W: Write> Lines<W> {
    fn end_line(&mut self) -> fmt::Result {
        // Every line is `@OFFSET ` and then a frame's name, or one of these.
        let what = self.line.split_once(' ').map_or("", |(_, what)| what);
        if what.starts_with("error: ") || what.starts_with("incomplete: ") {
            self.bad = Some(self.line.trim_end().to_owned());
        } else if let Err(error) = self.out.write_all(self.line.as_bytes()) {
            self.broken = Some(error);
            return Err(fmt::Error);
        }
        self.line.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(bytes: &[u8], kind: Option<Kind>) -> (String, Option<String>) {
        let mut lines = Lines { out: Vec::new(), line: String::new(), bad: None, broken: None };
        print(bytes, kind, &mut lines).unwrap();
        (String::from_utf8(lines.out).unwrap(), lines.bad)
    }

    #[test]
    fn frames_are_printed_and_what_breaks_off_is_the_error() {
        let acks = [0, 0, 0, 0, 0, 0, 0, 9, b'x'];
        let (out, bad) = decoded(&acks, Some(Kind::Acks));
        assert_eq!(out, "@0 ack accepted\n");
        assert!(bad.as_ref().is_some_and(|bad| bad.starts_with("@4 incomplete: 5 bytes, at least 8")), "{bad:?}");
        assert_eq!(decoded(&[], None), (String::new(), None));
        assert!(decoded(&[0; 40], Some(Kind::Mux)).1.is_some_and(|bad| bad.starts_with("@0 error: ")));
    }

    #[test]
    fn hexadecimal_text_may_have_gaps_and_its_errors_have_their_place() {
        assert_eq!(from_hex(b"ff 0A:1\n2"), Ok(vec![0xFF, 0x0A, 0x12]));
        assert_eq!(from_hex(b"f f x"), Err(HexError::Digit { offset: 4 }));
        assert_eq!(from_hex(b"fff"), Err(HexError::Odd));
    }
}
