//! Starting a driver, and the course of its thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use ringplane_core::local::{Env, Host};
use ringplane_driver::handle::{Driver, Ready, Report, launch};
use ringplane_driver::mailbox::Inbox;

use crate::driver::config::Config;
use crate::driver::turn::Loop;
use crate::error::Error;
use crate::kernel::bell::Doorbell;

/// Starts a driver: a thread called `name` with a ring of its own. `make` runs on that thread and makes the host; it may
/// already spawn tasks. Returns when the ring has passed its self-test and the host is made.
///
/// # Errors
/// [`Error`]: a knob out of bounds, io_uring refused, a limit in the way. Nothing is left behind then.
pub fn start<H: Host>(
    name: &str,
    config: Config,
    make: impl FnOnce(&Env) -> Rc<H> + Send + 'static,
) -> Result<Driver<H>, Error> {
    config.check()?;
    let doorbell = Doorbell::new().map_err(|error| Error::os("making the doorbell", &error))?;
    Ok(launch(name, config.mailbox, doorbell, move |inbox, ready| live(config, inbox, make, ready))?)
}

fn live<H: Host>(
    config: Config,
    inbox: Inbox<H, Doorbell>,
    make: impl FnOnce(&Env) -> Rc<H>,
    ready: &Ready<Error>,
) -> Report {
    let mut driver = match Loop::open(config, inbox, make) {
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
