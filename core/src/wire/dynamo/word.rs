//! The control words of a Dynamo stream, each the whole header of a header-only frame.

use crate::wire::parse::{Error, ErrorKind};

/// A control word.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Word {
    /// The caller wants no more; finish early.
    Stop,
    /// The caller is gone.
    Kill,
    /// The sender has said everything.
    Sentinel,
}

impl Word {
    /// Every word once.
    pub const ALL: [Self; 3] = [Self::Stop, Self::Kill, Self::Sentinel];

    /// Reads the header of a control frame: a JSON string in exact lower case, white space around it allowed.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for anything else, which breaks the protocol.
    pub fn read(header: &[u8]) -> Result<Self, Error> {
        let trimmed = header.trim_ascii();
        Self::ALL.into_iter().find(|word| word.header() == trimmed).ok_or(Error::new(ErrorKind::Invalid, 0))
    }

    /// The header bytes, quotes included.
    pub const fn header(self) -> &'static [u8] {
        match self {
            Self::Stop => b"\"stop\"",
            Self::Kill => b"\"kill\"",
            Self::Sentinel => b"\"sentinel\"",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_lead_back_to_themselves() {
        for word in Word::ALL {
            assert_eq!(Word::read(word.header()), Ok(word));
        }
        assert_eq!(Word::read(b" \"stop\"\n"), Ok(Word::Stop));
    }

    #[test]
    fn anything_but_the_exact_lower_case_word_is_invalid() {
        for other in ["", "stop", "\"Stop\"", "\"STOP\"", "\"pause\"", "\"stop\"x", "\"stop", "{}", "null", "\" stop\""]
        {
            assert_eq!(Word::read(other.as_bytes()), Err(Error::new(ErrorKind::Invalid, 0)), "{other}");
        }
    }
}
