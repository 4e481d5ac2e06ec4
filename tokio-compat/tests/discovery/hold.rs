//! A TCP proxy that, once the server has said a word, keeps what the client says to itself until it is released, and that
//! can cut its connections.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

#[derive(Copy, Clone, PartialEq, Eq)]
enum State {
    Passing,
    Holding,
    Released,
}

struct Gate {
    word: String,
    state: Mutex<State>,
    changed: Condvar,
}

/// The proxy. Its threads end with the connections through it, the listening one with the test.
pub(crate) struct Hold {
    addr: SocketAddr,
    gate: Arc<Gate>,
    passing: Arc<Mutex<Vec<TcpStream>>>,
}

impl Hold {
    /// In front of `server`; holds as soon as `word` passes, which still does.
    pub(crate) fn behind(server: &str, word: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let gate = Gate { word: word.to_owned(), state: Mutex::new(State::Passing), changed: Condvar::new() };
        let gate = Arc::new(gate);
        let (server, shared) = (server.to_owned(), Arc::clone(&gate));
        let passing = Arc::<Mutex<Vec<TcpStream>>>::default();
        let all = Arc::clone(&passing);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect(&server).unwrap());
                all.lock().unwrap().extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let gate = Arc::clone(&shared);
                thread::spawn(move || pass(from, to, |_| gate.wait()));
                let gate = Arc::clone(&shared);
                let mut heard = Vec::new();
                thread::spawn(move || pass(server, client, |bytes| gate.listen(&mut heard, bytes)));
            }
        });
        Self { addr, gate, passing }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// In front of `server`; holds nothing.
    pub(crate) fn nothing(server: &str) -> Self {
        Self::behind(server, "no word that anybody says")
    }

    /// Ends every connection there is.
    pub(crate) fn cut(&self) {
        for stream in self.passing.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    pub(crate) fn is_holding(&self) -> bool {
        *self.gate.state.lock().unwrap() == State::Holding
    }

    pub(crate) fn release(&self) {
        *self.gate.state.lock().unwrap() = State::Released;
        self.gate.changed.notify_all();
    }
}

impl Gate {
    fn wait(&self) {
        let state = self.state.lock().unwrap();
        drop(self.changed.wait_while(state, |state| *state == State::Holding).unwrap());
    }

    /// `heard` is the end of what came before: the word may come in two pieces.
    fn listen(&self, heard: &mut Vec<u8>, bytes: &[u8]) {
        heard.extend_from_slice(bytes);
        let mut state = self.state.lock().unwrap();
        if *state == State::Passing && heard.windows(self.word.len()).any(|window| window == self.word.as_bytes()) {
            *state = State::Holding;
        }
        let kept = heard.len().min(self.word.len());
        heard.drain(..heard.len() - kept);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, mut before: impl FnMut(&[u8])) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        before(&buffer[..read]);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
