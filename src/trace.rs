//! Whose trace the code belongs to that runs just now.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::OnceLock;

use bytes::Bytes;
use ringplane_core::wire::context::TraceContext;
use ringplane_core::wire::mux::message::Open;
use ringplane_core::wire::trace_context::TraceParent;
#[cfg(feature = "otel")]
use ringplane_tokio::observe::spans::Scope as Recorded;

/// A request that is being answered.
pub(crate) struct Scope {
    /// What it was opened with.
    header: Bytes,
    /// The span that stands for it, if an observer has made one.
    span: Option<TraceParent>,
    /// The same, if it is one of ours.
    #[cfg(feature = "otel")]
    recorded: Option<Recorded>,
}

thread_local! {
    /// Set while the future of a handler is polled on this thread.
    static CURRENT: RefCell<Option<Scope>> = const { RefCell::new(None) };
}

static SOURCE: OnceLock<fn() -> Option<TraceContext>> = OnceLock::new();

/// The trace of the request that the code belongs to which runs on this thread just now: while a handler's future is polled, on
/// its core or on a runtime of the program's own, or inside a span that a [source](set_trace_source) knows. `None` elsewhere: a
/// task that a handler starts takes it along by itself, to be given to its calls with
/// [`CallRequest::with_context`](crate::CallRequest::with_context).
///
/// Calls made there continue this trace by themselves, unless they name [another](crate::CallRequest::with_trace) or
/// [none](crate::CallRequest::without_trace).
pub fn current_trace() -> Option<TraceContext> {
    let own = CURRENT.try_with(|current| current.borrow().as_ref().map(Scope::context)).ok().flatten();
    let found = match SOURCE.get().and_then(|source| source()) {
        Some(inner) => Some(below(own.unwrap_or_default(), inner)),
        None => own,
    };
    found.filter(|context| !context.is_empty())
}

/// Has [`current_trace`] ask `source` as well, which knows the span that the running code is in: that of a tracing library, whose
/// contexts are its own. For the whole process, once; `false`: there is one already. It is called for every call that names no
/// trace, wherever that is made.
pub fn set_trace_source(source: fn() -> Option<TraceContext>) -> bool {
    SOURCE.set(source).is_ok()
}

/// A span's context inside a request: the request's state, byte for byte, if they are of one trace.
fn below(request: TraceContext, span: TraceContext) -> TraceContext {
    let Some(parent) = span.parent() else { return request };
    let inside = request.under(parent);
    match (inside.tracestate(), span.tracestate()) {
        (None, Some(state)) => inside.clone().with_state(state).unwrap_or(inside),
        _ => inside,
    }
}

impl Scope {
    /// A request that was opened with `header`. To be made on its core.
    pub(crate) fn new(header: Bytes, span: Option<TraceParent>) -> Self {
        Self {
            header,
            #[cfg(feature = "otel")]
            recorded: span.as_ref().and_then(Recorded::of),
            span,
        }
    }

    fn context(&self) -> TraceContext {
        let open = Open::parse(&self.header).unwrap_or_default();
        let context = TraceContext::read(open.traceparent, open.tracestate, open.x_request_id);
        match self.span {
            Some(span) => context.under(span),
            None => context,
        }
    }

    /// Polls a future that answers the request.
    pub(crate) async fn run<T>(self, future: impl Future<Output = T>) -> T {
        #[cfg(feature = "otel")]
        let recorded = self.recorded.clone();
        let (mut future, mut scope) = (pin!(future), Some(self));
        poll_fn(|cx| {
            #[cfg(feature = "otel")]
            let _attached = recorded.as_ref().map(Recorded::attach);
            let _inside = Inside::of(&mut scope);
            future.as_mut().poll(cx)
        })
        .await
    }
}

/// The thread is inside a scope until this is dropped. What is inside may poll another one.
struct Inside<'a> {
    scope: &'a mut Option<Scope>,
    outside: Option<Scope>,
}

impl<'a> Inside<'a> {
    fn of(scope: &'a mut Option<Scope>) -> Self {
        let outside = swap(scope.take());
        Self { scope, outside }
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        *self.scope = swap(self.outside.take());
    }
}

/// Sets the scope of this thread; the one before. A thread that is being torn down has none.
fn swap(scope: Option<Scope>) -> Option<Scope> {
    CURRENT.try_with(|current| current.replace(scope)).ok().flatten()
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;

    const T: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn context(span: u8, tracestate: Option<&str>) -> TraceContext {
        let parent = format!("00-{T}-{}-00", format!("{span:02x}").repeat(8));
        TraceContext::read(Some(&parent), tracestate, None)
    }

    fn scope(request_id: &str, traceparent: Option<&str>, span: Option<TraceParent>) -> Scope {
        let open = Open { path: "p", request_id, traceparent, ..Open::default() };
        let mut header = Vec::new();
        open.write(std::iter::empty(), |part| header.extend_from_slice(part)).unwrap();
        Scope::new(header.into(), span)
    }

    #[test]
    fn a_scope_lasts_for_a_poll_and_another_inside_it_hides_it() {
        let (outer, inner) = (context(1, None), context(2, None));
        let mut begun = false;
        let within = |seen: &TraceContext| assert_eq!(current_trace().as_ref(), Some(seen));
        let future = poll_fn(|cx: &mut Context<'_>| {
            within(&outer);
            let mut innermost = pin!(scope("i", inner.traceparent(), None).run(async { within(&inner) }));
            assert!(innermost.as_mut().poll(cx).is_ready());
            let mut untraced = pin!(scope("u", None, None).run(async { assert_eq!(current_trace(), None) }));
            assert!(untraced.as_mut().poll(cx).is_ready());
            within(&outer);
            if std::mem::replace(&mut begun, true) { Poll::Ready(()) } else { Poll::Pending }
        });
        let mut running = pin!(scope("o", outer.traceparent(), None).run(future));
        let mut cx = Context::from_waker(Waker::noop());
        for is_ready in [false, true] {
            assert_eq!(running.as_mut().poll(&mut cx).is_ready(), is_ready);
            assert_eq!(current_trace(), None);
        }
    }

    #[test]
    fn a_scope_that_panics_ends_too() {
        let mut running =
            Box::pin(scope("o", context(1, None).traceparent(), None).run(async { panic!("as it should") }));
        let poll = || running.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        let panicked: Result<Poll<()>, _> = std::panic::catch_unwind(std::panic::AssertUnwindSafe(poll));
        assert!(panicked.is_err());
        assert_eq!(current_trace(), None);
    }

    #[test]
    fn the_span_of_a_request_is_the_parent_inside_it() {
        let span = TraceParent::new([3; 16], [4; 8], 1).unwrap();
        for theirs in [None, Some("00-03030303030303030303030303030303-0101010101010101-01")] {
            let found = scope("o", theirs, Some(span)).context();
            assert_eq!(found.parent(), Some(span));
        }
    }

    #[test]
    fn a_span_inside_a_request_keeps_the_requests_state_if_it_is_of_its_trace() {
        let request = context(1, Some("a=1, b")).with_x_request_id("x");
        assert_eq!(request.tracestate(), None, "that one cannot be read");
        let request = context(1, Some("a=1 , b=2")).with_x_request_id("x");
        let inside = below(request.clone(), context(2, Some("b=2,a=1")));
        let seen = (inside.parent(), inside.tracestate(), inside.x_request_id());
        assert_eq!(seen, (context(2, None).parent(), Some("a=1 , b=2"), Some("x")));
        let other = TraceContext::new(TraceParent::new([3; 16], [4; 8], 1).unwrap()).with_state("c=3").unwrap();
        let inside = below(request.clone(), other.clone());
        assert_eq!(
            (inside.parent(), inside.tracestate(), inside.x_request_id()),
            (other.parent(), Some("c=3"), Some("x"))
        );
        assert_eq!(below(request.clone(), TraceContext::default()), request);
        assert_eq!(below(TraceContext::default(), other.clone()), other);
    }
}
