//! A TCP proxy that can stop forwarding without closing, cut its connections, and flip one bit.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use ringplane::Worker;
use ringplane::discovery::{self, Registration};
use ringplane_core::discovery::instance::Instance;
use ringplane_core::id::EndpointId;
use ringplane_core::wire::mux::VERSION;

/// A direction.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    /// From the client to the worker.
    Up,
    /// From the worker to the client.
    Down,
}

/// One bit to flip on the first connection.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Flip {
    pub(crate) way: Way,
    /// The byte, counted from the start of the connection.
    pub(crate) at: usize,
    pub(crate) bit: u8,
}

struct Shared {
    target: SocketAddr,
    flip: Option<Flip>,
    gate: Mutex<Gate>,
    moved: Condvar,
    accepted: AtomicUsize,
    passed: [AtomicUsize; 2],
}

#[derive(Default)]
struct Gate {
    held: [bool; 2],
    over: bool,
    sockets: Vec<TcpStream>,
    pumps: Vec<JoinHandle<()>>,
}

/// The proxy; ends with its connections when dropped.
pub(crate) struct Proxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl Proxy {
    /// A proxy in front of a worker.
    pub(crate) fn new(worker: &Worker, flip: Option<Flip>) -> Self {
        Self::to(worker.addr(), flip)
    }

    /// A proxy in front of a server.
    pub(crate) fn to(target: SocketAddr, flip: Option<Flip>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            target,
            flip,
            gate: Mutex::default(),
            moved: Condvar::new(),
            accepted: AtomicUsize::new(0),
            passed: Default::default(),
        });
        let accepting = std::thread::spawn({
            let shared = shared.clone();
            move || shared.accept(&listener)
        });
        Self { addr, shared, accepting: Some(accepting) }
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Lets clients at `place` find the worker's endpoint behind this proxy.
    pub(crate) async fn advertise(&self, worker: &Worker, endpoint: &str, place: &str) -> Registration {
        let endpoint = EndpointId::parse(endpoint).unwrap();
        let mut instance = Instance::new(worker.instance_id(), endpoint, self.addr);
        instance.mux = Some(VERSION);
        discovery::open(place).unwrap().endpoints().register(instance).await.unwrap()
    }

    /// Stops forwarding one way; nothing is closed.
    pub(crate) fn hold(&self, way: Way) {
        self.shared.gate.lock().unwrap().held[way as usize] = true;
    }

    /// Forwards again what has been held.
    pub(crate) fn release(&self) {
        self.shared.gate.lock().unwrap().held = [false; 2];
        self.shared.moved.notify_all();
    }

    /// Closes every connection.
    pub(crate) fn cut(&self) {
        for socket in self.shared.gate.lock().unwrap().sockets.drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Resets every connection: what its ends have written and not read is lost.
    pub(crate) fn reset(&self) {
        let sockets: Vec<_> = self.shared.gate.lock().unwrap().sockets.drain(..).collect();
        for socket in &sockets {
            // Connected to nobody, the connection is aborted at once, whoever else has a descriptor of it.
            rustix::net::connect_unspec(socket).unwrap();
        }
    }

    /// Connections accepted so far.
    pub(crate) fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Bytes forwarded one way.
    pub(crate) fn passed(&self, way: Way) -> usize {
        self.shared.passed[way as usize].load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.gate.lock().unwrap().over = true;
        self.shared.moved.notify_all();
        self.cut();
        // Wakes the accepting thread.
        let _ = TcpStream::connect(self.addr);
        if let Some(accepting) = self.accepting.take() {
            accepting.join().unwrap();
        }
        self.cut();
        let pumps = std::mem::take(&mut self.shared.gate.lock().unwrap().pumps);
        pumps.into_iter().for_each(|pump| pump.join().unwrap());
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for client in listener.incoming() {
            if self.gate.lock().unwrap().over {
                return;
            }
            let client = client.unwrap();
            let Ok(worker) = TcpStream::connect(self.target) else { continue };
            let flip = self.flip.filter(|_| self.accepted() == 0);
            self.accepted.fetch_add(1, Ordering::SeqCst);
            client.set_nodelay(true).unwrap();
            worker.set_nodelay(true).unwrap();
            let mut gate = self.gate.lock().unwrap();
            gate.sockets.extend([client.try_clone().unwrap(), worker.try_clone().unwrap()]);
            for (way, from, to) in [
                (Way::Up, client.try_clone().unwrap(), worker.try_clone().unwrap()),
                (Way::Down, worker.try_clone().unwrap(), client.try_clone().unwrap()),
            ] {
                let shared = self.clone();
                let flip = flip.filter(|flip| flip.way == way);
                gate.pumps.push(std::thread::spawn(move || shared.pump(way, from, to, flip)));
            }
        }
    }

    fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    fn pump(&self, way: Way, mut from: TcpStream, mut to: TcpStream, flip: Option<Flip>) {
        let mut buffer = vec![0; 64 << 10];
        let mut begun = 0;
        while let Ok(len @ 1..) = from.read(&mut buffer) {
            if let Some(Flip { at, bit, .. }) = flip
                && (begun..begun + len).contains(&at)
            {
                buffer[at - begun] ^= 1 << bit;
            }
            begun += len;
            let held = |gate: &mut Gate| gate.held[way as usize] && !gate.over;
            drop(self.moved.wait_while(self.gate.lock().unwrap(), held).unwrap());
            if to.write_all(&buffer[..len]).is_err() {
                break;
            }
            self.passed[way as usize].fetch_add(len, Ordering::SeqCst);
        }
        // An end is passed on like anything else.
        let held = |gate: &mut Gate| gate.held[way as usize] && !gate.over;
        drop(self.moved.wait_while(self.gate.lock().unwrap(), held).unwrap());
        let _ = to.shutdown(Shutdown::Write);
        let _ = from.shutdown(Shutdown::Read);
    }
}
