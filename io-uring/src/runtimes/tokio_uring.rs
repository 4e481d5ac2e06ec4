//! The machines on tokio-uring: [`start`] as with the ring of our own, the runtime by others.
//!
//! What tokio-uring 0.5.0 has and has not: no multishot operation that is open to its users, so that every read and
//! every accept is an operation of its own and every idle connection holds a buffer. The ring hangs in tokio's epoll: a
//! completion costs a look at epoll first. Dropping a future cancels nothing, the operation goes on and holds its
//! descriptor: the driver therefore shuts sockets down, connected and listening ones, to make their operations
//! complete, and drops none before. Its connect can neither be cancelled nor given a time limit, and its sockets take no
//! options: dials are begun by hand and awaited through tokio's epoll.

use std::future::Future;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::time::Duration;

use ::tokio_uring::net::TcpStream;
use ringplane_core::local::{Env, Host};
pub use ringplane_driver::config::{Common, Given};
pub use ringplane_driver::handle::{Driver, Handle, Report};
use tokio::io::Interest;

use crate::error::Error;
pub use crate::runtimes::config::Config;
use crate::runtimes::driver;
use crate::runtimes::runtime::{Outgoing, Runtime};

/// Starts a driver: a thread called `name` with a tokio-uring runtime of its own, which accepts and stays where `given` says.
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
    driver::start::<TokioUring, H>(name, common, config, given, make)
}

/// The runtime.
struct TokioUring;

impl Runtime for TokioUring {
    type Listener = ::tokio_uring::net::TcpListener;
    type Stream = TcpStream;
    type Reader = Rc<TcpStream>;
    type Writer = Rc<TcpStream>;
    type Control = Rc<TcpStream>;
    type Watch = tokio::net::TcpStream;

    fn run<T: 'static>(entries: u32, main: impl Future<Output = T> + 'static) -> io::Result<T> {
        let mut builder = ::tokio_uring::builder();
        builder.entries(entries);
        let runtime = ::tokio_uring::Runtime::new(&builder)?;
        // As a task and not as the root future: tokio wakes the root with a system call, a task without. Without tokio's
        // cooperative budget, which would be shared by all local tasks; they have a bound of their own.
        let main = tokio::task::unconstrained(main);
        match runtime.block_on(async { ::tokio_uring::spawn(main).await }) {
            Ok(out) => Ok(out),
            Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    fn spawn(task: impl Future<Output = ()> + 'static) {
        drop(::tokio_uring::spawn(task));
    }

    fn listener(listener: TcpListener) -> io::Result<Self::Listener> {
        Ok(::tokio_uring::net::TcpListener::from_std(listener))
    }

    async fn accept(listener: &Self::Listener) -> io::Result<(TcpStream, SocketAddr)> {
        listener.accept().await
    }

    fn watch(fd: OwnedFd) -> io::Result<tokio::net::TcpStream> {
        // Whatever the descriptor is: only its readiness matters.
        tokio::net::TcpStream::from_std(fd.into())
    }

    async fn readable(watch: &tokio::net::TcpStream) -> io::Result<()> {
        watch.readable().await?;
        // Says that it will have been read, so that the next wait is for news.
        let _ = watch.try_io(Interest::READABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
        Ok(())
    }

    async fn writable(watch: &tokio::net::TcpStream) -> io::Result<()> {
        watch.writable().await
    }

    fn connected(watch: tokio::net::TcpStream) -> io::Result<TcpStream> {
        watch.into_std().map(TcpStream::from_std)
    }

    async fn pause(_: &tokio::net::TcpStream) {
        // An operation that completes at once: entries are submitted only when tokio has nothing else to do, and never while
        // this task yields and comes back.
        let _ = ::tokio_uring::no_op().await;
    }

    async fn sleep(time: Duration) {
        tokio::time::sleep(time).await;
    }

    fn split(stream: TcpStream) -> (Self::Reader, Self::Writer, Self::Control) {
        let stream = Rc::new(stream);
        (stream.clone(), stream.clone(), stream)
    }

    async fn read(reader: &mut Rc<TcpStream>, buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        reader.read(buffer).await
    }

    async fn write(writer: &mut Rc<TcpStream>, bytes: Outgoing) -> (io::Result<usize>, Outgoing) {
        match bytes {
            Outgoing::Copied(bytes) => {
                let (result, bytes) = writer.write(bytes).submit().await;
                (result, Outgoing::Copied(bytes))
            }
            Outgoing::Shared(bytes) => {
                let (result, bytes) = writer.write(bytes).submit().await;
                (result, Outgoing::Shared(bytes))
            }
        }
    }

    fn finish(writer: &mut Rc<TcpStream>) -> io::Result<()> {
        writer.shutdown(Shutdown::Write)
    }

    fn abort(control: Rc<TcpStream>) {
        // Fails if the peer is gone already, which is just as well.
        let _ = control.shutdown(Shutdown::Both);
    }
}
