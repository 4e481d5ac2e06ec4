//! How the program and the processes it starts talk: lines of JSON on standard input and output.

use std::io::{BufRead, Write, stdin, stdout};
use std::process::exit;

use serde::{Deserialize, Serialize};

use crate::measure::Measured;
use crate::usage::Usage;

/// What a started process says, a line each.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Line {
    /// A server listens here.
    Ready(String),
    /// A server's answer to a line of input.
    Usage(Usage),
    /// A load has come to this point.
    Phase(Phase),
    /// A load is done.
    Measured(Box<Measured>),
    /// Nothing more will come.
    Failed(String),
}

/// The points of a load's life at which the program looks at the server.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// No connection is up. The load waits for a line.
    Before,
    /// The idle connections are up. The load waits for a line.
    Idle,
    /// The window opens.
    Open,
    /// The window has closed.
    Closed,
}

/// How a server says where it listens.
#[derive(Debug)]
pub struct Ready(());

impl Ready {
    pub(crate) const fn new() -> Self {
        Self(())
    }

    /// It listens at `address`, and takes calls.
    pub fn tell(self, address: impl ToString) {
        say(&Line::Ready(address.to_string()));
    }
}

/// Tells the program where a load is.
pub fn announce(phase: Phase) {
    say(&Line::Phase(phase));
}

/// Tells the program where a load is and waits until it has looked.
pub fn announce_and_wait(phase: Phase) {
    announce(phase);
    let mut line = String::new();
    if stdin().lock().read_line(&mut line).unwrap_or(0) == 0 {
        // The program is gone.
        exit(1);
    }
}

/// Says a line.
pub(crate) fn say(line: &Line) {
    let text = serde_json::to_string(line).unwrap_or_default();
    let mut out = stdout().lock();
    if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
        // Nobody listens any more.
        exit(1);
    }
}
