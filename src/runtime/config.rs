//! The configuration of a worker or a client: driver, threads, and the knobs of drivers and machines.

use std::str::FromStr;
use std::time::Duration;

use ringplane_core::config::{Config as Vars, Host};
use ringplane_core::wire::checksum::Crc32c;
use ringplane_core::{caller, worker};
use ringplane_driver::config::{Common, within};
use ringplane_tokio::tcp;

use crate::error::{Error, UnknownDriver};

/// The driver to run on: what moves the bytes of each thread. [`DriverInfo::of`](crate::DriverInfo::of) tells what a choice means
/// on this host.
///
/// ```
/// use ringplane::{DriverChoice, UnknownDriver};
///
/// assert_eq!("io-uring".parse(), Ok(DriverChoice::IoUring));
/// assert!(DriverChoice::Tokio.is_built());
/// assert_eq!("epoll".parse::<DriverChoice>(), Err(UnknownDriver::Name("epoll".to_owned())));
/// ```
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum DriverChoice {
    /// io_uring if its self-test passes, tokio otherwise, with a WARN that says why.
    #[default]
    Auto,
    /// io_uring; where the self-test fails, so does the start.
    IoUring,
    /// tokio, without a test.
    Tokio,
    /// monoio on io_uring, likewise; in builds with the feature `monoio`.
    Monoio,
    /// tokio-uring on io_uring, likewise; in builds with the feature `tokio-uring`.
    TokioUring,
}

impl DriverChoice {
    /// Every choice with its name, whether this build has it or not.
    pub const ALL: [(&'static str, Self); 5] = [
        ("auto", Self::Auto),
        ("io-uring", Self::IoUring),
        ("tokio", Self::Tokio),
        ("monoio", Self::Monoio),
        ("tokio-uring", Self::TokioUring),
    ];

    /// Its name, as [`FromStr`] reads it: `io-uring`.
    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, choice)| *choice == self).map_or("auto", |(name, _)| name)
    }

    /// Whether this build has it: the features of two of them are off by default.
    pub const fn is_built(self) -> bool {
        match self {
            Self::Auto | Self::IoUring | Self::Tokio => true,
            Self::Monoio => cfg!(feature = "monoio"),
            Self::TokioUring => cfg!(feature = "tokio-uring"),
        }
    }
}

impl FromStr for DriverChoice {
    type Err = UnknownDriver;

    fn from_str(text: &str) -> Result<Self, UnknownDriver> {
        match Self::ALL.into_iter().find(|(name, _)| *name == text) {
            Some((_, choice)) if choice.is_built() => Ok(choice),
            Some((name, _)) => Err(UnknownDriver::NotBuilt(name)),
            None => Err(UnknownDriver::Name(text.to_owned())),
        }
    }
}

/// What a worker or a client runs on: a driver, threads, and the bounds that hold on each of them.
///
/// Plain data: change the fields of a [default](Self::default) one. Every knob has a default and bounds, listed in
/// `docs/operations.md`; [`validate`](Self::validate) checks them.
///
/// ```
/// let mut config = ringplane::Config { cores: 2, ..ringplane::Config::default() };
/// config.common.max_connections = 1_000;
/// config.io_uring.spin = std::time::Duration::ZERO;
/// config.worker.max_running = 64;
/// assert!(config.validate().is_ok());
/// config.common.mailbox = 0;
/// let error = ringplane::Chain(&config.validate().unwrap_err()).to_string();
/// assert_eq!(error, "the configuration cannot be kept: common.mailbox must be 1 to 1,048,576");
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// What moves the bytes. Default [`DriverChoice::Auto`].
    pub driver: DriverChoice,
    /// Threads, one event loop each, 1 to 1,024. Default 1, which moves more than a million small calls per second.
    pub cores: usize,
    /// Whether thread `i` stays on processor `i` modulo their number. Default `false`.
    pub pin: bool,
    /// Items that may wait between a core and a reader or handler on another thread, per call and direction, besides a bound
    /// of 256 KiB on their bytes; 1 to 1,048,576. Default 64.
    pub bridge: usize,
    /// How long a client keeps an endpoint that is neither called, nor held as an [`Endpoint`](crate::Endpoint), nor has calls
    /// under way: its watch and what is known of its instances are let go after one to two times as long. Default 60 s.
    pub endpoint_idle: Duration,
    /// Endpoints that a client keeps at once; one more is refused as [`Overloaded`](crate::CallError::Overloaded). Default
    /// 16 384.
    pub max_endpoints: usize,
    /// Knobs of every driver, per thread: connections, the mailbox, what sockets get.
    pub common: Common,
    /// Further knobs of the driver on io_uring.
    pub io_uring: ringplane_io_uring::Config,
    /// Further knobs of the driver on tokio.
    pub tokio: tcp::Config,
    /// Further knobs of the drivers on monoio and tokio-uring, in builds that have them.
    pub runtimes: ringplane_io_uring::RuntimeConfig,
    /// Knobs of the serving side, per thread: running and waiting calls, memory, drain.
    pub worker: worker::config::Config,
    /// Knobs of the calling side, per thread: timeouts, retries, connections.
    pub caller: caller::config::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self::new(worker::config::Config::default(), caller::config::Config::default())
    }
}

impl Config {
    /// The defaults with these machines' knobs, and with the processor's own CRC-32C.
    pub fn new(worker: worker::config::Config, caller: caller::config::Config) -> Self {
        let mut config = Self {
            driver: DriverChoice::Auto,
            cores: 1,
            pin: false,
            bridge: 64,
            endpoint_idle: Duration::from_secs(60),
            max_endpoints: 16_384,
            common: Common::default(),
            io_uring: ringplane_io_uring::Config::default(),
            tokio: tcp::Config::default(),
            runtimes: ringplane_io_uring::RuntimeConfig::default(),
            worker,
            caller,
        };
        let crc = Crc32c::new(ringplane_crc32c::append);
        config.worker.mux.crc = crc;
        config.caller.mux.crc = crc;
        config
    }

    /// The defaults on `cores` threads, as variables change them: those that Dynamo reads, listed in `docs/operations.md`. `get`
    /// reads one. What they count per process is divided among the threads; a value that Dynamo passes over is passed over here
    /// too, and logged. Where a worker listens and where discovery is are the builders' to be told.
    ///
    /// # Errors
    /// [`Error::Variable`] for one that cannot be followed, [`Error::Interface`] if responses are to come home to a network
    /// interface, [`Error::Advertise`] if they are to come to a wildcard.
    pub fn from_vars(cores: usize, get: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let vars = Vars::default().with_vars(get, "", cores).map_err(Error::Variable)?;
        for variable in &vars.passed_over {
            tracing::warn!("{variable}");
        }
        let mut config = Self { cores, ..Self::new(vars.worker, vars.caller) };
        let bind = &mut config.caller.call_home.bind;
        bind.set_port(vars.home.port);
        match vars.home.host {
            None => {}
            Some(Host::Addr(ip)) => bind.set_ip(ip),
            Some(Host::Interface(name)) => return Err(Error::Interface(name)),
        }
        if bind.ip().to_canonical().is_unspecified() { Err(Error::Advertise(*bind)) } else { Ok(config) }
    }

    /// Checks every knob against its bounds, those of drivers that do not run included. Starting a worker or a client does so
    /// before anything else.
    ///
    /// # Errors
    /// [`Error::Config`] with the name of the first knob of the facade or of a driver that is out of its bounds,
    /// [`Error::Bounds`] with what contradicts another among those of the machines.
    pub fn validate(&self) -> Result<(), Error> {
        let drivers = || {
            within("cores", self.cores, 1..=1024, "1 to 1,024")?;
            within("bridge", self.bridge, 1..=1 << 20, "1 to 1,048,576")?;
            within("max_endpoints", self.max_endpoints, 1..=1 << 24, "1 to 16,777,216")?;
            let idle = Duration::from_millis(1)..=Duration::from_secs(1 << 20);
            within("endpoint_idle", self.endpoint_idle, idle, "1 ms to 12 days")?;
            self.common.validate()?;
            self.io_uring.validate()?;
            self.tokio.validate()?;
            self.runtimes.validate()
        };
        drivers().map_err(Error::Config)?;
        self.worker.validate().map_err(Error::Bounds)?;
        self.caller.validate().map_err(Error::Bounds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_change_what_they_name_and_one_that_cannot_be_followed_is_refused() {
        let read = |name: &'static str, value: &'static str| {
            Config::from_vars(2, move |asked| (asked == name).then(|| value.to_owned()))
        };
        let config = read("DYN_TCP_WORKER_POOL_SIZE", "10").unwrap();
        assert_eq!((config.cores, config.worker.max_running), (2, 5));
        let changed = |config: Config| (config.caller.call_home.bind.to_string(), config.bridge);
        let home = read("DYN_TCP_RESPONSE_STREAM_HOST", "10.0.0.1").map(changed);
        assert!(matches!(&home, Ok((bind, 64)) if bind == "10.0.0.1:0"), "{home:?}");
        let home = read("DYN_TCP_RESPONSE_STREAM_HOST", "eth0");
        assert!(matches!(&home, Err(Error::Interface(name)) if name == "eth0"), "{home:?}");
        assert!(matches!(read("DYN_TCP_RESPONSE_STREAM_HOST", "0.0.0.0"), Err(Error::Advertise(_))));
        assert!(matches!(read("DYN_RESPONSE_PLANE", "quic"), Err(Error::Variable(_))));
        assert_eq!(read("RINGPLANE_UNKNOWN", "1").unwrap(), Config { cores: 2, ..Config::default() });
    }

    #[test]
    fn drivers_are_known_by_name_and_unknown_ones_are_told_the_names() {
        for (name, choice) in DriverChoice::ALL {
            let expected = if choice.is_built() { Ok(choice) } else { Err(UnknownDriver::NotBuilt(name)) };
            assert_eq!((name.parse(), choice.name()), (expected, name));
        }
        let error = "uring".parse::<DriverChoice>().unwrap_err();
        let names = "no driver is called `uring`; there are auto, io-uring, tokio, monoio and tokio-uring";
        assert_eq!(error.to_string(), names);
        let error = UnknownDriver::NotBuilt("monoio").to_string();
        assert_eq!(error, "this build has no driver `monoio`; build with `--features monoio`");
    }
}
