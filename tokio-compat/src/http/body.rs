//! The body of a request, read within its bounds.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::http::config::Config;

/// Why a body is not taken.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Refused {
    /// It is, or says that it is, larger than may be.
    TooLarge,
    /// There is no room for it beside the others.
    NoRoom,
    /// It broke off, stood still or took too long.
    Broken,
}

/// Bytes of bodies that may be in memory, in KiB.
#[derive(Clone, Debug)]
pub(super) struct Room(Arc<Semaphore>);

impl Room {
    pub(super) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(kib(bytes) as usize)))
    }

    fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Refused> {
        Arc::clone(&self.0).try_acquire_many_owned(kib(bytes)).map_err(|_| Refused::NoRoom)
    }
}

/// Bytes in whole KiB.
fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}

/// Reads the whole of it, and the room it takes. A length that is declared is refused before anything is read; memory
/// follows what has arrived.
pub(super) async fn read(
    body: Incoming,
    config: &Config,
    room: &Room,
) -> Result<(Bytes, OwnedSemaphorePermit), Refused> {
    if body.size_hint().lower() > config.max_body as u64 {
        return Err(Refused::TooLarge);
    }
    timeout(config.body, collect(body, config, room)).await.unwrap_or(Err(Refused::Broken))
}

async fn collect(mut body: Incoming, config: &Config, room: &Room) -> Result<(Bytes, OwnedSemaphorePermit), Refused> {
    let (mut whole, mut permit) = (Vec::new(), room.take(1)?);
    loop {
        let frame = match timeout(config.stall, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(None) => return Ok((whole.into(), permit)),
            Ok(Some(Err(_))) | Err(_) => return Err(Refused::Broken),
        };
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > config.max_body {
            return Err(Refused::TooLarge);
        }
        let more =
            kib(whole.len() + data.len()).saturating_sub(u32::try_from(permit.num_permits()).unwrap_or(u32::MAX));
        if more > 0 {
            permit.merge(room.take(more as usize * 1024)?);
        }
        whole.extend_from_slice(&data);
    }
}
