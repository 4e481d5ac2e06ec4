//! Which way events go: from each publisher directly, or through brokers.

use std::fmt;

use crate::event::zmq::endpoint::{BadEndpoint, Endpoint};
use crate::vars;

/// Which way events go.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub enum Way {
    /// From each publisher directly, found in discovery. Default.
    #[default]
    Direct,
    /// Through these brokers.
    Brokers(Brokers),
    /// Through the brokers that discovery names for the namespace, as they come and go.
    Discovered,
}

/// Brokers by their addresses: each one that is named carries everything.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Brokers {
    /// Where publishers connect to.
    pub xsub: Vec<Endpoint>,
    /// Where subscribers connect to.
    pub xpub: Vec<Endpoint>,
}

/// A text that names no brokers.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum BadBrokers {
    /// Not two parts, one that begins with `xsub=` and one with `xpub=`.
    Form(String),
    /// A part names no address.
    Empty(&'static str),
    /// An address cannot be used.
    Endpoint(BadEndpoint),
}

impl fmt::Display for BadBrokers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form(text) => {
                write!(f, "`{text}` is not of the form xsub=tcp://HOST:PORT[;…],xpub=tcp://HOST:PORT[;…]")
            }
            Self::Empty(side) => write!(f, "no address of brokers behind `{side}=`"),
            Self::Endpoint(_) => f.write_str("the address of a broker cannot be used"),
        }
    }
}

impl std::error::Error for BadBrokers {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        if let Self::Endpoint(error) = self { Some(error) } else { None }
    }
}

impl Brokers {
    /// Reads what `DYN_ZMQ_BROKER_URL` holds: `xsub=URL[;URL…],xpub=URL[;URL…]`, the two in any order.
    ///
    /// # Errors
    /// [`BadBrokers`].
    pub fn parse(text: &str) -> Result<Self, BadBrokers> {
        let form = || BadBrokers::Form(text.to_owned());
        let parts: Vec<&str> = text.split(',').map(str::trim).collect();
        let [one, other] = parts.as_slice() else { return Err(form()) };
        let side = |name: &'static str| {
            let found = [one, other].into_iter().find_map(|part| part.strip_prefix(name)?.trim().strip_prefix('='));
            let urls = found.ok_or_else(form)?.split(';').map(str::trim).filter(|url| !url.is_empty());
            let all: Vec<Endpoint> = urls.map(str::parse).collect::<Result<_, _>>().map_err(BadBrokers::Endpoint)?;
            if all.is_empty() { Err(BadBrokers::Empty(name)) } else { Ok(all) }
        };
        Ok(Self { xsub: side("xsub")?, xpub: side("xpub")? })
    }
}

impl Way {
    /// What `DYN_ZMQ_BROKER_URL` and `DYN_ZMQ_BROKER_ENABLED` say. A URL that is set counts first.
    ///
    /// # Errors
    /// [`vars::Error`] for a URL that names no brokers.
    pub fn from_env(mut get: impl FnMut(&str) -> Option<String>) -> Result<Self, vars::Error> {
        const URL: &str = "DYN_ZMQ_BROKER_URL";
        if let Some(value) = get(URL) {
            let wanted = "xsub=tcp://HOST:PORT[;…],xpub=tcp://HOST:PORT[;…]";
            let brokers = Brokers::parse(&value);
            return brokers.map(Self::Brokers).map_err(|_| vars::Error::Malformed { name: URL, value, wanted });
        }
        let enabled = get("DYN_ZMQ_BROKER_ENABLED").unwrap_or_default().trim().to_ascii_lowercase();
        Ok(if matches!(enabled.as_str(), "1" | "true" | "on" | "yes") { Self::Discovered } else { Self::Direct })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_are_read_in_either_order() {
        let endpoint = |text: &str| text.parse::<Endpoint>().unwrap();
        let both = Brokers {
            xsub: vec![endpoint("tcp://a:1"), endpoint("tcp://b:1")],
            xpub: vec![endpoint("tcp://a:2"), endpoint("tcp://b:2")],
        };
        for text in [
            "xsub=tcp://a:1;tcp://b:1,xpub=tcp://a:2;tcp://b:2",
            " xpub = tcp://a:2 ; tcp://b:2 , xsub=tcp://a:1;tcp://b:1",
        ] {
            assert_eq!(Brokers::parse(text).as_ref(), Ok(&both), "{text}");
        }
    }

    #[test]
    fn each_mistake_is_named() {
        for text in ["", "xsub=tcp://a:1", "xsub=tcp://a:1,xsub=tcp://a:2", "xsub=tcp://a:1,xpub=tcp://a:2,x"] {
            assert_eq!(Brokers::parse(text), Err(BadBrokers::Form(text.to_owned())));
        }
        assert_eq!(Brokers::parse("xsub=,xpub=tcp://a:2"), Err(BadBrokers::Empty("xsub")));
        assert!(matches!(Brokers::parse("xsub=ipc://a,xpub=tcp://a:2"), Err(BadBrokers::Endpoint(_))));
    }

    #[test]
    fn the_variables_choose_as_dynamos_do() {
        let way = |url: Option<&str>, enabled: Option<&str>| {
            Way::from_env(|name| if name.ends_with("URL") { url } else { enabled }.map(str::to_owned))
        };
        assert_eq!(way(None, None), Ok(Way::Direct));
        assert_eq!(way(None, Some(" On ")), Ok(Way::Discovered));
        assert_eq!(way(None, Some("no")), Ok(Way::Direct));
        assert!(matches!(way(Some("xsub=tcp://a:1,xpub=tcp://a:2"), Some("0")), Ok(Way::Brokers(_))));
        assert!(way(Some(""), Some("1")).is_err(), "even an empty one counts");
    }
}
