//! What travels: bytes as bytes, so that nobody pays for lists of numbers.

use std::error::Error as StdError;

use bytes::Bytes;
use dynamo_runtime::error::DynamoError;
use dynamo_runtime::protocols::maybe_error::MaybeError;
use serde::{Deserialize, Serialize};

/// A request. Dynamo serializes bytes as bytes only inside a type that says so.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Request(pub(crate) Bytes);

/// An item of an answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Item {
    /// What the endpoint said.
    #[serde(rename = "d")]
    pub(crate) data: Bytes,
    /// Why there is nothing more.
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<DynamoError>,
}

impl From<Bytes> for Item {
    fn from(data: Bytes) -> Self {
        Self { data, error: None }
    }
}

impl MaybeError for Item {
    fn from_err(error: impl StdError + 'static) -> Self {
        let error: Box<dyn StdError + 'static> = Box::new(error);
        Self { data: Bytes::new(), error: Some(DynamoError::from(error)) }
    }

    fn err(&self) -> Option<DynamoError> {
        self.error.clone()
    }
}
