//! What a worker says to those that ask it what it serves.

use bytes::Bytes;
use ringplane_core::discovery::instance::Instance;
use ringplane_core::discovery::record;

use crate::handler::request::{Handler, Request, Responder};

/// The handler of [`QUESTION`](record::QUESTION): the record of each of these instances.
pub(super) fn answers(instances: &[Instance]) -> impl Handler {
    // One that cannot be written is refused by discovery, and the worker does not start.
    let records: Vec<Bytes> = instances.iter().filter_map(|one| record::write(one).ok()).map(Bytes::from).collect();
    move |_request: Request, out: Responder| {
        let records = records.clone();
        async move {
            for record in records {
                out.send(record).await?;
            }
            Ok(())
        }
    }
}
