//! How far a worker has got with a try of a call.

/// What the worker has said of a try.
///
/// ```text
///  Asked ──a status, an ack, an item──▶ Accepted ──the prologue of its response (Dynamo's protocol)──▶ Started
/// ```
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Phase {
    /// Nothing yet.
    Asked,
    /// It has taken the call.
    Accepted,
    /// There is a response.
    Started,
}
