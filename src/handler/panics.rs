//! What becomes of a handler that panics: its caller and the log are told, the core goes on.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;

use ringplane_core::local::{Failure, Incoming};
use ringplane_core::wire::class::Class;
use ringplane_core::wire::line::Line;
use ringplane_driver::executor::Told;

/// What a panic carries.
pub(super) type Panic = Box<dyn Any + Send>;

/// The longest text of a panic that is told, in bytes.
const MAX_TEXT: usize = 1024;

/// The outcome of a future, or the panic that ended it.
pub(super) async fn caught<T>(future: impl Future<Output = T>) -> Result<T, Panic> {
    let mut future = pin!(future);
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => Err(panic).into(),
    })
    .await
}

/// How a call ends whose deadline passes before its handler begins.
pub(super) fn too_late() -> Failure {
    Failure::new(Class::DeadlineExceeded, "request.deadline_exceeded", "the deadline passed before the call could run")
}

/// Ends a call by its handler's outcome.
pub(super) fn end(incoming: Incoming, outcome: Result<Result<(), Failure>, Panic>) {
    match outcome {
        Ok(Ok(())) => incoming.finish(),
        Ok(Err(failure)) => incoming.fail(&failure),
        Err(panic) => end_panicked(incoming, &panic),
    }
}

#[cold]
fn end_panicked(incoming: Incoming, panic: &Panic) {
    let text = text(&**panic);
    let open = incoming.open();
    tracing::error!(endpoint = %Line(open.path), id = %Line(open.request_id), "a handler panicked: {text}");
    incoming.fail(&Failure::internal(format_args!("the handler panicked: {text}")));
    // The driver counts it.
    resume_unwind(Box::new(Told));
}

/// What a panic says, on one line.
fn text(panic: &(dyn Any + Send)) -> String {
    let said = panic.downcast_ref::<&'static str>().copied().or_else(|| panic.downcast_ref().map(String::as_str));
    let said = said.unwrap_or("it carries no text");
    Line(&said[..said.floor_char_boundary(MAX_TEXT)]).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_panic_is_bounded_and_stays_on_one_line() {
        assert_eq!(text(&"plain"), "plain");
        assert_eq!(text(&"two\nlines\u{1B}[2J".to_owned()), "two\\nlines\\u{1b}[2J");
        assert_eq!(text(&"ü".repeat(MAX_TEXT)), "ü".repeat(MAX_TEXT / 2));
        assert_eq!(text(&5), "it carries no text");
    }
}
