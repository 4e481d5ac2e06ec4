//! The frame around an envelope in the last part of a ZeroMQ message.

use crate::wire::parse::{Error, ErrorKind, Format, Limits, Parse, Reader, Writer, narrow, within};

const VERSION: u8 = 1;
const HEAD: usize = 5;

/// One frame: the version 1, u32 length (big-endian), and so many bytes, which are an
/// [`Envelope`](crate::event::envelope::Envelope).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Frame<'a> {
    /// The envelope.
    pub envelope: &'a [u8],
}

impl<'a> Format<'a> for Frame<'a> {
    const NAME: &'static str = "event";

    /// The whole frame may have [`Limits::max_message`] bytes.
    fn parse(input: &'a [u8], limits: &Limits) -> Result<Parse<Self>, Error> {
        let mut reader = Reader::new(input);
        if input.first().is_some_and(|version| *version != VERSION) {
            return Err(Error::new(ErrorKind::BadVersion, 0));
        }
        let (Ok(_), Ok(len)) = (reader.u8(), reader.u32()) else {
            return Ok(Parse::Incomplete { needed: HEAD - input.len() });
        };
        let end = within(HEAD as u64 + u64::from(len), limits.max_message, 1)?;
        Ok(match input.get(HEAD..end) {
            Some(envelope) => Parse::Complete { value: Self { envelope }, used: end },
            None => Parse::Incomplete { needed: end - input.len() },
        })
    }

    fn emitted_len(&self) -> usize {
        HEAD + self.envelope.len()
    }

    fn emit(&self, out: &mut [u8]) -> Result<usize, Error> {
        let len: u32 = narrow(self.envelope.len(), u32::MAX.into(), 1)?;
        let mut writer = Writer::new(out);
        writer.bytes(&[VERSION])?;
        writer.bytes(&len.to_be_bytes())?;
        writer.bytes(self.envelope)?;
        Ok(writer.written())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_a_version_and_a_length_and_may_have_bytes_behind_it() {
        let parsed = Frame::parse(&[1, 0, 0, 0, 2, 7, 8, 9], &Limits::default());
        assert_eq!(parsed, Ok(Parse::Complete { value: Frame { envelope: &[7, 8] }, used: 7 }));
        let mut out = [0; 7];
        assert_eq!(Frame { envelope: &[7, 8] }.emit(&mut out), Ok(7));
        assert_eq!(out, [1, 0, 0, 0, 2, 7, 8]);
    }

    #[test]
    fn another_version_and_a_length_beyond_the_limit_are_refused_and_a_cut_says_what_is_missing() {
        let parse = |bytes| Frame::parse(bytes, &Limits { max_message: 16, ..Limits::default() });
        assert_eq!(parse(&[2, 0, 0, 0, 0]), Err(Error::new(ErrorKind::BadVersion, 0)));
        let large = ErrorKind::TooLarge { declared: 17, limit: 16 };
        assert_eq!(parse(&[1, 0, 0, 0, 12]), Err(Error::new(large, 1)));
        assert_eq!(parse(&[]), Ok(Parse::Incomplete { needed: 5 }));
        assert_eq!(parse(&[1, 0, 0, 0, 11, 0]), Ok(Parse::Incomplete { needed: 10 }));
    }
}
