//! The catalogue of reasons a failure may give, each with the one class it belongs to.

use crate::wire::class::Class;

macro_rules! catalogue {
    ($($variant:ident = $name:literal, $class:ident;)*) => {
        /// A reason of the catalogue, finer than a [`Class`] and fit for a metric label. A reason outside the catalogue
        /// makes the failure that carries it untrustworthy.
        #[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
        #[non_exhaustive]
        pub enum Key {
            $(#[doc = concat!("`", $name, "`.")] $variant,)*
        }

        impl Key {
            /// Every reason once.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name on the wire.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The class it belongs to.
            pub const fn class(self) -> Class {
                match self { $(Self::$variant => Class::$class,)* }
            }
        }
    };
}

catalogue! {
    InvalidRequest = "request.invalid", InvalidRequest;
    InvalidArgument = "request.invalid_argument", InvalidRequest;
    BackendInvalidArgument = "backend.invalid_argument", InvalidRequest;
    Unauthenticated = "request.unauthenticated", Unauthenticated;
    PermissionDenied = "request.permission_denied", PermissionDenied;
    NotFound = "request.not_found", NotFound;
    Conflict = "request.conflict", Conflict;
    PayloadTooLarge = "request.payload_too_large", PayloadTooLarge;
    UnsupportedMedia = "request.unsupported_media", UnsupportedMedia;
    RateLimited = "request.rate_limited", RateLimited;
    CapacityExhausted = "capacity.exhausted", CapacityExhausted;
    PoolExhausted = "capacity.pool_exhausted", CapacityExhausted;
    WorkerOverloaded = "capacity.worker_overloaded", CapacityExhausted;
    Cancelled = "request.cancelled", Cancelled;
    BackendCancelled = "backend.cancelled", Cancelled;
    CannotConnect = "transport.cannot_connect", Unavailable;
    Disconnected = "transport.disconnected", Unavailable;
    BackendUnavailable = "backend.unavailable", Unavailable;
    WorkerUnavailable = "backend.worker_unavailable", Unavailable;
    BackendCannotConnect = "backend.cannot_connect", Unavailable;
    BackendDisconnected = "backend.disconnected", Unavailable;
    EngineShutdown = "backend.engine_shutdown", Unavailable;
    StreamIncomplete = "backend.stream_incomplete", Unavailable;
    DeadlineExceeded = "request.deadline_exceeded", DeadlineExceeded;
    ConnectionTimeout = "transport.connection_timeout", DeadlineExceeded;
    BackendResponseTimeout = "backend.response_timeout", DeadlineExceeded;
    BackendConnectionTimeout = "backend.connection_timeout", DeadlineExceeded;
    QueueDeadlineExceeded = "router.queue_deadline_exceeded", DeadlineExceeded;
    BackendProtocol = "backend.protocol", BackendProtocol;
    NotImplemented = "runtime.not_implemented", NotImplemented;
    Internal = "runtime.internal", Internal;
    Unclassified = "runtime.unclassified", Internal;
    InvalidError = "runtime.invalid_error", Internal;
    BackendUnknown = "backend.unknown", Internal;
}

impl Key {
    /// The reason with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|key| key.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_key_and_every_class_has_one() {
        for key in Key::ALL {
            assert_eq!(Key::from_name(key.name()), Some(*key));
            let legal = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
            assert!(key.name().len() <= 128 && key.name().bytes().all(legal), "{key:?}");
        }
        for class in Class::ALL {
            assert!(Key::ALL.iter().any(|key| key.class() == class), "{class:?}");
        }
        assert_eq!(Key::from_name("backend.exploded"), None);
        assert_eq!(Key::ALL.len(), 34);
    }
}
