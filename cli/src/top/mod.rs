//! `ringplane top`: what a process does, or what discovery finds, kept up to date on a terminal.

mod draw;
mod fetch;
mod picture;
mod run;
mod source;
mod terminal;
mod view;

pub(crate) use run::{Args, run};
