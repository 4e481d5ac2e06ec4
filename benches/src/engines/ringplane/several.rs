//! ringplane called from a tokio runtime of several threads.

use std::mem;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringplane::{CallRequest, Endpoint, InstanceId};
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};

use crate::book::Book;
use crate::content::{Ask, Checker, Pattern};
use crate::engine::{Engine, Offers, Result, Sides};
use crate::engines::ringplane::engine::MUX;
use crate::engines::ringplane::facade::{Facade, Services};
use crate::line::Ready;
use crate::measure::{Measured, Plan};
use crate::scenario::Scenario;

/// Worker threads of the caller's runtime.
const THREADS: usize = 2;

/// The facade, called from tasks that tokio moves between its threads. The server is the facade's own.
#[derive(Copy, Clone, Debug)]
pub struct Several(pub Facade);

impl Engine for Several {
    fn name(&self) -> &'static str {
        "ringplane-client-io-uring-mt"
    }

    fn about(&self) -> &'static str {
        "ringplane as services use it: called from a tokio runtime of two threads, handler on the core"
    }

    fn offers(&self) -> Offers {
        MUX
    }

    fn unsupported(&self, scenario: &Scenario) -> Option<&'static str> {
        let Scenario { gap_us, rate, slow_readers, idle, churn, background, .. } = scenario;
        let other = *gap_us > 0 || *rate > 0 || *slow_readers > 0 || *idle > 0 || *churn || background.is_some();
        other.then_some("a load on several threads makes closed loops only")
    }
}

impl Sides for Several {
    fn serve(&self, scenario: &Scenario, ready: Ready) -> Result<()> {
        self.0.serve(scenario, ready)
    }

    fn load(&self, scenario: &Scenario, address: &str, plan: &Plan) -> Result<Measured> {
        let (server, instance) = address.split_once(' ').ok_or("an address without an instance")?;
        let (server, instance): (SocketAddr, _) = (server.parse()?, InstanceId(instance.parse()?));
        let runtime = Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?;
        let outcome = runtime.block_on(async {
            let builder = ringplane::Client::builder().config(self.0.config(scenario));
            let services = Services::start(builder, self.0.watched.start()?, server, instance, scenario).await?;
            Ok(generate(scenario, plan, services.all()?).await)
        });
        // What still runs is left as it is: the process is about to end.
        mem::forget(runtime);
        outcome
    }
}

/// Makes the scenario's calls and says what came of them: [`load::generate`](crate::load::generate) for tasks that move between
/// threads. It tells the book of a call when that ends, so that threads seldom meet there.
async fn generate(scenario: &Scenario, plan: &Plan, endpoints: Vec<Endpoint>) -> Measured {
    let book = Book::new(scenario, plan);
    let load = Arc::new(Load {
        scenario: scenario.clone(),
        pattern: book.pattern,
        book: Mutex::new(book),
        endpoints,
        seeds: AtomicU64::new(1),
        check: plan.check.is_some(),
    });
    let mut workers = JoinSet::new();
    let begun = Instant::now();
    (0..scenario.in_flight).for_each(|worker| _ = workers.spawn(load.clone().work(worker)));
    if load.check {
        while let Some(ended) = workers.join_next().await {
            if let Err(error) = ended {
                load.book().failed(error);
            }
        }
    } else {
        sleep_until((begun + plan.warmup).into()).await;
        load.book().open();
        sleep(plan.measure).await;
    }
    let measured = load.book().close();
    workers.detach_all();
    measured
}

struct Load {
    scenario: Scenario,
    pattern: Pattern,
    book: Mutex<Book>,
    endpoints: Vec<Endpoint>,
    seeds: AtomicU64,
    check: bool,
}

impl Load {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn work(self: Arc<Self>, worker: usize) {
        // Neighbours differ, and making requests costs nothing while it counts.
        let questions = [(); 2].map(|()| self.question());
        let Some(endpoint) = self.endpoints.get(worker % self.scenario.connections) else { return };
        for question in questions.iter().cycle() {
            let Some(deep) = self.book().begin() else { return };
            if let Err(error) = self.ask(endpoint, question, deep).await {
                self.book().failed(error);
                // Failing fast would keep the others from working.
                sleep(Duration::from_millis(10)).await;
            }
        }
    }

    fn question(&self) -> (Ask, Bytes) {
        let Scenario { items, item_bytes, request_bytes, .. } = self.scenario;
        let seed = self.seeds.fetch_add(1, Ordering::Relaxed);
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        let ask = Ask { seed, items: number(items), item_bytes: number(item_bytes), gap_us: 0, check: self.check };
        (ask, ask.request(request_bytes, self.pattern))
    }

    async fn ask(&self, endpoint: &Endpoint, (ask, request): &(Ask, Bytes), deep: bool) -> Result<()> {
        let from = Instant::now();
        let mut call = endpoint.call(CallRequest::item(request.clone()))?;
        let mut checker = Checker::new(*ask, deep);
        let mut first = None;
        while let Some(item) = call.next().await {
            checker.item(&item?, self.pattern)?;
            first.get_or_insert_with(|| from.elapsed());
        }
        checker.end()?;
        let all = from.elapsed();
        let mut book = self.book();
        first.into_iter().for_each(|first| book.first(first));
        (0..ask.items).for_each(|_| book.item(ask.item_bytes as usize));
        book.end(all, request.len());
        Ok(())
    }
}
