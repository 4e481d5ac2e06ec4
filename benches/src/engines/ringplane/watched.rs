//! What the calls of the facade are watched by: nothing, the contexts of traces, metrics, or spans.

use std::cell::Cell;

use ringplane::{CallRequest, ClientBuilder, Failure, TraceContext, TraceParent, WorkerBuilder, current_trace};

use crate::engine::Result;

/// What watches the calls of both sides.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Watched {
    /// Nothing.
    No,
    /// Each call carries the context of a trace of its own, which its handler asks for.
    Propagated,
    /// Both sides count for metrics, which nobody asks for meanwhile.
    #[cfg(feature = "watched")]
    Metrics,
    /// Both sides make spans of so many calls of a hundred, and send them to a collector in their own process, which reads
    /// and drops them. The queue is the default's: what finds it full is dropped, as it would be elsewhere.
    #[cfg(feature = "watched")]
    Spans(u8),
}

impl Watched {
    /// What watches one side, for as long as that is kept.
    pub(super) fn start(self) -> Result<Watch> {
        let mut watch = Watch::default();
        match self {
            Self::No => {}
            Self::Propagated => watch.contexts = Some(Contexts(Cell::new(0))),
            #[cfg(feature = "watched")]
            Self::Metrics => watch.metrics = Some(ringplane::observe::Metrics::new()),
            #[cfg(feature = "watched")]
            Self::Spans(percent) => {
                let mut config = ringplane::observe::otlp::Config::default().at(&drain::start()?);
                config.protocol = ringplane::observe::otlp::Protocol::Http;
                config.sampling.share = f64::from(percent) / 100.0;
                watch.telemetry = Some(ringplane::observe::export(&config)?);
            }
        }
        Ok(watch)
    }
}

/// What watches one side.
#[derive(Default)]
pub(super) struct Watch {
    contexts: Option<Contexts>,
    #[cfg(feature = "watched")]
    metrics: Option<ringplane::observe::Metrics>,
    #[cfg(feature = "watched")]
    telemetry: Option<ringplane::observe::telemetry::Telemetry>,
}

/// Contexts of traces, by their number.
struct Contexts(Cell<u64>);

impl Watch {
    pub(super) fn worker(&self, builder: WorkerBuilder) -> WorkerBuilder {
        #[cfg(feature = "watched")]
        let builder = self.metrics.iter().fold(builder, WorkerBuilder::metrics);
        #[cfg(feature = "watched")]
        let builder = self.telemetry.iter().fold(builder, WorkerBuilder::telemetry);
        builder
    }

    pub(super) fn client(&self, builder: ClientBuilder) -> ClientBuilder {
        #[cfg(feature = "watched")]
        let builder = self.metrics.iter().fold(builder, ClientBuilder::metrics);
        #[cfg(feature = "watched")]
        let builder = self.telemetry.iter().fold(builder, ClientBuilder::telemetry);
        builder
    }

    /// The request, in a trace if calls are in one.
    pub(super) fn request(&self, request: CallRequest) -> Result<CallRequest> {
        let Some(Contexts(number)) = &self.contexts else { return Ok(request) };
        number.set(number.get() + 1);
        let (high, low) = (0x5eed_u64.to_be_bytes(), number.get().to_be_bytes());
        let mut trace = [0; 16];
        trace.iter_mut().zip(high.into_iter().chain(low)).for_each(|(to, from)| *to = from);
        Ok(request.with_context(&TraceContext::new(TraceParent::new(trace, low, 0)?)))
    }
}

/// That a handler finds the trace of its caller, as it would for a call of its own.
pub(super) fn find() -> Result<(), Failure> {
    let found = current_trace().is_some_and(|context| context.parent().is_some());
    if found { Ok(()) } else { Err(Failure::invalid("the trace of the caller did not come along")) }
}

/// A collector that reads and drops.
#[cfg(feature = "watched")]
mod drain {
    use std::io::{self, BufRead, BufReader, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    /// The address of a new one.
    pub(super) fn start() -> io::Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let addr = listener.local_addr()?;
        let accept = move || {
            for stream in listener.incoming() {
                // One connection at a time is all that an exporter has; a broken one is dialled anew.
                let _ = stream.and_then(serve);
            }
        };
        thread::Builder::new().name("collector".to_owned()).spawn(accept)?;
        Ok(format!("http://{addr}/v1/traces"))
    }

    /// Answers each POST, until the connection ends.
    fn serve(stream: TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(&stream);
        let mut line = String::new();
        let mut length = 0;
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            match line.trim_end().split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse().map_err(io::Error::other)?;
                }
                None if line.trim_end().is_empty() => {
                    io::copy(&mut reader.by_ref().take(length), &mut io::sink())?;
                    (&stream).write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
                    length = 0;
                }
                _ => {}
            }
        }
    }
}
