//! A picture on a terminal, or as text.

use ratatui::backend::TestBackend;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Table};
use ratatui::{Frame, Terminal};

use crate::top::picture::{Picture, Tone};
use crate::top::view::{Column, View};

/// Errors that have a line, where there is room.
const ERRORS: u16 = 5;

/// Draws it over the whole frame.
pub(super) fn draw(frame: &mut Frame<'_>, picture: &Picture, view: &mut View) {
    let rows = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
    let parts = if picture.parts.is_empty() { 0 } else { rows(picture.parts.len()).saturating_add(2) };
    let errors = if picture.errors.is_empty() { 0 } else { rows(picture.errors.len()).min(ERRORS) + 1 };
    let layout = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(u16::from(picture.trouble.is_some())),
        Constraint::Length(1),
        Constraint::Max(parts),
        Constraint::Min(3),
        Constraint::Max(errors),
        Constraint::Length(1),
    ]);
    let [title, trouble, _, above, list, below, keys] = layout.areas(frame.area());
    draw_title(frame, picture, title);
    if let Some(why) = &picture.trouble {
        frame.render_widget(Paragraph::new(why.as_str()).style(style(Tone::Bad)), trouble);
    }
    draw_parts(frame, picture, above);
    draw_list(frame, picture, view, list);
    if errors > 0 {
        let head = Line::styled("recent errors", head());
        let lines = picture.errors.iter().map(|error| Line::raw(error.as_str()));
        frame.render_widget(Paragraph::new([head].into_iter().chain(lines).collect::<Vec<_>>()), below);
    }
    let order = Column::ALL.iter().find(|(column, _)| *column == view.sort).map_or("", |(_, name)| *name);
    let turned = if view.reverse { ", reversed" } else { "" };
    let text = format!("q quit   ↑↓ move   s sort (by {order}{turned})   r reverse");
    frame.render_widget(Paragraph::new(text).style(dim()), keys);
}

/// The picture as lines of text of that width, as many as it takes.
pub(super) fn text(picture: &Picture, width: u16) -> Vec<String> {
    let height = picture.parts.len() + picture.entries.len() + picture.errors.len().min(ERRORS.into()) + 9;
    let backend = TestBackend::new(width, u16::try_from(height).unwrap_or(u16::MAX));
    let Ok(mut terminal) = Terminal::new(backend);
    let Ok(_) = terminal.draw(|frame| draw(frame, picture, &mut View::default()));
    let buffer = terminal.backend().buffer();
    let line = |row: &[ratatui::buffer::Cell]| {
        let line: String = row.iter().map(ratatui::buffer::Cell::symbol).collect();
        line.trim_end().to_owned()
    };
    let mut lines: Vec<String> = buffer.content().chunks(usize::from(width).max(1)).map(line).collect();
    // The last one names keys, which nobody can press here.
    lines.pop();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}

fn draw_title(frame: &mut Frame<'_>, picture: &Picture, area: Rect) {
    let mut spans = Vec::new();
    for (text, tone) in &picture.title {
        if !spans.is_empty() {
            spans.push(Span::styled(" · ", dim()));
        }
        spans.push(Span::styled(text.as_str(), style(*tone).add_modifier(Modifier::BOLD)));
    }
    frame.render_widget(Paragraph::new(Line::from(spans)), area);
}

fn draw_parts(frame: &mut Frame<'_>, picture: &Picture, area: Rect) {
    let right = |text: &str| Cell::new(Line::raw(text.to_owned()).alignment(Alignment::Right));
    let row = |cells: &[String; 11]| {
        Row::new(cells.iter().enumerate().map(|(at, text)| if at < 2 { Cell::new(text.clone()) } else { right(text) }))
    };
    let names = Picture::PARTS.iter().enumerate();
    let header = Row::new(names.map(|(at, name)| if at < 2 { Cell::new(*name) } else { right(name) })).style(head());
    let widths = [22, 11, 7, 9, 9, 8, 8, 8, 11, 9, 8].map(Constraint::Max);
    frame.render_widget(Table::new(picture.parts.iter().map(row), widths).header(header), area);
}

fn draw_list(frame: &mut Frame<'_>, picture: &Picture, view: &mut View, area: Rect) {
    let rows = view.order(&picture.entries).into_iter().map(|entry| {
        let under_way = entry.under_way.map(|count| count.to_string()).unwrap_or_default();
        Row::new([
            Cell::new(entry.endpoint.clone()),
            Cell::new(entry.place.clone()),
            Cell::new(Span::styled(entry.state.clone(), style(entry.tone))),
            Cell::new(Line::raw(under_way).alignment(Alignment::Right)),
            Cell::new(Span::styled(entry.why.clone(), dim())),
        ])
    });
    let widths =
        [Constraint::Fill(3), Constraint::Fill(4), Constraint::Length(12), Constraint::Length(9), Constraint::Fill(5)];
    let header = Row::new(["endpoint", "where", "state", "under way", "why"]).style(head());
    let table = Table::new(rows, widths).header(header);
    let table = table.row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    frame.render_stateful_widget(table, area, &mut view.table);
}

fn style(tone: Tone) -> Style {
    match tone {
        Tone::Good => Style::new().fg(Color::Green),
        Tone::Bad => Style::new().fg(Color::Red),
        Tone::Plain => Style::new(),
    }
}

fn head() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

fn dim() -> Style {
    Style::new().fg(Color::DarkGray)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::picture::Entry;

    #[test]
    fn a_picture_as_text_has_everything_and_no_keys() {
        let entry = Entry {
            endpoint: "a.b.c".to_owned(),
            place: "1f at 127.0.0.1:80".to_owned(),
            state: "routable".to_owned(),
            tone: Tone::Good,
            under_way: Some(3),
            why: "nothing is held against it".to_owned(),
        };
        let part =
            ["worker 127.0.0.1:80", "tokio", "12.5", "1 234", "7", "17 µs", "1.2 ms", "0", "2", "1.5 KiB", "17 B"];
        let picture = Picture {
            title: vec![("ringplane 0".to_owned(), Tone::Plain), ("ready".to_owned(), Tone::Good)],
            trouble: Some("no trouble".to_owned()),
            parts: vec![part.map(str::to_owned)],
            entries: vec![entry],
            errors: vec!["a.b.c: broken".to_owned()],
        };
        let text = text(&picture, 120);
        assert_eq!(text[0], "ringplane 0 · ready");
        assert_eq!(text[1], "no trouble");
        let whole = text.join("\n");
        for word in part.into_iter().chain(["a.b.c", "1f at 127.0.0.1:80", "routable", "nothing is held", "broken"]) {
            assert!(whole.contains(word), "{word}: {whole}");
        }
        assert!(!whole.contains("quit") && text.iter().all(|line| line.chars().count() <= 120), "{whole}");
    }
}
