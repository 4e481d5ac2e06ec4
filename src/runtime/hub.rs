//! Who sleeps, and how the sleepers of one tokio runtime are woken together.
//!
//! A wake from another thread costs a runtime of tokio's a system call each, and so does a task that is spawned. So a task
//! of ours on every such runtime, its hub, is woken once and does it from there, where it costs next to nothing.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, RawWakerVTable, Waker};

use tokio::runtime::{Handle, Id};

use crate::runtime::port::Port;

/// A task that waits, and the hub of its runtime if it has one.
pub(crate) struct Sleeper {
    waker: Waker,
    hub: Option<Arc<Hub>>,
}

impl Sleeper {
    /// The task that is polled.
    pub(crate) fn of(cx: &Context<'_>) -> Self {
        Self { waker: cx.waker().clone(), hub: hub(cx.waker()) }
    }

    /// Whether it is the one that is polled.
    pub(crate) fn is(&self, cx: &Context<'_>) -> bool {
        self.waker.will_wake(cx.waker())
    }

    /// A task that is woken from where it is not.
    pub(crate) const fn alone(waker: Waker) -> Self {
        Self { waker, hub: None }
    }

    /// Wakes it by itself.
    pub(crate) fn wake(self) {
        self.waker.wake();
    }
}

/// What is to be done on another thread.
pub(crate) enum Errand {
    /// A task there is to be woken.
    Wake(Waker),
    /// A task is to be started there.
    Start(Pin<Box<dyn Future<Output = ()> + Send>>),
}

impl Errand {
    /// Does it on a thread of its runtime.
    fn run_there(self) {
        match self {
            Self::Wake(waker) => waker.wake(),
            Self::Start(task) => drop(tokio::spawn(task)),
        }
    }

    /// Does it elsewhere: a task whose runtime has ended is dropped.
    fn run_elsewhere(self) {
        if let Self::Wake(waker) = self {
            waker.wake();
        }
    }
}

/// Errands to be run together.
#[derive(Default)]
pub(crate) struct Wakes(Vec<(Errand, Option<Arc<Hub>>)>);

impl Wakes {
    /// Tasks to be woken.
    pub(crate) fn add(&mut self, sleepers: impl IntoIterator<Item = Sleeper>) {
        self.0.extend(sleepers.into_iter().map(|sleeper| (Errand::Wake(sleeper.waker), sleeper.hub)));
    }

    /// All of these too.
    pub(crate) fn append(&mut self, other: &mut Self) {
        self.0.append(&mut other.0);
    }

    /// A task to be started on the runtime of `hub`.
    pub(crate) fn start(&mut self, hub: Arc<Hub>, task: impl Future<Output = ()> + Send + 'static) {
        self.0.push((Errand::Start(Box::pin(task)), Some(hub)));
    }

    /// Runs them all, those of one runtime at one stroke. To be called with nothing borrowed or locked: a waker may run
    /// anything.
    pub(crate) fn give(&mut self) {
        while let Some((_, hub)) = self.0.last() {
            let Some(hub) = hub.clone() else {
                self.0.pop().into_iter().for_each(|(errand, _)| errand.run_elsewhere());
                continue;
            };
            let own = |of: &Option<Arc<Hub>>| of.as_ref().is_some_and(|of| Arc::ptr_eq(of, &hub));
            let together = self.0.extract_if(.., |(_, of)| own(of)).map(|(errand, _)| errand);
            if let Err(refused) = hub.port.leave(together) {
                refused.for_each(Errand::run_elsewhere);
            }
        }
    }
}

/// What runs errands inside one tokio runtime.
pub(crate) struct Hub {
    port: Port<Errand>,
    /// What the wakers of its runtime's tasks are made of, once it has been polled there.
    kind: OnceLock<&'static RawWakerVTable>,
}

impl Hub {
    /// The hub of a runtime.
    pub(crate) fn of(runtime: &Handle) -> Arc<Self> {
        hub_of(runtime, runtime.id())
    }
}

/// The hubs of this process. Those whose runtimes have ended go when the next one comes.
static HUBS: Mutex<Vec<(Id, Weak<Hub>)>> = Mutex::new(Vec::new());

thread_local! {
    /// The hub of the runtime that this thread was last seen in.
    static LAST: RefCell<Option<(Id, Arc<Hub>)>> = const { RefCell::new(None) };
}

/// The hub by which a task is woken, which is polled on this thread just now. Only a task of tokio's own has one, and only
/// once its runtime has polled the hub too: whatever else is polled here may be all that this thread ever does.
fn hub(waker: &Waker) -> Option<Arc<Hub>> {
    let runtime = Handle::try_current().ok()?;
    let id = runtime.id();
    let find = |last: &RefCell<Option<(Id, Arc<Hub>)>>| {
        let mut last = last.borrow_mut();
        match &*last {
            Some((known, hub)) if *known == id => hub.clone(),
            _ => last.insert((id, hub_of(&runtime, id))).1.clone(),
        }
    };
    // A thread that is being torn down has no thread-locals.
    let hub = LAST.try_with(find).ok()?;
    let own = hub.kind.get().is_some_and(|kind| std::ptr::eq(*kind, waker.vtable()));
    own.then_some(hub)
}

fn hub_of(runtime: &Handle, id: Id) -> Arc<Hub> {
    let mut hubs = HUBS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(hub) = hubs.iter().find(|(known, _)| *known == id).and_then(|(_, hub)| hub.upgrade()) {
        return hub;
    }
    hubs.retain(|(_, hub)| hub.strong_count() > 0);
    let hub = Arc::new(Hub { port: Port::default(), kind: OnceLock::new() });
    hubs.push((id, Arc::downgrade(&hub)));
    drop(hubs);
    runtime.spawn(serve(Serving(hub.clone())));
    hub
}

/// A hub's task at work.
struct Serving(Arc<Hub>);

async fn serve(serving: Serving) {
    let hub = &serving.0;
    let mut errands = Vec::new();
    poll_fn(|cx| {
        hub.kind.get_or_init(|| cx.waker().vtable());
        if hub.port.poll_take(&mut errands, cx).is_ready() {
            errands.drain(..).for_each(Errand::run_there);
            // For those that came meanwhile, after the others of the runtime.
            if hub.port.poll_take(&mut errands, cx).is_ready() {
                errands.drain(..).for_each(Errand::run_there);
                cx.waker().wake_by_ref();
            }
        }
        Poll::<()>::Pending
    })
    .await;
}

impl Drop for Serving {
    /// The runtime has ended; whoever is polled elsewhere by now is woken from here on.
    fn drop(&mut self) {
        self.0.port.close().into_iter().for_each(Errand::run_elsewhere);
    }
}
