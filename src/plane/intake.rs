//! What takes requests in at a worker, and how they get to the cores.

use std::sync::Arc;

use ringplane_core::discovery::instance::Instance;
use ringplane_core::dynamo::request::message::Message;
use ringplane_core::wire::dynamo::ack::SHUTTING_DOWN;
use ringplane_core::worker;
use ringplane_tokio::discovery::BoxFuture;
use ringplane_tokio::request;
use ringplane_tokio::request::intake::{Ack, Request, Running};

use crate::runtime::cores::Group;

/// A request plane that is about to run.
pub(crate) trait Intake: Send {
    /// What the records of a worker's instances say.
    fn announce(&self, instance: Instance) -> Instance;

    /// Which callers may be dialed home where a request does not say who sent it.
    fn allow(&self, _config: &mut worker::config::Config) {}

    /// Starts what brings requests to `instances`, which the cores serve already; `None` where the cores do it themselves.
    fn start(self: Box<Self>, instances: &[Instance], group: &Arc<Group>) -> Starting;
}

/// What a start ends in.
pub(crate) type Starting = BoxFuture<'static, Result<Option<Running>, request::Error>>;

/// Hands requests for `instances` to the cores, whatever plane they come by.
pub(crate) fn take<A: Ack>(instances: &[Instance], group: &Arc<Group>) -> impl Fn(Request<A>) + Send + Sync + use<A> {
    let paths: Vec<Arc<str>> = instances.iter().map(|instance| instance.path.as_str().into()).collect();
    let group = group.clone();
    move |request| {
        let Some(path) = paths.get(request.endpoint).cloned() else {
            return request.answer.send(SHUTTING_DOWN);
        };
        // A job that finds no room is dropped, and the request's answer with it, which says so.
        let _ = group.submit(move |core| {
            let Request { headers, payload, peer, answer, .. } = request;
            let message = Message { path: path.as_bytes(), headers: &headers, payload, peer };
            let taken = core.node.request(&message);
            answer.send(taken.as_ref().err().map_or("", |text| text));
        });
    }
}
