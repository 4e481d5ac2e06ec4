//! The classes of failures, shared by both dialects.

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
