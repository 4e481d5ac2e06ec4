//! Discovery through a directory all processes of a host share, in Dynamo's layout.
//!
//! A record is a file whose name is its key, in the directory of its bucket. Its owner sets the file's time every 3 s; a file
//! not touched for 10 s is dead, is no longer listed, and is deleted by whoever notices. One thread per directory in use
//! does all of it.

pub(super) mod backend;
mod keeper;
mod lock;
mod name;
mod notices;
mod seen;
mod shared;
mod store;
mod timing;

pub use backend::File;
pub use timing::Timing;
