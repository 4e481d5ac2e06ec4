//! Items as lines of JSON.

use std::fmt::Write;

use ringplane_core::wire::line::is_plain;
use serde_json::value::RawValue;

/// One item as one line without its end:
/// - JSON stays as it is, except that line breaks between its parts become blanks;
/// - other text becomes a JSON string;
/// - other bytes become `{"hex":"…"}`.
pub(crate) fn json_line(item: &[u8]) -> Vec<u8> {
    if let Ok(json) = serde_json::from_slice::<&RawValue>(item) {
        // A line break within a JSON string is written `\n`: what is left stands between parts.
        let blank = |byte| if byte == b'\n' || byte == b'\r' { b' ' } else { byte };
        return json.get().bytes().map(blank).collect();
    }
    if let Ok(text) = std::str::from_utf8(item) {
        return serde_json::Value::from(text).to_string().into_bytes();
    }
    let digits = item.iter().flat_map(|byte| [byte >> 4, byte & 0x0F]).map(|digit| b"0123456789abcdef"[digit as usize]);
    br#"{"hex":""#.iter().copied().chain(digits).chain(*br#""}"#).collect()
}

/// A line of JSON for a terminal: what is not plain there stands in its strings, and is written `\u…`. It means the same.
pub(crate) fn plain_json(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    for letter in line.chars() {
        if is_plain(letter) {
            plain.push(letter);
        } else {
            // None of them is beyond the first 65,536. Writing to a string cannot fail.
            let _ = write!(plain, "\\u{:04x}", u32::from(letter));
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_become_lines_of_json() {
        for (item, line) in [
            (&b"{\"a\": 1.10}"[..], "{\"a\": 1.10}"),
            (b" [1,\r\n 2]\n", "[1,   2]"),
            (b"12345678901234567890123", "12345678901234567890123"),
            (b"hello \"you\"\n", "\"hello \\\"you\\\"\\n\""),
            (b"", "\"\""),
            (b"\xFF\x00a", "{\"hex\":\"ff0061\"}"),
        ] {
            assert_eq!(String::from_utf8(json_line(item)).unwrap(), line);
        }
    }

    #[test]
    fn on_a_terminal_nothing_in_a_string_commands() {
        assert_eq!(plain_json("{\"a\":\"\u{9B}2J\u{202E}\u{7F}\u{FC}\"}"), "{\"a\":\"\\u009b2J\\u202e\\u007f\u{FC}\"}");
        let item = json_line("\u{1B}[0m\u{9B}".as_bytes());
        assert_eq!(plain_json(str::from_utf8(&item).unwrap()), "\"\\u001b[0m\\u009b\"");
    }
}
