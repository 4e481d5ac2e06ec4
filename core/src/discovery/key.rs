//! The keys instances are stored under, and which of them a query asks for.

use alloc::format;
use alloc::string::String;
use core::fmt;

use crate::id::{EndpointId, InstanceId};

/// Where instances are kept: the top of every key.
pub const BUCKET: &str = "v1/instances";

/// What names one instance among all instances of all endpoints. The instance id alone does not: a process uses one id
/// for all its endpoints.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key {
    /// What the instance serves.
    pub endpoint: EndpointId,
    /// Which instance.
    pub id: InstanceId,
}

impl Key {
    /// The key within its bucket: `namespace/component/endpoint/id`, the id in hexadecimal.
    pub fn relative(&self) -> String {
        let EndpointId { namespace, component, name } = &self.endpoint;
        format!("{namespace}/{component}/{name}/{}", self.id)
    }

    /// The whole key: `v1/instances/namespace/component/endpoint/id`.
    pub fn full(&self) -> String {
        format!("{BUCKET}/{}", self.relative())
    }

    /// Reads a key within its bucket or a whole one. Names may hold anything but `/`.
    ///
    /// # Errors
    /// [`Malformed`] if there are not four parts, one is empty, or the last is no hexadecimal number of 64 bits.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let relative = text.strip_prefix(BUCKET).and_then(|rest| rest.strip_prefix('/')).unwrap_or(text);
        let mut parts = relative.split('/');
        let (Some(namespace), Some(component), Some(name), Some(id), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Malformed);
        };
        if [namespace, component, name].iter().any(|part| part.is_empty()) {
            return Err(Malformed);
        }
        let id = InstanceId::from_hex(id).ok_or(Malformed)?;
        Ok(Self { endpoint: EndpointId::new(namespace, component, name), id })
    }
}

/// A text that is no instance's key.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a key of the form namespace/component/endpoint/id")
    }
}

impl core::error::Error for Malformed {}

/// Which instances, or which models of instances, somebody wants to hear of.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Query {
    /// Every instance of every endpoint.
    All,
    /// All of one namespace.
    Namespace(String),
    /// All of one component.
    Component {
        /// Its namespace.
        namespace: String,
        /// Its own name.
        component: String,
    },
    /// The instances of one endpoint.
    Endpoint(EndpointId),
}

impl Query {
    /// Whether an instance of `endpoint` is asked for.
    pub fn matches(&self, endpoint: &EndpointId) -> bool {
        match self {
            Self::All => true,
            Self::Namespace(namespace) => *namespace == endpoint.namespace,
            Self::Component { namespace, component } => {
                *namespace == endpoint.namespace && *component == endpoint.component
            }
            Self::Endpoint(wanted) => wanted == endpoint,
        }
    }

    /// What the keys asked for begin with, within their bucket. It ends in `/`, so that `comp` does not find `comp2`.
    pub fn path(&self) -> String {
        match self {
            Self::All => String::new(),
            Self::Namespace(namespace) => format!("{namespace}/"),
            Self::Component { namespace, component } => format!("{namespace}/{component}/"),
            Self::Endpoint(EndpointId { namespace, component, name }) => format!("{namespace}/{component}/{name}/"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_with_and_without_its_bucket() {
        let key = Key { endpoint: EndpointId::new("n-s", "comp", "ep"), id: InstanceId(u64::MAX) };
        assert_eq!(key.full(), "v1/instances/n-s/comp/ep/ffffffffffffffff");
        assert_eq!(Key::parse(&key.full()), Ok(key.clone()));
        assert_eq!(Key::parse(&key.relative()), Ok(key));
    }

    #[test]
    fn keys_with_missing_empty_or_surplus_parts_are_refused() {
        for text in ["", "a/b/c", "a/b/c/1/x", "a//c/1", "a/b/c/g", "a/b/c/", "a/b/c/10000000000000000"] {
            assert_eq!(Key::parse(text), Err(Malformed), "{text}");
        }
    }

    #[test]
    fn a_query_finds_whole_names_only_by_key_and_by_endpoint_alike() {
        let here = EndpointId::new("n", "c", "e");
        let queries = [
            Query::All,
            Query::Namespace("n".into()),
            Query::Component { namespace: "n".into(), component: "c".into() },
            Query::Endpoint(here.clone()),
        ];
        let others = [("n", "c", "e2"), ("n", "c2", "e"), ("n2", "c", "e")].map(|(n, c, e)| EndpointId::new(n, c, e));
        for (found, query) in queries.iter().enumerate() {
            assert!(query.matches(&here), "{query:?}");
            for endpoint in &others {
                let key = Key { endpoint: endpoint.clone(), id: InstanceId(1) }.relative();
                assert_eq!(query.matches(endpoint), key.starts_with(&query.path()), "{query:?} {endpoint}");
            }
            assert_eq!(others.iter().filter(|endpoint| query.matches(endpoint)).count(), 3 - found);
        }
    }
}
