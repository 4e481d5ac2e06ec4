//! The load generator that all asynchronous engines share.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::book::Book;
use crate::content::{Ask, Checker};
use crate::engine::{Error, Result};
use crate::line::{Phase, announce_and_wait};
use crate::measure::{Measured, Plan};
use crate::scenario::{Background, SLOW_GAP, SLOW_ITEM, Scenario};

/// How an engine makes calls. Everything runs on one thread.
pub trait Client: 'static {
    /// A call under way; dropping it gives it up.
    type Call: Call;

    /// Makes a call on connection `connection`, a number below the scenario's `connections` plus `idle`, dialing it if
    /// need be. Calls on one connection share it.
    fn call(&self, connection: usize, request: Bytes) -> impl Future<Output = Result<Self::Call>>;

    /// The connection is not needed any more; the next call on it is to dial again. Only scenarios that churn say so.
    fn close(&self, connection: usize) {
        let _ = connection;
    }
}

/// An answer as it comes.
pub trait Call: 'static {
    /// An item of it.
    type Item: AsRef<[u8]>;

    /// The next item; `None` after the last.
    fn next(&mut self) -> impl Future<Output = Option<Result<Self::Item>>>;
}

/// What runs the generator's tasks, on its own thread.
pub trait Runtime: 'static {
    /// Starts a task.
    fn spawn(&self, task: impl Future<Output = ()> + 'static);

    /// Completes at `at`, or at once if that is over.
    fn sleep_until(&self, at: Instant) -> impl Future<Output = ()>;
}

/// Makes the scenario's calls with `client` and says what came of them. Calls still under way at the end are left to the
/// end of the process.
pub async fn generate<C: Client, R: Runtime>(scenario: &Scenario, plan: &Plan, client: C, runtime: R) -> Measured {
    let load = Rc::new(Load {
        scenario: scenario.clone(),
        book: RefCell::new(Book::new(scenario, plan)),
        client,
        runtime,
        seeds: Cell::new(1),
        slot: Cell::new(0),
        check: plan.check.is_some(),
        workers: Cell::new(scenario.in_flight),
        done: RefCell::new(None),
    });
    load.clone().open_idle().await;
    (0..scenario.slow_readers).for_each(|_| load.runtime.spawn(load.clone().read_slowly()));
    if let Some(background) = scenario.background {
        (0..background.in_flight).for_each(|_| load.runtime.spawn(load.clone().call_beside(background)));
    }
    let begun = Instant::now();
    (0..scenario.in_flight).for_each(|worker| load.runtime.spawn(load.clone().work(worker, begun)));
    if load.check {
        load.workers_done().await;
    } else {
        load.runtime.sleep_until(begun + plan.warmup).await;
        load.book.borrow_mut().open();
        load.runtime.sleep_until(Instant::now() + plan.measure).await;
    }
    load.book.borrow_mut().close()
}

struct Load<C, R> {
    scenario: Scenario,
    book: RefCell<Book>,
    client: C,
    runtime: R,
    seeds: Cell<u64>,
    /// The next slot of an open loop, the next connection of one that churns.
    slot: Cell<u64>,
    check: bool,
    workers: Cell<usize>,
    done: RefCell<Option<Waker>>,
}

/// A request and what it asks for.
struct Question {
    ask: Ask,
    bytes: Bytes,
}

/// Requests of each worker, used in turn: neighbours differ, and making them costs nothing while it counts.
const VARIANTS: usize = 2;
/// Dials at a time while idle connections are opened.
const DIALS: usize = 64;

impl<C: Client, R: Runtime> Load<C, R> {
    async fn work(self: Rc<Self>, worker: usize, begun: Instant) {
        let scenario = &self.scenario;
        let questions: Vec<Question> = (0..VARIANTS)
            .map(|_| self.question(scenario.request_bytes, scenario.items, scenario.item_bytes, scenario.gap_us))
            .collect();
        if let Some(gap) = scenario.gap() {
            // Streams start evenly over the gap, as they would if nobody had agreed on a time.
            let offset = gap.mul_f64(worker as f64 / scenario.in_flight as f64);
            self.runtime.sleep_until(begun + offset).await;
        }
        for question in questions.iter().cycle() {
            let Some(deep) = self.book.borrow_mut().begin() else { break };
            let (from, connection) = self.place(worker, begun).await;
            if let Err(error) = self.ask(connection, question, from, deep).await {
                self.book.borrow_mut().failed(error);
                // Failing fast would keep the others from working.
                self.runtime.sleep_until(Instant::now() + Duration::from_millis(10)).await;
            }
            if scenario.churn {
                self.client.close(connection);
            }
        }
        self.workers.set(self.workers.get() - 1);
        if self.workers.get() == 0
            && let Some(waker) = self.done.take()
        {
            waker.wake();
        }
    }

    /// From when the next call of `worker` counts, and its connection.
    async fn place(&self, worker: usize, begun: Instant) -> (Instant, usize) {
        let Scenario { rate, churn, connections, .. } = self.scenario;
        if rate == 0 && !churn {
            return (Instant::now(), worker % connections);
        }
        let slot = self.slot.replace(self.slot.get() + 1);
        let connection = if churn { slot as usize % connections } else { worker % connections };
        if rate == 0 {
            return (Instant::now(), connection);
        }
        let due = begun + Duration::from_secs_f64(slot as f64 / rate as f64);
        self.runtime.sleep_until(due).await;
        (due, connection)
    }

    async fn ask(&self, connection: usize, question: &Question, from: Instant, deep: bool) -> Result<()> {
        let paced = self.scenario.gap_us > 0;
        let mut call = self.client.call(connection, question.bytes.clone()).await?;
        let mut checker = Checker::new(question.ask, deep);
        let mut last = None;
        while let Some(item) = call.next().await {
            let item = item?;
            let item = item.as_ref();
            let mut book = self.book.borrow_mut();
            checker.item(item, book.pattern)?;
            book.item(item.len());
            if last.is_none() || paced {
                let now = Instant::now();
                match last.replace(now) {
                    None => book.first(now - from),
                    Some(last) => book.gap(now - last),
                }
            }
        }
        checker.end()?;
        self.book.borrow_mut().end(from.elapsed(), question.bytes.len());
        Ok(())
    }

    fn question(&self, request_bytes: usize, items: usize, item_bytes: usize, gap_us: u64) -> Question {
        let seed = self.seeds.replace(self.seeds.get() + 1);
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        let gap_us = u32::try_from(gap_us).unwrap_or(u32::MAX);
        let ask = Ask { seed, items: number(items), item_bytes: number(item_bytes), gap_us, check: self.check };
        Question { ask, bytes: ask.request(request_bytes, self.book.borrow().pattern) }
    }

    /// One call on each idle connection, so that it is up, with the memory of the server taken before and after.
    async fn open_idle(self: Rc<Self>) {
        let Scenario { connections, idle, .. } = self.scenario;
        if idle == 0 {
            return;
        }
        announce_and_wait(Phase::Before);
        let next = Rc::new(Cell::new(connections));
        self.workers.set(DIALS);
        for _ in 0..DIALS {
            let (load, next) = (self.clone(), next.clone());
            self.runtime.spawn(async move {
                while next.get() < connections + idle {
                    let connection = next.replace(next.get() + 1);
                    if let Err(error) = load.touch(connection).await {
                        load.book.borrow_mut().failed(error);
                    }
                }
                load.workers.set(load.workers.get() - 1);
                if load.workers.get() == 0
                    && let Some(waker) = load.done.take()
                {
                    waker.wake();
                }
            });
        }
        self.workers_done().await;
        self.workers.set(self.scenario.in_flight);
        announce_and_wait(Phase::Idle);
    }

    async fn touch(&self, connection: usize) -> Result<()> {
        let question = self.question(Ask::LEN, 1, 8, 0);
        let mut call = self.client.call(connection, question.bytes).await?;
        call.next().await.ok_or("an idle connection's call had no answer")??;
        match call.next().await {
            None => Ok(()),
            Some(_) => Err("an idle connection's call had two answers".into()),
        }
    }

    async fn read_slowly(self: Rc<Self>) {
        let question = self.question(Ask::LEN, u32::MAX as usize, SLOW_ITEM, 0);
        let outcome = async {
            let mut call = self.client.call(0, question.bytes.clone()).await?;
            let mut checker = Checker::new(question.ask, true);
            while let Some(item) = call.next().await {
                checker.item(item?.as_ref(), self.book.borrow().pattern)?;
                self.runtime.sleep_until(Instant::now() + SLOW_GAP).await;
            }
            Err::<(), Error>("a slow reader's answer has ended".into())
        };
        if let Err(error) = outcome.await {
            self.book.borrow_mut().failed(error);
        }
    }

    async fn call_beside(self: Rc<Self>, background: Background) {
        let question = self.question(background.request_bytes, background.items, background.item_bytes, 0);
        while !self.book.borrow().is_over() {
            let outcome = async {
                let mut call = self.client.call(0, question.bytes.clone()).await?;
                let mut checker = Checker::new(question.ask, self.check);
                while let Some(item) = call.next().await {
                    let item = item?;
                    let mut book = self.book.borrow_mut();
                    checker.item(item.as_ref(), book.pattern)?;
                    book.background(item.as_ref().len());
                }
                self.book.borrow_mut().background(question.bytes.len());
                Ok::<(), Error>(checker.end()?)
            };
            if let Err(error) = outcome.await {
                self.book.borrow_mut().failed(error);
                return;
            }
        }
    }

    async fn workers_done(&self) {
        poll_fn(|cx| {
            if self.workers.get() == 0 {
                return Poll::Ready(());
            }
            self.done.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}
