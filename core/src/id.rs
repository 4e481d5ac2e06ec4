//! Identities: connections, streams, calls, instances, endpoints.

use core::fmt;

/// One connection of one driver. The driver numbers what it accepted, the machine numbers what it dials; the top two bits
/// say which machine it belongs to and who dialed, so that nobody has to ask.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(u64);

/// What a connection is for.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ConnRole {
    /// Accepted on the worker's listener: requests, in whatever dialect the first bytes say.
    Accepted,
    /// Dialed by the caller, to send requests.
    Dialed,
    /// Dialed by the worker, to bring a response home or to fetch a request's items.
    DialedHome,
    /// Accepted on the caller's listener: a worker that brings a response home.
    AcceptedHome,
}

const DIALED: u64 = 1 << 63;
const HOME: u64 = 1 << 62;
const ROLE: u64 = DIALED | HOME;

impl ConnId {
    /// The `n`-th connection the driver accepted for the worker.
    pub const fn accepted(n: u64) -> Self {
        Self(n & !ROLE)
    }

    /// The `n`-th connection the caller asked for.
    pub const fn dialed(n: u64) -> Self {
        Self(n & !ROLE | DIALED)
    }

    /// The `n`-th connection the worker asked for.
    pub const fn dialed_home(n: u64) -> Self {
        Self(n & !ROLE | DIALED | HOME)
    }

    /// The `n`-th connection the driver accepted for the caller.
    pub const fn accepted_home(n: u64) -> Self {
        Self(n & !ROLE | HOME)
    }

    /// What it is for.
    pub const fn role(self) -> ConnRole {
        match (self.is_dialed(), self.0 & HOME != 0) {
            (false, false) => ConnRole::Accepted,
            (true, false) => ConnRole::Dialed,
            (true, true) => ConnRole::DialedHome,
            (false, true) => ConnRole::AcceptedHome,
        }
    }

    /// Whether a machine of this side asked for this connection.
    pub const fn is_dialed(self) -> bool {
        self.0 & DIALED != 0
    }

    /// Whether it belongs to the caller; else to the worker.
    pub const fn is_callers(self) -> bool {
        matches!(self.role(), ConnRole::Dialed | ConnRole::AcceptedHome)
    }

    /// The number without its role.
    pub const fn number(self) -> u64 {
        self.0 & !ROLE
    }
}

impl fmt::Debug for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = match self.role() {
            ConnRole::Accepted => "conn",
            ConnRole::Dialed => "dial",
            ConnRole::DialedHome => "homedial",
            ConnRole::AcceptedHome => "homeconn",
        };
        write!(f, "{role}{}", self.number())
    }
}

/// A stream of one mux connection: odd ids are opened by the side that dialed, even ones by the side that accepted.
/// Id 0 is the connection itself.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u32);

impl StreamId {
    /// The connection itself.
    pub const CONNECTION: Self = Self(0);

    /// Whether the dialing side opened this stream.
    pub const fn is_dialers(self) -> bool {
        self.0 % 2 == 1
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}", self.0)
    }
}

/// One instance of an endpoint. On the wire and in records: lower-case hexadecimal without prefix or leading zeros.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(pub u64);

impl InstanceId {
    /// Reads the hexadecimal form; upper case and leading zeros are accepted, as Dynamo does.
    pub fn from_hex(text: &str) -> Option<Self> {
        u64::from_str_radix(text, 16).ok().map(Self)
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "i{:x}", self.0)
    }
}

#[cfg(feature = "alloc")]
pub use self::endpoint::{EndpointId, NameError};

#[cfg(feature = "alloc")]
mod endpoint {
    use alloc::string::{String, ToString};
    use core::fmt;

    /// `namespace.component.endpoint`: what a caller calls and a worker serves.
    #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
    pub struct EndpointId {
        /// First part.
        pub namespace: String,
        /// Second part.
        pub component: String,
        /// Third part.
        pub name: String,
    }

    /// A text that names no endpoint.
    #[derive(Clone, PartialEq, Eq, Debug)]
    #[non_exhaustive]
    pub enum NameError {
        /// Not three parts.
        Parts {
            /// How many there were.
            found: usize,
        },
        /// One of three parts is empty.
        Empty {
            /// Which one, from 0.
            part: usize,
        },
        /// A part holds something outside `A-Z a-z 0-9 _ -`.
        Character {
            /// The offending part.
            part: String,
        },
    }

    impl fmt::Display for NameError {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self {
                Self::Parts { found } => {
                    write!(f, "an endpoint has three parts, namespace.component.endpoint; found {found}")
                }
                Self::Empty { part } => {
                    let which = ["first", "second", "third"].get(*part).unwrap_or(&"last");
                    write!(f, "an endpoint has three parts, namespace.component.endpoint; the {which} is empty")
                }
                Self::Character { part } => {
                    write!(f, "`{part}` may only hold letters, digits, `_` and `-`")
                }
            }
        }
    }

    impl core::error::Error for NameError {}

    impl EndpointId {
        /// An endpoint from its three names, unchecked: what a foreign record says is taken as it is.
        pub fn new(namespace: &str, component: &str, name: &str) -> Self {
            Self { namespace: namespace.to_string(), component: component.to_string(), name: name.to_string() }
        }

        /// Reads `ns.component.endpoint`, `ns/component/endpoint` or either with `dyn://` in front.
        ///
        /// # Errors
        /// [`NameError`] unless there are exactly three parts of `A-Z a-z 0-9 _ -`.
        pub fn parse(text: &str) -> Result<Self, NameError> {
            let text = text.strip_prefix("dyn://").unwrap_or(text);
            let trimmed = text.trim_matches([' ', '/', '.']);
            let mut parts = trimmed.split(['.', '/']).filter(|part| !part.is_empty());
            let found = parts.clone().count();
            let (Some(namespace), Some(component), Some(name), None) =
                (parts.next(), parts.next(), parts.next(), parts.next())
            else {
                let all = trimmed.split(['.', '/']);
                let empty = all.clone().position(str::is_empty).filter(|_| all.count() == 3);
                return Err(empty.map_or(NameError::Parts { found }, |part| NameError::Empty { part }));
            };
            for part in [namespace, component, name] {
                if !part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-') {
                    return Err(NameError::Character { part: part.to_string() });
                }
            }
            Ok(Self::new(namespace, component, name))
        }
    }

    impl fmt::Display for EndpointId {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{}.{}.{}", self.namespace, self.component, self.name)
        }
    }
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_reads_dots_slashes_and_the_dyn_scheme() {
        let expected = EndpointId::new("demo", "backend", "echo");
        for text in ["demo.backend.echo", "demo/backend/echo", "dyn://demo.backend.echo", "/demo/backend.echo/"] {
            assert_eq!(EndpointId::parse(text).as_ref(), Ok(&expected), "{text}");
        }
    }

    #[test]
    fn an_endpoint_with_missing_parts_or_odd_characters_is_refused() {
        assert_eq!(EndpointId::parse("demo.backend"), Err(NameError::Parts { found: 2 }));
        assert_eq!(EndpointId::parse("demo..x"), Err(NameError::Empty { part: 1 }));
        assert_eq!(EndpointId::parse("a.b..d"), EndpointId::parse("a.b.d"), "as Dynamo reads it");
        assert_eq!(EndpointId::parse("a.b.c.d"), Err(NameError::Parts { found: 4 }));
        assert!(matches!(EndpointId::parse("a.b.c%"), Err(NameError::Character { .. })));
    }

    #[test]
    fn connections_of_different_roles_never_collide_and_know_their_machine() {
        let all = [ConnId::accepted(3), ConnId::dialed(3), ConnId::dialed_home(3), ConnId::accepted_home(3)];
        for (at, conn) in all.iter().enumerate() {
            assert_eq!(conn.number(), 3);
            assert_eq!(all.iter().position(|other| other == conn), Some(at));
        }
        assert_eq!(all.map(ConnId::is_dialed), [false, true, true, false]);
        assert_eq!(all.map(ConnId::is_callers), [false, true, false, true]);
    }
}
