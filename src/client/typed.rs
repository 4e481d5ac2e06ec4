//! Calls whose requests and items are values.

use std::error::Error;
use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;
use ringplane_core::caller::error::CallError;
use ringplane_core::chain::Chain;
use ringplane_core::local::Failure;
use ringplane_core::wire::class::Class;
use ringplane_core::wire::codec::Codec;
use ringplane_core::wire::dynamo::annotated::Annotated;
use ringplane_core::wire::dynamo::failure_key::Key;
use ringplane_core::wire::dynamo::typed_failure;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::client::call::Call;
use crate::client::hedge::HedgedCall;
use crate::client::migrate::{MigratingCall, Resume};
use crate::client::request::CallRequest;
use crate::payload::error::PayloadError;
use crate::payload::value::Payload;

impl CallRequest {
    /// A request of one value for `endpoint` (`namespace.component.endpoint`), in JSON: every worker reads it, whatever its
    /// record names, and those of Dynamo before 1.6 read nothing else.
    ///
    /// # Errors
    /// [`PayloadError::Unwritable`] if JSON has no such value.
    pub fn typed<T: Serialize + ?Sized>(endpoint: impl Into<String>, value: &T) -> Result<Self, PayloadError> {
        Self::typed_in(Codec::Json, endpoint, value)
    }

    /// The same in a codec: MessagePack is smaller, and what Dynamo's workers prefer since 1.6.
    ///
    /// # Errors
    /// [`PayloadError::Unwritable`] if the codec has no such value.
    pub fn typed_in<T: Serialize + ?Sized>(
        codec: Codec,
        endpoint: impl Into<String>,
        value: &T,
    ) -> Result<Self, PayloadError> {
        Ok(Self::new(endpoint, codec.write(value)?).with_codec(codec))
    }

    /// A request of one value, in JSON, for the [`Endpoint`](crate::Endpoint) that it is given to.
    ///
    /// # Errors
    /// As [`typed`](Self::typed).
    pub fn value<T: Serialize + ?Sized>(value: &T) -> Result<Self, PayloadError> {
        Self::typed("", value)
    }
}

impl Call {
    /// The call's items as values, in the codec that its request names, or else in JSON.
    pub fn typed<T>(self) -> TypedCall<T> {
        let codec = self.codec.unwrap_or_default();
        TypedCall::new(self, codec)
    }

    /// Sends a value as an item of a [streaming](CallRequest::streaming) request, in the codec that the request names, or
    /// else in JSON, waiting for room.
    ///
    /// # Errors
    /// [`TypedCallError::Payload`] if the codec has no such value; else as [`send`](Self::send).
    pub async fn send_as<T: Serialize + ?Sized>(&self, item: &T) -> Result<(), TypedCallError> {
        Ok(self.send(self.codec.unwrap_or_default().write(item)?).await?)
    }
}

/// A call whose items can be [values](TypedCall): a [`Call`], a [`MigratingCall`] or a [`HedgedCall`].
pub trait CallStream: Stream<Item = Result<Bytes, CallError>> + Unpin {
    /// Ends the call now.
    fn kill(&mut self);
}

impl CallStream for Call {
    fn kill(&mut self) {
        Self::kill(self);
    }
}

impl<R: Resume + Unpin> CallStream for MigratingCall<R> {
    fn kill(&mut self) {
        Self::kill(self);
    }
}

impl CallStream for HedgedCall {
    fn kill(&mut self) {
        Self::kill(self);
    }
}

impl HedgedCall {
    /// The call's items as values, in the codec that its request names, or else in JSON.
    pub fn typed<T>(self) -> TypedCall<T, Self> {
        let codec = self.codec().unwrap_or_default();
        TypedCall::new(self, codec)
    }
}

impl<R> MigratingCall<R> {
    /// The answer's items as values, in the codec that the request names, or else in JSON.
    pub fn typed<T>(self) -> TypedCall<T, Self> {
        let codec = self.codec().unwrap_or_default();
        TypedCall::new(self, codec)
    }
}

/// A [`Call`] whose items are values: a stream of them, then at most one error. Dropping it kills the call.
///
/// ```no_run
/// # #[derive(serde::Deserialize)]
/// # struct Token { text: String }
/// # async fn ask(client: ringplane::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use ringplane::{CallRequest, Codec};
///
/// // A worker of Dynamo's, in Python: its items are Annotated.
/// let request = CallRequest::typed_in(Codec::Msgpack, "dynamo.backend.generate", &["once", "upon"])?;
/// let mut tokens = client.call(request)?.typed::<Token>().annotated();
/// while let Some(token) = tokens.next().await {
///     print!("{}", token?.text);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TypedCall<T, C = Call> {
    call: C,
    codec: Codec,
    annotated: bool,
    over: bool,
    item: PhantomData<fn() -> T>,
}

impl<T, C> TypedCall<T, C> {
    pub(super) const fn new(call: C, codec: Codec) -> Self {
        Self { call, codec, annotated: false, over: false, item: PhantomData }
    }

    /// The items are Dynamo's Annotated, as those of its Python workers: their data are the values, those without data are
    /// passed over, one that reports an error ends the call with it.
    #[must_use]
    pub const fn annotated(mut self) -> Self {
        self.annotated = true;
        self
    }

    /// The call, to be stopped, killed, or sent more.
    pub const fn call(&mut self) -> &mut C {
        &mut self.call
    }
}

impl<T: DeserializeOwned, C: CallStream> TypedCall<T, C> {
    /// The next item; `None` after the last one or after an error.
    pub async fn next(&mut self) -> Option<Result<T, TypedCallError>> {
        std::future::poll_fn(|cx| self.poll_value(cx)).await
    }

    /// Reads the call to its end.
    ///
    /// # Errors
    /// The first one; the items before it are lost.
    pub async fn collect(mut self) -> Result<Vec<T>, TypedCallError> {
        let mut items = Vec::new();
        while let Some(item) = self.next().await {
            items.push(item?);
        }
        Ok(items)
    }

    fn poll_value(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, TypedCallError>>> {
        while !self.over {
            let Poll::Ready(item) = Pin::new(&mut self.call).poll_next(cx) else { return Poll::Pending };
            let value = match item {
                None => None,
                Some(Err(error)) => Some(Err(error.into())),
                Some(Ok(item)) => match self.read(&item) {
                    Ok(None) => continue,
                    read => read.transpose(),
                },
            };
            self.over = !matches!(value, Some(Ok(_)));
            if self.over && matches!(value, Some(Err(_))) {
                // What cannot be read any more need not be made.
                self.call.kill();
            }
            return Poll::Ready(value);
        }
        Poll::Ready(None)
    }

    fn read(&self, item: &Bytes) -> Result<Option<T>, TypedCallError> {
        if !self.annotated {
            return Ok(Some(self.codec.read(item)?));
        }
        let item = Annotated::read(self.codec, item).map_err(PayloadError::Annotated)?;
        if let Some(failure) = item.failure() {
            return Err(TypedCallError::Call(failed(&failure)));
        }
        Ok(item.data.map(|data| self.codec.read(data)).transpose()?)
    }
}

impl<T: DeserializeOwned, C: CallStream> Stream for TypedCall<T, C> {
    type Item = Result<T, TypedCallError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_value(cx)
    }
}

fn failed(failure: &typed_failure::Failure) -> CallError {
    let message = failure.diagnostic().unwrap_or_default().into();
    CallError::Failed { class: failure.class(), reason: failure.key().name().into(), message }
}

/// Why a call of values ends.
#[derive(Debug)]
#[non_exhaustive]
pub enum TypedCallError {
    /// The call failed.
    Call(CallError),
    /// An item is not the value that is asked for, or there is none for it in the codec.
    Payload(PayloadError),
}

impl fmt::Display for TypedCallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(error) => error.fmt(f),
            Self::Payload(error) => error.fmt(f),
        }
    }
}

impl Error for TypedCallError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Call(error) => error.source(),
            Self::Payload(error) => error.source(),
        }
    }
}

impl From<CallError> for TypedCallError {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl From<PayloadError> for TypedCallError {
    fn from(error: PayloadError) -> Self {
        Self::Payload(error)
    }
}

/// What a handler that calls on tells its own caller: a failure behind it stays what it is; an item that cannot be read is
/// the fault of the worker behind, not of the caller.
impl From<TypedCallError> for Failure {
    fn from(error: TypedCallError) -> Self {
        match error {
            TypedCallError::Call(error) => error.into(),
            TypedCallError::Payload(error) => {
                Self::new(Class::BackendProtocol, Key::BackendProtocol.name(), Chain(&error))
            }
        }
    }
}
