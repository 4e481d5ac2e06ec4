//! Where spans go, and which: what the variables of OpenTelemetry say.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::vars::{Error, decoded, is_true};

/// Where spans go by gRPC, and by HTTP, if nobody says it.
const GRPC: &str = "http://localhost:4317";
const HTTP: &str = "http://localhost:4318/v1/traces";
/// The port that collectors take OTLP over HTTP at.
const HTTP_PORT: &str = ":4318";
/// Behind the endpoint of all signals, where it is one of HTTP.
const PATH: &str = "/v1/traces";

/// How spans travel.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// gRPC.
    Grpc,
    /// A POST of protobuf.
    Http,
}

/// Which traces are kept.
#[derive(Copy, Clone, PartialEq, Debug)]
pub struct Sampling {
    /// The share of the traces that are kept, from 0 to 1. Default 1.
    pub share: f64,
    /// Whether it decides about traces that begin here only: of others the caller's sampled bit is obeyed. Default yes.
    pub parent_based: bool,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { share: 1.0, parent_based: true }
    }
}

/// Where spans go, which, and what bounds those that are on their way.
#[derive(Clone, PartialEq)]
pub struct Config {
    /// How they travel. Default gRPC.
    pub protocol: Protocol,
    /// The collector: `http://HOST:PORT` for gRPC, the whole URL for HTTP. Default `http://localhost:4317`.
    pub endpoint: String,
    /// Sent with each batch, such as a key.
    pub headers: Vec<(String, String)>,
    /// Time for one batch with its retries. Default 10 s.
    pub timeout: Duration,
    /// Which traces are kept.
    pub sampling: Sampling,
    /// The name of this service. Default `ringplane`.
    pub service: String,
    /// What else is said of this process.
    pub resource: Vec<(String, String)>,
    /// Spans that may wait, from 1 on; of more, the newest are dropped and counted. Default 2,048.
    pub queue: usize,
    /// Spans of one batch, from 1 to those that may wait. Default 512.
    pub batch: usize,
    /// How long a span waits for others before it is sent. Default 5 s.
    pub delay: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            protocol: Protocol::Grpc,
            endpoint: GRPC.to_owned(),
            headers: Vec::new(),
            timeout: Duration::from_secs(10),
            sampling: Sampling::default(),
            service: "ringplane".to_owned(),
            resource: Vec::new(),
            queue: 2048,
            batch: 512,
            delay: Duration::from_secs(5),
        }
    }
}

/// Shows the names of headers, never their values, and the endpoint without a login.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Config")
            .field("protocol", &self.protocol)
            .field("endpoint", &shown(&self.endpoint))
            .field("headers", &headers)
            .field("sampling", &self.sampling)
            .field("service", &self.service)
            .field("resource", &self.resource)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// Spans to the collector at `endpoint`: what `OTEL_EXPORTER_OTLP_ENDPOINT` may be. By HTTP if that is at its port, 4318,
    /// else by gRPC.
    #[must_use]
    pub fn at(mut self, endpoint: &str) -> Self {
        self.protocol = guess(endpoint);
        self.endpoint = whole(self.protocol, endpoint);
        self
    }

    /// Reads the variables of OpenTelemetry through `get`, an empty one counting as unset; the list is in `docs/operations.md`.
    /// `None`: they ask for no spans. They do with `OTEL_EXPORT_ENABLED` (Dynamo's), with `OTEL_TRACES_EXPORTER` as `otlp`, and
    /// with an endpoint unless one of these says no; `OTEL_SDK_DISABLED` wins over all.
    ///
    /// # Errors
    /// [`Error`] for the first variable that cannot be followed.
    pub fn from_vars(get: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, Error> {
        let get = |name: &str| get(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        if !is_asked_for(&get)? {
            return Ok(None);
        }
        let mut config = Self::default().with_place(&get)?;
        if let Some((name, value)) = first(&get, ["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"]) {
            let wrong = "no list of NAME=VALUE with commas between, with %XX for what a header cannot hold";
            config.headers = pairs(&value).ok_or(Error::Secret { name, wrong })?;
        }
        let timeouts = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_BSP_EXPORT_TIMEOUT"];
        if let Some((name, value)) = first(&get, timeouts) {
            config.timeout = Duration::from_millis(number(name, value)?);
        }
        config.sampling = sampling(&get)?;
        if let Some((name, value)) = first(&get, ["OTEL_RESOURCE_ATTRIBUTES"]) {
            let wanted = "a list of NAME=VALUE with commas between, with %XX for what cannot stand there";
            config.resource = pairs(&value).ok_or(Error::Malformed { name, value, wanted })?;
        }
        let named = config.resource.iter().find(|(name, _)| name == "service.name").map(|(_, value)| value.clone());
        if let Some(service) = get("OTEL_SERVICE_NAME").or(named) {
            config.service = service;
        }
        config.with_bounds(&get)
    }

    fn with_place(self, get: &impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let (own, all) = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT");
        let endpoint = first(get, [own, all]);
        let protocols = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
        let protocol = match first(get, protocols) {
            None => endpoint.as_ref().map_or(Protocol::Grpc, |(_, endpoint)| guess(endpoint)),
            Some((name, value)) => match value.as_str() {
                "grpc" => Protocol::Grpc,
                "http/protobuf" => Protocol::Http,
                _ => return Err(Error::Malformed { name, value, wanted: "grpc or http/protobuf" }),
            },
        };
        let endpoint = match endpoint {
            // That of traces alone is taken as it is.
            Some((name, endpoint)) if name == own && protocol == Protocol::Http => endpoint,
            Some((_, endpoint)) => whole(protocol, &endpoint),
            None => match protocol {
                Protocol::Grpc => GRPC.to_owned(),
                Protocol::Http => HTTP.to_owned(),
            },
        };
        Ok(Self { protocol, endpoint, ..self })
    }

    fn with_bounds(mut self, get: &impl Fn(&str) -> Option<String>) -> Result<Option<Self>, Error> {
        let (queue, batch) = ("OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE");
        if let Some(value) = get(queue) {
            self.queue = number(queue, value)?;
        }
        match get(batch) {
            Some(value) => {
                let wanted = "a whole number from 1 to what OTEL_BSP_MAX_QUEUE_SIZE is";
                let sized = value.parse().ok().filter(|size| (1..=self.queue).contains(size));
                self.batch = sized.ok_or(Error::Malformed { name: batch, value, wanted })?;
            }
            None => self.batch = self.batch.min(self.queue),
        }
        if let Some((name, value)) = first(get, ["OTEL_BSP_SCHEDULE_DELAY"]) {
            self.delay = Duration::from_millis(number(name, value)?);
        }
        Ok(Some(self))
    }
}

fn is_asked_for(get: &impl Fn(&str) -> Option<String>) -> Result<bool, Error> {
    if get("OTEL_SDK_DISABLED").is_some_and(|value| is_true(&value)) {
        return Ok(false);
    }
    let name = "OTEL_TRACES_EXPORTER";
    let exporter = match get(name) {
        None => None,
        Some(value) => match value.as_str() {
            "otlp" => Some(true),
            "none" => Some(false),
            _ => return Err(Error::Malformed { name, value, wanted: "otlp or none" }),
        },
    };
    let enabled = get("OTEL_EXPORT_ENABLED").map(|value| is_true(&value));
    let named = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
    Ok(exporter.or(enabled).unwrap_or_else(|| first(get, named).is_some()))
}

/// Dynamo's share is one that obeys the caller.
fn sampling(get: &impl Fn(&str) -> Option<String>) -> Result<Sampling, Error> {
    if let Some((name, value)) = first(get, ["OTEL_TRACES_SAMPLE_RATIO"]) {
        return Ok(Sampling { share: share(name, value)?, parent_based: true });
    }
    let name = "OTEL_TRACES_SAMPLER";
    let Some(value) = get(name) else { return Ok(Sampling::default()) };
    let (parent_based, root) = match value.strip_prefix("parentbased_") {
        Some(root) => (true, root),
        None => (false, value.as_str()),
    };
    let share = match root {
        "always_on" => 1.0,
        "always_off" => 0.0,
        "traceidratio" => match first(get, ["OTEL_TRACES_SAMPLER_ARG"]) {
            Some((name, value)) => share(name, value)?,
            None => 1.0,
        },
        _ => {
            let wanted = "always_on, always_off or traceidratio, or one of these behind parentbased_";
            return Err(Error::Malformed { name, value, wanted });
        }
    };
    Ok(Sampling { share, parent_based })
}

fn share(name: &'static str, value: String) -> Result<f64, Error> {
    let share = value.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or(Error::Malformed { name, value, wanted: "a number from 0 to 1" })
}

fn number<T: FromStr + PartialEq + Default>(name: &'static str, value: String) -> Result<T, Error> {
    let number = value.parse().ok().filter(|number| *number != T::default());
    number.ok_or(Error::Malformed { name, value, wanted: "a whole number from 1 on" })
}

/// The first of these variables that is set.
fn first<const N: usize>(
    get: &impl Fn(&str) -> Option<String>,
    names: [&'static str; N],
) -> Option<(&'static str, String)> {
    names.into_iter().find_map(|name| Some((name, get(name)?)))
}

/// The protocol of an endpoint that comes without.
fn guess(endpoint: &str) -> Protocol {
    let authority = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest).split('/').next().unwrap_or_default();
    if authority.ends_with(HTTP_PORT) { Protocol::Http } else { Protocol::Grpc }
}

/// What an endpoint of all signals means for spans. One without a scheme is not encrypted.
fn whole(protocol: Protocol, endpoint: &str) -> String {
    let scheme = if endpoint.contains("://") { "" } else { "http://" };
    let endpoint = endpoint.trim_end_matches('/');
    match protocol {
        Protocol::Grpc => format!("{scheme}{endpoint}"),
        Protocol::Http => format!("{scheme}{endpoint}{PATH}"),
    }
}

/// An endpoint without the login before its host. Everything up to the last `@` counts as one: a password may hold what it should not.
pub(super) fn shown(endpoint: &str) -> String {
    let Some((before, rest)) = endpoint.rsplit_once('@') else { return endpoint.to_owned() };
    let scheme = before.split_once("://").map(|(scheme, _)| scheme);
    match scheme.filter(|scheme| scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())) {
        Some(scheme) => format!("{scheme}://{rest}"),
        None => rest.to_owned(),
    }
}

/// `NAME=VALUE` with commas between, as in W3C baggage; `None` if a part is none, or no text.
fn pairs(list: &str) -> Option<Vec<(String, String)>> {
    let parts = list.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (name, value) = part.split_once('=')?;
            let name = name.trim();
            (!name.is_empty()).then_some(())?;
            Some((name.to_owned(), decoded(value.trim())?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<Option<Config>, Error> {
        Config::from_vars(|name| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    const ON: (&str, &str) = ("OTEL_EXPORT_ENABLED", "1");
    const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

    #[test]
    fn spans_are_exported_where_a_variable_asks_for_it() {
        let asked = |vars: &[(&str, &str)]| read(vars).unwrap().is_some();
        assert!(!asked(&[]) && !asked(&[(ENDPOINT, " ")]) && !asked(&[("OTEL_EXPORT_ENABLED", "no")]));
        assert!(asked(&[ON]) && asked(&[(ENDPOINT, "http://c:4317")]) && asked(&[("OTEL_TRACES_EXPORTER", "otlp")]));
        assert!(!asked(&[ON, ("OTEL_SDK_DISABLED", "true")]));
        assert!(!asked(&[(ENDPOINT, "http://c:4317"), ("OTEL_EXPORT_ENABLED", "0")]));
        assert!(!asked(&[ON, ("OTEL_TRACES_EXPORTER", "none")]));
        assert_eq!(read(&[ON]).unwrap(), Some(Config::default()));
    }

    #[test]
    fn the_place_is_told_by_endpoint_and_protocol() {
        let own = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
        let http = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
        for (vars, protocol, endpoint) in [
            (&[(ENDPOINT, "c:1")][..], Protocol::Grpc, "http://c:1"),
            (&[(ENDPOINT, "http://c:4318/")], Protocol::Http, "http://c:4318/v1/traces"),
            (&[(ENDPOINT, "http://c:1/otel"), http], Protocol::Http, "http://c:1/otel/v1/traces"),
            (&[(ENDPOINT, "http://a:1"), (own, "http://b:2/in"), http], Protocol::Http, "http://b:2/in"),
            (&[ON, http], Protocol::Http, HTTP),
            (
                &[(ENDPOINT, "http://c:1"), http, ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc")],
                Protocol::Grpc,
                "http://c:1",
            ),
        ] {
            let config = read(vars).unwrap().unwrap();
            assert_eq!((config.protocol, config.endpoint.as_str()), (protocol, endpoint), "{vars:?}");
        }
        assert_eq!(Config::default().at("c:4318").endpoint, "http://c:4318/v1/traces");
    }

    #[test]
    fn samplers_are_those_of_the_standard_and_dynamos() {
        let (sampler, arg) = ("OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG");
        for (vars, share, parent_based) in [
            (&[ON][..], 1.0, true),
            (&[ON, (sampler, "always_off")], 0.0, false),
            (&[ON, (sampler, "parentbased_always_off")], 0.0, true),
            (&[ON, (sampler, "traceidratio"), (arg, "0.25")], 0.25, false),
            (&[ON, (sampler, "parentbased_traceidratio"), (arg, "0.01")], 0.01, true),
            (&[ON, (sampler, "always_off"), ("OTEL_TRACES_SAMPLE_RATIO", "0.5")], 0.5, true),
        ] {
            assert_eq!(read(vars).unwrap().unwrap().sampling, Sampling { share, parent_based }, "{vars:?}");
        }
    }

    #[test]
    fn what_else_is_said_is_followed_and_secrets_are_not_shown() {
        let config = read(&[
            ON,
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=s%65cret, x-other=a=b,"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "1500"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=ours,zone=a%2Cb"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
            ("OTEL_BSP_SCHEDULE_DELAY", "250"),
        ]);
        let config = config.unwrap().unwrap();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(config.headers, [pair("x-key", "secret"), pair("x-other", "a=b")]);
        assert!(!format!("{config:?}").contains("secret"));
        assert_eq!((config.service.as_str(), &config.resource[1]), ("ours", &pair("zone", "a,b")));
        assert_eq!((config.queue, config.batch), (100, 100));
        assert_eq!([config.timeout, config.delay].map(|time| time.as_millis()), [1500, 250]);
    }

    #[test]
    fn an_endpoint_is_shown_without_its_login() {
        for (endpoint, seen) in [
            ("http://c:4317", "http://c:4317"),
            ("http://user:secret@c:4317/in", "http://c:4317/in"),
            ("https://us/er:se@cret@c", "https://c"),
            ("user:a://secret@c:1", "c:1"),
            ("", ""),
        ] {
            assert_eq!(shown(endpoint), seen);
            let config = Config { endpoint: endpoint.to_owned(), ..Config::default() };
            assert!(format!("{config:?}").contains(&format!("endpoint: {seen:?}")), "{config:?}");
        }
    }

    #[test]
    fn what_cannot_be_followed_is_refused_by_name() {
        for (name, value) in [
            ("OTEL_TRACES_EXPORTER", "zipkin"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "secret"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=%zz"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
            ("OTEL_TRACES_SAMPLER", "xray"),
            ("OTEL_TRACES_SAMPLE_RATIO", "1.5"),
            ("OTEL_TRACES_SAMPLE_RATIO", "NaN"),
            ("OTEL_RESOURCE_ATTRIBUTES", "=x"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "-1"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4096"),
        ] {
            let error = read(&[ON, (name, value)]).unwrap_err().to_string();
            assert!(error.starts_with(name) && !error.contains("secret"), "{error}");
        }
    }
}
