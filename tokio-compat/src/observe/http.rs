//! What posts spans to a collector: hyper's client on the runtime that sends them.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use tokio::time::timeout;

/// The longest answer of a collector that is read, in bytes.
const LONGEST: usize = 64 << 10;

/// Posts, each within a bound.
pub(super) struct Posts {
    client: Client<HttpConnector, Full<Bytes>>,
    bound: Duration,
}

impl fmt::Debug for Posts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Posts").field("bound", &self.bound).finish_non_exhaustive()
    }
}

impl Posts {
    /// Over connections that are kept.
    pub(super) fn new(bound: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(bound));
        Self { client: Client::builder(TokioExecutor::new()).build(connector), bound }
    }
}

/// What the trait's macro makes of its one method.
type Answer<'a> = Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'a>>;

impl HttpClient for Posts {
    fn send_bytes<'a, 'b>(&'a self, request: Request<Bytes>) -> Answer<'b>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            let answer = async {
                let (head, body) = self.client.request(request.map(Full::new)).await?.into_parts();
                let body = Limited::new(body, LONGEST).collect().await?.to_bytes();
                Ok(Response::from_parts(head, body))
            };
            timeout(self.bound, answer).await?
        })
    }
}
