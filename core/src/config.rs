//! The knobs of a process that its environment sets, gathered from the parts and read from the names Dynamo gives them.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv6Addr};
use core::time::Duration;

use crate::route::policy::device_aware::DeviceAware;
use crate::{caller, discovery, worker};

/// The knobs of a process.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Config {
    /// Where instances are found, and how patiently.
    pub discovery: discovery::config::Config,
    /// Where a worker listens.
    pub listen: Place,
    /// The serving side.
    pub worker: worker::config::Config,
    /// The address that workers dial to bring a caller its responses.
    pub home: Place,
    /// The calling side. Its `call_home.bind` is untouched: [`home`](Self::home) may have to be looked up first.
    pub caller: caller::config::Config,
    /// What the routing policy `device-aware-weighted` goes by.
    pub device_aware: DeviceAware,
    /// Variables that hold what they may not, where Dynamo's rule is to go on as if they were not set: to be told.
    pub passed_over: Vec<PassedOver>,
}

/// A variable that counts as not set, because of what it holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PassedOver {
    /// Which variable.
    pub name: &'static str,
    /// What it holds.
    pub value: String,
}

impl fmt::Display for PassedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is `{}`, which is no number it may be: passed over", self.name, self.value)
    }
}

/// Where to listen.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Place {
    /// Whose address; `None`: this host's loopback.
    pub host: Option<Host>,
    /// The port; 0: any free one.
    pub port: u16,
}

/// What names an address of this host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Host {
    /// The address itself; it may be a wildcard.
    Addr(IpAddr),
    /// The network interface that has it.
    Interface(String),
}

impl Host {
    /// An address, also of version 6 in brackets; anything else names an interface (request plane specification,
    /// section 10).
    pub fn read(text: &str) -> Self {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if let Some(addr) = bare.and_then(|bare| bare.parse::<Ipv6Addr>().ok()) {
            return Self::Addr(addr.into());
        }
        text.parse().map_or_else(|_| Self::Interface(text.to_owned()), Self::Addr)
    }
}

/// A variable that cannot be followed.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Error {
    /// One of discovery's.
    Discovery(discovery::config::Error),
    /// Not a whole number within its bounds.
    Number {
        /// Which variable.
        name: &'static str,
        /// What it holds.
        value: String,
        /// The least that counts.
        least: u64,
        /// The most that counts.
        most: u64,
    },
    /// Neither on nor off.
    Switch {
        /// Which variable.
        name: &'static str,
        /// What it holds.
        value: String,
    },
    /// Responses over something other than TCP.
    ResponsePlane {
        /// What `DYN_RESPONSE_PLANE` holds.
        value: String,
    },
    /// Encrypted connections are asked for; this version has none.
    Tls {
        /// Which variable asks.
        name: &'static str,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Discovery(_) => f.write_str("a variable of discovery cannot be followed"),
            Self::Number { name, value, least, most } => {
                write!(f, "{name} is `{value}`, not a whole number from {least} to {most}")
            }
            Self::Switch { name, value } => write!(f, "{name} is `{value}`, which is neither true nor false"),
            Self::ResponsePlane { value } => {
                write!(f, "DYN_RESPONSE_PLANE is `{value}`; ringplane brings responses home over tcp only")
            }
            Self::Tls { name } => write!(f, "{name} is set; encrypted connections are not supported yet"),
        }
    }
}

impl core::error::Error for Error {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Discovery(error) => Some(error),
            Self::Number { .. } | Self::Switch { .. } | Self::ResponsePlane { .. } | Self::Tls { .. } => None,
        }
    }
}

impl From<discovery::config::Error> for Error {
    fn from(error: discovery::config::Error) -> Self {
        Self::Discovery(error)
    }
}

impl Config {
    /// Reads the variables through `get`. What no variable says stays as it is; an empty one says nothing. What Dynamo counts
    /// per process, calls that run and calls that wait, is divided among `cores`. `temporary` is where the directory of
    /// discovery lies if it has to and no variable says where.
    ///
    /// # Errors
    /// [`Error`] for the first variable that cannot be followed. Dynamo falls back to its default without a word there.
    pub fn with_vars(
        mut self,
        get: impl Fn(&str) -> Option<String>,
        temporary: &str,
        cores: usize,
    ) -> Result<Self, Error> {
        self.discovery = discovery::config::Config::from_vars(&get, temporary)?;
        let vars = Vars(|name: &str| get(name).filter(|value| !value.is_empty()));
        vars.refuse()?;
        self.listen = vars.place("DYN_TCP_RPC_HOST", "DYN_TCP_RPC_PORT")?;
        self.home = vars.place("DYN_TCP_RESPONSE_STREAM_HOST", "DYN_TCP_RESPONSE_STREAM_PORT")?;
        vars.worker(&mut self.worker, cores.max(1), &mut self.passed_over)?;
        vars.caller(&mut self.caller)?;
        vars.establish(&mut self.caller.call_home.establish_timeout, &mut self.passed_over);
        if let Some(ratio) = vars.number("DYN_ENCODER_CUDA_TO_CPU_RATIO", 1, MOST)? {
            self.device_aware.ratio = u32::try_from(ratio).unwrap_or(u32::MAX);
        }
        if let Some(bytes) = vars.number("DYN_TCP_MAX_MESSAGE_SIZE", 1, u64::from(u32::MAX))? {
            self.set_max_message(bytes);
        }
        Ok(self)
    }

    /// Sets the largest message of either direction, in bytes, whichever way calls go: request frames, and the items of requests
    /// and responses. The reserve for large items over mux grows with it.
    pub fn set_max_message(&mut self, bytes: u64) {
        let most = count(bytes);
        (self.worker.requests.max_message, self.worker.items.max_item) = (most, most);
        (self.caller.requests.max_message, self.caller.responses.max_item) = (most, most);
        for mux in [&mut self.worker.mux, &mut self.caller.mux] {
            mux.max_item = bytes;
            mux.reserve_pool = mux.reserve_pool.max(bytes);
        }
    }
}

/// Seconds that still make an instant.
const MOST_SECONDS: u64 = 365 * 24 * 3600;
/// Of anything that is counted.
const MOST: u64 = u32::MAX as u64;

struct Vars<G>(G);

impl<G: Fn(&str) -> Option<String>> Vars<G> {
    /// What would be something else than asked for if it were passed over.
    fn refuse(&self) -> Result<(), Error> {
        let tls = [
            "DYN_TCP_TLS_CERT_PATH",
            "DYN_TCP_TLS_KEY_PATH",
            "DYN_TCP_TLS_CLIENT_CA_CERT_PATH",
            "DYN_TCP_TLS_CA_CERT_PATH",
            "DYN_TCP_TLS_INSECURE",
            "DYN_TCP_TLS_CLIENT_CERT_PATH",
            "DYN_TCP_TLS_CLIENT_KEY_PATH",
        ];
        if let Some(name) = tls.into_iter().find(|name| (self.0)(name).is_some()) {
            return Err(Error::Tls { name });
        }
        match (self.0)("DYN_RESPONSE_PLANE") {
            Some(value) if !value.eq_ignore_ascii_case("tcp") => Err(Error::ResponsePlane { value }),
            _ => Ok(()),
        }
    }

    fn worker(
        &self,
        worker: &mut worker::config::Config,
        cores: usize,
        passed: &mut Vec<PassedOver>,
    ) -> Result<(), Error> {
        let share = |all: u64| count(all).div_ceil(cores);
        let (mut running, mut queued) =
            (self.number("DYN_TCP_WORKER_POOL_SIZE", 1, MOST)?, self.number("DYN_TCP_WORK_QUEUE_SIZE", 0, MOST)?);
        // Dynamo 1.7's name first, where it is followed.
        let limit = ["DYN_BACKEND_ADMISSION_ENGINE_REQUEST_LIMIT", "DYN_ENGINE_REQUEST_LIMIT"];
        let queue = ["DYN_BACKEND_ADMISSION_REQUEST_QUEUE_LIMIT", "DYN_DYNAMO_REQUEST_QUEUE_LIMIT"];
        if let Some(limit) = self.renamed(limit, 1, passed)? {
            running = Some(limit);
            queued = Some(self.renamed(queue, 0, passed)?.unwrap_or(16));
        }
        worker.max_running = running.map_or(worker.max_running, share);
        worker.max_queued = queued.map_or(worker.max_queued, share);
        self.canary(&mut worker.canary)?;
        self.seconds("DYN_RUNTIME_GRACEFUL_SHUTDOWN_TIMEOUT_SECS", 1, &mut worker.drain_timeout)
    }

    fn canary(&self, canary: &mut worker::canary::Config) -> Result<(), Error> {
        let name = "DYN_HEALTH_CHECK_ENABLED";
        if let Some(value) = (self.0)(name) {
            canary.enabled = switch(&value).ok_or(Error::Switch { name, value })?;
        }
        self.seconds("DYN_CANARY_WAIT_TIME", 1, &mut canary.wait)?;
        self.seconds("DYN_HEALTH_CHECK_REQUEST_TIMEOUT", 1, &mut canary.timeout)
    }

    fn caller(&self, caller: &mut caller::config::Config) -> Result<(), Error> {
        self.seconds("DYN_TCP_CONNECT_TIMEOUT", 1, &mut caller.connect_timeout)?;
        self.seconds("DYN_TCP_REQUEST_TIMEOUT", 1, &mut caller.accept_timeout)?;
        self.seconds("DYN_TCP_HOST_IDLE_TTL_SECS", 1, &mut caller.idle_timeout)?;
        if let Some(seconds) = self.number("DYN_RUNTIME_INHIBITED_DURATION_SECS", 0, MOST_SECONDS)? {
            caller.health.inhibited = Some(Duration::from_secs(seconds));
        }
        if let Some(most) = self.number("DYN_TCP_POOL_SIZE", 1, MOST)? {
            caller.connections_per_address = count(most);
        }
        if let Some(most) = self.number("DYN_TCP_CHANNEL_BUFFER", 1, MOST)? {
            caller.requests.max_unacked = count(most);
        }
        // 0 is Dynamo's word for no bound; ours stays.
        self.positive("DYN_HTTP_BACKEND_STREAM_TIMEOUT_SECS", &mut caller.item_timeout)?;
        self.positive("DYN_NATS_REQUEST_TIMEOUT_SECS", &mut caller.carriers.nats_timeout)?;
        self.positive("DYN_HTTP_REQUEST_TIMEOUT", &mut caller.carriers.http_timeout)
    }

    /// Dynamo 1.7's bound on the first word of a response: 0 and whatever is no number of seconds switch it off.
    fn establish(&self, knob: &mut Option<Duration>, passed: &mut Vec<PassedOver>) {
        let name = "DYN_RESPONSE_STREAM_ESTABLISH_TIMEOUT_SECS";
        let Some(value) = (self.0)(name) else { return };
        let seconds = value.trim().parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        match seconds.filter(|seconds| *seconds <= Duration::from_secs(MOST_SECONDS)) {
            Some(seconds) => *knob = Some(seconds).filter(|seconds| !seconds.is_zero()),
            None => {
                *knob = None;
                passed.push(PassedOver { name, value });
            }
        }
    }

    /// A number with two names, of which the newer one counts; if it holds none, the older one is asked as ever.
    fn renamed(
        &self,
        [newer, older]: [&'static str; 2],
        least: u64,
        passed: &mut Vec<PassedOver>,
    ) -> Result<Option<u64>, Error> {
        match self.number(newer, least, MOST) {
            Ok(Some(number)) => return Ok(Some(number)),
            Err(Error::Number { name, value, .. }) => passed.push(PassedOver { name, value }),
            Ok(None) | Err(_) => {}
        }
        self.number(older, least, MOST)
    }

    fn place(&self, host: &'static str, port: &'static str) -> Result<Place, Error> {
        let host = (self.0)(host).map(|text| Host::read(text.trim()));
        let port = self.number(port, 0, u64::from(u16::MAX))?.unwrap_or(0);
        Ok(Place { host, port: u16::try_from(port).unwrap_or(0) })
    }

    fn seconds(&self, name: &'static str, least: u64, knob: &mut Duration) -> Result<(), Error> {
        if let Some(seconds) = self.number(name, least, MOST_SECONDS)? {
            *knob = Duration::from_secs(seconds);
        }
        Ok(())
    }

    /// Seconds, of which 0 says nothing.
    fn positive(&self, name: &'static str, knob: &mut Duration) -> Result<(), Error> {
        let mut said = Duration::ZERO;
        self.seconds(name, 0, &mut said)?;
        if !said.is_zero() {
            *knob = said;
        }
        Ok(())
    }

    fn number(&self, name: &'static str, least: u64, most: u64) -> Result<Option<u64>, Error> {
        let Some(value) = (self.0)(name) else { return Ok(None) };
        match value.trim().parse() {
            Ok(number) if (least..=most).contains(&number) => Ok(Some(number)),
            _ => Err(Error::Number { name, value, least, most }),
        }
    }
}

/// What a variable says that is on or off, in Dynamo's words.
fn switch(text: &str) -> Option<bool> {
    let said = |words: [&str; 4]| words.iter().any(|word| text.trim().eq_ignore_ascii_case(word));
    if said(["1", "true", "yes", "on"]) {
        Some(true)
    } else if said(["0", "false", "no", "off"]) {
        Some(false)
    } else {
        None
    }
}

fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    fn read(vars: &[(&str, &str)], cores: usize) -> Result<Config, Error> {
        let get = |name: &str| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_string());
        Config::default().with_vars(get, "/tmp", cores)
    }

    #[test]
    fn without_variables_and_with_empty_ones_there_are_the_defaults() {
        assert_eq!(read(&[], 1), Ok(Config::default()));
        let empty = ["DYN_TCP_POOL_SIZE", "DYN_TCP_TLS_INSECURE", "DYN_RESPONSE_PLANE", "DYN_TCP_RPC_HOST"];
        assert_eq!(read(&empty.map(|name| (name, "")), 1), Ok(Config::default()));
    }

    #[test]
    fn each_variable_sets_its_knob_and_no_other() {
        let default = Config::default;
        let secs = Duration::from_secs;
        type Set = fn(&mut Config);
        let rows: &[(&str, &str, Set)] = &[
            ("DYN_TCP_CONNECT_TIMEOUT", "7", |c| c.caller.connect_timeout = Duration::from_secs(7)),
            ("DYN_TCP_REQUEST_TIMEOUT", " 8 ", |c| c.caller.accept_timeout = Duration::from_secs(8)),
            ("DYN_TCP_HOST_IDLE_TTL_SECS", "9", |c| c.caller.idle_timeout = Duration::from_secs(9)),
            ("DYN_RUNTIME_INHIBITED_DURATION_SECS", "0", |c| c.caller.health.inhibited = Some(Duration::ZERO)),
            ("DYN_RUNTIME_INHIBITED_DURATION_SECS", "5", |c| c.caller.health.inhibited = Some(Duration::from_secs(5))),
            ("DYN_TCP_POOL_SIZE", "3", |c| c.caller.connections_per_address = 3),
            ("DYN_TCP_CHANNEL_BUFFER", "5", |c| c.caller.requests.max_unacked = 5),
            ("DYN_HTTP_BACKEND_STREAM_TIMEOUT_SECS", "0", |_| {}),
            ("DYN_HTTP_BACKEND_STREAM_TIMEOUT_SECS", "2", |c| c.caller.item_timeout = Duration::from_secs(2)),
            ("DYN_NATS_REQUEST_TIMEOUT_SECS", "0", |_| {}),
            ("DYN_NATS_REQUEST_TIMEOUT_SECS", "3", |c| c.caller.carriers.nats_timeout = Duration::from_secs(3)),
            ("DYN_HTTP_REQUEST_TIMEOUT", "2", |c| c.caller.carriers.http_timeout = Duration::from_secs(2)),
            ("DYN_RUNTIME_GRACEFUL_SHUTDOWN_TIMEOUT_SECS", "4", |c| c.worker.drain_timeout = Duration::from_secs(4)),
            ("DYN_HEALTH_CHECK_ENABLED", "True", |c| c.worker.canary.enabled = true),
            ("DYN_HEALTH_CHECK_ENABLED", "off", |_| {}),
            ("DYN_CANARY_WAIT_TIME", "7", |c| c.worker.canary.wait = Duration::from_secs(7)),
            ("DYN_HEALTH_CHECK_REQUEST_TIMEOUT", "2", |c| c.worker.canary.timeout = Duration::from_secs(2)),
            ("DYN_ENCODER_CUDA_TO_CPU_RATIO", "4", |c| c.device_aware.ratio = 4),
            ("DYN_TCP_WORKER_POOL_SIZE", "10", |c| c.worker.max_running = 10),
            ("DYN_TCP_WORK_QUEUE_SIZE", "0", |c| c.worker.max_queued = 0),
            ("DYN_DYNAMO_REQUEST_QUEUE_LIMIT", "3", |_| {}),
            ("DYN_TCP_RPC_PORT", "80", |c| c.listen.port = 80),
            ("DYN_TCP_RPC_HOST", "eth0", |c| c.listen.host = Some(Host::Interface("eth0".into()))),
            ("DYN_TCP_RESPONSE_STREAM_PORT", "81", |c| c.home.port = 81),
            ("DYN_TCP_RESPONSE_STREAM_HOST", "::", |c| c.home.host = Some(Host::Addr(Ipv6Addr::UNSPECIFIED.into()))),
            ("DYN_RESPONSE_PLANE", "TCP", |_| {}),
            ("ETCD_LEASE_TTL", "6", |c| c.discovery.lease.ttl = Duration::from_secs(6)),
        ];
        for (name, value, set) in rows {
            let mut wanted = default();
            set(&mut wanted);
            assert_eq!(read(&[(name, value)], 1), Ok(wanted), "{name}={value}");
        }
        let config = read(&[("DYN_TCP_MAX_MESSAGE_SIZE", "1000")], 1).unwrap();
        assert_eq!((config.worker.requests.max_message, config.caller.requests.max_message), (1000, 1000));
        assert_eq!((config.worker.items.max_item, config.caller.responses.max_item), (1000, 1000));
        let mux = (config.worker.mux.max_item, config.caller.mux.max_item);
        assert_eq!((mux, config.caller.mux.reserve_pool), ((1000, 1000), default().caller.mux.reserve_pool));
        let config = read(&[("DYN_TCP_MAX_MESSAGE_SIZE", "4294967295")], 1).unwrap();
        assert_eq!((config.caller.validate(), config.worker.mux.validate()), (Ok(()), Ok(())));
        assert_eq!(config.caller.connect_timeout, secs(5));
    }

    #[test]
    fn a_request_limit_replaces_pool_and_queue_and_is_shared_by_the_cores() {
        let limits = |config: Config| (config.worker.max_running, config.worker.max_queued);
        let pool = [("DYN_TCP_WORKER_POOL_SIZE", "100"), ("DYN_TCP_WORK_QUEUE_SIZE", "50")];
        assert_eq!(limits(read(&pool, 3).unwrap()), (34, 17));
        let limit = [("DYN_ENGINE_REQUEST_LIMIT", "2"), ("DYN_TCP_WORKER_POOL_SIZE", "100")];
        assert_eq!(limits(read(&limit, 1).unwrap()), (2, 16));
        let both = [("DYN_ENGINE_REQUEST_LIMIT", "2"), ("DYN_DYNAMO_REQUEST_QUEUE_LIMIT", "1")];
        assert_eq!(limits(read(&both, 1).unwrap()), (2, 1));
    }

    #[test]
    fn the_newer_name_of_a_limit_counts_and_the_older_one_where_it_holds_no_number() {
        const LIMIT: [&str; 2] = ["DYN_BACKEND_ADMISSION_ENGINE_REQUEST_LIMIT", "DYN_ENGINE_REQUEST_LIMIT"];
        const QUEUE: [&str; 2] = ["DYN_BACKEND_ADMISSION_REQUEST_QUEUE_LIMIT", "DYN_DYNAMO_REQUEST_QUEUE_LIMIT"];
        let own = Config::default().worker;
        let unset = (own.max_running, own.max_queued);
        type Row = (&'static [(&'static str, &'static str)], (usize, usize), &'static [&'static str]);
        let rows: [Row; 9] = [
            (&[(LIMIT[0], "2")], (2, 16), &[]),
            (&[(LIMIT[0], "2"), (LIMIT[1], "3")], (2, 16), &[]),
            (&[(LIMIT[0], "two"), (LIMIT[1], "3")], (3, 16), &[LIMIT[0]]),
            (&[(LIMIT[0], "0")], unset, &[LIMIT[0]]),
            (&[(LIMIT[0], ""), (LIMIT[1], "3")], (3, 16), &[]),
            (&[(LIMIT[1], "3"), (QUEUE[0], "4"), (QUEUE[1], "5")], (3, 4), &[]),
            (&[(LIMIT[0], "2"), (QUEUE[0], "-1"), (QUEUE[1], "5")], (2, 5), &[QUEUE[0]]),
            (&[(LIMIT[0], "2"), (QUEUE[0], "x")], (2, 16), &[QUEUE[0]]),
            // A queue without a limit means nothing.
            (&[(QUEUE[0], "4")], unset, &[]),
        ];
        for (vars, limits, passed) in rows {
            let config = read(vars, 1).unwrap();
            assert_eq!((config.worker.max_running, config.worker.max_queued), limits, "{vars:?}");
            let names: Vec<_> = config.passed_over.iter().map(|over| over.name).collect();
            assert_eq!(names, passed, "{vars:?}");
        }
        let older = read(&[(LIMIT[0], "x"), (LIMIT[1], "y")], 1).unwrap_err();
        assert!(matches!(older, Error::Number { name: "DYN_ENGINE_REQUEST_LIMIT", .. }), "{older}");
    }

    #[test]
    fn the_bound_on_the_first_word_of_a_response_is_off_unless_it_is_a_number_of_seconds() {
        const NAME: &str = "DYN_RESPONSE_STREAM_ESTABLISH_TIMEOUT_SECS";
        for (value, millis, told) in [
            ("2", Some(2000), false),
            (" 2.5 ", Some(2500), false),
            ("0", None, false),
            ("0.0", None, false),
            ("", None, false),
            ("-1", None, true),
            ("soon", None, true),
            ("NaN", None, true),
            ("inf", None, true),
            ("1e30", None, true),
        ] {
            let config = read(&[(NAME, value)], 1).unwrap();
            assert_eq!(config.caller.call_home.establish_timeout, millis.map(Duration::from_millis), "{value}");
            assert_eq!(config.passed_over.len(), usize::from(told), "{value}");
            assert!(!told || config.passed_over[0].to_string().contains(NAME), "{value}");
        }
    }

    #[test]
    fn a_host_is_an_address_or_the_name_of_an_interface() {
        let addr = |text: &str| Host::Addr(text.parse().unwrap());
        assert_eq!(
            (Host::read("10.0.0.1"), Host::read("::1"), Host::read("[::1]")),
            (addr("10.0.0.1"), addr("::1"), addr("::1"))
        );
        for name in ["eth0", "[eth0]", "10.0.0", "[10.0.0.1]"] {
            assert_eq!(Host::read(name), Host::Interface(name.into()));
        }
    }

    #[test]
    fn what_cannot_be_followed_is_named() {
        let said = |name, value| read(&[(name, value)], 1).unwrap_err().to_string();
        assert_eq!(
            said("DYN_TCP_RPC_PORT", "70000"),
            "DYN_TCP_RPC_PORT is `70000`, not a whole number from 0 to 65535"
        );
        assert_eq!(
            said("DYN_RESPONSE_PLANE", "quic"),
            "DYN_RESPONSE_PLANE is `quic`; ringplane brings responses home over tcp only"
        );
        let tls = "DYN_TCP_TLS_CA_CERT_PATH is set; encrypted connections are not supported yet";
        assert_eq!(said("DYN_TCP_TLS_CA_CERT_PATH", "/x"), tls);
        let error = read(&[("DYN_TCP_POOL_SIZE", "many")], 1).unwrap_err();
        assert!(matches!(error, Error::Number { name: "DYN_TCP_POOL_SIZE", least: 1, .. }));
        assert!(matches!(read(&[("ETCD_LEASE_TTL", "x")], 1), Err(Error::Discovery(_))));
    }
}
