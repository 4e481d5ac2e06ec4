//! What the JSON formats share: reading with a place for the error, and writing with a bound.

use alloc::vec::Vec;

use serde::de::Deserialize;
use serde::ser::Serialize;

use crate::wire::parse::{Error, ErrorKind};

/// Reads one JSON value that is all of `input`.
///
/// # Errors
/// [`ErrorKind::BadJson`] near the offending byte.
pub(crate) fn read<'a, T: Deserialize<'a>>(input: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(input).map_err(|error| {
        let lines = input.split_inclusive(|byte| *byte == b'\n');
        let before: usize = lines.take(error.line().saturating_sub(1)).map(<[u8]>::len).sum();
        let offset = before.saturating_add(error.column().saturating_sub(1));
        Error::new(ErrorKind::BadJson, offset.min(input.len()))
    })
}

/// Writes `value` as compact JSON of at most `limit` bytes.
///
/// # Errors
/// [`ErrorKind::TooLarge`] beyond `limit`, [`ErrorKind::BadJson`] if the value refuses to be written.
pub(crate) fn write<T: Serialize>(value: &T, limit: usize) -> Result<Vec<u8>, Error> {
    let bytes = serde_json::to_vec(value).map_err(|_| Error::new(ErrorKind::BadJson, 0))?;
    if bytes.len() > limit {
        return Err(Error::new(ErrorKind::TooLarge { declared: bytes.len() as u64, limit: limit as u64 }, 0));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_placed_on_its_line() {
        let error = read::<[u8; 2]>(b"[1,\n x]").unwrap_err();
        assert_eq!(error, Error::new(ErrorKind::BadJson, 5));
        assert_eq!(read::<u8>(b"").unwrap_err().kind, ErrorKind::BadJson);
        assert_eq!(read::<u8>(b"1 2").unwrap_err().kind, ErrorKind::BadJson);
    }

    #[test]
    fn a_value_beyond_its_bound_is_not_written() {
        assert_eq!(write(&"abc", 5), Ok(b"\"abc\"".to_vec()));
        assert_eq!(write(&"abc", 4), Err(Error::new(ErrorKind::TooLarge { declared: 5, limit: 4 }, 0)));
    }
}
