//! What every worker's end of a plane has in common: the requests it hands on, their acks, and the thread it runs on.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::thread;

use bytes::Bytes;
use ringplane_core::wire::dynamo::ack::OVERLOADED;
use tokio::sync::{oneshot, watch};

use crate::request::error::Error;
use crate::request::room::Share;

/// One request, on its way to a core.
#[derive(Debug)]
pub struct Request<A: Ack> {
    /// Which of the endpoints that the plane was started with it is for, from 0.
    pub endpoint: usize,
    /// Its headers as a request frame has them: JSON.
    pub headers: Vec<u8>,
    /// One two-part frame.
    pub payload: Bytes,
    /// The address of the caller, if the plane knows it.
    pub peer: Option<SocketAddr>,
    /// Where the ack goes.
    pub answer: Answer<A>,
    /// Its share of the bytes that may be in memory.
    pub share: Share,
}

/// How a plane sends an ack.
pub trait Ack: Send + 'static {
    /// Sends it to who asked; an empty text accepts.
    fn send(self, text: &str);
}

/// A request's right to one ack. Dropped without one it tells the caller that this worker has no room.
pub struct Answer<A: Ack>(Option<A>);

impl<A: Ack> Answer<A> {
    /// The answer that goes out by `ack`.
    pub const fn new(ack: A) -> Self {
        Self(Some(ack))
    }

    /// Sends the ack; an empty text accepts.
    pub fn send(mut self, text: &str) {
        self.put(text);
    }

    fn put(&mut self, text: &str) {
        if let Some(ack) = self.0.take() {
            ack.send(text);
        }
    }
}

impl<A: Ack> Drop for Answer<A> {
    fn drop(&mut self) {
        self.put(OVERLOADED);
    }
}

impl<A: Ack> fmt::Debug for Answer<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").finish_non_exhaustive()
    }
}

/// Says when a plane shall leave: it becomes `true`, or its sender is gone, when nobody waits for the end either.
pub type Left = watch::Receiver<bool>;

/// A worker's end of a plane, on a thread of its own. Dropping it ends it at once.
#[derive(Debug)]
pub struct Running {
    leave: watch::Sender<bool>,
    gone: oneshot::Receiver<()>,
}

impl Running {
    /// Starts a thread of that name. On it `begin` makes what serves requests, which then runs to its end. Returns when it
    /// serves.
    ///
    /// # Errors
    /// What `begin` answers, and [`Error::Thread`]. Nothing runs then.
    pub async fn start<Begin, Serve>(
        name: &str,
        begin: impl FnOnce(Left) -> Begin + Send + 'static,
    ) -> Result<Self, Error>
    where
        Begin: Future<Output = Result<Serve, Error>>,
        Serve: Future<Output = ()>,
    {
        let (leave, mut left) = watch::channel(false);
        let (ended, gone) = oneshot::channel();
        let (tell, told) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Thread)?;
        let serve = move || async move {
            let begun = tokio::select! {
                begun = begin(left.clone()) => begun,
                _ = left.changed() => return,
            };
            let (serve, told) = match begun {
                Ok(serve) => (Some(serve), Ok(())),
                Err(error) => (None, Err(error)),
            };
            // If nobody waits any more, nobody could make it leave.
            if let (Ok(()), Some(serve)) = (tell.send(told), serve) {
                serve.await;
            }
        };
        let run = move || {
            runtime.block_on(serve());
            let _ = ended.send(());
        };
        thread::Builder::new().name(name.to_owned()).spawn(run).map_err(Error::Thread)?;
        told.await.unwrap_or_else(|_| Err(Error::Thread(io::Error::other("it has ended"))))?;
        Ok(Self { leave, gone })
    }

    /// Takes no more requests, answers those in hand, and ends, within the plane's own bound.
    pub async fn leave(self) {
        self.leave.send_replace(true);
        let _ = self.gone.await;
    }
}

/// The first name that is there twice.
pub(crate) fn twice<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let mut seen = BTreeSet::new();
    names.into_iter().find(|name| !seen.insert(*name))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    impl Ack for mpsc::Sender<String> {
        fn send(self, text: &str) {
            let _ = Self::send(&self, text.to_owned());
        }
    }

    #[test]
    fn a_request_that_nobody_answers_is_refused_and_an_ack_is_sent_once() {
        let (acks, sent) = mpsc::channel();
        Answer::new(acks.clone()).send("");
        assert_eq!(sent.try_recv().unwrap(), "");
        drop(Answer::new(acks));
        assert_eq!(sent.try_recv().unwrap(), OVERLOADED);
        assert!(sent.try_recv().is_err());
    }

    #[test]
    fn a_name_is_found_twice_or_not() {
        assert_eq!(twice(["a", "b", "c"]), None);
        assert_eq!(twice(["a", "b", "c", "b", "a"]), Some("b"));
    }

    /// What is told to leave, says so and ends.
    async fn serve(mut left: Left, said: mpsc::Sender<bool>) {
        let _ = left.changed().await;
        let _ = said.send(*left.borrow());
    }

    #[tokio::test]
    async fn a_plane_is_told_to_leave_and_awaited_or_dropped_and_ends_at_once() {
        const BOUND: Duration = Duration::from_secs(30);
        let (said, heard) = mpsc::channel();
        let start = |said| Running::start("plane", async move |left| Ok(serve(left, said)));
        start(said.clone()).await.unwrap().leave().await;
        assert_eq!(heard.try_recv(), Ok(true));
        drop(start(said).await.unwrap());
        assert_eq!(heard.recv_timeout(BOUND), Ok(false));
    }

    #[tokio::test]
    async fn a_plane_that_cannot_begin_says_why() {
        let refused = Running::start("plane", async move |_| -> Result<std::future::Ready<()>, Error> {
            Err(Error::Ambiguous { name: "x".to_owned(), why: "there is one" })
        });
        assert_eq!(refused.await.unwrap_err().to_string(), "two endpoints of this worker are `x`: there is one");
    }
}
