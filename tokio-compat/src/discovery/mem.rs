//! Discovery within one process.

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use ringplane_core::discovery::channel::EventChannel;
use ringplane_core::discovery::instance::Instance;
use ringplane_core::discovery::kind::Kind;
use ringplane_core::discovery::model::Model;
use ringplane_core::discovery::source::EventSource;
use ringplane_core::id::InstanceId;

use crate::discovery::backend::{Backend, BoxFuture, Claim, Edit, Error, Place, Registration, random_instance_id};
use crate::discovery::hub::{Hub, Watch};

/// Records kept in this process. Clones share them; so do handles of one name.
#[derive(Clone, Debug)]
pub struct Mem {
    rooms: Arc<Rooms>,
    id: InstanceId,
}

#[derive(Default, Debug)]
struct Rooms {
    endpoints: Room<Instance>,
    models: Room<Model>,
    channels: Room<EventChannel>,
    sources: Room<EventSource>,
}

/// The records of one kind, and how many want each of them to be there.
#[derive(Debug)]
struct Room<R: Kind> {
    hub: Arc<Hub<R>>,
    claims: Mutex<BTreeMap<R::Key, usize>>,
}

impl<R: Kind> Default for Room<R> {
    fn default() -> Self {
        Self { hub: Arc::default(), claims: Mutex::default() }
    }
}

impl<R: Kind> Room<R> {
    /// Held over every look and the change that follows from it.
    fn claims(&self) -> MutexGuard<'_, BTreeMap<R::Key, usize>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has a room for records of a kind.
trait Has<R: Kind>: Send + Sync + 'static {
    fn room(&self) -> &Room<R>;
}

impl Has<Instance> for Rooms {
    fn room(&self) -> &Room<Instance> {
        &self.endpoints
    }
}

impl Has<Model> for Rooms {
    fn room(&self) -> &Room<Model> {
        &self.models
    }
}

impl Has<EventChannel> for Rooms {
    fn room(&self) -> &Room<EventChannel> {
        &self.channels
    }
}

impl Has<EventSource> for Rooms {
    fn room(&self) -> &Room<EventSource> {
        &self.sources
    }
}

impl Default for Mem {
    fn default() -> Self {
        Self::new()
    }
}

impl Mem {
    /// A place of its own, shared only with its clones.
    pub fn new() -> Self {
        Self { rooms: Arc::default(), id: random_instance_id() }
    }

    /// The place of this name in this process. It lasts as long as anybody holds a handle, a registration or a watch.
    pub fn named(name: &str) -> Self {
        static NAMED: Mutex<BTreeMap<String, Weak<Rooms>>> = Mutex::new(BTreeMap::new());
        let mut named = NAMED.lock().unwrap_or_else(PoisonError::into_inner);
        named.retain(|_, rooms| rooms.strong_count() > 0);
        let known = named.get(name).and_then(Weak::upgrade);
        let rooms = known.unwrap_or_else(|| {
            let rooms = Arc::default();
            named.insert(name.to_owned(), Arc::downgrade(&rooms));
            rooms
        });
        Self { rooms, id: random_instance_id() }
    }
}

impl Backend for Mem {
    fn instance_id(&self) -> InstanceId {
        self.id
    }

    fn endpoints(&self) -> &dyn Place<Instance> {
        self
    }

    fn models(&self) -> &dyn Place<Model> {
        self
    }

    fn channels(&self) -> &dyn Place<EventChannel> {
        self
    }

    fn sources(&self) -> &dyn Place<EventSource> {
        self
    }
}

impl<R: Kind> Place<R> for Mem
where
    Rooms: Has<R>,
{
    fn claim(&self, record: R) -> BoxFuture<'_, Result<Registration<R>, Error>> {
        Box::pin(ready(claim(&self.rooms, record)))
    }

    fn list(&self, query: R::Query) -> BoxFuture<'_, Result<Vec<R>, Error>> {
        Box::pin(ready(Ok(Has::<R>::room(&*self.rooms).hub.list(&query))))
    }

    fn watch(&self, query: R::Query) -> BoxFuture<'_, Result<Watch<R>, Error>> {
        let keep: Arc<Rooms> = Arc::clone(&self.rooms);
        Box::pin(ready(Ok(Has::<R>::room(&*self.rooms).hub.watch(query, Some(keep)))))
    }
}

fn claim<R: Kind>(rooms: &Arc<Rooms>, record: R) -> Result<Registration<R>, Error>
where
    Rooms: Has<R>,
{
    // Written down nowhere, but what only works here would surprise elsewhere.
    record.write().map_err(Error::Record)?;
    let (room, key): (&Room<R>, _) = (rooms.room(), record.key());
    let mut claims = room.claims();
    let stored = match room.hub.get(&key) {
        None => record,
        Some(stored) if record.is_served_by(&stored) => (*stored).clone(),
        Some(_) => return Err(Error::Exists { key: R::full(&key) }),
    };
    room.hub.put(&stored);
    *claims.entry(key.clone()).or_default() += 1;
    drop(claims);
    Ok(Registration::new(stored, MemClaim { rooms: Arc::clone(rooms), key }))
}

struct MemClaim<R: Kind>
where
    Rooms: Has<R>,
{
    rooms: Arc<Rooms>,
    key: R::Key,
}

impl<R: Kind> Claim<R> for MemClaim<R>
where
    Rooms: Has<R>,
{
    fn release(self: Box<Self>) -> BoxFuture<'static, Result<(), Error>> {
        drop(self);
        Box::pin(ready(Ok(())))
    }

    fn edit(&self, edit: Edit<R>) -> BoxFuture<'_, Result<R, Error>> {
        let room: &Room<R> = self.rooms.room();
        let _claims = room.claims();
        let Some(stored) = room.hub.get(&self.key) else { return Box::pin(ready(Err(Error::Stopped))) };
        let edited = edit(&stored).map(|edited| edited.unwrap_or_else(|| (*stored).clone()));
        Box::pin(ready(edited.map_err(Error::Record).inspect(|record| room.hub.put(record))))
    }
}

impl<R: Kind> Drop for MemClaim<R>
where
    Rooms: Has<R>,
{
    fn drop(&mut self) {
        let room: &Room<R> = self.rooms.room();
        let mut claims = room.claims();
        match claims.get_mut(&self.key) {
            Some(others) if *others > 1 => *others -= 1,
            _ => {
                claims.remove(&self.key);
                room.hub.remove(&self.key);
            }
        }
    }
}
