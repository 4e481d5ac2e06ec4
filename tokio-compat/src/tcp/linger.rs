//! The wait between our FIN and the peer's, after the machine has been told that the connection is gone.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;

use crate::tcp::gauge::{Alive, Gauge};

/// Connections that may linger at a time; one more is closed at once.
const LINGERING: usize = 1024;
/// Bytes dropped per read.
const SINK: usize = 16 * 1024;

/// Keeps `stream` for up to `patience` until the peer's FIN, dropping what it still sends: to close with bytes unread
/// makes the kernel reset the connection, which may destroy our last words on their way.
pub(crate) fn linger(stream: TcpStream, patience: Duration, lingering: &Gauge, alive: Alive) {
    if patience.is_zero() || lingering.count() >= LINGERING {
        return;
    }
    let place = lingering.one();
    tokio::task::spawn_local(async move {
        let mut stream = stream;
        let _ = tokio::time::timeout(patience, drain(&mut stream)).await;
        drop((place, alive));
    });
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
