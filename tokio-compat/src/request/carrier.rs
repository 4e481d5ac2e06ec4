//! The way from the cores to what brings requests to workers, on a thread of its own, and the way of the answers back.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringplane_core::caller::dynamo::carrier::{Answer, Request, Ticket};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep, timeout};

use crate::seldom::Seldom;

/// Tells the core of that number what came of a request; `false` while its mailbox is full. It must not block.
pub type Report = Arc<dyn Fn(usize, Ticket, &Answer) -> bool + Send + Sync>;

/// How long an answer is offered to a full mailbox, and how often.
const INSIST: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(1);

/// A thread that brings requests. It ends when this is dropped, and what it has in hand with it.
pub struct Carrier {
    queue: mpsc::Sender<(usize, Request)>,
}

impl fmt::Debug for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Carrier").field("room", &self.queue.capacity()).finish()
    }
}

impl Carrier {
    /// Starts the thread. On it `begin` makes what brings one request and says what came of it; at most `in_hand` are
    /// brought at a time, and as many wait.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub fn start<Bring, Brought>(
        name: &str,
        in_hand: usize,
        report: Report,
        begin: impl FnOnce() -> Bring + Send + 'static,
    ) -> io::Result<Self>
    where
        Bring: Fn(Request) -> Brought,
        Brought: Future<Output = Answer> + Send + 'static,
    {
        let (queue, requests) = mpsc::channel(in_hand);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let run = move || runtime.block_on(async { carry(requests, in_hand, report, begin()).await });
        std::thread::Builder::new().name(name.to_owned()).spawn(run)?;
        Ok(Self { queue })
    }

    /// Hands over a request of the core of that number.
    ///
    /// # Errors
    /// [`Answer::Full`] if as many wait as may.
    pub fn send(&self, core: usize, request: Request) -> Result<(), Answer> {
        self.queue.try_send((core, request)).map_err(|_| Answer::Full)
    }
}

async fn carry<Bring, Brought>(
    mut requests: mpsc::Receiver<(usize, Request)>,
    in_hand: usize,
    report: Report,
    bring: Bring,
) where
    Bring: Fn(Request) -> Brought,
    Brought: Future<Output = Answer> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(in_hand));
    while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
        let Some((core, request)) = requests.recv().await else { return };
        let (ticket, bound) = (request.ticket, request.timeout);
        let (brought, report) = (bring(request), Arc::clone(&report));
        tokio::spawn(async move {
            let answer = timeout(bound, brought).await.unwrap_or(Answer::TimedOut);
            let until = Instant::now() + INSIST;
            while !report(core, ticket, &answer) {
                if Instant::now() > until {
                    static LOST: Seldom = Seldom::new();
                    if let Some(times) = LOST.due(std::time::Instant::now()) {
                        tracing::warn!(times, "a core takes no answers; their calls end by their own bounds");
                    }
                    break;
                }
                sleep(PAUSE).await;
            }
            drop(permit);
        });
    }
}

/// Nanoseconds since the UNIX epoch: the header with the time of sending.
pub(crate) fn send_time() -> String {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string()
}
