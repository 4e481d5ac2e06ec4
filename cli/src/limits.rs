//! The limit of descriptors: raised as far as it goes, since each connection takes one; given back to commands.

use std::sync::OnceLock;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, setrlimit};

/// What the process was started with.
static AT_START: OnceLock<Rlimit> = OnceLock::new();

/// The limits of descriptors that the process was started with.
pub(crate) fn at_start() -> Rlimit {
    *AT_START.get_or_init(|| getrlimit(Resource::Nofile))
}

/// Raises the soft limit to the hard one; `None` if it is that high or does not go.
pub(crate) fn raise() -> Option<(u64, Option<u64>)> {
    let Rlimit { current, maximum } = at_start();
    let raised = Rlimit { current: maximum, maximum };
    let below = current.filter(|_| current != maximum)?;
    setrlimit(Resource::Nofile, raised).ok().map(|()| (below, maximum))
}

/// Gives a command the soft limit of before: some close every descriptor up to it. It runs already, so that it may see
/// the raised one in its first moment.
pub(crate) fn give_back(command: Pid) {
    if getrlimit(Resource::Nofile) != at_start() {
        // One that has ended needs none.
        let _ = rustix::process::prlimit(Some(command), Resource::Nofile, at_start());
    }
}
