//! `serve --exec`: commands that answer requests.

mod once;

pub(crate) use once::run;
