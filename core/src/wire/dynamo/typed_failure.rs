//! A failure with everything Dynamo says about it: type, class, reason, texts, causes.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny};
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::wire::class::Class;
use crate::wire::dynamo::failure::{Backend, Type};
use crate::wire::dynamo::failure_key::Key;
use crate::wire::json;
use crate::wire::msgpack::{self, Sink, Token};
use crate::wire::parse::{Error, ErrorKind};

/// Bytes a text of a failure may have; longer ones are cut at a character and end in [`CUT`].
pub const MAX_TEXT: usize = 4096;
/// How a text that was cut ends.
pub const CUT: &str = "...[truncated]";
/// Causes kept below a failure; deeper ones are dropped.
pub const MAX_CAUSES: usize = 16;

/// A typed failure (Dynamo's `DynamoError`). Its type, class and reason always agree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    kind: Type,
    key: Key,
    diagnostic: Option<String>,
    public: Option<Public>,
    caused_by: Option<Box<Self>>,
    dp_rank: Option<u32>,
}

/// What the caller's own client may be told.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Public {
    /// A text.
    Message {
        /// The text, at most [`MAX_TEXT`] bytes.
        message: String,
    },
    /// Something is larger than allowed, in bytes.
    SizeLimit {
        /// What is allowed.
        limit: u64,
        /// What it is, if known.
        actual: Option<u64>,
    },
    /// The context is longer than allowed, in tokens.
    ContextLength {
        /// What is allowed.
        limit: u64,
        /// What it is, if known.
        actual: Option<u64>,
    },
    /// The caller asks too often.
    RateLimit {
        /// What is allowed, if known.
        limit: Option<u64>,
        /// What is left, if known.
        remaining: Option<u64>,
    },
}

impl Failure {
    /// A failure for the reason `key`, of its class.
    pub fn new(key: Key, diagnostic: &str) -> Self {
        Self {
            kind: Type::Class(key.class()),
            key,
            diagnostic: text(diagnostic),
            public: None,
            caused_by: None,
            dp_rank: None,
        }
    }

    /// A failure of this type, for its default reason.
    pub fn of(kind: Type, diagnostic: &str) -> Self {
        let stored = if kind == Type::Unknown { Type::Class(Class::Internal) } else { kind };
        Self { kind: stored, ..Self::new(kind.default_key(), diagnostic) }
    }

    /// The same failure with something the caller's client may be told.
    #[must_use]
    pub fn with_public(self, public: Public) -> Self {
        Self { public: Some(public.bounded()), ..self }
    }

    /// The same failure with its cause; causes more than [`MAX_CAUSES`] deep are dropped.
    #[must_use]
    pub fn with_cause(self, cause: Self) -> Self {
        Self { caused_by: cause.cut(MAX_CAUSES), ..self }
    }

    /// The same failure of one data-parallel rank of the worker; the other ranks are not meant.
    #[must_use]
    pub fn with_dp_rank(self, rank: u32) -> Self {
        Self { dp_rank: Some(rank), ..self }
    }

    /// Reads the JSON form. Every key may be missing; what contradicts itself becomes
    /// [`Key::InvalidError`] without public part.
    ///
    /// # Errors
    /// [`ErrorKind::BadJson`] if it is not a JSON object of the right shape.
    pub fn from_json(bytes: &[u8]) -> Result<Self, Error> {
        json::read(bytes)
    }

    /// The JSON form, keys in the order Dynamo writes them.
    ///
    /// # Errors
    /// None in practice; the type is that of every JSON writer here.
    pub fn to_json(&self) -> Result<Vec<u8>, Error> {
        json::write(self, usize::MAX)
    }

    /// Reads the MessagePack form, by the same rules as [`Failure::from_json`].
    ///
    /// # Errors
    /// As [`msgpack::value`]; [`ErrorKind::BadMsgpack`] if it is not a map of the right shape.
    pub fn from_msgpack(bytes: &[u8]) -> Result<Self, Error> {
        let mut text = String::new();
        let not_failure = Error::new(ErrorKind::BadMsgpack, 0);
        msgpack::write_json(bytes, &mut text).map_err(|_| not_failure)??;
        Self::from_json(text.as_bytes()).map_err(|_| not_failure)
    }

    /// Emits the MessagePack form, keys in the order Dynamo writes them.
    ///
    /// # Errors
    /// As [`Sink::put`].
    pub fn put_msgpack(&self, out: &mut impl Sink) -> Result<(), Error> {
        let optional =
            [self.diagnostic.is_some(), self.public.is_some(), self.caused_by.is_some(), self.dp_rank.is_some()];
        out.token(Token::Map(4 + optional.iter().map(|present| u32::from(*present)).sum::<u32>()))?;
        put_text(out, "error_type")?;
        let kind = self.kind.written();
        if let Type::Backend(_) = kind {
            out.token(Token::Map(1))?;
            put_text(out, "Backend")?;
        }
        put_text(out, kind.name())?;
        let message = self.diagnostic().unwrap_or_default();
        for (name, value) in [("class", self.class().name()), ("reason", self.key.name()), ("message", message)] {
            put_text(out, name)?;
            put_text(out, value)?;
        }
        if let Some(diagnostic) = &self.diagnostic {
            put_text(out, "diagnostic")?;
            put_text(out, diagnostic)?;
        }
        if let Some(public) = &self.public {
            put_text(out, "public")?;
            public.put_msgpack(out)?;
        }
        if let Some(cause) = &self.caused_by {
            put_text(out, "caused_by")?;
            cause.put_msgpack(out)?;
        }
        if let Some(rank) = self.dp_rank {
            put_text(out, "dp_rank")?;
            out.token(Token::Uint(rank.into()))?;
        }
        Ok(())
    }

    /// The type.
    pub const fn kind(&self) -> Type {
        self.kind
    }

    /// The class.
    pub const fn class(&self) -> Class {
        self.kind.class()
    }

    /// The reason.
    pub const fn key(&self) -> Key {
        self.key
    }

    /// The text for operators, if there is one.
    pub fn diagnostic(&self) -> Option<&str> {
        self.diagnostic.as_deref()
    }

    /// What the caller's client may be told.
    pub const fn public(&self) -> Option<&Public> {
        self.public.as_ref()
    }

    /// What caused it.
    pub fn caused_by(&self) -> Option<&Self> {
        self.caused_by.as_deref()
    }

    /// The data-parallel rank it is about, if it is about one only. Dynamo 1.7 names the rank that is full.
    pub const fn dp_rank(&self) -> Option<u32> {
        self.dp_rank
    }

    /// The failure and its causes, outermost first; at most 1 + [`MAX_CAUSES`].
    pub fn chain(&self) -> impl Iterator<Item = &Self> {
        core::iter::successors(Some(self), |failure| failure.caused_by())
    }

    fn cut(mut self, depth: usize) -> Option<Box<Self>> {
        let below = depth.checked_sub(1)?;
        self.caused_by = self.caused_by.and_then(|cause| cause.cut(below));
        Some(Box::new(self))
    }

    fn from_raw(raw: Raw, depth: usize) -> Self {
        // A name nobody knows says nothing; class and reason decide, and each stands in for the other.
        let legacy = raw.error_type.as_ref().and_then(RawType::known);
        let reason = raw.reason.as_deref().map(Key::from_name);
        let class = match (&raw.class, legacy, reason) {
            (Some(name), ..) => Class::from_name(name),
            (None, Some(kind), _) => Some(kind.class()),
            (None, None, Some(Some(key))) => Some(key.class()),
            (None, None, _) => Some(Class::Internal),
        };
        let key = match (reason, legacy, class) {
            (Some(key), ..) => key,
            (None, Some(kind), _) => Some(kind.default_key()),
            (None, None, Some(class)) if raw.class.is_some() => Some(Type::Class(class).default_key()),
            (None, None, _) => Some(Key::Unclassified),
        };
        let caused_by = depth.checked_sub(1).and_then(|below| Some(Box::new(Self::from_raw(*raw.caused_by?, below))));
        let diagnostic = raw.diagnostic.or(raw.message).and_then(|given| text(&given));
        let dp_rank = raw.dp_rank.and_then(RawRank::known);
        match (class, key) {
            (Some(class), Some(key)) if key.class() == class => {
                let kept = legacy.filter(|kind| *kind != Type::Unknown && kind.class() == class);
                let public = raw.public.and_then(RawPublic::known).map(Public::bounded);
                Self { kind: kept.unwrap_or(Type::Class(class)), key, diagnostic, public, caused_by, dp_rank }
            }
            _ => {
                let kind = Type::Class(Class::Internal);
                Self { kind, key: Key::InvalidError, diagnostic, public: None, caused_by, dp_rank }
            }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class().name(), self.diagnostic().unwrap_or(self.key.name()))
    }
}

impl core::error::Error for Failure {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        self.caused_by.as_deref().map(|cause| cause as _)
    }
}

impl Serialize for Failure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self.kind.written() {
            Type::Backend(sub) => map.serialize_entry("error_type", &Sub { backend: sub.name() })?,
            kind => map.serialize_entry("error_type", kind.name())?,
        }
        map.serialize_entry("class", self.class().name())?;
        map.serialize_entry("reason", self.key.name())?;
        map.serialize_entry("message", self.diagnostic().unwrap_or_default())?;
        if let Some(diagnostic) = &self.diagnostic {
            map.serialize_entry("diagnostic", diagnostic)?;
        }
        if let Some(public) = &self.public {
            map.serialize_entry("public", public)?;
        }
        if let Some(cause) = &self.caused_by {
            map.serialize_entry("caused_by", cause)?;
        }
        if let Some(rank) = self.dp_rank {
            map.serialize_entry("dp_rank", &rank)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Failure {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from_raw(Raw::deserialize(deserializer)?, MAX_CAUSES))
    }
}

/// Reads the typed error of a prologue, where one without a class and without a known type counts as absent.
pub(crate) fn in_prologue<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Failure>, D::Error> {
    let raw = Option::<Raw>::deserialize(deserializer)?;
    let known = |raw: &Raw| raw.class.is_some() || raw.error_type.as_ref().is_some_and(|kind| kind.known().is_some());
    Ok(raw.filter(known).map(|raw| Failure::from_raw(raw, MAX_CAUSES)))
}

impl Public {
    fn bounded(self) -> Self {
        match self {
            Self::Message { message } => Self::Message { message: cut(&message) },
            other => other,
        }
    }

    fn put_msgpack(&self, out: &mut impl Sink) -> Result<(), Error> {
        let (kind, numbers) = match self {
            Self::Message { message } => {
                out.token(Token::Map(2))?;
                for text in ["type", "message", "message", message] {
                    put_text(out, text)?;
                }
                return Ok(());
            }
            Self::SizeLimit { limit, actual } => ("size_limit", [("limit", Some(*limit)), ("actual", *actual)]),
            Self::ContextLength { limit, actual } => ("context_length", [("limit", Some(*limit)), ("actual", *actual)]),
            Self::RateLimit { limit, remaining } => ("rate_limit", [("limit", *limit), ("remaining", *remaining)]),
        };
        out.token(Token::Map(3))?;
        put_text(out, "type")?;
        put_text(out, kind)?;
        for (name, number) in numbers {
            put_text(out, name)?;
            out.token(number.map_or(Token::Nil, Token::Uint))?;
        }
        Ok(())
    }
}

fn put_text(out: &mut impl Sink, text: &str) -> Result<(), Error> {
    out.token(Token::Str(text.as_bytes()))
}

fn text(given: &str) -> Option<String> {
    (!given.is_empty()).then(|| cut(given))
}

pub(super) fn cut(given: &str) -> String {
    if given.len() <= MAX_TEXT {
        return given.to_owned();
    }
    let kept = given.floor_char_boundary(MAX_TEXT - CUT.len());
    let mut cut = given.get(..kept).unwrap_or_default().to_owned();
    cut.push_str(CUT);
    cut
}

/// The wire's keys, before they are believed.
#[derive(serde::Deserialize)]
struct Raw {
    #[serde(default)]
    error_type: Option<RawType>,
    #[serde(default)]
    class: Option<String>,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    diagnostic: Option<String>,
    #[serde(default, alias = "public_details")]
    public: Option<RawPublic>,
    #[serde(default)]
    caused_by: Option<Box<Self>>,
    #[serde(default)]
    dp_rank: Option<RawRank>,
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum RawType {
    Bare(String),
    Backend {
        #[serde(rename = "Backend")]
        backend: String,
    },
    Other(IgnoredAny),
}

#[derive(serde::Serialize)]
struct Sub {
    #[serde(rename = "Backend")]
    backend: &'static str,
}

impl RawType {
    fn known(&self) -> Option<Type> {
        match self {
            Self::Bare(name) => Type::from_name(name),
            Self::Backend { backend } => Backend::from_name(backend).map(Type::Backend),
            Self::Other(_) => None,
        }
    }
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum RawPublic {
    Known(Public),
    Other(IgnoredAny),
}

impl RawPublic {
    fn known(self) -> Option<Public> {
        match self {
            Self::Known(public) => Some(public),
            Self::Other(_) => None,
        }
    }
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum RawRank {
    Known(u32),
    Other(IgnoredAny),
}

impl RawRank {
    const fn known(self) -> Option<u32> {
        match self {
            Self::Known(rank) => Some(rank),
            Self::Other(_) => None,
        }
    }
}
