//! Requests and answers as values, in the codec of the call.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use ringplane_core::local::Failure;
use ringplane_core::wire::codec::Codec;
use ringplane_core::worker::job::Cause;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::handler::local::LocalFuture;
use crate::handler::remote::SendFuture;
use crate::handler::request::{Handler, Request, Responder};
use crate::handler::side::{Local, Remote, Side};
use crate::payload::error::PayloadError;
use crate::payload::value::Payload;

impl<S: Side> Request<S> {
    /// The codec of the call: the one that it names, else the endpoint's.
    ///
    /// # Errors
    /// [`PayloadError::Codec`] if it names one that is not known here.
    pub fn codec(&self) -> Result<Codec, PayloadError> {
        codec(self.open().codec, self.served.codec)
    }

    /// The whole request as a value, of a caller that sends one item.
    ///
    /// # Errors
    /// A [`Failure`] if the request broke off or is no such value; it says what is wrong where.
    pub async fn read<T: DeserializeOwned>(&mut self) -> Result<T, Failure> {
        let body = self.body().await?;
        Ok(self.codec()?.read(&body)?)
    }

    /// The next item of a streaming request as a value; `None` after the last.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn next_as<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Failure> {
        let Some(item) = self.next().await? else { return Ok(None) };
        Ok(Some(self.codec()?.read(&item)?))
    }
}

impl<S: Side> Responder<S> {
    /// Sends a value as an item of the answer, in the codec of the call (as [`Request::codec`]), waiting for room. An
    /// [annotated](crate::WorkerBuilder::annotated) endpoint sends it as the data of an Annotated.
    ///
    /// # Errors
    /// A [`Failure`]: as [`send`](Self::send), or if the codec is not known or has no such value.
    pub async fn send_as<T: Serialize + ?Sized>(&self, item: &T) -> Result<(), Failure> {
        let codec = codec(self.open().codec, self.served.codec)?;
        self.send_in(codec, item).await
    }

    async fn send_in<T: Serialize + ?Sized>(&self, codec: Codec, item: &T) -> Result<(), Failure> {
        let item = if self.served.annotated { codec.write(&Annotated { data: item })? } else { codec.write(item)? };
        Ok(self.send(item).await?)
    }
}

/// Dynamo's Annotated with data and nothing else.
#[derive(Serialize)]
struct Annotated<'a, T: ?Sized> {
    data: &'a T,
}

fn codec(named: Option<&str>, served: Codec) -> Result<Codec, PayloadError> {
    named.map_or(Ok(served), |name| Codec::from_name(name).ok_or_else(|| PayloadError::Codec(name.to_owned())))
}

/// The way back to a caller who reads values of one type; clones share the call.
pub struct TypedResponder<T: ?Sized, S: Side = Local> {
    out: Responder<S>,
    codec: Codec,
    item: PhantomData<fn(&T)>,
}

impl<T: ?Sized, S: Side> Clone for TypedResponder<T, S> {
    fn clone(&self) -> Self {
        Self { out: self.out.clone(), codec: self.codec, item: PhantomData }
    }
}

impl<T: ?Sized, S: Side> fmt::Debug for TypedResponder<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedResponder").field("out", &self.out).field("codec", &self.codec).finish()
    }
}

impl<T: Serialize + ?Sized, S: Side> TypedResponder<T, S> {
    /// Sends an item of the answer, waiting for room: the caller's pace is the handler's.
    ///
    /// # Errors
    /// A [`Failure`], as [`Responder::send_as`].
    pub async fn send(&self, item: &T) -> Result<(), Failure> {
        self.out.send_in(self.codec, item).await
    }

    /// Completes when the call is cancelled, as [`Responder::cancelled`].
    pub async fn cancelled(&self) -> Cause {
        self.out.cancelled().await
    }

    /// Why the call is cancelled, if it is.
    pub fn cause(&self) -> Option<Cause> {
        self.out.cause()
    }

    /// Time left until the caller gives up; `None` without a deadline.
    pub fn remaining(&self) -> Option<Duration> {
        self.out.remaining()
    }

    /// Completes `after` from now.
    pub async fn sleep(&self, after: Duration) {
        self.out.sleep(after).await;
    }

    /// The way back for bytes, and what else is known of the call: its id, its metadata.
    pub const fn untyped(&self) -> &Responder<S> {
        &self.out
    }
}

/// A closure that takes a value and a way back for values.
pub(crate) struct Typed<F, T, U: ?Sized> {
    handler: Arc<F>,
    shape: PhantomData<fn(T, &U)>,
}

impl<F, T, U: ?Sized> Typed<F, T, U> {
    pub(crate) fn new(handler: F) -> Self {
        Self { handler: Arc::new(handler), shape: PhantomData }
    }
}

async fn answer<S: Side, T: DeserializeOwned, U: ?Sized, Fut>(
    handler: Arc<impl Fn(T, TypedResponder<U, S>) -> Fut>,
    mut request: Request<S>,
    out: Responder<S>,
) -> Result<(), Failure>
where
    Fut: Future<Output = Result<(), Failure>>,
{
    let codec = request.codec()?;
    let question = codec.read(&request.body().await?)?;
    handler(question, TypedResponder { out, codec, item: PhantomData }).await
}

impl<F, T, U, Fut> Handler<Local> for Typed<F, T, U>
where
    F: Fn(T, TypedResponder<U>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), Failure>> + 'static,
    T: DeserializeOwned + 'static,
    U: ?Sized + 'static,
{
    fn handle(&self, request: Request, out: Responder) -> LocalFuture {
        Box::pin(answer(self.handler.clone(), request, out))
    }
}

impl<F, T, U, Fut> Handler<Remote> for Typed<F, T, U>
where
    F: Fn(T, TypedResponder<U, Remote>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), Failure>> + Send + 'static,
    T: DeserializeOwned + Send + 'static,
    U: ?Sized + 'static,
{
    fn handle(&self, request: Request<Remote>, out: Responder<Remote>) -> SendFuture {
        Box::pin(answer(self.handler.clone(), request, out))
    }
}
