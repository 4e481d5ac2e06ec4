//! Where instances are found.

use std::sync::Arc;

use ringplane_tokio::discovery::{self, Backend};

use crate::error::Error;

/// Where instances are found: named, or opened already.
#[derive(Clone)]
pub(crate) enum Place {
    Url(String),
    Backend(Arc<dyn Backend>),
}

impl Place {
    pub(crate) fn open(self) -> Result<Arc<dyn Backend>, Error> {
        match self {
            Self::Url(url) => Ok(discovery::open(&url)?),
            Self::Backend(backend) => Ok(backend),
        }
    }
}
