//! The tasks of a driver on a runtime with owned buffers: who waits for what, and whom they tell.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use ringplane_core::buf::slab::Key;
use ringplane_core::local::Host;
use ringplane_core::protocol::peer_seen;
use ringplane_core::time::Instant;
use ringplane_driver::accept::Pause;
use ringplane_driver::clock::Clock;
use socket2::Socket;

use crate::kernel::bell::Bell;
use crate::runtimes::conn::{Read, Write};
use crate::runtimes::net::{Net, Start};
use crate::runtimes::runtime::Runtime;
use crate::runtimes::signal::{Alarm, Halt, Signal, either};

/// The pause of a connection the kernel has no memory for.
const SHORTAGE: Duration = Duration::from_millis(5);

/// What the tasks of one driver share.
pub(crate) struct Inner<H: Host, R: Runtime> {
    pub(crate) host: Rc<H>,
    pub(crate) net: RefCell<Net<R>>,
    pub(crate) clock: Rc<Clock>,
    /// Something happened: the machine wants its turn.
    pub(crate) signal: Rc<Signal>,
    pub(crate) alarm: Alarm,
    /// Orders for the tasks that belong to no connection.
    pub(crate) halts: [Halt; 3],
    /// Operations in flight.
    pub(crate) ops: Cell<usize>,
    /// Tasks at work, and who waits for the last one.
    pub(crate) tasks: Cell<usize>,
    pub(crate) gone: Signal,
    /// A task panicked, or the doorbell is broken.
    pub(crate) failed: Cell<bool>,
}

impl<H: Host, R: Runtime> Inner<H, R> {
    /// Runs `f` on the machine and its connections, and starts the tasks it asks for.
    pub(crate) fn work<T>(self: &Rc<Self>, f: impl FnOnce(&mut H::Machine, &mut Net<R>) -> T) -> T {
        let out = self.host.with(|machine| f(machine, &mut self.net.borrow_mut()));
        self.start_tasks();
        out
    }

    /// Starts the tasks that connections ask for.
    pub(crate) fn start_tasks(self: &Rc<Self>) {
        let starts = std::mem::take(&mut self.net.borrow_mut().starts);
        for start in starts {
            match start {
                Start::Dial(key, socket, halt) => self.launch(self.clone().dial(key, socket, halt)),
                Start::Both(key, reader, writer) => {
                    self.launch(self.clone().read(key, reader));
                    self.launch(self.clone().write(key, writer));
                }
            }
        }
    }

    /// Starts a task that counts. If it panics, the driver ends.
    pub(crate) fn launch(self: &Rc<Self>, task: impl Future<Output = ()> + 'static) {
        self.tasks.set(self.tasks.get() + 1);
        let inner = self.clone();
        R::spawn(async move {
            if !guarded(task).await {
                inner.failed.set(true);
                inner.signal.ring();
            }
            inner.tasks.set(inner.tasks.get() - 1);
            if inner.tasks.get() == 0 {
                inner.gone.ring();
            }
        });
    }

    /// Accepts connections at `local` until it is halted and the listener shut down, which ends the accept under way. Where that
    /// is a wildcard, a peer at another address of this host than the loopback is not known as a neighbour.
    pub(crate) async fn accept(self: Rc<Self>, listener: Rc<R::Listener>, local: SocketAddr) {
        let mut pause = Pause::default();
        while !self.halts[0].is_ordered() {
            match self.counted(R::accept(&listener)).await {
                Ok((stream, peer)) => {
                    pause.accepted();
                    self.work(|machine, net| net.accepted(machine, stream, peer_seen(peer, Some(local))));
                    self.signal.ring();
                }
                Err(_) if self.halts[0].is_ordered() => {}
                Err(error) => {
                    if let Some(time) = pause.failed(&error, self.clock.read()) {
                        self.net.borrow_mut().stats.accept_pauses += 1;
                        self.halts[0].race(R::sleep(time)).await;
                    }
                }
            }
        }
    }

    /// Rings the signal when another thread rings the bell, until it is halted.
    pub(crate) async fn listen(self: Rc<Self>, bell: std::sync::Arc<Bell>, watch: Rc<R::Watch>) {
        while let Some(outcome) = self.halts[1].race(R::readable(&watch)).await {
            if let Err(error) = outcome {
                tracing::error!(%error, "the doorbell is broken");
                self.failed.set(true);
            }
            // Takes the ring back; nothing to read means that somebody else has.
            let _ = bell.waker().take();
            self.signal.ring();
            if self.failed.get() {
                return;
            }
        }
    }

    /// Rings the signal when the alarm's time has come, until it is halted.
    pub(crate) async fn tick(self: Rc<Self>) {
        while let Some(at) = self.halts[2].race(self.alarm.next()).await {
            let wait = at.since(self.clock.read().min(at));
            let rang = self.halts[2].race(self.alarm.until(R::sleep(wait))).await;
            if rang == Some(true) {
                self.alarm.rang();
                self.signal.ring();
            }
        }
    }

    async fn dial(self: Rc<Self>, key: Key, socket: Socket, halt: Rc<Halt>) {
        let outcome = halt.race(connect::<R>(socket)).await;
        self.work(|machine, net| {
            if let Some(outcome) = outcome {
                net.dialed(machine, key, outcome);
            }
            net.left(key);
        });
        self.signal.ring();
    }

    async fn read(self: Rc<Self>, key: Key, mut reader: R::Reader) {
        let mut buffer = Vec::with_capacity(self.net.borrow().recv_buffer());
        while poll_fn(|cx| self.net.borrow_mut().next_read(key, cx.waker())).await {
            let (result, filled) = self.counted(R::read(&mut reader, buffer)).await;
            let next = self.work(|machine, net| net.received(machine, key, &result, &filled));
            self.signal.ring();
            buffer = filled;
            buffer.clear();
            let size = match next {
                Read::Next(size) => size,
                Read::Later(size) => {
                    R::sleep(SHORTAGE).await;
                    size
                }
                Read::Over => break,
            };
            if buffer.capacity() != size {
                buffer = Vec::with_capacity(size);
            }
        }
        drop(reader);
        self.net.borrow_mut().left(key);
    }

    async fn write(self: Rc<Self>, key: Key, mut writer: R::Writer) {
        loop {
            match poll_fn(|cx| self.net.borrow_mut().next_write(key, cx.waker())).await {
                Write::Bytes(bytes) => {
                    let (result, bytes) = self.counted(R::write(&mut writer, bytes)).await;
                    let is_short = self.work(|machine, net| net.written(machine, key, &result, bytes));
                    if is_short {
                        R::sleep(SHORTAGE).await;
                    }
                }
                Write::Finish => {
                    let result = R::finish(&mut writer);
                    self.work(|machine, net| net.finished(machine, key, &result));
                }
                Write::Over => break,
            }
            self.signal.ring();
        }
        drop(writer);
        self.net.borrow_mut().left(key);
    }

    /// Counts an operation while it is in flight.
    async fn counted<T>(&self, operation: impl Future<Output = T>) -> T {
        struct Flight<'a>(&'a Cell<usize>);
        impl Drop for Flight<'_> {
            fn drop(&mut self) {
                self.0.set(self.0.get() - 1);
            }
        }
        self.ops.set(self.ops.get() + 1);
        let _flight = Flight(&self.ops);
        operation.await
    }

    /// Waits for the lingering connections, each until the peer's FIN or the end of its patience.
    pub(crate) async fn linger_out(self: &Rc<Self>) {
        loop {
            let now = self.clock.read();
            self.work(|machine, net| net.expire(machine));
            let Some(at) = self.next_deadline() else { return };
            either(self.signal.heard(), R::sleep(at.since(now.min(at)))).await;
        }
    }

    /// When something happens by itself.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.net.borrow().next_deadline()
    }
}

/// Polls `task` to its end; `false`: it panicked.
pub(crate) async fn guarded(task: impl Future<Output = ()>) -> bool {
    let mut task = pin!(task);
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(cx))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(())) => Poll::Ready(true),
        Err(_) => Poll::Ready(false),
    })
    .await
}

/// Waits until a dial has ended, and makes a connection of it.
async fn connect<R: Runtime>(socket: Socket) -> io::Result<R::Stream> {
    let other_name = socket.try_clone()?;
    let watch = R::watch(OwnedFd::from(socket))?;
    R::writable(&watch).await?;
    if let Some(error) = other_name.take_error()? {
        return Err(error);
    }
    other_name.set_nonblocking(false)?;
    R::connected(watch)
}

/// Makes a connection of one that the kernel has accepted.
pub(crate) fn adopt<R: Runtime>(socket: Socket) -> io::Result<R::Stream> {
    let other_name = socket.try_clone()?;
    socket.set_nonblocking(true)?;
    let watch = R::watch(OwnedFd::from(socket))?;
    other_name.set_nonblocking(false)?;
    R::connected(watch)
}
