//! Canaries of a running worker: requests of its own to its endpoints, over its own sockets, and what follows from them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use ringplane_core::caller::error::CallError;
use ringplane_core::caller::request::{EndpointKey, Request as CoreRequest};
use ringplane_core::caller::target::Target;
use ringplane_core::chain::Chain;
use ringplane_core::discovery::instance::Instance;
use ringplane_core::id::InstanceId;
use ringplane_core::local::{LocalCall, LocalNode};
use ringplane_core::mux::event::Opening;
use ringplane_core::route::health::State;
use ringplane_core::route::policy::any::AnyPolicy;
use ringplane_core::time::Instant;
use ringplane_core::wire::mux::message::{RejectCode, Status};
use ringplane_core::worker::canary::{Canary, Config, Outcome, Step};
use ringplane_tokio::random::random_u64;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::handler::local::LocalFuture;
use crate::handler::remote::SendFuture;
use crate::handler::request::{Handler, Request, Responder};
use crate::handler::side::{Local, Remote};
use crate::runtime::cores::{Core, Group};
use crate::worker::records::Records;

/// When an endpoint last ended a call well, on the process's clock. Clones are the same.
#[derive(Clone, Default, Debug)]
pub(super) struct Answers(Arc<AtomicU64>);

impl Answers {
    fn note(&self) {
        self.0.store(now().as_nanos(), Ordering::Relaxed);
    }

    fn last(&self) -> Option<Instant> {
        Some(self.0.load(Ordering::Relaxed)).filter(|nanos| *nanos > 0).map(Instant::from_nanos)
    }
}

/// The time, of a clock that all threads share.
fn now() -> Instant {
    static EPOCH: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    let elapsed = EPOCH.get_or_init(std::time::Instant::now).elapsed();
    // Not zero, which is no time.
    Instant::from_nanos(1) + elapsed
}

/// A handler whose good ends are noted.
pub(super) struct Noted<H> {
    handler: H,
    answers: Answers,
}

impl<H> Noted<H> {
    pub(super) const fn new(handler: H, answers: Answers) -> Self {
        Self { handler, answers }
    }
}

impl Handler<Local> for Noted<Arc<dyn Handler>> {
    fn handle(&self, request: Request, out: Responder) -> LocalFuture {
        let (answer, answers) = (self.handler.handle(request, out), self.answers.clone());
        Box::pin(async move { answer.await.inspect(|()| answers.note()) })
    }
}

impl Handler<Remote> for Noted<Arc<dyn Handler<Remote>>> {
    fn handle(&self, request: Request<Remote>, out: Responder<Remote>) -> SendFuture {
        let (answer, answers) = (self.handler.handle(request, out), self.answers.clone());
        Box::pin(async move { answer.await.inspect(|()| answers.note()) })
    }
}

/// The canary of one endpoint.
struct Planned {
    /// Whose it is.
    endpoint: String,
    /// Where its requests go.
    path: String,
    /// What is asked.
    request: Bytes,
    answers: Answers,
}

/// What the canaries of a worker share.
struct Shared {
    group: Arc<Group>,
    records: Weak<Records>,
    /// Where the worker listens.
    bound: SocketAddr,
    config: Config,
}

/// Canaries that are to be sent, and those whose endpoints have been met.
pub(super) struct Plans {
    asked: Vec<(String, Bytes)>,
    planned: Vec<Planned>,
}

impl Plans {
    /// What is to be asked of which endpoint.
    pub(super) const fn new(asked: Vec<(String, Bytes)>) -> Self {
        Self { asked, planned: Vec::new() }
    }

    /// Where the handler of an instance is to note its good ends, if a canary is sent there.
    pub(super) fn plan(&mut self, instance: &Instance) -> Option<Answers> {
        let endpoint = instance.endpoint.to_string();
        let (_, request) = self.asked.iter().find(|(name, _)| *name == endpoint)?;
        let (answers, path, request) = (Answers::default(), instance.path.clone(), request.clone());
        self.planned.push(Planned { endpoint, path, request, answers: answers.clone() });
        Some(answers)
    }

    /// Begins to send them.
    pub(super) fn start(
        self,
        group: &Arc<Group>,
        records: &Arc<Records>,
        bound: SocketAddr,
        config: Config,
    ) -> Canaries {
        let shared = Arc::new(Shared { group: group.clone(), records: Arc::downgrade(records), bound, config });
        let begin = |planned| group.upkeep().spawn(run(planned, shared.clone()));
        Canaries(self.planned.into_iter().map(begin).collect())
    }
}

/// The canaries of a worker. They end with it.
pub(super) struct Canaries(Vec<JoinHandle<Option<()>>>);

impl Canaries {
    /// Sends no more.
    pub(super) fn stop(&self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

impl Drop for Canaries {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What a canary says, and why in words.
type Verdict = (Outcome, Option<String>);

/// A canary that is under way.
type Asking = Pin<Box<dyn Future<Output = Verdict> + Send>>;

/// Sends the canaries of one endpoint, and has its record follow them.
async fn run(planned: Planned, shared: Arc<Shared>) {
    let mut canary = Canary::new(shared.config, random_u64(), now());
    let (mut asking, mut why) = (None::<Asking>, None);
    loop {
        let due = canary.poll_timeout().at.since(now());
        let told = tokio::select! {
            told = answer_of(&mut asking) => Some(told),
            () = tokio::time::sleep(due) => None,
        };
        match told {
            Some((outcome, text)) => {
                (asking, why) = (None, text);
                canary.handle_outcome(outcome, planned.answers.last(), now());
            }
            None => match canary.handle_timeout(planned.answers.last(), now()) {
                Step::Ask => asking = Some(ask(&planned, &shared)),
                Step::GiveUp => (asking, why) = (None, Some("its core does not come round to it".to_owned())),
                Step::Rest => {}
            },
        }
        shared.group.count_canaries(&canary.take_stats());
        let Some(records) = shared.records.upgrade() else { return };
        let well = canary.is_well();
        match records.judge(&planned.endpoint, well).await {
            Ok(true) if well => {
                tracing::info!(endpoint = planned.endpoint, "the endpoint answers again, and is found again")
            }
            Ok(true) => {
                let why = why.as_deref().unwrap_or("it is late");
                tracing::warn!(endpoint = planned.endpoint, why, "the endpoint fails its canary, and is found no more");
            }
            Ok(false) => {}
            Err(error) => {
                let error = Chain(&error);
                tracing::warn!(endpoint = planned.endpoint, %error, "the endpoint answers again, and is not found yet");
            }
        }
    }
}

/// What becomes of the canary that is under way; nothing if none is.
async fn answer_of(asking: &mut Option<Asking>) -> Verdict {
    match asking {
        Some(asking) => asking.await,
        None => std::future::pending().await,
    }
}

/// The address at which this host reaches a listener of its own.
fn own(bound: SocketAddr) -> SocketAddr {
    let ip = match bound.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    SocketAddr::new(ip, bound.port())
}

/// Sends a canary from the next core in turn.
fn ask(planned: &Planned, shared: &Shared) -> Asking {
    static TURN: AtomicUsize = AtomicUsize::new(0);
    let index = TURN.fetch_add(1, Ordering::Relaxed) % shared.group.len();
    let target = Target::mux(own(shared.bound), planned.path.as_str());
    let (body, timeout) = (planned.request.clone(), shared.config.timeout);
    let (tell, told) = oneshot::channel();
    let sent = shared.group.submit_to(index, move |core: &Rc<Core>| {
        let asked = Asked::new(core.node.clone());
        core.node.env().spawn(async move {
            let mut tell = tell;
            let Ok(mut call) = asked.call(target, body, timeout) else { return };
            let told = tokio::select! {
                first = call.next() => asked.verdict(&call, first),
                // Nobody waits for it any more.
                () = tell.closed() => return,
            };
            let _ = tell.send(told);
            // What is left, within the call's time: one that nobody reads to its end counts as failed.
            while let Some(Ok(_)) = call.next().await {}
        });
    });
    Box::pin(async move {
        match sent {
            // Its mailbox is full, or it has ended: neither says anything of the endpoint.
            Err(_) => (Outcome::Untold, None),
            Ok(()) => told.await.unwrap_or((Outcome::Untold, None)),
        }
    })
}

/// An endpoint that a canary calls, for as long as that lasts.
struct Asked {
    node: Rc<LocalNode>,
    endpoint: EndpointKey,
}

impl Asked {
    fn new(node: Rc<LocalNode>) -> Self {
        let endpoint = node.endpoint(AnyPolicy::default());
        Self { node, endpoint }
    }

    /// Calls it as any caller would.
    fn call(&self, target: Target, body: Bytes, timeout: Duration) -> Result<LocalCall, CallError> {
        self.node.set_instances(self.endpoint, vec![(InstanceId(0), target)]);
        // Before all others: one that waits for its turn shows little.
        let opening = Opening { request_id: "canary".to_owned(), priority: i8::MAX, ..Opening::default() };
        let request = CoreRequest { body: Some(body), opening, timeout: Some(timeout), ..CoreRequest::default() };
        self.node.call(self.endpoint, request)
    }

    /// What the first item of its answer says, or what there is in place of one.
    fn verdict(&self, call: &LocalCall, first: Option<Result<Bytes, CallError>>) -> Verdict {
        // An answer without an item is one.
        let Some(Err(error)) = first else { return (Outcome::Answered, None) };
        let (now, endpoint) = (self.node.env().now(), self.endpoint);
        let state = self.node.touching(|node| node.caller.view(endpoint, now).next().map(|one| one.state));
        let no_room = match state {
            Some(State::Overloaded | State::Leaving) => true,
            // It was refused before, and its wish is over: what was lost is not routable again without an answer.
            Some(State::Routable) if call.attempts() > 1 => true,
            _ => matches!(call.status(), Some(Status::Queued(_))),
        };
        (sorted(&error, no_room), Some(Chain(&error).to_string()))
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.node.forget_endpoint(self.endpoint);
    }
}

/// What a canary's error says of its endpoint, which may have had no room for it.
const fn sorted(error: &CallError, no_room: bool) -> Outcome {
    match error {
        CallError::DeadlineExceeded | CallError::NotAccepted | CallError::Idle | CallError::NoResponse if no_room => {
            Outcome::Untold
        }
        CallError::DeadlineExceeded | CallError::NotAccepted | CallError::Idle | CallError::NoResponse => Outcome::Late,
        CallError::Rejected { code: RejectCode::Overloaded | RejectCode::Draining, .. }
        // This caller's own.
        | CallError::Overloaded
        | CallError::NoBudget
        | CallError::Cancelled
        | CallError::Closed => Outcome::Untold,
        _ => Outcome::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_listens_everywhere_is_reached_by_the_loopback_of_the_same_kind() {
        let own = |bound: &str| own(bound.parse().unwrap()).to_string();
        assert_eq!(
            [own("0.0.0.0:80"), own("[::]:80"), own("10.0.0.1:80")],
            ["127.0.0.1:80", "[::1]:80", "10.0.0.1:80"]
        );
    }

    #[test]
    fn want_of_room_is_not_held_against_an_endpoint_and_silence_and_failure_are() {
        let rejected = |code| CallError::Rejected { code, retry_after: None, message: "".into(), at: None };
        assert_eq!(sorted(&rejected(RejectCode::Overloaded), true), Outcome::Untold);
        assert_eq!(sorted(&rejected(RejectCode::UnknownEndpoint), false), Outcome::Failed);
        assert_eq!(sorted(&CallError::DeadlineExceeded, true), Outcome::Untold);
        assert_eq!(sorted(&CallError::DeadlineExceeded, false), Outcome::Late);
        assert_eq!(sorted(&CallError::NoResponders, true), Outcome::Failed);
    }
}
