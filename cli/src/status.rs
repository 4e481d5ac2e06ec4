//! `--status`: the status server of a command that serves.

use ringplane::status::{Status, StatusConfig};
use ringplane_core::config::Place as Listen;

use crate::environment;
use crate::exit::{Exit, Failed};
use crate::options::listen;
use crate::stderr::say;

/// Whether there is a status server, and what it may do.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct StatusServer {
    /// Tell of this process by HTTP at an address, a host or a network interface, with a port or on any free one: probes, metrics
    /// and a page for people [default: DYN_SYSTEM_HOST and DYN_SYSTEM_PORT, else not at all]
    #[arg(long, value_name = "ADDRESS", value_parser = listen)]
    status: Option<Listen>,
    /// Let POSTs there, and buttons of the page, drain and resume the endpoint
    #[arg(long)]
    status_manage: bool,
}

impl StatusServer {
    /// Starts it if it is wished for, and says where it is.
    pub(crate) fn start(&self) -> Result<Option<Status>, Failed> {
        let config = match &self.status {
            Some(place) => {
                let (listen, _) = environment::bind(place)?;
                let config = environment::followed(|get| StatusConfig::default().with_vars(get))?;
                Some(StatusConfig { listen, ..config })
            }
            None => environment::followed(|get| StatusConfig::from_vars(get))?,
        };
        let Some(config) = config else {
            if self.status_manage {
                return Err(Failed::new(Exit::Usage, "--status-manage means nothing without --status"));
            }
            return Ok(None);
        };
        let status = Status::serve(StatusConfig { manage: self.status_manage, ..config })?;
        say(format_args!("ringplane: status at http://{}/", status.addr()));
        Ok(Some(status))
    }
}
