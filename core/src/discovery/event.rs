//! Where events belong and who publishes them: scopes, keys of channels and sources, and the queries for both.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::discovery::error::Error;
use crate::discovery::escape;
use crate::discovery::record::check_names;
use crate::id::EndpointId;

/// What the events of a topic are about.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(from = "ScopeJson", into = "ScopeJson")]
pub enum Scope {
    /// A namespace.
    Namespace(String),
    /// A component.
    Component {
        /// Its namespace.
        namespace: String,
        /// Its own name.
        component: String,
    },
    /// An endpoint.
    Endpoint(EndpointId),
}

/// One publisher of one topic, among all there are. Its numbers have 53 bits, so that every reader of JSON gets them right.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublisherId(pub u64);

/// What names an event channel among all channels, and a source among all sources.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EventKey {
    /// What the events are about.
    pub scope: Scope,
    /// Which events.
    pub topic: String,
    /// Whose.
    pub publisher: PublisherId,
}

/// Which channels or sources somebody wants to hear of. What is `None` may be anything.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct EventQuery {
    /// Of this scope, and of none within it.
    pub scope: Option<Scope>,
    /// Of this topic.
    pub topic: Option<String>,
}

impl PublisherId {
    /// The highest that Dynamo gives: 53 bits.
    pub const MAX: Self = Self((1 << 53) - 1);
}

impl fmt::Display for PublisherId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl fmt::Debug for PublisherId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{:x}", self.0)
    }
}

impl Scope {
    /// Reads `N`, `N.C` or `N.C.E`: what [`fmt::Display`] writes.
    ///
    /// # Errors
    /// [`Error::Name`] for a name that no record could have, and for more names than three.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut names = text.splitn(3, '.').map(String::from);
        let scope = match (names.next(), names.next(), names.next()) {
            (Some(namespace), Some(component), Some(name)) => Self::Endpoint(EndpointId { namespace, component, name }),
            (Some(namespace), Some(component), None) => Self::Component { namespace, component },
            (namespace, ..) => Self::Namespace(namespace.unwrap_or_default()),
        };
        check_names(scope.names())?;
        Ok(scope)
    }

    /// `namespace/N`, followed by `/component/C`, followed by `/endpoint/E`: each name escaped.
    pub fn path(&self) -> String {
        match self {
            Self::Namespace(namespace) => format!("namespace/{}", segment(namespace)),
            Self::Component { namespace, component } => {
                format!("namespace/{}/component/{}", segment(namespace), segment(component))
            }
            Self::Endpoint(EndpointId { namespace, component, name }) => {
                format!("namespace/{}/component/{}/endpoint/{}", segment(namespace), segment(component), segment(name))
            }
        }
    }

    /// The namespace it is in.
    pub fn namespace(&self) -> &str {
        match self {
            Self::Namespace(namespace) | Self::Component { namespace, .. } => namespace,
            Self::Endpoint(endpoint) => &endpoint.namespace,
        }
    }

    /// `N`, `N.C` or `N.C.E`.
    fn names(&self) -> Vec<&String> {
        match self {
            Self::Namespace(namespace) => [namespace].into(),
            Self::Component { namespace, component } => [namespace, component].into(),
            Self::Endpoint(EndpointId { namespace, component, name }) => [namespace, component, name].into(),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, name) in self.names().into_iter().enumerate() {
            write!(f, "{}{name}", if at == 0 { "" } else { "." })?;
        }
        Ok(())
    }
}

impl EventKey {
    /// The key within its bucket: `SCOPE/topic/TOPIC/PUBLISHER`, names escaped, the publisher in hexadecimal.
    pub fn path(&self) -> String {
        format!("{}/topic/{}/{}", self.scope.path(), segment(&self.topic), self.publisher)
    }

    /// Reads a key within its bucket.
    pub fn parse(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.split('/').collect();
        let name = |part: &str| escape::decode(part).filter(|name| !name.is_empty());
        let (scope, topic, publisher) = match parts.as_slice() {
            ["namespace", namespace, "topic", topic, publisher] => {
                (Scope::Namespace(name(namespace)?), topic, publisher)
            }
            ["namespace", namespace, "component", component, "topic", topic, publisher] => {
                let scope = Scope::Component { namespace: name(namespace)?, component: name(component)? };
                (scope, topic, publisher)
            }
            ["namespace", namespace, "component", component, "endpoint", endpoint, "topic", topic, publisher] => {
                let endpoint = EndpointId::new(&name(namespace)?, &name(component)?, &name(endpoint)?);
                (Scope::Endpoint(endpoint), topic, publisher)
            }
            _ => return None,
        };
        let publisher = PublisherId(u64::from_str_radix(publisher, 16).ok()?);
        Some(Self { scope, topic: name(topic)?, publisher })
    }

    /// Whether Dynamo takes a record of this key.
    ///
    /// # Errors
    /// [`Error::Name`] and [`Error::Topic`].
    pub fn check(&self) -> Result<(), Error> {
        check_names(self.scope.names())?;
        if self.topic.is_empty() { Err(Error::Topic) } else { Ok(()) }
    }
}

impl EventQuery {
    /// Whether the channel or source of this key is asked for. A scope means itself and not what is within it.
    pub fn matches(&self, key: &EventKey) -> bool {
        self.scope.as_ref().is_none_or(|scope| *scope == key.scope)
            && self.topic.as_ref().is_none_or(|topic| *topic == key.topic)
    }

    /// What the keys asked for begin with, within their bucket.
    pub fn path(&self) -> String {
        match (&self.scope, &self.topic) {
            (None, _) => String::new(),
            (Some(scope), None) => format!("{}/topic/", scope.path()),
            (Some(scope), Some(topic)) => format!("{}/topic/{}/", scope.path(), segment(topic)),
        }
    }
}

/// A name as a part of a key or of a subject.
pub(crate) fn segment(name: &str) -> String {
    escape::encode(name, |byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum ScopeJson {
    Namespace { name: String },
    Component { namespace: String, component: String },
    Endpoint { endpoint: EndpointJson },
}

#[derive(Serialize, Deserialize)]
struct EndpointJson {
    namespace: String,
    component: String,
    name: String,
}

impl From<ScopeJson> for Scope {
    fn from(json: ScopeJson) -> Self {
        match json {
            ScopeJson::Namespace { name } => Self::Namespace(name),
            ScopeJson::Component { namespace, component } => Self::Component { namespace, component },
            ScopeJson::Endpoint { endpoint: EndpointJson { namespace, component, name } } => {
                Self::Endpoint(EndpointId { namespace, component, name })
            }
        }
    }
}

impl From<Scope> for ScopeJson {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::Namespace(name) => Self::Namespace { name },
            Scope::Component { namespace, component } => Self::Component { namespace, component },
            Scope::Endpoint(EndpointId { namespace, component, name }) => {
                Self::Endpoint { endpoint: EndpointJson { namespace, component, name } }
            }
        }
    }
}

/// A scope in three depths, for tests.
#[cfg(test)]
pub(crate) fn scopes() -> [Scope; 3] {
    let (namespace, component) = (String::from("n"), String::from("c"));
    [
        Scope::Namespace(namespace.clone()),
        Scope::Component { namespace, component },
        Scope::Endpoint(EndpointId::new("n", "c", "e")),
    ]
}

#[cfg(test)]
mod tests {
    use alloc::borrow::ToOwned;

    use super::*;

    fn key(scope: Scope, topic: &str) -> EventKey {
        EventKey { scope, topic: topic.to_owned(), publisher: PublisherId(0xAB) }
    }

    #[test]
    fn keys_of_every_depth_read_back_with_their_names_escaped() {
        let paths = ["namespace/n/topic/a%2Fb%2E/ab", "namespace/n/component/c/topic/a%2Fb%2E/ab"];
        for (scope, path) in scopes().into_iter().zip(paths) {
            assert_eq!(key(scope.clone(), "a/b.").path(), path);
        }
        for scope in scopes().into_iter().chain([Scope::Namespace("ä/%".to_owned())]) {
            let key = key(scope, "topic");
            assert_eq!(EventKey::parse(&key.path()), Some(key));
        }
    }

    #[test]
    fn keys_of_another_form_are_none() {
        for path in [
            "",
            "namespace/n/topic/t",
            "namespace/n/topic/t/x",
            "namespace//topic/t/1",
            "namespace/n/topic//1",
            "namespace/n/endpoint/e/topic/t/1",
            "namespace/n/component/c/endpoint/e/topic/t/1/2",
            "namespace/n%/topic/t/1",
            "n/c/t/1",
        ] {
            assert_eq!(EventKey::parse(path), None, "{path}");
        }
    }

    #[test]
    fn a_scope_asks_for_itself_only_by_key_and_by_prefix_alike() {
        let keys: Vec<EventKey> =
            scopes().into_iter().flat_map(|scope| [key(scope.clone(), "t"), key(scope, "t2")]).collect();
        for scope in scopes() {
            for (topic, expected) in [(None, 2), (Some("t".to_owned()), 1)] {
                let query = EventQuery { scope: Some(scope.clone()), topic };
                assert_eq!(keys.iter().filter(|key| query.matches(key)).count(), expected, "{query:?}");
                for key in &keys {
                    assert_eq!(query.matches(key), key.path().starts_with(&query.path()), "{query:?} {key:?}");
                }
            }
        }
        let topic = EventQuery { topic: Some("t".to_owned()), ..EventQuery::default() };
        assert_eq!(keys.iter().filter(|key| topic.matches(key)).count(), 3);
        assert_eq!(
            (topic.path().as_str(), keys.iter().filter(|key| EventQuery::default().matches(key)).count()),
            ("", 6)
        );
    }

    #[test]
    fn a_scope_is_read_as_it_is_written() {
        for scope in scopes() {
            assert_eq!(Scope::parse(&alloc::format!("{scope}")), Ok(scope));
        }
        for text in ["", ".", "a.", "a..b", "a.b.c.d", "a b"] {
            assert!(matches!(Scope::parse(text), Err(Error::Name(_))), "{text}");
        }
    }

    #[test]
    fn a_scope_says_what_it_is_in_json_and_names_are_checked_before_they_are_written() {
        let json: Vec<String> = scopes().iter().map(|scope| serde_json::to_string(scope).unwrap()).collect();
        assert_eq!(json.first().unwrap(), r#"{"kind":"namespace","name":"n"}"#);
        assert_eq!(json.get(1).unwrap(), r#"{"kind":"component","namespace":"n","component":"c"}"#);
        for (scope, json) in scopes().iter().zip(&json) {
            assert_eq!(&serde_json::from_str::<Scope>(json).unwrap(), scope);
        }
        assert!(matches!(key(Scope::Namespace("a.b".to_owned()), "t").check(), Err(Error::Name(_))));
        assert_eq!(key(Scope::Namespace("n".to_owned()), "").check(), Err(Error::Topic));
        assert_eq!(key(Scope::Namespace("n".to_owned()), "any/thing %").check(), Ok(()));
    }
}
