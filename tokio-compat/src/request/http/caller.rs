//! The caller's end: requests of the cores become POSTs, and the responses their answers.

use std::error::Error as _;
use std::io;

use bytes::Buf;
use bytes::Bytes;
use bytes::buf::Chain;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request as Post};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use ringplane_core::caller::dynamo::carrier::{Answer, Request};
use ringplane_core::caller::target::Transport;
use ringplane_core::protocol::CloseReason;
use ringplane_core::wire::dynamo::headers;

use crate::request::carrier::{Carrier, Report, send_time};
use crate::request::http::config::CallerConfig;
use crate::request::http::stream::Listening;

/// A two-part frame up to its body, and the body.
type Parts = Full<Chain<Bytes, Bytes>>;

/// What brings requests to the workers behind HTTP, over connections that are kept. `report` is told what came of each.
///
/// # Errors
/// If there is no thread to be had.
pub fn carrier(config: CallerConfig, report: Report) -> io::Result<Carrier> {
    let in_hand = config.in_hand;
    let begin = move || {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(config.connect));
        let client: Client<Listening, Parts> = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(config.idle)
            .pool_max_idle_per_host(config.in_hand)
            .build(Listening(connector));
        move |request| bring(client.clone(), config.max_answer, request)
    };
    Carrier::start("ringplane-http-calls", in_hand, report, begin)
}

async fn bring(client: Client<Listening, Parts>, max_answer: usize, request: Request) -> Answer {
    let Some(post) = post(request) else { return Answer::Unreachable(CloseReason::Unreachable) };
    let response = match client.request(post).await {
        Ok(response) => response,
        Err(error) if error.is_connect() => return Answer::Unreachable(reason(&error)),
        Err(error) => return Answer::Lost(reason(&error)),
    };
    let status = response.status().as_u16();
    // The status has said it; a text that is too long or breaks off explains nothing.
    let text = Limited::new(response.into_body(), max_answer).collect().await;
    Answer::Http(status, text.map(|text| text.to_bytes()).unwrap_or_default())
}

/// The request as HTTP has it; `None` for a URL that is none.
fn post(request: Request) -> Option<Post<Parts>> {
    let Transport::Http(url) = request.transport else { return None };
    let mut post = Post::builder().method(Method::POST).uri(url);
    post = post.header(CONTENT_TYPE, "application/octet-stream");
    for (name, value) in request.headers {
        // A value that HTTP cannot carry stays behind.
        if let Ok(value) = HeaderValue::try_from(value) {
            post = post.header(name, value);
        }
    }
    post.header(headers::SEND_TIME, send_time()).body(Full::new(request.head.chain(request.body))).ok()
}

/// What the system said, behind what the client says.
fn reason(error: &Error) -> CloseReason {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(error) = cause.downcast_ref::<io::Error>() {
            return match (error.raw_os_error(), error.kind()) {
                (Some(errno), _) => CloseReason::from_errno(errno),
                (None, io::ErrorKind::TimedOut) => CloseReason::TimedOut,
                _ => CloseReason::Reset,
            };
        }
        source = cause.source();
    }
    CloseReason::Reset
}
