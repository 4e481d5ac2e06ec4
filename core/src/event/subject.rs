//! Under which name events travel: their scope and topic as one text.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use crate::discovery::error::Error;
use crate::discovery::escape;
use crate::discovery::event::{EventKey, PublisherId, Scope, segment};
use crate::id::EndpointId;

/// A scope and a topic, and the subject of both: `namespace.N.component.C.endpoint.E.TOPIC`, as deep as the scope. Whatever is
/// not a letter, digit, `_` or `-` of ASCII is escaped as `%XX`, so that `.`, `*` and `>` mean nothing in it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Subject {
    scope: Scope,
    topic: String,
    text: String,
    /// Bytes of `text` before the dot of the topic.
    prefix: usize,
}

impl Subject {
    /// The subject of a topic.
    ///
    /// # Errors
    /// [`Error::Name`] and [`Error::Topic`] for what discovery would refuse.
    pub fn new(scope: Scope, topic: impl Into<String>) -> Result<Self, Error> {
        let EventKey { scope, topic, .. } = {
            let key = EventKey { scope, topic: topic.into(), publisher: PublisherId(0) };
            key.check()?;
            key
        };
        Ok(Self::of(scope, topic))
    }

    /// Reads a subject; `None` for what is none of an event.
    pub fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split('.').collect();
        let name = |part: &str| escape::decode(part).filter(|name| !name.is_empty());
        let (scope, topic) = match parts.as_slice() {
            ["namespace", namespace, topic] => (Scope::Namespace(name(namespace)?), topic),
            ["namespace", namespace, "component", component, topic] => {
                (Scope::Component { namespace: name(namespace)?, component: name(component)? }, topic)
            }
            ["namespace", namespace, "component", component, "endpoint", endpoint, topic] => {
                (Scope::Endpoint(EndpointId::new(&name(namespace)?, &name(component)?, &name(endpoint)?)), topic)
            }
            _ => return None,
        };
        Some(Self::of(scope, name(topic)?))
    }

    fn of(scope: Scope, topic: String) -> Self {
        // Names are escaped in a path, so each slash is one between names.
        let mut text = scope.path().replace('/', ".");
        let prefix = text.len();
        text.push('.');
        text.push_str(&segment(&topic));
        Self { scope, topic, text, prefix }
    }

    /// What the events are about.
    pub const fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Which events, as the topic is called.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What stands before the topic, without the dot: the `subject_prefix` of a channel's record.
    pub fn prefix(&self) -> String {
        self.text.get(..self.prefix).unwrap_or_default().to_string()
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::captured;
    use crate::discovery::channel::{EventChannel, EventTransport};
    use crate::discovery::event::scopes;
    use crate::discovery::kind::{Kind, parse_full};

    #[test]
    fn subjects_of_every_depth_read_back() {
        let expected =
            ["namespace.n.t%2Eu", "namespace.n.component.c.t%2Eu", "namespace.n.component.c.endpoint.e.t%2Eu"];
        for (scope, expected) in scopes().into_iter().zip(expected) {
            let subject = Subject::new(scope, "t.u").unwrap();
            assert_eq!(subject.as_str(), expected);
            assert_eq!(subject.prefix() + ".t%2Eu", expected);
            assert_eq!(Subject::parse(expected), Some(subject));
        }
    }

    #[test]
    fn a_wildcard_is_a_name_like_any_other_and_what_is_no_subject_is_none() {
        let subject = Subject::new(Scope::Namespace("n".to_string()), "*.>").unwrap();
        assert_eq!((subject.as_str(), subject.topic()), ("namespace.n.%2A%2E%3E", "*.>"));
        assert!(matches!(Subject::new(Scope::Namespace("n".to_string()), ""), Err(Error::Topic)));
        assert!(matches!(Subject::new(Scope::Namespace(String::new()), "t"), Err(Error::Name(_))));
        for text in
            ["", "namespace.n", "namespace..t", "namespace.n.component.c", "name.n.t", "namespace.n.%zz", "_INBOX.x"]
        {
            assert_eq!(Subject::parse(text), None, "{text}");
        }
    }

    #[test]
    fn dynamos_records_name_the_prefix_that_its_subjects_have() {
        let mut seen = 0;
        for (key, value) in captured::events() {
            let Some(key) = parse_full::<EventChannel>(&key) else { continue };
            let channel = <EventChannel as Kind>::read(&key, value.as_bytes()).unwrap();
            if let EventTransport::Nats { subject_prefix } = channel.transport {
                assert_eq!(Subject::new(channel.scope, channel.topic).unwrap().prefix(), subject_prefix);
                seen += 1;
            }
        }
        assert_eq!(seen, 4);
    }
}
