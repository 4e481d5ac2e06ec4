//! Starting a driver, and the course of its thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use ringplane_core::local::{Env, Host};
use ringplane_driver::config::{Common, Given};
use ringplane_driver::handle::{Driver, Ready, Report, launch};

use crate::driver::config::Config;
use crate::driver::turn::Loop;
use crate::error::Error;
use crate::kernel::bell::Doorbell;

/// Starts a driver: a thread called `name` with a ring of its own, which accepts and stays where `given` says. `make` runs on that
/// thread and makes the host, the machine and what surrounds it; it may already spawn tasks. Returns when the ring has passed its
/// self-test and the host is made.
///
/// # Errors
/// [`Error`]: a knob out of bounds, io_uring refused, a limit in the way. Nothing is left behind then.
pub fn start<H: Host>(
    name: &str,
    common: Common,
    config: Config,
    given: Given,
    make: impl FnOnce(&Env) -> Rc<H> + Send + 'static,
) -> Result<Driver<H>, Error> {
    common.validate()?;
    config.validate()?;
    let doorbell = Doorbell::new().map_err(|error| Error::os("making the doorbell", &error))?;
    let body = move |inbox, ready: &Ready<Error>| live(Loop::open(&common, &config, given, inbox, make), ready);
    Ok(launch(name, common.mailbox, doorbell, body)?)
}

fn live<H: Host>(driver: Result<Loop<H>, Error>, ready: &Ready<Error>) -> Report {
    let mut driver = match driver {
        Ok(driver) => driver,
        Err(error) => {
            ready.tell(Err(error));
            return Report::default();
        }
    };
    ready.tell(Ok(()));
    let outcome = catch_unwind(AssertUnwindSafe(|| driver.run()));
    match &outcome {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, "the ring cannot be entered; the driver ends"),
        Err(_) => tracing::error!("the machine or its host panicked; the driver ends"),
    }
    driver.finish(!matches!(outcome, Ok(Ok(()))))
}
