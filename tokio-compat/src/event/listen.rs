//! What a subscriber asks of a transport.

use std::time::Duration;

use ringplane_core::event::inbox;

/// How a subscriber listens.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Listen {
    /// Its bounds.
    pub inbox: inbox::Config,
    /// The group that it shares the events with: of each event one member gets one. `None`: it gets all.
    pub group: Option<String>,
    /// How long a publisher waits for it at a time, with [`Slow::Wait`](inbox::Slow): an event that finds no room in this time is
    /// dropped and told, and it is not waited for again before it has taken something. Default `None`: as long as it takes. Over
    /// mux the publisher's end has a bound of its own.
    pub max_wait: Option<Duration>,
    /// Whether events that did not arrive are asked for again, where their publisher keeps them, and how long an answer is waited
    /// for. What is found comes in its place; what is not is told as a gap. Default `None`: a gap is told at once. Only where
    /// events get lost on their way and can be asked for: by NATS and over mux.
    pub replay: Option<Duration>,
}
