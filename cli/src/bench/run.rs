//! The load itself: calls as they are due, each a task of its own, and their sums.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ringplane::Signals;
use tokio::task::JoinSet;

use crate::asked::{Body, Ready};
use crate::bench::output::{Report, json_line, rows};
use crate::bench::page::{Page, html};
use crate::bench::plan::{Args, Due, Pace, Plan};
use crate::bench::sums::{Answer, Sums};
use crate::exit::{Exit, Failed};
use crate::lines::Lines;
use crate::progress::Progress;
use crate::streams::unread;

/// Lines that may wait for the reader of the output: all there are.
const AHEAD: usize = 64;

/// Puts the load on, and prints what became of it.
pub(crate) async fn run(args: Args) -> Result<(), Failed> {
    let mut signals = Signals::new()?;
    let (name, plan, timeout) = (args.asked.endpoint.to_string(), Plan::of(&args), args.asked.timeout);
    let body = args.size.map_or(Body::Asked, |size| {
        Body::Given(format!("\"{}\"", "x".repeat(usize::try_from(size).unwrap_or(usize::MAX))).into_bytes())
    });
    let page = args.report.as_deref().map(Page::open).transpose()?;
    let out = Lines::start(AHEAD)?;
    let ready = Arc::new(args.asked.ready(body, &mut signals).await?);
    let load = async {
        if args.warm_up > 0 {
            let warm = put_on(&ready, timeout, plan.warm_up(args.warm_up), None, &mut signals).await?;
            if warm.stopped {
                return Err(Failed::new(Exit::Cancelled, "stopped by a signal before a call counted"));
            }
        }
        put_on(&ready, timeout, plan, Some(&name), &mut signals).await
    };
    let report = tokio::select! {
        biased;
        report = load => report?,
        () = out.unread() => return Err(unread()),
    };
    let driver = ready.client.driver();
    let rows = rows(&name, driver, &report);
    if let Some(page) = page {
        page.write(&html(&name, &rows, &report))?;
    }
    let lines = match args.json {
        true => vec![json_line(&name, driver, &report)],
        false => rows.into_iter().map(|(name, value)| format!("{name:<13}{value}")).collect(),
    };
    for line in lines {
        if out.put(line).await.is_err() {
            break;
        }
    }
    tokio::select! {
        biased;
        written = out.finish() => written?,
        () = signals.next() => return Err(Failed::new(Exit::Cancelled, "killed by a second signal")),
    }
    let ended =
        if report.stopped { Err(Failed::new(Exit::Cancelled, "stopped by a signal")) } else { report.sums.end() };
    Ready::close(ready.client.clone()).await;
    ended
}

/// One load to its end, or to a signal, which leaves out what is under way.
async fn put_on(
    ready: &Arc<Ready>,
    timeout: Option<Duration>,
    plan: Plan,
    name: Option<&str>,
    signals: &mut Signals,
) -> Result<Report, Failed> {
    let sums = Arc::new(Mutex::new(Sums::new()));
    let mut pace = Pace::begin(plan)?;
    let lasts = plan.lasts.map_or(0, millis);
    let progress = name.map(|name| match plan.calls {
        Some(calls) => Progress::start(name, calls, "calls"),
        None => Progress::start(name, lasts, "ms"),
    });
    let (start, mut running, mut begun, mut over) = (Instant::now(), JoinSet::new(), 0, false);
    let stopped = loop {
        if over && running.is_empty() {
            break false;
        }
        tokio::select! {
            biased;
            () = signals.next() => break true,
            _ = running.join_next(), if !running.is_empty() => {}
            due = pace.next(), if !over => match due {
                None => over = true,
                Some(due) => {
                    begun += 1;
                    running.spawn(counted(ready.clone(), timeout, due, start, sums.clone()));
                }
            },
        }
        if let Some(progress) = &progress {
            progress.at(if plan.calls.is_some() { begun } else { millis(pace.elapsed()) });
        }
    };
    let (elapsed, late) = (pace.elapsed(), pace.late());
    drop(progress);
    running.shutdown().await;
    let sums = std::mem::replace(&mut *sums.lock().unwrap_or_else(PoisonError::into_inner), Sums::new());
    let unfinished = begun - sums.done - sums.failed();
    Ok(Report { sums, elapsed, late, unfinished, stopped })
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A call, its sums, and then its place for another.
async fn counted(ready: Arc<Ready>, timeout: Option<Duration>, due: Due, start: Instant, sums: Arc<Mutex<Sums>>) {
    let ended = one(&ready, timeout, due.at.unwrap_or_else(Instant::now)).await;
    sums.lock().unwrap_or_else(PoisonError::into_inner).add(ended, start.elapsed());
    drop(due.place);
}

async fn one(ready: &Ready, timeout: Option<Duration>, begun: Instant) -> Result<Answer, Failed> {
    let mut answer = Answer::default();
    let mut call = ready.client.call(ready.request(timeout))?;
    while let Some(item) = call.next().await {
        let item = item?;
        if let Some(data) = ready.form.data(&item)? {
            answer.first.get_or_insert_with(|| begun.elapsed());
            answer.items += 1;
            answer.bytes += data.len() as u64;
        }
    }
    answer.whole = begun.elapsed();
    Ok(answer)
}
