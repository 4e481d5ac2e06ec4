//! What a process tells at its status server.

use std::time::Duration;

use ringplane::status::ProcessView;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The longest that an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The largest answer, in bytes.
const LARGEST: u64 = 16 << 20;

/// The address of a status server: `HOST:PORT`, also as a URL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Server(String);

impl Server {
    /// Reads it.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let bare = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        let port = bare.rsplit_once(':').and_then(|(host, port)| Some(port).filter(|_| !host.is_empty()));
        match port.map(str::parse::<u16>) {
            Some(Ok(_)) if !bare.contains(['/', '@', ' ']) => Ok(Self(bare.to_owned())),
            _ => Err("not HOST:PORT or http://HOST:PORT/".to_owned()),
        }
    }

    /// As it was named.
    pub(super) fn name(&self) -> &str {
        &self.0
    }

    /// Asks it; what is wrong if it does not say what it should.
    pub(super) async fn ask(&self) -> Result<ProcessView, String> {
        let answer = timeout(PATIENCE, self.get()).await.map_err(|_| "it does not answer in time".to_owned())?;
        let (head, body) = split(&answer.map_err(|error| error.to_string())?)?;
        if !head.starts_with("HTTP/1.1 200 ") {
            return Err(format!("it answers `{}`", head.lines().next().unwrap_or_default()));
        }
        serde_json::from_str(&body).map_err(|error| format!("it is no status server of this version: {error}"))
    }

    async fn get(&self) -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(&self.0).await?;
        let head = format!("GET /status.json HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.0);
        stream.write_all(head.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(LARGEST).read_to_end(&mut answer).await?;
        Ok(answer)
    }
}

/// Head and body of an answer that has been sent in one piece.
fn split(answer: &[u8]) -> Result<(String, String), String> {
    let text = String::from_utf8_lossy(answer);
    let parts = text.split_once("\r\n\r\n").map(|(head, body)| (head.to_owned(), body.to_owned()));
    parts.ok_or_else(|| "it does not speak HTTP".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_host_and_a_port_or_a_url_of_them() {
        for (text, name) in
            [("127.0.0.1:80", "127.0.0.1:80"), ("http://localhost:9090/", "localhost:9090"), ("[::1]:1", "[::1]:1")]
        {
            assert_eq!(Server::read(text), Ok(Server(name.to_owned())), "{text}");
        }
        for text in ["", "host", ":80", "host:x", "host:70000", "http://host:80/x", "https://host:80"] {
            assert!(Server::read(text).is_err(), "{text}");
        }
    }
}
