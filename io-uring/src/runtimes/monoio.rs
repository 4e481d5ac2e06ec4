//! The machines on monoio: [`start`] as with the ring of our own, the runtime by others.
//!
//! What monoio 0.2.4 has and has not: no multishot operation and no provided buffers, so that every read and every
//! accept is an operation of its own and every idle connection holds a buffer. Dropping a future asks the kernel to
//! cancel, but nobody waits for the answer, and the ring goes without reaping: the driver therefore makes each operation
//! complete, sees it, and only then lets the runtime go. Accepts and reads are cancelled with handles. A cancel gets lost on
//! a write that the kernel is about to try again, and is asked for once; writes therefore end because their side is shut
//! down. Wakers of monoio's tasks do not leave their thread
//! (its feature `sync` is not used); other threads come through the doorbell, which the runtime polls. While tasks are
//! ready, monoio does not look at completions: the driver never yields without waiting for one. A vectored write takes
//! vectors of bytes only, so that payloads by reference are writes of their own.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use ::monoio::io::{
    AsyncWriteRent, CancelHandle, CancelableAsyncReadRent, Canceller, OwnedReadHalf, OwnedWriteHalf, Splitable,
};
use ::monoio::net::TcpStream;
use ::monoio::{IoUringDriver, RuntimeBuilder};
use ringplane_core::local::{Env, Host};
pub use ringplane_driver::config::{Common, Given};
pub use ringplane_driver::handle::{Driver, Handle, Report};

use crate::error::Error;
pub use crate::runtimes::config::Config;
use crate::runtimes::driver;
use crate::runtimes::runtime::{Outgoing, Runtime};

/// Starts a driver: a thread called `name` with a monoio runtime of its own, which accepts and stays where `given` says.
/// `make` runs on that thread and makes the host, the machine and what surrounds it; it may already spawn tasks. Returns when
/// io_uring has passed its self-test and the host is made.
///
/// # Errors
/// [`Error`]: a knob out of bounds, io_uring refused, a limit in the way. Nothing is left behind then.
pub fn start<H: Host>(
    name: &str,
    common: Common,
    config: Config,
    given: Given,
    make: impl FnOnce(&Env) -> Rc<H> + Send + 'static,
) -> Result<Driver<H>, Error> {
    driver::start::<Monoio, H>(name, common, config, given, make)
}

/// The runtime.
struct Monoio;

/// Cancels what was begun with its handles, and everything begun later.
#[derive(Clone, Default)]
struct Cancel(Rc<RefCell<Option<Canceller>>>);

impl Cancel {
    fn new() -> Self {
        Self(Rc::new(RefCell::new(Some(Canceller::new()))))
    }

    /// `None` once it has been used.
    fn handle(&self) -> Option<CancelHandle> {
        self.0.borrow().as_ref().map(Canceller::handle)
    }

    fn cancel(&self) {
        if let Some(canceller) = self.0.borrow_mut().take() {
            let _ = canceller.cancel();
        }
    }
}

/// Ends what a connection has in flight.
struct Control {
    reads: Cancel,
    writes: OwnedWriteHalf<TcpStream>,
}

impl Runtime for Monoio {
    type Listener = ::monoio::net::TcpListener;
    type Stream = TcpStream;
    type Reader = (OwnedReadHalf<TcpStream>, Cancel);
    type Writer = OwnedWriteHalf<TcpStream>;
    type Control = Control;
    type Watch = TcpStream;

    fn run<T: 'static>(entries: u32, main: impl Future<Output = T> + 'static) -> io::Result<T> {
        let mut runtime = RuntimeBuilder::<IoUringDriver>::new().with_entries(entries).enable_timer().build()?;
        // As a task: monoio polls the root future only when no task is ready.
        Ok(runtime.block_on(async { ::monoio::spawn(main).await }))
    }

    fn spawn(task: impl Future<Output = ()> + 'static) {
        drop(::monoio::spawn(task));
    }

    fn listener(listener: TcpListener) -> io::Result<Self::Listener> {
        ::monoio::net::TcpListener::from_std(listener)
    }

    async fn accept(listener: &Self::Listener) -> io::Result<(TcpStream, SocketAddr)> {
        listener.accept().await
    }

    fn watch(fd: OwnedFd) -> io::Result<TcpStream> {
        TcpStream::from_std(fd.into())
    }

    async fn readable(watch: &TcpStream) -> io::Result<()> {
        watch.readable(true).await
    }

    async fn writable(watch: &TcpStream) -> io::Result<()> {
        watch.writable(true).await
    }

    fn connected(watch: TcpStream) -> io::Result<TcpStream> {
        Ok(watch)
    }

    async fn pause(watch: &TcpStream) {
        // An operation that completes at once: the only way to make monoio look at the others.
        let _ = watch.writable(true).await;
    }

    async fn sleep(time: Duration) {
        ::monoio::time::sleep(time).await;
    }

    fn split(stream: TcpStream) -> (Self::Reader, Self::Writer, Control) {
        let reads = Cancel::new();
        let (reader, writer) = stream.into_split();
        let writes = OwnedWriteHalf(writer.0.clone());
        ((reader, reads.clone()), writer, Control { reads, writes })
    }

    async fn read((reader, cancel): &mut Self::Reader, buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        match cancel.handle() {
            Some(handle) => reader.cancelable_read(buffer, handle).await,
            None => (Err(cancelled()), buffer),
        }
    }

    async fn write(writer: &mut Self::Writer, bytes: Outgoing) -> (io::Result<usize>, Outgoing) {
        match bytes {
            Outgoing::Copied(bytes) => {
                let (result, bytes) = writer.write(bytes).await;
                (result, Outgoing::Copied(bytes))
            }
            Outgoing::Shared(bytes) => {
                let (result, bytes) = writer.write(bytes).await;
                (result, Outgoing::Shared(bytes))
            }
        }
    }

    fn finish(writer: &mut Self::Writer) -> io::Result<()> {
        // monoio does it at once; the future only carries the result.
        let mut done = std::pin::pin!(writer.shutdown());
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        match done.as_mut().poll(&mut cx) {
            std::task::Poll::Ready(result) => result,
            std::task::Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn abort(mut control: Control) {
        control.reads.cancel();
        // Fails if the peer is gone already, which ends writes as well.
        let _ = Self::finish(&mut control.writes);
    }
}

fn cancelled() -> io::Error {
    io::Error::from_raw_os_error(libc::ECANCELED)
}
