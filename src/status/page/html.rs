//! HTML in the making: foreign text is escaped, and what changes all the time is known by its place, so that a script can put it
//! in without the rest.

use std::fmt::Write;
use std::hash::{DefaultHasher, Hasher};

/// HTML in the making.
#[derive(Default)]
pub(super) struct Html {
    text: String,
    cells: Vec<String>,
    shape: DefaultHasher,
}

impl Html {
    /// Our own words.
    pub(super) fn raw(&mut self, html: &'static str) {
        self.shape.write(html.as_bytes());
        self.text.push_str(html);
    }

    /// Text of whatever origin, which stays as it is for as long as the page has its shape.
    pub(super) fn text(&mut self, text: &str) {
        self.shape.write(text.as_bytes());
        self.shape.write_u8(0);
        escape(text, &mut self.text);
    }

    /// Text that changes: an element of its own, whose id is `c` and its number.
    pub(super) fn cell(&mut self, tag: &'static str, text: String) {
        self.shape.write(tag.as_bytes());
        // Writing to a string cannot fail.
        let _ = write!(self.text, "<{tag} id=\"c{}\">", self.cells.len());
        escape(&text, &mut self.text);
        let _ = write!(self.text, "</{tag}>");
        self.cells.push(text);
    }

    /// What says whether two pages differ in their cells only.
    pub(super) fn shape(&self) -> String {
        format!("{:016x}", self.shape.finish())
    }

    /// The HTML, and the text of each cell.
    pub(super) fn done(self) -> (String, Vec<String>) {
        (self.text, self.cells)
    }
}

/// Writes text so that it is text, within an element and within the quotes of an attribute.
fn escape(text: &str, out: &mut String) {
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ if ringplane_core::wire::line::is_plain(letter) => out.push(letter),
            _ => _ = write!(out, "{}", letter.escape_unicode()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_is_text() {
        let mut html = Html::default();
        html.raw("<a title=\"");
        html.text("\"><script>'&\u{202E}");
        html.raw("\">");
        let wanted = "<a title=\"&quot;&gt;&lt;script&gt;&#39;&amp;\\u{202e}\">";
        assert_eq!(html.done(), (wanted.to_owned(), vec![]));
    }

    #[test]
    fn the_shape_is_all_but_the_text_of_cells() {
        let page = |text: &str, cell: &str| {
            let mut html = Html::default();
            html.text(text);
            html.cell("b", cell.to_owned());
            (html.shape(), html.done())
        };
        let (one, two, other) = (page("a", "1<"), page("a", "2"), page("b", "1<"));
        assert!(one.0 == two.0 && one.0 != other.0);
        assert_eq!(one.1, ("a<b id=\"c0\">1&lt;</b>".to_owned(), vec!["1<".to_owned()]));
    }
}
