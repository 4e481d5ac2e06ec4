//! What an object store can refuse.

use std::path::PathBuf;
use std::{fmt, io};

use crate::nats::jetstream;
use crate::store::bincode;

/// Why a store did not do what it was asked.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A bucket's name has other characters than `A-Z a-z 0-9 - _`, or none.
    BucketName(String),
    /// An object's name is empty, or longer than 1,024 bytes.
    Name(String),
    /// There is no such bucket.
    NoBucket(String),
    /// There is no such object.
    NoObject {
        /// The bucket that was looked in.
        bucket: String,
        /// The name that is not there.
        name: String,
    },
    /// The object only points to another, which is not followed.
    Link(String),
    /// What came is not what was put: another digest, size or number of pieces, or none to compare with.
    Damaged {
        /// The object.
        name: String,
        /// What is not as it should be.
        what: &'static str,
    },
    /// The pieces stopped coming.
    Incomplete {
        /// Pieces that are missing.
        left: usize,
    },
    /// More than may be taken into memory.
    TooLarge {
        /// Bytes that the object has, or objects that the bucket has.
        size: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A value and its bytes do not fit.
    Value(bincode::Error),
    /// What is there is no description of an object. It can be put anew, or deleted.
    Malformed {
        /// The object.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// Others put or deleted an object of this name again and again meanwhile, and this one came too late each time.
    Contended(String),
    /// A file cannot be read or written.
    File {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What is put cannot be read.
    Read(io::Error),
    /// Where it goes cannot be written.
    Write(io::Error),
    /// JetStream did not do it.
    JetStream(jetstream::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BucketName(name) => write!(f, "`{name}` is no name of a bucket: letters, digits, - and _"),
            Self::Name(name) => write!(f, "`{name}` is no name of an object: 1 to 1024 bytes"),
            Self::NoBucket(name) => write!(f, "there is no bucket `{name}`"),
            Self::NoObject { bucket, name } => write!(f, "there is no object `{name}` in the bucket `{bucket}`"),
            Self::Link(name) => write!(f, "the object `{name}` is a link, which is not followed"),
            Self::Damaged { name, what } => write!(f, "the object `{name}` is damaged: {what}"),
            Self::Incomplete { left } => write!(f, "the pieces of the object stopped coming; {left} are missing"),
            Self::TooLarge { size, limit } => write!(f, "{size} are too many for memory; {limit} are allowed"),
            Self::Value(_) => f.write_str("the value and its bytes do not fit"),
            Self::Malformed { name, why } => {
                write!(f, "the description of the object `{name}` is malformed: {why}; put it anew or delete it")
            }
            Self::Contended(name) => write!(f, "others put the object `{name}` again and again; it was not put"),
            Self::File { path, .. } => write!(f, "`{}`", path.display()),
            Self::Read(_) => f.write_str("what is to be put cannot be read"),
            Self::Write(_) => f.write_str("what came cannot be written"),
            Self::JetStream(_) => f.write_str("the object store does not answer as it should"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Value(error) => Some(error),
            Self::File { source, .. } | Self::Read(source) | Self::Write(source) => Some(source),
            Self::JetStream(error) => Some(error),
            _ => None,
        }
    }
}

impl From<jetstream::Error> for Error {
    fn from(error: jetstream::Error) -> Self {
        Self::JetStream(error)
    }
}

impl From<bincode::Error> for Error {
    fn from(error: bincode::Error) -> Self {
        Self::Value(error)
    }
}
