//! Discovery within one process.

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use ringplane_core::discovery::kind::Kind;
use ringplane_core::id::InstanceId;

use crate::discovery::backend::{Backend, BoxFuture, Claim, Edit, Place, Registration, random_instance_id};
use crate::discovery::counters::Counters;
use crate::discovery::error::Error;
use crate::discovery::hub::{Hub, Watch};
use crate::discovery::rooms::{Rooms, Shape, Stored};

/// Records kept in this process. Clones share them; so do handles of one name.
#[derive(Clone, Debug)]
pub struct Mem {
    rooms: Arc<Rooms<InProcess>>,
    id: InstanceId,
}

/// What this process keeps of a kind.
#[derive(Debug)]
enum InProcess {}

impl Shape for InProcess {
    type Room<R: Kind> = Room<R>;
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
        static NAMED: Mutex<BTreeMap<String, Weak<Rooms<InProcess>>>> = Mutex::new(BTreeMap::new());
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

    /// All zero: nothing is written, read or lost here.
    fn counters(&self) -> Counters {
        Counters::default()
    }
}

impl<R: Stored> Place<R> for Mem {
    fn claim(&self, record: R) -> BoxFuture<'_, Result<Registration<R>, Error>> {
        Box::pin(ready(claim(&self.rooms, record)))
    }

    fn list(&self, query: R::Query) -> BoxFuture<'_, Result<Vec<R>, Error>> {
        Box::pin(ready(Ok(R::room(&self.rooms).hub.list(&query))))
    }

    fn watch(&self, query: R::Query) -> BoxFuture<'_, Result<Watch<R>, Error>> {
        let keep = Arc::clone(&self.rooms);
        Box::pin(ready(Ok(R::room(&self.rooms).hub.watch(query, Some(keep)))))
    }
}

fn claim<R: Stored>(rooms: &Arc<Rooms<InProcess>>, record: R) -> Result<Registration<R>, Error> {
    // Written down nowhere, but what only works here would surprise elsewhere.
    record.write().map_err(Error::Record)?;
    let (room, key) = (R::room(rooms), record.key());
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

struct MemClaim<R: Stored> {
    rooms: Arc<Rooms<InProcess>>,
    key: R::Key,
}

impl<R: Stored> Claim<R> for MemClaim<R> {
    fn release(self: Box<Self>) -> BoxFuture<'static, Result<(), Error>> {
        drop(self);
        Box::pin(ready(Ok(())))
    }

    fn edit(&self, edit: Edit<R>) -> BoxFuture<'_, Result<R, Error>> {
        let room = R::room(&self.rooms);
        let _claims = room.claims();
        let Some(stored) = room.hub.get(&self.key) else { return Box::pin(ready(Err(Error::Stopped))) };
        let edited = edit(&stored).map(|edited| edited.unwrap_or_else(|| (*stored).clone()));
        Box::pin(ready(edited.map_err(Error::Record).inspect(|record| room.hub.put(record))))
    }
}

impl<R: Stored> Drop for MemClaim<R> {
    fn drop(&mut self) {
        let room = R::room(&self.rooms);
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
