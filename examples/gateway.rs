//! A gateway by HTTP: each request is a call, its items are streamed on, and a client that leaves ends its call.
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures::StreamExt;
use ringplane::{CallRequest, Class, Client, Codec, Error, Request, Responder, TraceContext, Worker};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// `POST /namespace.component.endpoint`, with a body in JSON, calls that endpoint. The call is the body of the response: it is
/// read at the pace of the client, and dropped when the client leaves, which kills it.
///
/// The call belongs to the client's trace, if the client has one.
async fn gate(State(client): State<Client>, Path(endpoint): Path<String>, headers: HeaderMap, body: Bytes) -> Response {
    let trace = TraceContext::from_headers(|name| headers.get(name)?.to_str().ok());
    let request = CallRequest::new(endpoint, body).with_codec(Codec::Json).with_context(&trace);
    let mut call = match client.call(request) {
        Ok(call) => call,
        Err(Error::Name(error)) => return (StatusCode::NOT_FOUND, error.to_string()).into_response(),
        Err(error) => return (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
    };
    // Until the first item a failure can have a status of its own; afterwards it breaks the response off.
    match call.next().await {
        Some(Ok(first)) => Body::from_stream(futures::stream::iter([Ok(first)]).chain(call)).into_response(),
        Some(Err(error)) => (status(error.class()), error.to_string()).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    }
}

const fn status(class: Class) -> StatusCode {
    match class {
        Class::InvalidRequest => StatusCode::BAD_REQUEST,
        Class::NotFound => StatusCode::NOT_FOUND,
        Class::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Class::CapacityExhausted | Class::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Class::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::BAD_GATEWAY,
    }
}

/// Tells when a handler's future is gone.
struct Gone(Arc<Notify>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A worker that never comes to an end by itself.
    let gone = Arc::new(Notify::new());
    let told = gone.clone();
    let count = move |_request: Request, out: Responder| {
        let gone = Gone(told.clone());
        async move {
            let _gone = gone;
            for number in 0_u64.. {
                out.send(format!("{number}\n")).await?;
                out.sleep(Duration::from_millis(5)).await;
            }
            Ok(())
        }
    };
    let worker = Worker::builder().endpoint("example.gateway.count", count).serve().await?;
    let client = Client::builder().connect()?;

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    let gateway = axum::Router::new().route("/{endpoint}", post(gate)).with_state(client.clone());
    let serving = tokio::spawn(async move { axum::serve(listener, gateway).await });

    // A client that reads the beginning and leaves.
    let mut browser = TcpStream::connect(addr).await?;
    browser.write_all(b"POST /example.gateway.count HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}").await?;
    let mut heard = String::new();
    while !heard.contains("\n1\n") {
        let mut bytes = [0; 1024];
        let read = browser.read(&mut bytes).await?;
        assert_ne!(read, 0, "{heard}");
        heard.push_str(str::from_utf8(&bytes[..read])?);
    }
    drop(browser);
    gone.notified().await;
    println!("the client left, and the handler was told");

    serving.abort();
    let _ = serving.await;
    client.shutdown().await;
    worker.shutdown().await;
    Ok(())
}
