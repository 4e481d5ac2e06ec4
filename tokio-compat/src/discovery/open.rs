//! From a discovery URL to its backend.

use std::sync::Arc;

use crate::discovery::backend::{Backend, Error};
use crate::discovery::file::File;
use crate::discovery::mem::Mem;

/// Opens `mem` (this process), `mem:NAME` (a place apart in it) or `file:DIR` (this host).
///
/// Opening a directory blocks for as long as reading it takes.
///
/// # Errors
/// [`Error::UnknownScheme`], [`Error::NotInThisBuild`] for `etcd:`, or what the directory answers.
pub fn open(url: &str) -> Result<Arc<dyn Backend>, Error> {
    let (scheme, rest) = url.split_once(':').unwrap_or((url, ""));
    match scheme {
        "mem" => Ok(Arc::new(Mem::named(rest))),
        "file" => {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            if path.is_empty() { Err(Error::NoDirectory) } else { Ok(Arc::new(File::open(path)?)) }
        }
        "etcd" => Err(Error::NotInThisBuild { scheme: "etcd" }),
        _ => Err(Error::UnknownScheme(url.to_owned())),
    }
}
