//! `ringplane queue`: tasks that a NATS server keeps.

use std::fs::File;
use std::io::{Read, Write};
use std::time::Duration;

use ringplane::queue::{Config, GROUP, QUEUE, Queue, Task};
use serde_json::{Value, json};

use crate::environment::followed;
use crate::exit::{Exit, Failed};
use crate::input::stdin_lines;
use crate::nats::{connect, interruptible};
use crate::options::duration;
use crate::output::{json_line, plain_json};
use crate::streams::{Output, print, written};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Add tasks and print their numbers; each counts once the server keeps it
    Push(Push),
    /// Take tasks, print each as a line, and acknowledge it when it is written
    Pop(Pop),
    /// Show what a queue holds and what each of its groups has before it
    Info(Info),
    /// Take messages out of a queue, and print how many
    Purge(Purge),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Push {
    /// The queue, made if it is not there
    queue: String,
    /// The task as it is, @FILE for a file's content, - for each line of stdin
    task: String,
    /// The event that it is, instead of a task
    #[arg(long, value_name = "NAME", default_value = QUEUE)]
    event: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Pop {
    /// The queue
    queue: String,
    /// Whose tasks: each group gets everything, and those who name one share it
    #[arg(long, value_name = "NAME", default_value = GROUP)]
    group: String,
    /// How many at the most
    #[arg(long, value_name = "N", default_value_t = 1)]
    count: u64,
    /// How long to wait for each
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = duration)]
    wait: Duration,
    /// One JSON object per line, with number, tries and event of each task, and where a dead letter comes from
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Info {
    /// The queue
    queue: String,
    /// One JSON object instead of lines
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Purge {
    /// The queue
    queue: String,
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// What every group has acknowledged; one that has acknowledged nothing keeps everything
    #[arg(long)]
    acknowledged: bool,
    /// What is before this number, acknowledged or not
    #[arg(long, value_name = "NUMBER")]
    before: Option<u64>,
    /// Everything
    #[arg(long)]
    all: bool,
}

/// Does what is asked, until a signal.
pub(crate) async fn run(command: Command) -> Result<(), Failed> {
    interruptible(async {
        match command {
            Command::Push(args) => push(args).await,
            Command::Pop(args) => pop(args).await,
            Command::Info(args) => info(args).await,
            Command::Purge(args) => purge(args).await,
        }
    })
    .await
}

async fn push(args: Push) -> Result<(), Failed> {
    let connection = connect().await?;
    let queue = Queue::open(&connection, &args.queue, followed(|get| Config::from_vars(get))?).await?;
    let limit = connection.max_payload() as u64;
    let task = match args.task.strip_prefix('@') {
        None if args.task == "-" => {
            let mut lines = stdin_lines(limit)?;
            while let Some(line) = lines.recv().await {
                written_line(queue.publish(&args.event, line?).await?.to_string().into_bytes()).await?;
            }
            return Ok(());
        }
        None => args.task.into_bytes(),
        Some(path) => {
            let (mut task, failed) = (Vec::new(), |error| Failed::local(path, error));
            // One byte more than the server takes says enough.
            File::open(path).map_err(failed)?.take(limit + 1).read_to_end(&mut task).map_err(failed)?;
            task
        }
    };
    written_line(queue.publish(&args.event, task).await?.to_string().into_bytes()).await
}

async fn pop(args: Pop) -> Result<(), Failed> {
    let connection = connect().await?;
    let group = existing(&connection, &args.queue).await?.consumer(&args.group).await?;
    for taken in 0..args.count {
        match group.dequeue(args.wait).await? {
            Some(task) => {
                let line = if args.json { json_of(&task) } else { task.payload().to_vec() };
                task.keep(written_line(line)).await?;
                task.ack().await?;
            }
            None if taken > 0 => break,
            None => {
                let none = format_args!("no task for `{}` in the queue `{}`", args.group, args.queue);
                return Err(Failed::new(Exit::NoInstances, none));
            }
        }
    }
    Ok(())
}

fn json_of(task: &Task) -> Vec<u8> {
    let payload: Value = serde_json::from_slice(&json_line(task.payload())).unwrap_or_default();
    let dead = task.dead().map(
        |dead| json!({"queue": dead.queue, "group": dead.consumer, "sequence": dead.sequence, "tries": dead.tries}),
    );
    let (sequence, tries, event) = (task.sequence(), task.tries(), task.event());
    let object = json!({"sequence": sequence, "tries": tries, "event": event, "payload": payload, "dead": dead});
    plain_json(&object.to_string()).into_bytes()
}

async fn info(args: Info) -> Result<(), Failed> {
    let queue = existing(&connect().await?, &args.queue).await?;
    let (info, groups) = (queue.info().await?, queue.consumers().await?);
    if args.json {
        let groups: Vec<_> = groups
            .iter()
            .map(|group| {
                json!({
                    "name": group.name,
                    "pending": group.depth.pending,
                    "unacknowledged": group.depth.unacknowledged,
                    "acknowledged": group.acknowledged,
                })
            })
            .collect();
        let object = json!({
            "queue": info.stream,
            "messages": info.messages,
            "bytes": info.bytes,
            "first": info.first,
            "last": info.last,
            "max_age_seconds": info.max_age.as_secs(),
            "groups": groups,
        });
        return print([object.to_string()]);
    }
    let kept = if info.max_age.is_zero() { "for ever".to_owned() } else { format!("for {:?}", info.max_age) };
    let (messages, bytes) = (info.messages, info.bytes);
    let mut lines = vec![format!("{}: {messages} messages, {bytes} bytes, kept {kept}", info.stream)];
    lines.extend(groups.iter().map(|group| {
        let (waiting, in_hand) = (group.depth.pending, group.depth.unacknowledged);
        format!("{}: {waiting} waiting, {in_hand} in hand, acknowledged up to {}", group.name, group.acknowledged)
    }));
    print(lines)
}

async fn purge(args: Purge) -> Result<(), Failed> {
    let queue = existing(&connect().await?, &args.queue).await?;
    let purged = match args.which {
        Which { acknowledged: true, .. } => queue.purge_acknowledged().await?,
        Which { before: Some(number), .. } => queue.purge_before(number).await?,
        Which { .. } => queue.purge_all().await?,
    };
    print([purged.to_string()])
}

/// A queue that is only looked at is not made.
async fn existing(connection: &ringplane::nats::Connection, name: &str) -> Result<Queue, Failed> {
    Ok(Queue::existing(connection, name, Config::default()).await?)
}

/// Writes a line on another thread: its reader may pause, and signals are heard meanwhile.
async fn written_line(mut line: Vec<u8>) -> Result<(), Failed> {
    line.push(b'\n');
    let write = move || written(Output::stdout().and_then(|mut out| out.write_all(&line)));
    tokio::task::spawn_blocking(write).await.map_err(|error| Failed::new(Exit::Internal, error))?
}
