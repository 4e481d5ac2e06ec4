//! The command: one picture as text, or pictures until somebody has seen enough.

use std::pin::pin;
use std::time::Duration;

use ringplane::Signals;
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::exit::{Exit, Failed};
use crate::options::{Discovery, duration};
use crate::output::plain_json;
use crate::stderr::say;
use crate::streams::print;
use crate::top::draw::text;
use crate::top::fetch::Server;
use crate::top::picture::Picture;
use crate::top::source::Source;
use crate::top::terminal::{Screen, keys};
use crate::top::view::{View, Wish};

/// How wide the text of `--once` is where no terminal says it.
const WIDTH: u16 = 120;
/// Between the two looks of `--once` that rates are made of, where nobody says it.
const APART: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The status server of a process: HOST:PORT or its URL, as `serve --status` says it. Without it all that discovery finds
    #[arg(long, value_name = "ADDRESS", value_parser = Server::read, conflicts_with = "discovery")]
    status: Option<Server>,
    #[command(flatten)]
    discovery: Discovery,
    /// Between two looks [default: 1s, 5s at what discovery finds]
    #[arg(long, value_name = "DURATION", value_parser = interval)]
    interval: Option<Duration>,
    /// Print one picture as text, and end
    #[arg(long)]
    once: bool,
    /// One JSON object instead of a picture
    #[arg(long, requires = "once")]
    json: bool,
}

fn interval(text: &str) -> Result<Duration, String> {
    let bounds = Duration::from_millis(100)..=Duration::from_secs(3600);
    duration(text).and_then(|time| {
        if bounds.contains(&time) { Ok(time) } else { Err("it has to be 100 ms to an hour".to_owned()) }
    })
}

/// Shows pictures until a key or a signal ends it.
pub(crate) async fn run(args: Args) -> Result<(), Failed> {
    let mut signals = Signals::new()?;
    if args.once {
        return tokio::select! {
            biased;
            () = signals.next() => Err(Failed::new(Exit::Cancelled, "stopped by a signal")),
            done = once(args) => done,
        };
    }
    let mut screen = Screen::enter()?;
    let stop = signal(SignalKind::from_raw(Signal::TSTP.as_raw()));
    let mut stop = stop.map_err(|error| Failed::local("signals", error))?;
    let mut keys = keys()?;
    let mut view = View::default();
    let (tell, mut pictures) = watch::channel(Picture::waiting());
    let mut looking = pin!(async {
        let source = Source::open(args.status, args.discovery.discovery).await?;
        source.follow(args.interval, &tell).await;
        Ok(())
    });
    loop {
        let picture = pictures.borrow_and_update().clone();
        screen.show(&picture, &mut view)?;
        tokio::select! {
            biased;
            () = signals.next() => return Ok(()),
            _ = stop.recv() => screen.suspend()?,
            key = keys.recv() => match key {
                // The terminal is gone.
                None => return Ok(()),
                Some(None) => {}
                Some(Some(key)) => match view.press(key) {
                    Wish::Quit => return Ok(()),
                    Wish::Suspend => screen.suspend()?,
                    Wish::Nothing => {}
                },
            },
            Ok(()) = pictures.changed() => {}
            ended = &mut looking => return ended,
        }
    }
}

/// One picture, or what it is made of; of a process the second, which has rates.
async fn once(args: Args) -> Result<(), Failed> {
    if let (None, Some(missing)) = (&args.status, Source::missing(args.discovery.discovery.clone())?) {
        say(format_args!("ringplane: nothing is there: no worker has made `{}` yet", missing.display()));
        return Ok(());
    }
    let source = Source::open(args.status, args.discovery.discovery).await?;
    let mut seen = source.see().await?;
    if matches!(source, Source::Process(_)) {
        tokio::time::sleep(args.interval.unwrap_or(APART)).await;
        seen = source.see().await?;
    }
    if args.json {
        return print([plain_json(&seen.object()?)]);
    }
    let picture = seen.picture();
    let columns = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    print(text(&picture, columns.unwrap_or(WIDTH).clamp(40, 1000)))
}
