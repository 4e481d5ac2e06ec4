//! What a worker says to those that ask it what it serves.

use std::sync::PoisonError;

use crate::handler::request::{Handler, Request, Responder};
use crate::worker::records::Told;

/// The handler of [`QUESTION`](ringplane_core::discovery::record::QUESTION): each record of the moment.
pub(super) fn answers(told: Told) -> impl Handler {
    move |_request: Request, out: Responder| {
        let records = told.read().unwrap_or_else(PoisonError::into_inner).clone();
        async move {
            for record in records {
                out.send(record).await?;
            }
            Ok(())
        }
    }
}
