//! The terminal while something is shown on it, and its state before, which comes back on every way out.

use std::io::{self, IsTerminal, Write};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, Event, KeyEvent};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use rustix::process::{Signal, getpid, kill_process};
use tokio::sync::mpsc;

use crate::exit::{Exit, Failed};
use crate::streams::{Output, written};
use crate::top::draw::draw;
use crate::top::picture::Picture;
use crate::top::view::View;

/// Keys that may wait.
const KEYS: usize = 64;
/// Whether the terminal is ours: whoever leaves it does so once.
static OURS: AtomicBool = AtomicBool::new(false);

/// A terminal that is shown on. Dropped, it is as it was before.
pub(super) struct Screen(Terminal<CrosstermBackend<Output>>);

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// If stdin and stdout are none.
    pub(super) fn enter() -> Result<Self, Failed> {
        if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
            let why = "stdin and stdout are no terminal; `top --once` prints what it would show";
            return Err(Failed::new(Exit::Local, why));
        }
        leave_on_panic();
        let out = Output::stdout().map_err(|error| Failed::local("the terminal", error))?;
        let terminal = Terminal::new(CrosstermBackend::new(out));
        let mut screen = Self(terminal.map_err(|error| Failed::local("the terminal", error))?);
        screen.take().map_err(|error| Failed::local("the terminal", error))?;
        Ok(screen)
    }

    fn take(&mut self) -> io::Result<()> {
        OURS.store(true, Ordering::SeqCst);
        enable_raw_mode()?;
        execute!(self.0.backend_mut(), EnterAlternateScreen)?;
        // Clears, and draws all of the next picture. `clear` would ask where the cursor is, and the thread of the keys hears that.
        let size = self.0.size()?;
        self.0.resize(size.into())?;
        self.0.hide_cursor()
    }

    /// Shows a picture.
    pub(super) fn show(&mut self, picture: &Picture, view: &mut View) -> Result<(), Failed> {
        written(self.0.draw(|frame| draw(frame, picture, view)).map(drop))
    }

    /// Gives the terminal back and stops the process, until somebody has it go on.
    pub(super) fn suspend(&mut self) -> Result<(), Failed> {
        leave();
        let stopped = kill_process(getpid(), Signal::STOP).map_err(io::Error::from);
        stopped.and_then(|()| self.take()).map_err(|error| Failed::local("the terminal", error))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave();
    }
}

/// Gives the terminal back as it was found, if it is ours.
fn leave() {
    if !OURS.swap(false, Ordering::SeqCst) {
        return;
    }
    // A terminal that is gone needs nothing back.
    let _ = disable_raw_mode();
    if let Ok(mut out) = Output::stdout() {
        let _ = execute!(out, LeaveAlternateScreen, Show);
        let _ = out.flush();
    }
}

/// What a panic says is to be read on the screen that stays.
fn leave_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            leave();
            before(panic);
        }));
    });
}

/// The keys that are pressed, and `None` for another size of the terminal; read by a thread, which ends with the process.
pub(super) fn keys() -> Result<mpsc::Receiver<Option<KeyEvent>>, Failed> {
    let (tell, told) = mpsc::channel(KEYS);
    let run = move || {
        loop {
            let news = match event::read() {
                Ok(Event::Key(key)) => Some(key),
                Ok(Event::Resize(..)) => None,
                Ok(_) => continue,
                Err(_) => return,
            };
            if tell.blocking_send(news).is_err() {
                return;
            }
        }
    };
    let spawned = std::thread::Builder::new().name("keys".to_owned()).spawn(run);
    spawned.map_err(|error| Failed::local("the keyboard", error))?;
    Ok(told)
}
