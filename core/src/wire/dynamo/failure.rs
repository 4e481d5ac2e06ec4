//! The types of a failure, in Dynamo's older naming too.

use crate::wire::class::Class;
use crate::wire::dynamo::failure_key::Key;

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
