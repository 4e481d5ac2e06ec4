//! Foreign text on one line that a terminal does not obey.

use core::fmt::{self, Display, Write};

/// Shows a text on one line, whatever is in it: what [`is_plain`] is not is escaped as in Rust's literals.
#[derive(Copy, Clone, Debug)]
pub struct Line<'a>(pub &'a str);

impl Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|letter| put(letter, f))
    }
}

/// Whether a character may stand as it is: it neither ends a line, nor commands a terminal (control characters, those of
/// C1 included), nor changes the direction in which others are shown.
pub fn is_plain(letter: char) -> bool {
    !letter.is_control()
        && !matches!(letter, '\u{61C}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// Writes a character, escaped if need be.
pub(crate) fn put(letter: char, out: &mut impl Write) -> fmt::Result {
    if is_plain(letter) { out.write_char(letter) } else { write!(out, "{}", letter.escape_default()) }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn a_text_stays_on_its_line_and_commands_nobody() {
        for (text, shown) in [
            ("plain \u{FC}\u{1F600} \"\\", "plain \u{FC}\u{1F600} \"\\"),
            ("a\nb\r\tc\0", "a\\nb\\r\\tc\\u{0}"),
            ("\u{1B}[31mred\u{7F}", "\\u{1b}[31mred\\u{7f}"),
            ("\u{9B}2J\u{85}", "\\u{9b}2J\\u{85}"),
            ("a\u{202E}b\u{2066}c\u{200F}d\u{2028}e", "a\\u{202e}b\\u{2066}c\\u{200f}d\\u{2028}e"),
        ] {
            assert_eq!(Line(text).to_string(), shown);
        }
    }
}
