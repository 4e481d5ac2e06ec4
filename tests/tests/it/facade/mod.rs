//! The facade end to end, on every driver: what must hold over real sockets.

mod addresses;
mod cancel;
mod child;
mod denied;
mod drain;
mod dynamo;
mod endpoints;
#[cfg(feature = "etcd")]
mod etcd;
mod executors;
mod flips;
mod held_back;
mod hostile;
mod hostile_bounds;
mod hostile_callers;
mod hostile_hogs;
mod hostile_idlers;
mod hostile_memory;
mod hostile_workers;
mod isolation;
mod killed;
mod leftovers;
mod lent;
mod netns;
mod own_thread;
mod paused;
mod planes;
mod proxy;
mod raw_worker;
mod remote;
mod streams;
mod support;
mod tokio_inside;
mod transfer;
mod untouched;
mod vanish;
