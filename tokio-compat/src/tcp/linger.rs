//! The wait between our FIN and the peer's, after the machine has been told that the connection is gone.

use std::future::poll_fn;
use std::net::Shutdown;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::tcp::gauge::{Alive, Gauge};

/// Bytes dropped per read.
const SINK: usize = 16 * 1024;

/// The connections that wait for the peer's FIN. To close one with bytes unread makes the kernel reset it, which may destroy our
/// last words on their way.
#[derive(Debug)]
pub(crate) struct Lingering {
    patience: Duration,
    waiting: Gauge,
    /// One of them is done.
    done: Rc<Notify>,
}

impl Lingering {
    pub(crate) fn new(patience: Duration) -> Self {
        Self { patience, waiting: Gauge::default(), done: Rc::default() }
    }

    /// Sends FIN and keeps `stream` until the peer's, at most as long as patience lasts; drops what it still sends.
    pub(crate) fn keep(&self, stream: TcpStream, alive: Alive) {
        // An error means that the peer is gone already, which is just as well.
        let _ = SockRef::from(&stream).shutdown(Shutdown::Write);
        if self.patience.is_zero() {
            return;
        }
        let (patience, place, done) = (self.patience, self.waiting.one(), Rc::clone(&self.done));
        tokio::task::spawn_local(async move {
            let mut stream = stream;
            let _ = tokio::time::timeout(patience, drain(&mut stream)).await;
            drop((stream, place, alive));
            done.notify_one();
        });
    }

    /// Completes when none is left, at the latest when the patience with the last one has come to its end.
    pub(crate) async fn over(self) {
        let none = async {
            while self.waiting.count() > 0 {
                self.done.notified().await;
            }
        };
        let _ = tokio::time::timeout(self.patience, none).await;
    }
}

async fn drain(stream: &mut TcpStream) {
    let mut stream = pin!(stream);
    poll_fn(|cx| poll_drain(stream.as_mut().get_mut(), cx)).await;
}

fn poll_drain(stream: &mut TcpStream, cx: &mut Context<'_>) -> Poll<()> {
    let mut sink = [0; SINK];
    loop {
        let mut read = ReadBuf::new(&mut sink);
        let result = ready!(Pin::new(&mut *stream).poll_read(cx, &mut read));
        if result.is_err() || read.filled().is_empty() {
            return Poll::Ready(());
        }
    }
}
