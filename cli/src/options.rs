//! Options that several subcommands have, and how their values are read.

use std::time::Duration;

use ringplane::DriverChoice;
use ringplane_core::config::Config;
use ringplane_core::id::EndpointId;

/// Which driver.
#[derive(Copy, Clone, Debug, clap::Args)]
pub(crate) struct Driver {
    /// Who moves the bytes: auto, io-uring or tokio; monoio or tokio-uring where built in
    #[arg(long, default_value = "auto", value_name = "DRIVER")]
    pub(crate) driver: DriverChoice,
}

/// How large what is sent and received may be.
#[derive(Copy, Clone, Debug, clap::Args)]
pub(crate) struct Sizes {
    /// The largest request, and the largest item of either direction [default: DYN_TCP_MAX_MESSAGE_SIZE, else 32 MiB in
    /// Dynamo's protocol and 64 MiB over mux]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..=u64::from(u32::MAX)))]
    max_message: Option<u64>,
}

impl Sizes {
    /// Sets what is asked for.
    pub(crate) fn apply(self, config: &mut Config) {
        if let Some(bytes) = self.max_message {
            config.set_max_message(bytes);
        }
    }
}

/// Where instances are found.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Discovery {
    /// Where instances are found, file:DIR or etcd:URL
    #[arg(long, value_name = "URL")]
    pub(crate) discovery: Option<String>,
}

/// Reads `namespace.component.endpoint` in any of its spellings.
pub(crate) fn endpoint(text: &str) -> Result<EndpointId, String> {
    EndpointId::parse(text).map_err(|error| error.to_string())
}

/// Reads seconds, with a fraction if need be.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_may_have_a_fraction_and_must_make_sense() {
        assert_eq!(seconds("1.5"), Ok(Duration::from_millis(1500)));
        for text in ["", "x", "-1", "inf", "nan", "1e300"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
