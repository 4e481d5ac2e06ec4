//! What somebody at the keyboard has chosen: the order of the list, and where in it they are.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::widgets::TableState;

use crate::top::picture::Entry;

/// What the list is sorted by.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Column {
    Endpoint,
    Place,
    State,
    UnderWay,
}

impl Column {
    pub(super) const ALL: [(Self, &'static str); 4] =
        [(Self::Endpoint, "endpoint"), (Self::Place, "where"), (Self::State, "state"), (Self::UnderWay, "under way")];

    fn next(self) -> Self {
        let at = Self::ALL.iter().position(|(column, _)| *column == self).unwrap_or_default();
        Self::ALL[(at + 1) % Self::ALL.len()].0
    }
}

/// What a key asks for.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Wish {
    Nothing,
    Quit,
    Suspend,
}

/// What has been chosen.
#[derive(Debug)]
pub(super) struct View {
    pub(super) sort: Column,
    pub(super) reverse: bool,
    pub(super) table: TableState,
}

impl Default for View {
    fn default() -> Self {
        Self { sort: Column::Endpoint, reverse: false, table: TableState::default() }
    }
}

impl View {
    /// A key was pressed.
    pub(super) fn press(&mut self, key: KeyEvent) -> Wish {
        if key.kind == KeyEventKind::Release {
            return Wish::Nothing;
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            // On a terminal that is read key by key these are no signals.
            KeyCode::Char('c' | 'd' | '\\') if control => return Wish::Quit,
            KeyCode::Char('z') if control => return Wish::Suspend,
            KeyCode::Char('q') | KeyCode::Esc => return Wish::Quit,
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('r') => self.reverse = !self.reverse,
            KeyCode::Down | KeyCode::Char('j') => self.table.select_next(),
            KeyCode::Up | KeyCode::Char('k') => self.table.select_previous(),
            KeyCode::PageDown => self.table.scroll_down_by(10),
            KeyCode::PageUp => self.table.scroll_up_by(10),
            KeyCode::Home => self.table.select_first(),
            KeyCode::End => self.table.select_last(),
            _ => {}
        }
        Wish::Nothing
    }

    /// The entries in the order that is wished for.
    pub(super) fn order<'a>(&self, entries: &'a [Entry]) -> Vec<&'a Entry> {
        let mut all: Vec<&Entry> = entries.iter().collect();
        all.sort_by(|one, other| match self.sort {
            Column::Endpoint => (&one.endpoint, &one.place).cmp(&(&other.endpoint, &other.place)),
            Column::Place => one.place.cmp(&other.place),
            Column::State => one.state.cmp(&other.state),
            // The busiest first.
            Column::UnderWay => other.under_way.cmp(&one.under_way),
        });
        if self.reverse {
            all.reverse();
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::picture::Tone;

    #[test]
    fn keys_sort_move_and_leave() {
        let mut view = View::default();
        let mut press = |code, modifiers| view.press(KeyEvent::new(code, modifiers));
        assert_eq!(press(KeyCode::Char('q'), KeyModifiers::NONE), Wish::Quit);
        assert_eq!(press(KeyCode::Char('c'), KeyModifiers::CONTROL), Wish::Quit);
        assert_eq!(press(KeyCode::Char('z'), KeyModifiers::CONTROL), Wish::Suspend);
        for code in [KeyCode::Char('s'), KeyCode::Char('s'), KeyCode::Char('s'), KeyCode::Down] {
            assert_eq!(press(code, KeyModifiers::NONE), Wish::Nothing);
        }
        assert_eq!((view.sort, view.table.selected()), (Column::UnderWay, Some(0)));
        let entry = |endpoint: &str, under_way| Entry {
            endpoint: endpoint.to_owned(),
            place: String::new(),
            state: String::new(),
            tone: Tone::Plain,
            under_way,
            why: String::new(),
        };
        let entries = [entry("a", Some(1)), entry("b", None), entry("c", Some(7))];
        let order = |view: &View| view.order(&entries).iter().map(|entry| entry.endpoint.as_str()).collect::<String>();
        assert_eq!(order(&view), "cab");
        view.press(KeyEvent::new(KeyCode::Char('r'), KeyModifiers::NONE));
        assert_eq!(order(&view), "bac");
    }
}
