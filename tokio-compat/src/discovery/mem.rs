//! Discovery within one process.

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use ringplane_core::discovery::instance::Instance;
use ringplane_core::discovery::key::{Key, Query};
use ringplane_core::discovery::record;
use ringplane_core::id::InstanceId;

use crate::discovery::backend::{Backend, BoxFuture, Claim, Error, Registration, random_instance_id};
use crate::discovery::hub::{Hub, Watch};

/// Instances kept in this process. Clones share them; so do handles of one name.
#[derive(Clone, Debug)]
pub struct Mem {
    hub: Arc<Hub>,
    id: InstanceId,
}

impl Default for Mem {
    fn default() -> Self {
        Self::new()
    }
}

impl Mem {
    /// A place of its own, shared only with its clones.
    pub fn new() -> Self {
        Self { hub: Arc::default(), id: random_instance_id() }
    }

    /// The place of this name in this process. It lasts as long as anybody holds a handle, a registration or a watch.
    pub fn named(name: &str) -> Self {
        static NAMED: Mutex<BTreeMap<String, Weak<Hub>>> = Mutex::new(BTreeMap::new());
        let mut named = NAMED.lock().unwrap_or_else(PoisonError::into_inner);
        named.retain(|_, hub| hub.strong_count() > 0);
        let known = named.get(name).and_then(Weak::upgrade);
        let hub = known.unwrap_or_else(|| {
            let hub = Arc::default();
            named.insert(name.to_owned(), Arc::downgrade(&hub));
            hub
        });
        Self { hub, id: random_instance_id() }
    }
}

impl Backend for Mem {
    fn instance_id(&self) -> InstanceId {
        self.id
    }

    fn register(&self, instance: Instance) -> BoxFuture<'_, Result<Registration, Error>> {
        // Written down nowhere, but what only works here would surprise elsewhere.
        let written = record::write(&instance).map_err(Error::Record);
        let result = written.and_then(|_| {
            let key = instance.key();
            if self.hub.put_new(&instance) {
                Ok(Registration::new(instance, MemClaim { hub: Arc::clone(&self.hub), key }))
            } else {
                Err(Error::Exists { key: key.full() })
            }
        });
        Box::pin(ready(result))
    }

    fn list(&self, query: Query) -> BoxFuture<'_, Result<Vec<Instance>, Error>> {
        Box::pin(ready(Ok(self.hub.list(&query))))
    }

    fn watch(&self, query: Query) -> BoxFuture<'_, Result<Watch, Error>> {
        Box::pin(ready(Ok(self.hub.watch(query, None))))
    }
}

struct MemClaim {
    hub: Arc<Hub>,
    key: Key,
}

impl Claim for MemClaim {
    fn release(self: Box<Self>) -> BoxFuture<'static, Result<(), Error>> {
        drop(self);
        Box::pin(ready(Ok(())))
    }
}

impl Drop for MemClaim {
    fn drop(&mut self) {
        self.hub.remove(&self.key);
    }
}
