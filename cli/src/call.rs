//! `ringplane call`: one call, its items on stdout.

use std::io::{self, IsTerminal};

use ringplane::{Call, CallSender, Signals};

use crate::asked::{Asked, Body, Ready};
use crate::exit::{Exit, Failed};
use crate::input::{StdinLines, stdin_lines};
use crate::lines::Lines;
use crate::output::{json_line, plain_json};
use crate::payload::{self, Form};
use crate::stderr::say;
use crate::streams::unread;
use crate::times::Times;

/// Lines that may wait for the reader of the output.
const AHEAD: usize = 64;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    asked: Asked,
    /// Send each line of stdin as an item of the request while the answer comes in
    #[arg(long, conflicts_with = "request")]
    bidi: bool,
    /// Say on stderr which instance answered, and in what time
    #[arg(short, long)]
    verbose: bool,
}

/// Calls, prints, and says how it ended.
pub(crate) async fn run(args: Args) -> Result<(), Failed> {
    let mut signals = Signals::new()?;
    let body = if args.bidi { Body::Streamed } else { Body::Asked };
    let ready = args.asked.ready(body, &mut signals).await?;
    let mut call = ready.client.call(ready.request(ready.left))?;
    let feeding = if args.bidi { Some(stdin_lines(ready.max_item)?) } else { None };
    let mut times = Times::begin();
    let mut ended = converse(&mut call, feeding, ready.form, &mut signals, &mut times).await;
    if args.verbose {
        say(times.line(call.instance(), call.attempts()));
    }
    if let Err(failed) = ended {
        ended = Err(ready.explained(failed).await);
    }
    Ready::close(ready.client).await;
    ended
}

/// Sends and reads to the end of the call. The first signal stops the call, the second kills it.
async fn converse(
    call: &mut Call,
    feeding: Option<StdinLines>,
    form: Form,
    signals: &mut Signals,
    times: &mut Times,
) -> Result<(), Failed> {
    let lines = Lines::start(AHEAD)?;
    let terminal = io::stdout().is_terminal();
    let sender = call.take_sender();
    let mut feeding = std::pin::pin!(feed(feeding, sender, form));
    let (mut stopped, mut fed) = (false, false);
    // The line that waits for room.
    let mut line: Option<Vec<u8>> = None;
    let outcome = loop {
        tokio::select! {
            biased;
            () = signals.next() => {
                if stopped {
                    return Err(killed(call));
                }
                stopped = true;
                call.stop();
            }
            room = lines.room(), if line.is_some() => match (room, line.take()) {
                (Ok(room), Some(ready)) => room.send(ready),
                _ => break Ok(()),
            },
            () = lines.unread() => return Err(unread()),
            item = call.next(), if line.is_none() => match item {
                Some(Ok(item)) => {
                    times.on_item();
                    match printed(form, terminal, &item) {
                        Ok(printed) => line = printed,
                        Err(failed) => break Err(failed),
                    }
                }
                Some(Err(error)) => break Err(error.into()),
                None => break Ok(()),
            },
            result = &mut feeding, if !fed => {
                fed = true;
                result?;
            }
        }
    };
    times.on_end();
    tokio::select! {
        biased;
        written = lines.finish() => written?,
        () = signals.next() => return Err(killed(call)),
    }
    match outcome {
        Ok(()) if stopped => Err(Failed::new(Exit::Cancelled, "stopped by a signal; the worker ended the call early")),
        outcome => outcome,
    }
}

/// Sends every line as an item of the request.
async fn feed(lines: Option<StdinLines>, sender: Option<CallSender>, form: Form) -> Result<(), Failed> {
    let (Some(mut lines), Some(sender)) = (lines, sender) else { return Ok(()) };
    while let Some(line) = lines.recv().await {
        let mut line = line?;
        if let Some(codec) = form.codec {
            payload::whole_json(&line)?;
            line = payload::from_line(codec, &line);
        }
        // A call that is over says why where it is read.
        if sender.send(line).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// The line of an item; none for an Annotated one without data.
fn printed(form: Form, terminal: bool, item: &[u8]) -> Result<Option<Vec<u8>>, Failed> {
    let Some(data) = form.data(item)? else { return Ok(None) };
    let codec = form.codec.unwrap_or_default();
    // A handler that answers in no codec is shown as it is.
    let line = payload::to_json(codec, data).map_or_else(|_| json_line(data), |json| json_line(&json));
    match str::from_utf8(&line) {
        Ok(text) if terminal => Ok(Some(plain_json(text).into_bytes())),
        _ => Ok(Some(line)),
    }
}

fn killed(call: &Call) -> Failed {
    call.kill();
    Failed::at_once("killed by a second signal")
}
