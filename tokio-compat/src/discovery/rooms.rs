//! One room for each kind of record, whatever a backend's rooms look like inside.

use std::fmt;

use ringplane_core::discovery::channel::EventChannel;
use ringplane_core::discovery::instance::Instance;
use ringplane_core::discovery::kind::Kind;
use ringplane_core::discovery::model::Model;
use ringplane_core::discovery::source::EventSource;

/// What a backend keeps for a kind of record.
pub(crate) trait Shape {
    /// For this kind.
    type Room<R: Kind>: Default + fmt::Debug + Send + Sync;
}

/// A kind that every backend has a room for.
pub(crate) trait Stored: Kind {
    /// The room among those of a backend.
    fn room<S: Shape>(rooms: &Rooms<S>) -> &S::Room<Self>;
}

macro_rules! rooms {
    ($($room:ident: $kind:ty,)*) => {
        /// The rooms of a backend.
        #[derive(Debug)]
        pub(crate) struct Rooms<S: Shape> {
            $($room: S::Room<$kind>,)*
        }

        impl<S: Shape> Default for Rooms<S> {
            fn default() -> Self {
                Self { $($room: Default::default(),)* }
            }
        }

        $(impl Stored for $kind {
            fn room<S: Shape>(rooms: &Rooms<S>) -> &S::Room<Self> {
                &rooms.$room
            }
        })*
    };
}

rooms! {
    endpoints: Instance,
    models: Model,
    channels: EventChannel,
    sources: EventSource,
}
