//! A collector of spans in the test's own process: OTLP's published service, by gRPC and by HTTP.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind, status::StatusCode};
use prost::Message;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// The longest that is waited for spans.
const BOUND: Duration = Duration::from_secs(30);

/// A span as it came, with what its resource says.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) service: String,
    pub(crate) span: Span,
}

impl Seen {
    /// An attribute as text.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        let found = self.span.attributes.iter().find(|one| one.key == name)?;
        found.value.as_ref().map(text)
    }

    pub(crate) fn kind(&self) -> SpanKind {
        self.span.kind()
    }

    /// Whether it ended badly.
    pub(crate) fn is_error(&self) -> bool {
        self.span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error)
    }

    /// The names of its events.
    pub(crate) fn events(&self) -> Vec<&str> {
        self.span.events.iter().map(|event| event.name.as_str()).collect()
    }

    /// Whether the other is its parent, in the same trace.
    pub(crate) fn is_below(&self, other: &Self) -> bool {
        self.span.parent_span_id == other.span.span_id && self.span.trace_id == other.span.trace_id
    }
}

fn text(value: &AnyValue) -> String {
    match &value.value {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(yes)) => yes.to_string(),
        other => format!("{other:?}"),
    }
}

#[derive(Clone, Default)]
struct Taken {
    spans: Arc<Mutex<Vec<Seen>>>,
    more: Arc<Notify>,
    headers: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Taken {
    fn take(&self, request: ExportTraceServiceRequest) {
        for group in request.resource_spans {
            let named = |one: &KeyValue| one.key == "service.name";
            let attributes = group.resource.unwrap_or_default().attributes;
            let service = attributes.iter().find(|one| named(one)).and_then(|one| one.value.as_ref()).map(text);
            let service = service.unwrap_or_default();
            let spans = group.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.spans.lock().unwrap().extend(spans.map(|span| Seen { service: service.clone(), span }));
        }
        self.more.notify_waiters();
    }
}

#[tonic::async_trait]
impl TraceService for Taken {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for (name, value) in request.metadata().clone().into_headers().iter() {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            self.headers.lock().unwrap().insert(name.to_string(), value);
        }
        self.take(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// A running collector; it ends with its runtime.
pub(crate) struct Collector {
    taken: Taken,
    /// What `OTEL_EXPORTER_OTLP_ENDPOINT` would be.
    pub(crate) endpoint: String,
}

impl Collector {
    /// One by gRPC.
    pub(crate) async fn grpc() -> Self {
        let taken = Taken::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let service = TraceServiceServer::new(taken.clone());
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener)));
        Self { taken, endpoint }
    }

    /// One by HTTP.
    pub(crate) async fn http() -> Self {
        let taken = Taken::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let serving = taken.clone();
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let taken = serving.clone();
                let mut connection = BufReader::new(connection);
                tokio::spawn(async move { while posted(&taken, &mut connection).await.is_some() {} });
            }
        });
        Self { taken, endpoint }
    }

    /// The spans, once `enough` of them have come.
    pub(crate) async fn spans(&self, enough: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
        let waiting = async {
            loop {
                let more = self.taken.more.notified();
                let seen = self.taken.spans.lock().unwrap().clone();
                if enough(&seen) {
                    return seen;
                }
                more.await;
            }
        };
        let came = tokio::time::timeout(BOUND, waiting).await;
        came.unwrap_or_else(|_| panic!("these have come: {:#?}", self.taken.spans.lock().unwrap()))
    }

    /// A header that spans came with.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        self.taken.headers.lock().unwrap().get(name).cloned()
    }
}

/// Takes one POST of a connection that is kept; `None` at its end.
async fn posted(taken: &Taken, connection: &mut BufReader<TcpStream>) -> Option<()> {
    let (mut length, mut line) = (0, String::new());
    let mut first = String::new();
    loop {
        line.clear();
        if connection.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let header = line.trim_end();
        if first.is_empty() {
            first = header.to_owned();
        } else if header.is_empty() {
            break;
        } else if let Some((name, value)) = header.split_once(':') {
            let name = name.to_ascii_lowercase();
            if name == "content-length" {
                length = value.trim().parse().ok()?;
            }
            taken.headers.lock().unwrap().insert(name, value.trim().to_owned());
        }
    }
    assert_eq!(first, "POST /v1/traces HTTP/1.1");
    let mut body = vec![0; length];
    connection.read_exact(&mut body).await.ok()?;
    taken.take(ExportTraceServiceRequest::decode(&body[..]).unwrap());
    let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
    connection.write_all(answer).await.ok()
}
