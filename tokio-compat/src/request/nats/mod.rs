//! Requests by way of a NATS server, as Dynamo sends them with `DYN_REQUEST_PLANE=nats`.
//!
//! Only the request and its ack travel by NATS: answers come over TCP, by a call-home. What a request means is decided
//! by the machines of a core, on either side reached through that core's mailbox; here is what carries it, on a
//! thread of its own, so that neither data nor requests can starve the other.

mod caller;
mod worker;

pub use caller::CallerLeg;
pub use worker::{Answer, Request, WorkerLeg};
