//! What a worker or a client tells a status server when it is asked.

use std::sync::Arc;

use bytes::Bytes;
use ringplane_core::caller::view::InstanceView;
use ringplane_tokio::discovery::{BoxFuture, Counters};

use crate::error::Error;
use crate::runtime::cores::Group;

/// A worker or a client.
pub(crate) trait Subject: Send + Sync {
    /// Whether it is a worker: readiness is about those.
    fn is_worker(&self) -> bool;

    /// What people call it: the address of a worker, a number.
    fn name(&self) -> String;

    /// Its threads; `None` as long as there are none, and of a client on a worker's threads.
    fn group(&self) -> Option<Arc<Group>>;

    /// What its discovery has counted.
    fn counters(&self) -> Counters;

    /// What holds of each endpoint that it serves.
    fn endpoints(&self) -> Vec<Row> {
        Vec::new()
    }

    /// The records of those that discovery is to have, as it has them.
    fn records(&self) -> Vec<Bytes> {
        Vec::new()
    }

    /// What it knows of the instances that it calls, at most so many; and of how many more.
    fn instances(&self, _most: usize) -> BoxFuture<'static, (Vec<Known>, usize)> {
        Box::pin(std::future::ready((Vec::new(), 0)))
    }

    /// Drains or resumes an endpoint of its own.
    fn manage(&self, endpoint: String, _act: Act) -> BoxFuture<'static, Result<(), Error>> {
        Box::pin(std::future::ready(Err(Error::NotServed(endpoint))))
    }
}

/// What a POST asks for.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Act {
    Drain,
    Resume,
}

/// An endpoint that is served.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Row {
    /// `namespace.component.endpoint`.
    pub(crate) name: String,
    /// In one word: `ready`, `starting`, `drained`.
    pub(crate) state: &'static str,
    /// Why it is so.
    pub(crate) why: &'static str,
    pub(crate) ready: bool,
    /// Whether an operator took it out alone: the others serve on.
    pub(crate) drained: bool,
}

impl Row {
    /// The last part of its name, by which Dynamo knows it.
    pub(crate) fn short(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or(&self.name)
    }

    /// Whether it is meant by this name, whole or short.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        self.name == name || self.short() == name
    }
}

/// An instance of an endpoint that is called.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) endpoint: String,
    pub(crate) view: InstanceView,
}
