//! Options that several subcommands have, and how their values are read.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ringplane::DriverChoice;
use ringplane_core::config::{Config, Host, Place};
use ringplane_core::id::EndpointId;
use ringplane_core::route::policy::any::{ALL, AnyPolicy};

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
    /// Where instances are found: file:DIR, etcd:URL, static:HOST:PORT,HOST:PORT or dns:NAME:PORT
    #[arg(long, value_name = "URL")]
    pub(crate) discovery: Option<String>,
}

/// Reads the name of a routing policy.
pub(crate) fn router(text: &str) -> Result<AnyPolicy, String> {
    AnyPolicy::from_name(text).map_err(|error| error.to_string())
}

/// What `--help` says of the routing policies.
pub(crate) fn routers() -> String {
    let names: Vec<String> = ALL.iter().map(ToString::to_string).collect();
    format!("How an instance is picked: {}", names.join(", "))
}

/// Reads `namespace.component.endpoint` in any of its spellings.
pub(crate) fn endpoint(text: &str) -> Result<EndpointId, String> {
    EndpointId::parse(text).map_err(|error| error.to_string())
}

/// What a unit is in seconds.
const UNITS: [(&str, f64); 6] = [("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("min", 60.0), ("h", 3600.0)];

/// Reads a duration, with a fraction if need be, in one of the units; a number alone is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|letter: char| letter.is_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(split).unwrap_or((text, ""));
    let unit = match unit {
        "" => 1.0,
        "m" => 60.0,
        named => UNITS.iter().find(|(name, _)| *name == named).map(|(_, seconds)| *seconds).ok_or_else(unreadable)?,
    };
    let number: f64 = number.trim_end().parse().map_err(|_| unreadable())?;
    Duration::try_from_secs_f64(number * unit).map_err(|error| error.to_string())
}

fn unreadable() -> String {
    "not a duration such as 5s, 1.5s, 500ms, 2m or 1h (a number alone is seconds)".to_owned()
}

/// Reads where to listen: an address or a name with a port, or without one for any free port. The name is an interface's or a
/// host's.
pub(crate) fn listen(text: &str) -> Result<Place, String> {
    let place = |host, port| Place { host: Some(host), port };
    if let Ok(addr) = text.parse::<SocketAddr>() {
        return Ok(place(Host::Addr(addr.ip()), addr.port()));
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok(place(Host::Addr(ip), 0));
    }
    let (name, port) = match text.split_once(':') {
        Some((name, port)) => (name, port.parse().map_err(|_| format!("`{port}` is no port"))?),
        None => (text, 0),
    };
    if name.is_empty() { Err("there is no host before the port".to_owned()) } else { Ok(place(Host::read(name), port)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_unit_or_is_of_seconds_and_must_make_sense() {
        for (text, millis) in
            [("1.5", 1500), ("2", 2000), ("5s", 5000), ("1.5 s", 1500), ("250ms", 250), ("2m", 120_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for (text, micros) in [("7us", 7), ("7µs", 7), ("1min", 60_000_000), ("0.5h", 1_800_000_000)] {
            assert_eq!(duration(text), Ok(Duration::from_micros(micros)), "{text}");
        }
        for text in ["", "x", "s", "-1", "-1s", "inf", "nan", "1e300", "5 parsecs", "5sm", "5S", "1s500ms"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn where_to_listen_may_lack_the_port_and_name_a_host_or_an_interface() {
        let addr = |text: &str| Some(Host::Addr(text.parse().unwrap()));
        let name = |text: &str| Some(Host::Interface(text.to_owned()));
        for (text, host, port) in [
            ("0.0.0.0:7000", addr("0.0.0.0"), 7000),
            ("10.0.0.1", addr("10.0.0.1"), 0),
            ("[::]:7", addr("::"), 7),
            ("::1", addr("::1"), 0),
            ("[::1]", addr("::1"), 0),
            ("localhost:0", name("localhost"), 0),
            ("eth0", name("eth0"), 0),
            ("eth0:7", name("eth0"), 7),
        ] {
            let place = listen(text).unwrap();
            assert_eq!((place.host, place.port), (host, port), "{text}");
        }
        for text in ["", ":7", "localhost:", "localhost:x", "10.0.0.1:70000", "a:b:c"] {
            assert!(listen(text).is_err(), "{text}");
        }
    }
}
