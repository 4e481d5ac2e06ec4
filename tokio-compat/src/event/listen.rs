//! What a subscriber asks of a transport.

use ringplane_core::event::inbox;

/// How a subscriber listens.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Listen {
    /// Its bounds.
    pub inbox: inbox::Config,
    /// The group that it shares the events with: of each event one member gets one. `None`: it gets all.
    pub group: Option<String>,
}
