//! tonic: gRPC over HTTP/2, with messages that are plain bytes.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{Future, Ready as Immediate, ready};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready as ready_or_return};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use futures::{FutureExt, Stream};
use tokio::sync::OnceCell;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::body::Body;
use tonic::client::Grpc as ClientGrpc;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder, Streaming};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::{Grpc as ServerGrpc, ServerStreamingService, UnaryService};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};

use crate::content::{Ask, Pattern};
use crate::engine::{Engine, Error, Offers, Result, Sides};
use crate::line::Ready;
use crate::load::{Call, Client, generate};
use crate::local::{Local, run};
use crate::measure::{Measured, Plan};
use crate::scenario::{Scenario, address};

/// gRPC with tonic.
///
/// Configured for speed as its documentation and hyper's say: no Nagle, windows and frames that large bodies fill, message
/// limits out of the way, as many streams as the caller wants; messages are handed over as bytes, without protobuf. One
/// item is a unary call, more are a server stream, as one would declare them. Both sides run on one thread.
#[derive(Copy, Clone, Debug)]
pub struct Tonic;

const UNARY: &str = "/ringplane.Bench/Unary";
const STREAM: &str = "/ringplane.Bench/Stream";

/// Bytes a stream may have under way: a sixteenth of a connection's, so that no stream that is not read stops others.
const STREAM_WINDOW: u32 = 16 << 20;
const CONNECTION_WINDOW: u32 = 16 * STREAM_WINDOW;
const FRAME: u32 = 1 << 20;

impl Engine for Tonic {
    fn name(&self) -> &'static str {
        "tonic"
    }

    fn about(&self) -> &'static str {
        "gRPC with tonic 0.14: HTTP/2, unary calls and server streams of plain bytes, one thread, windows of 16 MiB"
    }

    fn offers(&self) -> Offers {
        Offers { deadline: "yes", credit: "yes", cancel: "yes", end: "yes", checksum: "no" }
    }

    fn unsupported(&self, scenario: &Scenario) -> Option<&'static str> {
        scenario.spins().then_some("tonic has no busy polling")
    }
}

impl Sides for Tonic {
    fn serve(&self, scenario: &Scenario, ready: Ready) -> Result<()> {
        let pattern = Pattern::new(scenario.largest());
        let codec = Plain::of(scenario);
        run(async move {
            let incoming = TcpIncoming::bind(SocketAddr::from(([0, 0, 0, 0], 0)))?.with_nodelay(Some(true));
            ready.tell(incoming.local_addr()?);
            Server::builder()
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_frame_size(FRAME)
                .max_concurrent_streams(None)
                .serve_with_incoming(Bench { pattern, codec }, incoming)
                .await?;
            Ok(())
        })
    }

    fn load(&self, scenario: &Scenario, address: &str, plan: &Plan) -> Result<Measured> {
        let server: SocketAddr = address.parse()?;
        let channels = RefCell::new((0..scenario.all_connections()).map(|_| Rc::default()).collect());
        let client = Channels { server, channels, codec: Plain::of(scenario) };
        run(async { Ok(generate(scenario, plan, client, Local).await) })
    }
}

/// The service, as generated code would have it, for messages of bytes.
#[derive(Copy, Clone, Debug)]
struct Bench {
    pattern: Pattern,
    codec: Plain,
}

impl Service<http::Request<Body>> for Bench {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let pattern = self.pattern;
        let mut grpc = ServerGrpc::new(self.codec).max_decoding_message_size(usize::MAX);
        match request.uri().path() {
            UNARY => async move { Ok(grpc.unary(Unary(pattern), request).await) }.boxed(),
            STREAM => async move { Ok(grpc.server_streaming(Items(pattern), request).await) }.boxed(),
            _ => ready(Ok(Status::unimplemented("no such method").into_http())).boxed(),
        }
    }
}

/// The method that answers with one item.
#[derive(Copy, Clone, Debug)]
struct Unary(Pattern);

impl UnaryService<Bytes> for Unary {
    type Response = Bytes;
    type Future = Immediate<Result<Response<Bytes>, Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let ask = Ask::receive(request.get_ref(), self.0).map_err(Status::invalid_argument);
        ready(ask.map(|ask| Response::new(self.0.item(&ask, 0))))
    }
}

/// The method that answers with a stream of items.
#[derive(Copy, Clone, Debug)]
struct Items(Pattern);

impl ServerStreamingService<Bytes> for Items {
    type Response = Bytes;
    type ResponseStream = Answer;
    type Future = Immediate<Result<Response<Answer>, Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let ask = Ask::receive(request.get_ref(), self.0).map_err(Status::invalid_argument);
        ready(ask.map(|ask| Response::new(Answer::new(ask, self.0))))
    }
}

/// Items as they fall due.
#[derive(Debug)]
struct Answer {
    ask: Ask,
    pattern: Pattern,
    next: u32,
    begun: Instant,
    /// Until the next item is due, if items are paced.
    pause: Option<Pin<Box<Sleep>>>,
}

impl Answer {
    fn new(ask: Ask, pattern: Pattern) -> Self {
        let begun = Instant::now();
        let pause = (ask.gap_us > 0).then(|| Box::pin(sleep_until(begun)));
        Self { ask, pattern, next: 0, begun, pause }
    }
}

impl Stream for Answer {
    type Item = Result<Bytes, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let answer = &mut *self;
        if answer.next == answer.ask.items {
            return Poll::Ready(None);
        }
        let index = answer.next;
        if let Some(pause) = &mut answer.pause {
            if index > 0 {
                ready_or_return!(pause.as_mut().poll(cx));
            }
            let due = Duration::from_micros(u64::from(answer.ask.gap_us) * u64::from(index + 1));
            pause.as_mut().reset(answer.begun + due);
        }
        answer.next += 1;
        Poll::Ready(Some(Ok(answer.pattern.item(&answer.ask, index))))
    }
}

/// A channel for each connection, dialed when it is first needed.
#[derive(Debug)]
struct Channels {
    server: SocketAddr,
    channels: RefCell<Vec<Rc<OnceCell<Channel>>>>,
    codec: Plain,
}

impl Channels {
    async fn channel(&self, connection: usize) -> Result<Channel> {
        let cell = self.channels.borrow().get(connection).cloned().ok_or("no such connection")?;
        let channel = cell.get_or_try_init(async || {
            Endpoint::from_shared(format!("http://{}", address(self.server, connection)))?
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_frame_size(FRAME)
                .tcp_nodelay(true)
                .connect()
                .await
        });
        Ok(channel.await?.clone())
    }
}

impl Client for Channels {
    type Call = Reply;

    async fn call(&self, connection: usize, request: Bytes) -> Result<Reply> {
        let channel = self.channel(connection).await?;
        let mut grpc = ClientGrpc::new(channel).max_decoding_message_size(usize::MAX);
        grpc.ready().await?;
        let is_unary = Ask::read(&request).is_some_and(|ask| ask.items == 1);
        let request = Request::new(request);
        Ok(if is_unary {
            let reply = grpc.unary(request, PathAndQuery::from_static(UNARY), self.codec).await?;
            Reply::Item(Some(reply.into_inner()))
        } else {
            let reply = grpc.server_streaming(request, PathAndQuery::from_static(STREAM), self.codec).await?;
            Reply::Items(Box::new(reply.into_inner()))
        })
    }

    fn close(&self, connection: usize) {
        if let Some(cell) = self.channels.borrow_mut().get_mut(connection) {
            *cell = Rc::default();
        }
    }
}

/// An answer as it comes.
#[derive(Debug)]
enum Reply {
    /// Of a unary call: all there is, or nothing more.
    Item(Option<Bytes>),
    /// Of a server stream.
    Items(Box<Streaming<Bytes>>),
}

impl Call for Reply {
    type Item = Bytes;

    async fn next(&mut self) -> Option<Result<Bytes>> {
        match self {
            Self::Item(item) => item.take().map(Ok),
            Self::Items(items) => items.message().await.map_err(Error::from).transpose(),
        }
    }
}

/// Messages that are their bytes.
#[derive(Copy, Clone, Debug)]
struct Plain {
    /// Bytes a buffer starts with.
    buffer: usize,
}

/// What tonic's buffers start with if nobody says otherwise.
const BUFFER: usize = 8 << 10;
/// How much of a stream that is ready tonic gathers before it writes, if nobody says otherwise.
const GATHER: usize = 32 << 10;

impl Plain {
    /// Small calls get small buffers; tonic's documentation suggests it for many calls.
    fn of(scenario: &Scenario) -> Self {
        let small = (scenario.largest() + 64).next_power_of_two();
        Self { buffer: if scenario.items == 1 { small.min(BUFFER) } else { BUFFER } }
    }
}

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.reserve(item.len());
        to.put(item);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(self.buffer, GATHER)
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(self.buffer, GATHER)
    }
}
