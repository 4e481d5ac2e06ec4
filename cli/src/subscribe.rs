//! `ringplane sub`: the events of one topic on stdout, and what is missing of them.

use clap::ValueEnum;
use ringplane::Signals;
use ringplane::events::{Delivery, Events, InboxConfig, Listen, Message, Scope, Slow, Subject, Subscription};
use ringplane_core::wire::codec::Codec;
use serde_json::{Value, json};

use crate::event_plane::{Plane, failed, scope};
use crate::exit::{Exit, Failed};
use crate::lines::Lines;
use crate::output::{json_line, plain_json};
use crate::payload;
use crate::stderr::say;
use crate::streams::unread;

/// Lines that may wait for the reader of the output.
const AHEAD: usize = 64;

const EXAMPLES: &str = "Examples:
  ringplane sub demo.backend load
  ringplane sub demo load --json --count 10 | jq .payload
  NATS_SERVER=nats://host:4222 ringplane sub demo load --event-plane nats --group readers

What is missing is printed too: `# missing: 3 of publisher 1f, 7 to 9`, or with --json an object whose kind is gap.
Exit codes: 0 after --count events or a signal, 4 if the server or broker cannot be reached, 9 if there will be no more events.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// What the events are about: namespace, namespace.component or namespace.component.endpoint
    #[arg(value_parser = scope)]
    scope: Scope,
    /// Which events
    topic: String,
    #[command(flatten)]
    plane: Plane,
    /// One JSON object per line, with publisher, number and time of each event
    #[arg(long)]
    json: bool,
    /// End after so many events; without this, with a signal
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// What becomes of events that come faster than they are printed
    #[arg(long, value_name = "POLICY", default_value = "drop-oldest")]
    slow: Policy,
    /// Share the events with the others of this group: each gets its part; where the plane has groups, as nats has
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug, ValueEnum)]
enum Policy {
    /// The oldest is dropped, and told
    DropOldest,
    /// The newest is dropped, and told
    DropNewest,
    /// The publisher waits; over mux
    Wait,
}

impl From<Policy> for Slow {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::DropOldest => Self::DropOldest,
            Policy::DropNewest => Self::DropNewest,
            Policy::Wait => Self::Wait,
        }
    }
}

/// Prints events until there have been enough, or a signal comes.
pub(crate) async fn run(args: Args) -> Result<(), Failed> {
    let mut signals = Signals::new()?;
    let lines = Lines::start(AHEAD)?;
    let ended = tokio::select! {
        biased;
        () = signals.next() => Ok(()),
        ended = listen(&args, &lines) => ended,
        () = lines.unread() => Err(unread()),
    };
    tokio::select! {
        biased;
        written = lines.finish() => written.and(ended),
        () = signals.next() => ended,
    }
}

async fn listen(args: &Args, lines: &Lines) -> Result<(), Failed> {
    let subject = Subject::new(args.scope.clone(), args.topic.as_str());
    let subject = subject.map_err(|error| Failed::by(Exit::Usage, &error))?;
    let events = args.plane.open().await?;
    let inbox = InboxConfig { slow: args.slow.into(), ..InboxConfig::default() };
    let listening =
        events.subscriber_of(&subject, Listen { inbox, group: args.group.clone(), ..Listen::default() }).await;
    let subscription = listening.map_err(failed)?;
    say(format_args!("ringplane: listening to {subject} by {}", events.transport().kind()));
    let ended = print(args, subscription, lines).await;
    Events::shutdown(events).await;
    ended
}

async fn print(args: &Args, mut subscription: Subscription, lines: &Lines) -> Result<(), Failed> {
    let mut count = 0;
    while args.count.is_none_or(|most| count < most) {
        let Some(delivery) = subscription.next().await else {
            return Err(Failed::new(Exit::Disconnected, "there are no events any more"));
        };
        let delivery = delivery.map_err(failed)?;
        count += u64::from(matches!(delivery, Delivery::Event(_)));
        let line = if args.json { json_of(&delivery) } else { text_of(&delivery) };
        if lines.put(line).await.is_err() {
            // Whoever finishes the lines hears why.
            return Ok(());
        }
    }
    Ok(())
}

/// The payload as JSON: MessagePack is read as such, anything else as it is.
fn payload_of(message: &Message) -> Vec<u8> {
    payload::to_json(Codec::Msgpack, &message.payload).unwrap_or_else(|_| json_line(&message.payload))
}

fn text_of(delivery: &Delivery) -> Vec<u8> {
    match delivery {
        Delivery::Event(message) => payload_of(message),
        Delivery::Gap(gap) => {
            let (publisher, first, last, missing) = (gap.publisher, gap.first, gap.last, gap.missing);
            format!("# missing: {missing} of publisher {publisher}, {first} to {last}").into_bytes()
        }
        Delivery::Restart(publisher) => format!("# publisher {publisher} has begun anew").into_bytes(),
        Delivery::Malformed(error, times) => format!("# no event: {error}, {times} times").into_bytes(),
    }
}

fn json_of(delivery: &Delivery) -> Vec<u8> {
    let object = match delivery {
        Delivery::Event(message) => {
            let payload = payload_of(message);
            let payload: Value = serde_json::from_slice(&payload).unwrap_or_default();
            let (publisher, at) = (message.publisher.to_string(), message.published_at);
            json!({"kind": "event", "publisher": publisher, "sequence": message.sequence, "published_at": at, "payload": payload})
        }
        Delivery::Gap(gap) => {
            let publisher = gap.publisher.to_string();
            json!({"kind": "gap", "publisher": publisher, "first": gap.first, "last": gap.last, "missing": gap.missing})
        }
        Delivery::Restart(publisher) => json!({"kind": "restart", "publisher": publisher.to_string()}),
        Delivery::Malformed(error, times) => {
            json!({"kind": "malformed", "error": error.to_string(), "times": times})
        }
    };
    plain_json(&object.to_string()).into_bytes()
}
