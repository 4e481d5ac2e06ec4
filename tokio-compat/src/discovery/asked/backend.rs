//! The handle of a set of workers that are asked.

use std::fmt;
use std::future::ready;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use ringplane_core::discovery::channel::EventChannel;
use ringplane_core::discovery::instance::Instance;
use ringplane_core::discovery::key::Query;
use ringplane_core::discovery::kind::Kind;
use ringplane_core::discovery::model::Model;
use ringplane_core::discovery::source::EventSource;
use ringplane_core::id::InstanceId;
use tokio::sync::oneshot;

use crate::discovery::asked::hosts::{self, HostPort};
use crate::discovery::asked::keeper;
use crate::discovery::asked::shared::Shared;
use crate::discovery::backend::{Backend, BoxFuture, Claim, Edit, Place, Registration, random_instance_id};
use crate::discovery::counters::Counters;
use crate::discovery::error::Error;
use crate::discovery::hub::{Hub, Watch};

/// Workers at known addresses, each asked over mux, once a second, what it serves. Clones share one thread, which starts
/// with the first look and lives as long as any clone or watch.
///
/// Names are looked up again every five seconds, by what the system has for it, its caches and `/etc/hosts` included; all of
/// their addresses are asked, 1,024 at the most. A worker whose connection is lost, or that says that it leaves, is gone at
/// once and is dialed again each second; one that is slow to answer stays. A first look waits up to two seconds for workers
/// that do not answer.
///
/// Nothing is written anywhere: an instance that is registered here is found by those that have its worker's address, which
/// answers for it. Records of other kinds are not kept.
#[derive(Clone, Debug)]
pub struct Asked {
    place: Arc<Workers>,
    id: InstanceId,
}

#[derive(Debug)]
struct Workers {
    hosts: Vec<HostPort>,
    asker: Mutex<Option<Arc<Asker>>>,
}

/// The thread; it ends with the last handle.
struct Asker {
    shared: Arc<Shared>,
    _stop: oneshot::Sender<()>,
}

impl fmt::Debug for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asker").finish_non_exhaustive()
    }
}

impl Asked {
    /// The workers at `HOST:PORT,HOST:PORT`; an address of IPv6 stands in brackets.
    ///
    /// # Errors
    /// [`Error::HostPort`] for what is none.
    pub fn open(list: &str) -> Result<Self, Error> {
        let place = Workers { hosts: hosts::read(list)?, asker: Mutex::new(None) };
        Ok(Self { place: Arc::new(place), id: random_instance_id() })
    }
}

impl Workers {
    fn asker(&self) -> Result<Arc<Asker>, Error> {
        let mut asker = self.asker.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(asker) = &*asker {
            return Ok(asker.clone());
        }
        let shared = Arc::new(Shared::new(&self.hosts));
        let (stop, stopped) = oneshot::channel();
        let (hosts, told) = (self.hosts.clone(), shared.clone());
        let run = move || match keeper::runtime() {
            Ok(runtime) => keeper::run(runtime, hosts, told, stopped),
            Err(error) => {
                tracing::error!(%error, "workers cannot be asked");
                told.give_up_waiting();
            }
        };
        thread::Builder::new().name("discovery".into()).spawn(run).map_err(Error::Thread)?;
        Ok(asker.insert(Arc::new(Asker { shared, _stop: stop })).clone())
    }
}

impl Backend for Asked {
    fn instance_id(&self) -> InstanceId {
        self.id
    }

    /// A snapshot is an answer of one worker, and what is lost a connection to one or a look-up of a name.
    fn counters(&self) -> Counters {
        let asker = self.place.asker.lock().unwrap_or_else(PoisonError::into_inner);
        asker.as_ref().map_or_else(Counters::default, |asker| asker.shared.tally.read())
    }
}

impl Place<Instance> for Asked {
    fn claim(&self, record: Instance) -> BoxFuture<'_, Result<Registration<Instance>, Error>> {
        let written = record.write().map_err(Error::Record);
        Box::pin(ready(written.map(|_| Registration::new(record, Unwritten))))
    }

    fn list(&self, query: Query) -> BoxFuture<'_, Result<Vec<Instance>, Error>> {
        Box::pin(async move {
            let asker = self.place.asker()?;
            asker.shared.wait().await;
            Ok(asker.shared.hub.list(&query))
        })
    }

    fn watch(&self, query: Query) -> BoxFuture<'_, Result<Watch<Instance>, Error>> {
        Box::pin(async move {
            let asker = self.place.asker()?;
            asker.shared.wait().await;
            let hub = asker.shared.hub.clone();
            Ok(hub.watch(query, Some(asker)))
        })
    }
}

/// Its worker answers for it.
struct Unwritten;

impl Claim<Instance> for Unwritten {
    fn release(self: Box<Self>) -> BoxFuture<'static, Result<(), Error>> {
        Box::pin(ready(Ok(())))
    }

    fn edit(&self, _edit: Edit<Instance>) -> BoxFuture<'_, Result<Instance, Error>> {
        Box::pin(ready(Err(Error::NotKept { kind: Instance::BUCKET })))
    }
}

macro_rules! not_kept {
    ($($kind:ty),*) => {
        $(impl Place<$kind> for Asked {
            fn claim(&self, _record: $kind) -> BoxFuture<'_, Result<Registration<$kind>, Error>> {
                Box::pin(ready(Err(Error::NotKept { kind: <$kind>::BUCKET })))
            }

            fn list(&self, _query: <$kind as Kind>::Query) -> BoxFuture<'_, Result<Vec<$kind>, Error>> {
                Box::pin(ready(Ok(Vec::new())))
            }

            fn watch(&self, query: <$kind as Kind>::Query) -> BoxFuture<'_, Result<Watch<$kind>, Error>> {
                Box::pin(ready(Ok(Arc::<Hub<$kind>>::default().watch(query, None))))
            }
        })*
    };
}

not_kept!(Model, EventChannel, EventSource);
