//! `serve --exec`: commands that answer requests, one for each or several that stay.

mod errors;
mod keeper;
mod line;
mod lines;
mod once;
mod outcome;
mod pool;
mod process;
mod program;

pub(crate) use once::run;
pub(crate) use pool::Pool;
pub(crate) use program::Program;
