//! Percent escapes in keys and file names.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

/// `text` with every byte as `%XX` that `keeps` does not want. What it wants must be ASCII and no `%`.
pub fn encode(text: &str, keeps: impl Fn(u8) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if keeps(byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// The text behind the escapes, whose digits may have any case; `None` if one is broken or what they stand for is no UTF-8.
pub fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                bytes.push(digit(high)? << 4 | digit(low)?);
                tail
            }
            (b'%', _) => return None,
            _ => {
                bytes.push(*first);
                tail
            }
        };
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_comes_back_whatever_is_kept() {
        for text in ["", "plain", "a/b%c", "ä_ö-50%", "%2F", "\u{0}\n"] {
            assert_eq!(decode(&encode(text, |byte| byte.is_ascii_alphanumeric())).as_deref(), Some(text));
            assert_eq!(decode(&encode(text, |_| false)).as_deref(), Some(text));
        }
        assert_eq!(encode("a/ü", |byte| byte == b'a'), "a%2F%C3%BC");
        assert_eq!(decode("%c3%Bc").as_deref(), Some("ü"));
    }

    #[test]
    fn broken_escapes_and_other_bytes_than_text_are_refused() {
        for broken in ["a%2", "a%", "%GG", "%+1", "%FF"] {
            assert_eq!(decode(broken), None, "{broken}");
        }
    }
}
