//! From a discovery URL to its backend.

use std::sync::Arc;

use ringplane_core::discovery::config::Config;

use crate::discovery::asked::backend::Asked;
use crate::discovery::backend::Backend;
use crate::discovery::error::Error;
use crate::discovery::file::backend::File;
use crate::discovery::mem::Mem;

/// Opens a place with the default knobs: [`open_with`].
///
/// # Errors
/// As there.
pub fn open(url: &str) -> Result<Arc<dyn Backend>, Error> {
    open_with(url, &Config::default())
}

/// Opens `mem` (this process), `mem:NAME` (a place apart in it), `file:DIR` (this host), `etcd:URL,URL`,
/// `static:HOST:PORT,HOST:PORT` (workers that are asked what they serve) or `dns:NAME:PORT` (all that a name stands for). The
/// `url` of `config` is not looked at.
///
/// Opening a directory blocks for as long as reading it takes.
///
/// # Errors
/// [`Error::UnknownScheme`], [`Error::NotInThisBuild`] for `etcd:` without the feature, or what the place answers.
#[cfg_attr(not(feature = "etcd"), expect(unused_variables, reason = "only etcd has knobs so far"))]
pub fn open_with(url: &str, config: &Config) -> Result<Arc<dyn Backend>, Error> {
    let (scheme, rest) = url.split_once(':').unwrap_or((url, ""));
    let rest = if scheme == "mem" { rest } else { rest.strip_prefix("//").unwrap_or(rest) };
    match scheme {
        "mem" => Ok(Arc::new(Mem::named(rest))),
        "static" | "dns" => Ok(Arc::new(Asked::open(rest)?)),
        "file" if rest.is_empty() => Err(Error::NoDirectory),
        "file" => Ok(Arc::new(File::open(rest)?)),
        #[cfg(feature = "etcd")]
        "etcd" => Ok(Arc::new(crate::discovery::etcd::backend::Etcd::open(rest, config.clone())?)),
        #[cfg(not(feature = "etcd"))]
        "etcd" => Err(Error::NotInThisBuild { scheme: "etcd" }),
        _ => Err(Error::UnknownScheme(url.to_owned())),
    }
}
