//! The knobs of a status server, and the variables that Dynamo has for it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use ringplane_driver::config::within;
use ringplane_tokio::status;
use ringplane_tokio::vars;

use crate::error::Error;

/// The port that `DYN_SYSTEM_ENABLED` without `DYN_SYSTEM_PORT` means, Dynamo 1.0's default.
const PORT: u16 = 9090;

/// How a [`Status`](crate::status::Status) listens and judges.
///
/// Plain data: change the fields of a [default](Self::default) one. The bounds of each knob are in `docs/operations.md`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StatusConfig {
    /// Where to listen. Default `127.0.0.1:0`: this host only, any free port.
    pub listen: SocketAddr,
    /// Whether one endpoint can be drained and resumed by a POST. Default `false`.
    pub manage: bool,
    /// Whether a process without a worker is ready. Default `false`; [`Status::set_ready`](crate::status::Status::set_ready)
    /// changes it. A worker's own endpoints say it as soon as there is one.
    pub ready_at_start: bool,
    /// The endpoints that have to be ready, by their whole names or the last part of them. Default none: all that have not
    /// been drained one by one, and at least one.
    pub required: Vec<String>,
    /// Where readiness is told as Dynamo tells it. Default `/health`.
    pub health_path: String,
    /// Where it is told whether the process responds. Default `/live`.
    pub live_path: String,
    /// How long a core may take to answer before the process counts as stuck; 10 ms to 60 s. Default 2 s.
    pub core_timeout: Duration,
    /// Connections at once, 1 to 65,536; a further one is closed at once. Default 64.
    pub max_connections: usize,
    /// From the beginning of a connection, or the end of an answer, to the end of the next request's head; 10 ms to an hour.
    /// Default 5 s.
    pub header_timeout: Duration,
    /// The life of a connection, 10 ms to an hour. Default 60 s.
    pub connection_life: Duration,
    /// How long connections have for their last answers when the server, or their life, ends; up to an hour. Default 1 s.
    pub farewell: Duration,
    /// Endpoints, and instances, that are told of each worker and each client; 1 to 65,536. Of more their number is told.
    /// Default 256.
    pub max_rows: usize,
    /// Recent errors that are kept, up to 65,536. Default 64.
    pub max_errors: usize,
}

impl Default for StatusConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            manage: false,
            ready_at_start: false,
            required: Vec::new(),
            health_path: "/health".to_owned(),
            live_path: "/live".to_owned(),
            core_timeout: Duration::from_secs(2),
            max_connections: 64,
            header_timeout: Duration::from_secs(5),
            connection_life: Duration::from_secs(60),
            farewell: Duration::from_secs(1),
            max_rows: 256,
            max_errors: 64,
        }
    }
}

impl From<SocketAddr> for StatusConfig {
    fn from(listen: SocketAddr) -> Self {
        Self { listen, ..Self::default() }
    }
}

impl StatusConfig {
    /// What Dynamo's variables ask for, each read by `get`; `None`: no server. `DYN_SYSTEM_PORT` of 0 or more asks for one, and
    /// so does `DYN_SYSTEM_ENABLED`, then at port 9090; `DYN_SYSTEM_HOST` is an address, without it the loopback.
    ///
    /// # Errors
    /// The first variable that cannot be followed.
    pub fn from_vars(get: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, vars::Error> {
        let config = Self::default().with_vars(&get)?;
        let enabled = flag("DYN_SYSTEM_ENABLED", &get)?;
        let port = match get("DYN_SYSTEM_PORT") {
            None => None,
            Some(value) => Some(port(&value)?),
        };
        let port = match (enabled, port) {
            (Some(false), _) | (_, Some(None)) | (None, None) => return Ok(None),
            (_, Some(Some(port))) => port,
            (Some(true), None) => PORT,
        };
        Ok(Some(Self { listen: SocketAddr::new(config.listen.ip(), port), ..config }))
    }

    /// This configuration as the variables change it that do not say whether there is a server, nor its port.
    ///
    /// # Errors
    /// As [`from_vars`](Self::from_vars).
    pub fn with_vars(mut self, get: impl Fn(&str) -> Option<String>) -> Result<Self, vars::Error> {
        if let Some(value) = get("DYN_SYSTEM_HOST") {
            let wanted = "an address of this host";
            let bare = value.trim().trim_start_matches('[').trim_end_matches(']');
            let ip = if bare == "localhost" { Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)) } else { bare.parse() };
            let ip = ip.map_err(|_| vars::Error::Malformed { name: "DYN_SYSTEM_HOST", value, wanted })?;
            self.listen.set_ip(ip);
        }
        if let Some(value) = get("DYN_SYSTEM_STARTING_HEALTH_STATUS") {
            self.ready_at_start = match value.trim() {
                "ready" => true,
                "notready" => false,
                _ => {
                    let (name, wanted) = ("DYN_SYSTEM_STARTING_HEALTH_STATUS", "`ready` or `notready`");
                    return Err(vars::Error::Malformed { name, value, wanted });
                }
            };
        }
        if let Some(value) = get("DYN_SYSTEM_USE_ENDPOINT_HEALTH_STATUS") {
            let (name, wanted) = ("DYN_SYSTEM_USE_ENDPOINT_HEALTH_STATUS", "a list of names in JSON");
            let read = serde_json::from_str(&value);
            self.required = read.map_err(|_| vars::Error::Malformed { name, value, wanted })?;
        }
        self.health_path = path("DYN_SYSTEM_HEALTH_PATH", &get)?.unwrap_or(self.health_path);
        self.live_path = path("DYN_SYSTEM_LIVE_PATH", &get)?.unwrap_or(self.live_path);
        Ok(self)
    }

    /// Checks every knob against its bounds.
    pub(super) fn validate(&self) -> Result<(), Error> {
        let hour = Duration::from_secs(3600);
        let least = Duration::from_millis(10);
        let check = || {
            within("status.core_timeout", self.core_timeout, least..=Duration::from_secs(60), "10 ms to 60 s")?;
            within("status.max_connections", self.max_connections, 1..=1 << 16, "1 to 65,536")?;
            within("status.header_timeout", self.header_timeout, least..=hour, "10 ms to an hour")?;
            within("status.connection_life", self.connection_life, least..=hour, "10 ms to an hour")?;
            within("status.farewell", self.farewell, Duration::ZERO..=hour, "up to an hour")?;
            within("status.max_rows", self.max_rows, 1..=1 << 16, "1 to 65,536")?;
            within("status.max_errors", self.max_errors, 0..=1 << 16, "up to 65,536")?;
            let paths = [&self.health_path, &self.live_path].into_iter().filter(|path| path.starts_with('/')).count();
            within("status.health_path and live_path", paths, 2..=2, "paths that begin with /")
        };
        check().map_err(Error::Config)
    }

    /// The bounds of its connections.
    pub(super) fn server(&self) -> status::Config {
        status::Config {
            max_connections: self.max_connections,
            header_timeout: self.header_timeout,
            // Every question to the cores has this bound; a page asks each worker and client, all at once.
            answer_timeout: 2 * self.core_timeout + Duration::from_secs(1),
            connection_life: self.connection_life,
            farewell: self.farewell,
        }
    }
}

fn flag(name: &'static str, get: impl Fn(&str) -> Option<String>) -> Result<Option<bool>, vars::Error> {
    let Some(value) = get(name) else { return Ok(None) };
    match value.trim().to_ascii_lowercase().as_str() {
        "1" | "true" | "on" | "yes" => Ok(Some(true)),
        "0" | "false" | "off" | "no" => Ok(Some(false)),
        _ => Err(vars::Error::Malformed { name, value, wanted: "`true` or `false`" }),
    }
}

/// A port, or `None` for a number below 0.
fn port(value: &str) -> Result<Option<u16>, vars::Error> {
    let wanted = "-1 or a port";
    let malformed = || vars::Error::Malformed { name: "DYN_SYSTEM_PORT", value: value.to_owned(), wanted };
    let number: i64 = value.trim().parse().map_err(|_| malformed())?;
    if number < 0 { Ok(None) } else { u16::try_from(number).map(Some).map_err(|_| malformed()) }
}

fn path(name: &'static str, get: impl Fn(&str) -> Option<String>) -> Result<Option<String>, vars::Error> {
    match get(name) {
        Some(value) if !value.starts_with('/') => {
            Err(vars::Error::Malformed { name, value, wanted: "a path that begins with /" })
        }
        value => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<Option<StatusConfig>, vars::Error> {
        StatusConfig::from_vars(|name| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn dynamos_variables_say_whether_there_is_a_server_and_how_it_judges() {
        let listens = |vars: &[(&str, &str)]| read(vars).unwrap().map(|config| config.listen.to_string());
        assert_eq!(listens(&[]), None);
        assert_eq!(listens(&[("DYN_SYSTEM_PORT", "-1")]), None);
        assert_eq!(listens(&[("DYN_SYSTEM_PORT", "0")]).as_deref(), Some("127.0.0.1:0"));
        assert_eq!(listens(&[("DYN_SYSTEM_ENABLED", "true")]).as_deref(), Some("127.0.0.1:9090"));
        assert_eq!(listens(&[("DYN_SYSTEM_ENABLED", "false"), ("DYN_SYSTEM_PORT", "80")]), None);
        let all = [("DYN_SYSTEM_ENABLED", "1"), ("DYN_SYSTEM_PORT", "81"), ("DYN_SYSTEM_HOST", "[::1]")];
        assert_eq!(listens(&all).as_deref(), Some("[::1]:81"));
        let config = read(&[
            ("DYN_SYSTEM_PORT", "0"),
            ("DYN_SYSTEM_STARTING_HEALTH_STATUS", "ready"),
            ("DYN_SYSTEM_USE_ENDPOINT_HEALTH_STATUS", r#"["generate"]"#),
            ("DYN_SYSTEM_HEALTH_PATH", "/h"),
            ("DYN_SYSTEM_LIVE_PATH", "/l"),
        ]);
        let config = config.unwrap().unwrap();
        assert!(config.ready_at_start && config.required == ["generate"]);
        assert_eq!((config.health_path.as_str(), config.live_path.as_str()), ("/h", "/l"));
    }

    #[test]
    fn a_variable_that_cannot_be_followed_is_named() {
        for (name, value) in [
            ("DYN_SYSTEM_PORT", "70000"),
            ("DYN_SYSTEM_PORT", "x"),
            ("DYN_SYSTEM_ENABLED", "maybe"),
            ("DYN_SYSTEM_HOST", "eth0"),
            ("DYN_SYSTEM_STARTING_HEALTH_STATUS", "soon"),
            ("DYN_SYSTEM_USE_ENDPOINT_HEALTH_STATUS", "generate"),
            ("DYN_SYSTEM_HEALTH_PATH", "health"),
        ] {
            let error = read(&[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(value), "{error}");
        }
    }

    #[test]
    fn a_knob_out_of_its_bounds_is_named() {
        let config = StatusConfig::default();
        assert!(config.validate().is_ok());
        for (knob, config) in [
            ("core_timeout", StatusConfig { core_timeout: Duration::ZERO, ..config.clone() }),
            ("max_connections", StatusConfig { max_connections: 0, ..config.clone() }),
            ("max_rows", StatusConfig { max_rows: 0, ..config.clone() }),
            ("live_path", StatusConfig { live_path: "live".to_owned(), ..config.clone() }),
        ] {
            let error = ringplane_core::chain::Chain(&config.validate().unwrap_err()).to_string();
            assert!(error.contains(knob), "{error}");
        }
    }
}
