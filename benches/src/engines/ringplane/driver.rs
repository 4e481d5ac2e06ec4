//! What the engine needs to know of a driver: how to start one.

use std::any::Any;
use std::net::TcpListener;
use std::rc::Rc;
use std::time::Duration;

use ringplane_core::local::{Env, LocalNode};
use ringplane_io_uring::{Common, Given, monoio, tokio_uring};
use ringplane_tokio::tcp;

use crate::engine::Result;
use crate::scenario::Polling;

/// A way to move the bytes of a node.
pub trait Driver: Sync {
    /// The engine's name.
    const NAME: &'static str;
    /// What it is, in one line.
    const ABOUT: &'static str;
    /// Whether it can poll without sleeping.
    const SPINS: bool;

    /// Starts a thread that drives the node `make` builds there, with the driver's defaults but for what is given here.
    ///
    /// # Errors
    /// What the driver says.
    fn start(
        listener: Option<TcpListener>,
        polling: Polling,
        make: impl FnOnce(&Env) -> Rc<LocalNode> + Send + 'static,
    ) -> Result<Started>;
}

/// A driver that can listen for the answers of Dynamo's protocol.
pub trait Listens: Driver {
    /// The name of the engine in that protocol.
    const HOME: &'static str;
}

impl Listens for IoUring {
    const HOME: &'static str = "ringplane-io-uring-call-home";
}

impl Listens for Tokio {
    const HOME: &'static str = "ringplane-tokio-call-home";
}

/// A running driver; dropping it stops it.
pub type Started = Box<dyn Any>;

/// The io_uring driver.
#[derive(Copy, Clone, Debug)]
pub struct IoUring;

/// The tokio driver.
#[derive(Copy, Clone, Debug)]
pub struct Tokio;

/// The driver on monoio.
#[derive(Copy, Clone, Debug)]
pub struct Monoio;

/// The driver on tokio-uring.
#[derive(Copy, Clone, Debug)]
pub struct TokioUring;

/// How long a driver that is to poll does so before it sleeps: longer than anything here takes.
const SPIN: Duration = Duration::from_millis(100);

/// How long a driver polls before it sleeps, if a scenario says so.
pub(super) const fn spin(polling: Polling) -> Option<Duration> {
    match polling {
        Polling::Usual => None,
        Polling::Never => Some(Duration::ZERO),
        Polling::Always => Some(SPIN),
    }
}

impl Driver for IoUring {
    const NAME: &'static str = "ringplane-io-uring";
    const ABOUT: &'static str = "ringplane's mux on its own io_uring driver, one thread a side, default configuration";
    const SPINS: bool = true;

    fn start(
        listener: Option<TcpListener>,
        polling: Polling,
        make: impl FnOnce(&Env) -> Rc<LocalNode> + Send + 'static,
    ) -> Result<Started> {
        let mut config = ringplane_io_uring::Config::default();
        if let Some(spin) = spin(polling) {
            config.spin = spin;
        }
        Ok(Box::new(ringplane_io_uring::start("ringplane", Common::default(), config, given(listener), make)?))
    }
}

impl Driver for Tokio {
    const NAME: &'static str = "ringplane-tokio";
    const ABOUT: &'static str = "ringplane's mux on its tokio driver, one thread a side, default configuration";
    const SPINS: bool = false;

    fn start(
        listener: Option<TcpListener>,
        _: Polling,
        make: impl FnOnce(&Env) -> Rc<LocalNode> + Send + 'static,
    ) -> Result<Started> {
        let (common, config) = (Common::default(), tcp::Config::default());
        Ok(Box::new(tcp::start("ringplane", common, config, given(listener), make)?))
    }
}

impl Driver for Monoio {
    const NAME: &'static str = "ringplane-monoio";
    const ABOUT: &'static str = "ringplane's mux on monoio, one thread a side, default configuration";
    const SPINS: bool = false;

    fn start(
        listener: Option<TcpListener>,
        _: Polling,
        make: impl FnOnce(&Env) -> Rc<LocalNode> + Send + 'static,
    ) -> Result<Started> {
        let (common, config) = (Common::default(), monoio::Config::default());
        Ok(Box::new(monoio::start("ringplane", common, config, given(listener), make)?))
    }
}

impl Driver for TokioUring {
    const NAME: &'static str = "ringplane-tokio-uring";
    const ABOUT: &'static str = "ringplane's mux on tokio-uring, one thread a side, default configuration";
    const SPINS: bool = false;

    fn start(
        listener: Option<TcpListener>,
        _: Polling,
        make: impl FnOnce(&Env) -> Rc<LocalNode> + Send + 'static,
    ) -> Result<Started> {
        let (common, config) = (Common::default(), tokio_uring::Config::default());
        Ok(Box::new(tokio_uring::start("ringplane", common, config, given(listener), make)?))
    }
}

fn given(listener: Option<TcpListener>) -> Given {
    Given { listener, cpu: None }
}
