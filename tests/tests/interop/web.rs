//! As much of an HTTP client as the frontend needs: HTTP/1.0, in which the end of the connection is the end of the body.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use serde_json::Value;

use crate::process::BOUND;

/// A server on this host.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Site(SocketAddr);

impl Site {
    /// Where nobody listens at the moment.
    pub(crate) fn unused() -> Self {
        Self(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr()).unwrap())
    }

    pub(crate) const fn port(self) -> u16 {
        self.0.port()
    }

    pub(crate) fn get(self, path: &str) -> io::Result<Reply> {
        self.ask(&format!("GET {path} HTTP/1.0\r\n\r\n"))?.reply()
    }

    pub(crate) fn post(self, path: &str, body: &Value) -> io::Result<Reply> {
        self.open(path, body)?.reply()
    }

    /// Posts, and leaves the answer to be read.
    pub(crate) fn open(self, path: &str, body: &Value) -> io::Result<Stream> {
        self.open_with(path, body, &[])
    }

    /// The same with headers.
    pub(crate) fn open_with(self, path: &str, body: &Value, headers: &[(&str, &str)]) -> io::Result<Stream> {
        let body = body.to_string();
        let head = format!("POST {path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {}", body.len());
        let more: String = headers.iter().map(|(name, value)| format!("\r\n{name}: {value}")).collect();
        self.ask(&format!("{head}{more}\r\n\r\n{body}"))
    }

    fn ask(self, request: &str) -> io::Result<Stream> {
        let mut socket = TcpStream::connect(self.0)?;
        socket.set_read_timeout(Some(BOUND))?;
        socket.write_all(request.as_bytes())?;
        let mut answer = BufReader::new(socket);
        let mut line = String::new();
        answer.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no status: {line:?}")))?;
        while line.trim_end() != "" {
            line.clear();
            answer.read_line(&mut line)?;
        }
        Ok(Stream { status, answer, done: false })
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// An answer whose body comes piece by piece. Its drop closes the connection.
#[derive(Debug)]
pub(crate) struct Stream {
    status: u16,
    answer: BufReader<TcpStream>,
    done: bool,
}

impl Stream {
    pub(crate) fn reply(mut self) -> io::Result<Reply> {
        let mut body = String::new();
        self.answer.read_to_string(&mut body)?;
        Ok(Reply { status: self.status, body })
    }

    /// The next event's data; `None` at the end, or behind the event that says that all is done.
    pub(crate) fn event(&mut self) -> io::Result<Option<Value>> {
        let mut line = String::new();
        while !self.done && self.answer.read_line(&mut line)? > 0 {
            match line.trim_end().strip_prefix("data: ") {
                Some("[DONE]") => self.done = true,
                Some(data) => return Ok(Some(serde_json::from_str(data)?)),
                None => {}
            }
            line.clear();
        }
        Ok(None)
    }

    /// All that are left.
    pub(crate) fn events(&mut self) -> io::Result<Vec<Value>> {
        std::iter::from_fn(|| self.event().transpose()).collect()
    }

    /// Whether the server said that all is done.
    pub(crate) const fn is_done(&self) -> bool {
        self.done
    }
}
