//! What all kinds of record have in common: a bucket, a key, who asks for them, and what may stand where ours should.

use alloc::format;
use alloc::string::String;
use core::fmt;

use crate::discovery::error::Error;
use crate::discovery::watch::Record;

/// A kind of record: how it is named, found, written and read, and the rules for what is there already.
///
/// Keys within a bucket are called paths here; whole keys have the bucket in front.
pub trait Kind: Clone + PartialEq + fmt::Debug + Send + Sync + 'static {
    /// What names one record among all of its kind.
    type Key: Clone + Ord + fmt::Debug + Send + Sync + 'static;
    /// Which records somebody wants to hear of.
    type Query: Clone + fmt::Debug + Send + Sync + 'static;

    /// Where records of this kind are kept: the top of every key.
    const BUCKET: &'static str;

    /// What names this record.
    fn key(&self) -> Self::Key;

    /// The key within its bucket.
    fn path(key: &Self::Key) -> String;

    /// Reads a key within its bucket; `None` for what is no key of this kind.
    fn parse(path: &str) -> Option<Self::Key>;

    /// Whether `query` asks for the record of this key.
    fn is_asked(query: &Self::Query, key: &Self::Key) -> bool;

    /// What all paths that `query` asks for begin with; others may begin with it too.
    fn prefix(query: &Self::Query) -> String;

    /// The record as one line of JSON, in Dynamo's order of fields.
    ///
    /// # Errors
    /// [`Error`] for what Dynamo's keys or subjects would trip over.
    fn write(&self) -> Result<String, Error>;

    /// Reads what is stored under `key`. Unknown fields are ignored.
    ///
    /// # Errors
    /// [`Error`] for what cannot be used, and for a record that names another key: its removal could never be recognised.
    fn read(key: &Self::Key, value: &[u8]) -> Result<Self, Error>;

    /// Whether `stored`, found where this record should be written, does as well. Anything else there is somebody
    /// else's, and left alone.
    fn is_served_by(&self, stored: &Self) -> bool {
        self == stored
    }

    /// Whether this record, seen where `before` was, is news about the same thing and not another in its place.
    fn is_update_of(&self, before: &Self) -> bool;

    /// Among which records this one must fit; `None` if it fits everywhere.
    fn neighbours(&self) -> Option<Self::Query> {
        None
    }

    /// Whether both may be there.
    fn fits(&self, _neighbour: &Self) -> bool {
        true
    }

    /// The whole key.
    fn full(key: &Self::Key) -> String {
        format!("{}/{}", Self::BUCKET, Self::path(key))
    }
}

/// Reads a whole key.
pub fn parse_full<K: Kind>(key: &str) -> Option<K::Key> {
    K::parse(key.strip_prefix(K::BUCKET)?.strip_prefix('/')?)
}

/// Whether the value found at a whole key does as well as ours: [`Kind::is_served_by`] for those who hold bytes.
pub fn serves<K: Kind>(key: &str, ours: &[u8], found: &[u8]) -> bool {
    let read = |value| K::read(&parse_full::<K>(key)?, value).ok();
    ours == found || matches!((read(ours), read(found)), (Some(ours), Some(found)) if ours.is_served_by(&found))
}

impl<K: Kind> Record for K {
    fn read(key: &str, value: &[u8]) -> Option<Self> {
        <K as Kind>::read(&parse_full::<K>(key)?, value).ok()
    }
}
