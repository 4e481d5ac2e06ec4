//! Typed failures: the classes and types of an error, shared by both dialects.

use crate::wire::failure_key::Key;

/// What kind of thing went wrong, as Dynamo 1.6.1 names it (request plane specification, section 9). The discriminant is
/// the class's byte in a mux frame.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
#[repr(u8)]
pub enum Class {
    /// The request itself is wrong; trying elsewhere does not help.
    InvalidRequest = 1,
    /// The caller is not known.
    Unauthenticated = 2,
    /// The caller is known and not allowed.
    PermissionDenied = 3,
    /// What the request names does not exist.
    NotFound = 4,
    /// The request contradicts the present state.
    Conflict = 5,
    /// The request is larger than the worker takes.
    PayloadTooLarge = 6,
    /// The payload's codec is not understood.
    UnsupportedMedia = 7,
    /// The caller asks too often.
    RateLimited = 8,
    /// The worker has no room; another may.
    CapacityExhausted = 9,
    /// The call was cancelled.
    Cancelled = 10,
    /// The worker cannot be reached, or left.
    Unavailable = 11,
    /// Time ran out.
    DeadlineExceeded = 12,
    /// A peer broke the protocol.
    BackendProtocol = 13,
    /// The operation is not implemented.
    NotImplemented = 14,
    /// Anything else.
    Internal = 15,
}

impl Class {
    /// Every class once.
    pub const ALL: [Self; 15] = [
        Self::InvalidRequest,
        Self::Unauthenticated,
        Self::PermissionDenied,
        Self::NotFound,
        Self::Conflict,
        Self::PayloadTooLarge,
        Self::UnsupportedMedia,
        Self::RateLimited,
        Self::CapacityExhausted,
        Self::Cancelled,
        Self::Unavailable,
        Self::DeadlineExceeded,
        Self::BackendProtocol,
        Self::NotImplemented,
        Self::Internal,
    ];

    /// The name on the wire and in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InvalidRequest => "InvalidRequest",
            Self::Unauthenticated => "Unauthenticated",
            Self::PermissionDenied => "PermissionDenied",
            Self::NotFound => "NotFound",
            Self::Conflict => "Conflict",
            Self::PayloadTooLarge => "PayloadTooLarge",
            Self::UnsupportedMedia => "UnsupportedMedia",
            Self::RateLimited => "RateLimited",
            Self::CapacityExhausted => "CapacityExhausted",
            Self::Cancelled => "Cancelled",
            Self::Unavailable => "Unavailable",
            Self::DeadlineExceeded => "DeadlineExceeded",
            Self::BackendProtocol => "BackendProtocol",
            Self::NotImplemented => "NotImplemented",
            Self::Internal => "Internal",
        }
    }

    /// The class with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }

    /// The class with this mux byte.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|class| *class as u8 == byte)
    }
}

/// What an engine or its backend reported, in the older naming that still travels beside [`Class`].
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Backend {
    /// Anything else.
    Unknown,
    /// The request is wrong.
    InvalidArgument,
    /// The backend cannot be reached.
    CannotConnect,
    /// The backend left.
    Disconnected,
    /// Connecting to the backend took too long.
    ConnectionTimeout,
    /// The backend took too long to answer.
    ResponseTimeout,
    /// The call was cancelled.
    Cancelled,
    /// The engine is going away.
    EngineShutdown,
    /// The engine's stream ended early.
    StreamIncomplete,
}

impl Backend {
    /// Every sub-type once.
    pub const ALL: [Self; 9] = [
        Self::Unknown,
        Self::InvalidArgument,
        Self::CannotConnect,
        Self::Disconnected,
        Self::ConnectionTimeout,
        Self::ResponseTimeout,
        Self::Cancelled,
        Self::EngineShutdown,
        Self::StreamIncomplete,
    ];

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "Unknown",
            Self::InvalidArgument => "InvalidArgument",
            Self::CannotConnect => "CannotConnect",
            Self::Disconnected => "Disconnected",
            Self::ConnectionTimeout => "ConnectionTimeout",
            Self::ResponseTimeout => "ResponseTimeout",
            Self::Cancelled => "Cancelled",
            Self::EngineShutdown => "EngineShutdown",
            Self::StreamIncomplete => "StreamIncomplete",
        }
    }

    /// The sub-type with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|sub| sub.name() == name)
    }

    const fn key(self) -> Key {
        match self {
            Self::Unknown => Key::BackendUnknown,
            Self::InvalidArgument => Key::BackendInvalidArgument,
            Self::CannotConnect => Key::BackendCannotConnect,
            Self::Disconnected => Key::BackendDisconnected,
            Self::ConnectionTimeout => Key::BackendConnectionTimeout,
            Self::ResponseTimeout => Key::BackendResponseTimeout,
            Self::Cancelled => Key::BackendCancelled,
            Self::EngineShutdown => Key::EngineShutdown,
            Self::StreamIncomplete => Key::StreamIncomplete,
        }
    }
}

/// What kind of failure it is, finer than its [`Class`]: a class itself, or one of the older names.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Type {
    /// The class says it all.
    Class(Class),
    /// The request is wrong.
    InvalidArgument,
    /// The instance cannot be reached.
    CannotConnect,
    /// The instance left.
    Disconnected,
    /// Connecting took too long.
    ConnectionTimeout,
    /// The answer took too long.
    ResponseTimeout,
    /// The pool has no room.
    ResourceExhausted,
    /// The chosen worker has no room.
    WorkerOverloaded,
    /// The chosen worker does not serve the endpoint, or not any more.
    WorkerUnavailable,
    /// Reported by an engine or its backend.
    Backend(Backend),
    /// Not classified.
    Unknown,
}

impl Type {
    const LEGACY: [Self; 9] = [
        Self::InvalidArgument,
        Self::CannotConnect,
        Self::Disconnected,
        Self::ConnectionTimeout,
        Self::ResponseTimeout,
        Self::ResourceExhausted,
        Self::WorkerOverloaded,
        Self::WorkerUnavailable,
        Self::Unknown,
    ];

    /// The name; of a [`Type::Backend`] that of its sub-type.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Class(class) => class.name(),
            Self::InvalidArgument => "InvalidArgument",
            Self::CannotConnect => "CannotConnect",
            Self::Disconnected => "Disconnected",
            Self::ConnectionTimeout => "ConnectionTimeout",
            Self::ResponseTimeout => "ResponseTimeout",
            Self::ResourceExhausted => "ResourceExhausted",
            Self::WorkerOverloaded => "WorkerOverloaded",
            Self::WorkerUnavailable => "WorkerUnavailable",
            Self::Backend(sub) => sub.name(),
            Self::Unknown => "Unknown",
        }
    }

    /// The type with this name, which is never a [`Type::Backend`].
    pub fn from_name(name: &str) -> Option<Self> {
        Class::from_name(name).map(Self::Class).or_else(|| Self::LEGACY.into_iter().find(|kind| kind.name() == name))
    }

    /// The class it belongs to.
    pub const fn class(self) -> Class {
        match self {
            Self::Class(class) => class,
            _ => self.default_key().class(),
        }
    }

    /// The catalogue key a failure of this type has if nothing more precise is known.
    pub const fn default_key(self) -> Key {
        match self {
            Self::Class(class) => match class {
                Class::InvalidRequest => Key::InvalidRequest,
                Class::Unauthenticated => Key::Unauthenticated,
                Class::PermissionDenied => Key::PermissionDenied,
                Class::NotFound => Key::NotFound,
                Class::Conflict => Key::Conflict,
                Class::PayloadTooLarge => Key::PayloadTooLarge,
                Class::UnsupportedMedia => Key::UnsupportedMedia,
                Class::RateLimited => Key::RateLimited,
                Class::CapacityExhausted => Key::CapacityExhausted,
                Class::Cancelled => Key::Cancelled,
                Class::Unavailable => Key::BackendUnavailable,
                Class::DeadlineExceeded => Key::DeadlineExceeded,
                Class::BackendProtocol => Key::BackendProtocol,
                Class::NotImplemented => Key::NotImplemented,
                Class::Internal => Key::Internal,
            },
            Self::InvalidArgument => Key::InvalidArgument,
            Self::CannotConnect => Key::CannotConnect,
            Self::Disconnected => Key::Disconnected,
            Self::ConnectionTimeout => Key::ConnectionTimeout,
            Self::ResponseTimeout => Key::BackendResponseTimeout,
            Self::ResourceExhausted => Key::PoolExhausted,
            Self::WorkerOverloaded => Key::WorkerOverloaded,
            Self::WorkerUnavailable => Key::WorkerUnavailable,
            Self::Backend(sub) => sub.key(),
            Self::Unknown => Key::Unclassified,
        }
    }

    /// What a Dynamo peer writes for it in `error_type`, a field from before there were classes.
    pub const fn written(self) -> Self {
        match self {
            Self::WorkerOverloaded => Self::ResourceExhausted,
            Self::Class(class) => match class {
                Class::InvalidRequest | Class::PayloadTooLarge | Class::UnsupportedMedia => Self::InvalidArgument,
                Class::CapacityExhausted | Class::RateLimited => Self::ResourceExhausted,
                Class::DeadlineExceeded => Self::ResponseTimeout,
                Class::Cancelled | Class::Unavailable => self,
                _ => Self::Unknown,
            },
            _ => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_bytes_lead_back_to_their_class() {
        for class in Class::ALL {
            assert_eq!(Class::from_name(class.name()), Some(class));
            assert_eq!(Class::from_byte(class as u8), Some(class));
        }
        assert_eq!(Class::from_name("Unknown"), None);
        assert_eq!(Class::from_byte(0), None);
    }

    #[test]
    fn every_type_has_a_default_key_of_its_own_class() {
        let classes = Class::ALL.map(Type::Class);
        let subs = Backend::ALL.map(Type::Backend);
        for kind in classes.iter().chain(&subs).chain(&Type::LEGACY) {
            assert_eq!(kind.default_key().class(), kind.class(), "{kind:?}");
            if let Type::Backend(sub) = kind {
                assert_eq!(Backend::from_name(sub.name()), Some(*sub));
            } else {
                assert_eq!(Type::from_name(kind.name()), Some(*kind));
            }
        }
    }

    #[test]
    fn older_names_are_written_where_a_class_is_newer_than_the_field() {
        assert_eq!(Type::WorkerOverloaded.written().name(), "ResourceExhausted");
        assert_eq!(Type::Class(Class::RateLimited).written().name(), "ResourceExhausted");
        assert_eq!(Type::Class(Class::DeadlineExceeded).written().name(), "ResponseTimeout");
        assert_eq!(Type::Class(Class::UnsupportedMedia).written().name(), "InvalidArgument");
        assert_eq!(Type::Class(Class::Internal).written().name(), "Unknown");
        assert_eq!(Type::Class(Class::Unavailable).written().name(), "Unavailable");
        assert_eq!(Type::Backend(Backend::EngineShutdown).written(), Type::Backend(Backend::EngineShutdown));
    }
}
