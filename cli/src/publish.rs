//! `ringplane pub`: events of one topic, from the command line, a file or the lines of stdin.

use std::time::Duration;

use ringplane::Signals;
use ringplane::events::{EventPublisher, Events, Scope, Speak, Subject};
use ringplane_core::wire::codec::Codec;

use crate::event_plane::{Plane, failed, scope};
use crate::exit::{Exit, Failed};
use crate::input::{body, stdin_lines};
use crate::payload;

/// The largest event, in bytes: what Dynamo's request plane takes too.
const MAX_EVENT: u64 = 32 << 20;
/// Between two looks for subscribers that are waited for.
const LOOK: Duration = Duration::from_millis(10);

const EXAMPLES: &str = "Examples:
  ringplane pub demo.backend load '{\"used\": 0.5}'
  tail -f loads.jsonl | ringplane pub demo.backend load --listeners 1
  NATS_SERVER=nats://host:4222 ringplane pub demo load @event.json --event-plane nats

Exit codes: 4 if the server or broker cannot be reached, 6 if an event could not be handed on in time, 10 if one is too large.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// What the events are about: namespace, namespace.component or namespace.component.endpoint
    #[arg(value_parser = scope)]
    scope: Scope,
    /// Which events
    topic: String,
    /// The event as it is, @FILE for a file's content, - for one event from each line of stdin
    #[arg(allow_hyphen_values = true, default_value = "-")]
    event: String,
    #[command(flatten)]
    plane: Plane,
    /// Publish the bytes as they are; without this JSON becomes MessagePack, which is what subscribers expect
    #[arg(long)]
    raw: bool,
    /// Begin once so many listen; where the plane can tell, as mux can
    #[arg(long, value_name = "N", default_value_t = 0)]
    listeners: usize,
}

/// Publishes until there is nothing more, or a signal comes.
pub(crate) async fn run(args: Args) -> Result<(), Failed> {
    let mut signals = Signals::new()?;
    let ended = tokio::select! {
        biased;
        () = signals.next() => Err(Failed::new(Exit::Cancelled, "stopped by a signal")),
        events = args.plane.open() => events,
    };
    let events = ended?;
    let ended = tokio::select! {
        biased;
        () = signals.next() => Err(Failed::new(Exit::Cancelled, "stopped by a signal")),
        ended = publish(&args, &events) => ended,
    };
    tokio::select! {
        biased;
        () = signals.next() => {}
        () = events.shutdown() => {}
    }
    ended
}

async fn publish(args: &Args, events: &Events) -> Result<(), Failed> {
    let subject = Subject::new(args.scope.clone(), args.topic.as_str());
    let subject = subject.map_err(|error| Failed::by(Exit::Usage, &error))?;
    let publisher = events.publisher_of(subject, Speak::default()).await.map_err(failed)?;
    wait_for(args.listeners, &publisher).await?;
    if args.event == "-" {
        let mut lines = stdin_lines(MAX_EVENT)?;
        while let Some(line) = lines.recv().await {
            publisher.publish(args.payload(&line?)).await.map_err(failed)?;
        }
    } else {
        let event = args.event.clone();
        let read = tokio::task::spawn_blocking(move || body(Some(&event), None, MAX_EVENT)).await;
        let event = read.map_err(|error| Failed::new(Exit::Internal, error))??;
        publisher.publish(args.payload(&event)).await.map_err(failed)?;
    }
    publisher.flush().await.map_err(failed)
}

impl Args {
    fn payload(&self, event: &[u8]) -> Vec<u8> {
        if self.raw { event.to_vec() } else { payload::from_line(Codec::Msgpack, event) }
    }
}

async fn wait_for(listeners: usize, publisher: &EventPublisher) -> Result<(), Failed> {
    if listeners == 0 {
        return Ok(());
    }
    loop {
        match publisher.listeners() {
            None => return Err(Failed::new(Exit::Usage, "this event plane cannot tell how many listen")),
            Some(there) if there >= listeners => return Ok(()),
            Some(_) => tokio::time::sleep(LOOK).await,
        }
    }
}
