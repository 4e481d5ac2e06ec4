//! The event plane: every check of the suite on every transport, and what is special about one.

mod login;
mod mux;
mod outage;
mod suite;
mod transports;
mod zmq;
