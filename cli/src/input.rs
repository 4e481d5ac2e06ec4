//! What a command is given to send: a word, a file or stdin, whole or line by line.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};

use ringplane_core::caller::error::CallError;
use ringplane_core::wire::codec::Codec;
use tokio::sync::mpsc;

use crate::exit::Failed;
use crate::streams::Input;

/// Lines of stdin that may wait to be sent.
const FED: usize = 16;

/// What a word of the command line stands for: itself, a file's content, or stdin's.
pub(crate) fn body(request: Option<&str>, codec: Option<Codec>, max_item: u64) -> Result<Vec<u8>, Failed> {
    Ok(match request {
        None if codec.is_some() => b"null".to_vec(),
        None => Vec::new(),
        Some("-") => all(Input::new().map_err(|error| Failed::local("stdin", error))?, "stdin", max_item)?,
        Some(text) => match text.strip_prefix('@') {
            None => text.as_bytes().to_vec(),
            Some(path) => {
                let file = File::open(path).map_err(|error| Failed::local(path, error))?;
                all(file, path, max_item)?
            }
        },
    })
}

/// Reads everything, but not more than an item may have.
fn all(source: impl Read, name: &str, limit: u64) -> Result<Vec<u8>, Failed> {
    let mut bytes = Vec::new();
    source.take(limit + 1).read_to_end(&mut bytes).map_err(|error| Failed::local(name, error))?;
    if bytes.len() as u64 > limit { Err(CallError::TooLarge { limit }.into()) } else { Ok(bytes) }
}

pub(crate) type StdinLines = mpsc::Receiver<Result<Vec<u8>, Failed>>;

/// Reads stdin on a thread: a terminal that nobody types on must not keep the call from ending.
pub(crate) fn stdin_lines(limit: u64) -> Result<StdinLines, Failed> {
    let (queue, lines) = mpsc::channel(FED);
    let mut stdin = BufReader::new(Input::new().map_err(|error| Failed::local("stdin", error))?);
    let run = move || {
        while let Some(line) = next_line(&mut stdin, limit).transpose() {
            let over = line.is_err();
            if queue.blocking_send(line).is_err() || over {
                return;
            }
        }
    };
    let started = std::thread::Builder::new().name("stdin".to_owned()).spawn(run);
    started.map(|_| lines).map_err(|error| Failed::local("cannot start a thread", error))
}

/// The next line without its end.
fn next_line(source: &mut impl BufRead, limit: u64) -> Result<Option<Vec<u8>>, Failed> {
    let mut line = Vec::new();
    let read = source.take(limit + 1).read_until(b'\n', &mut line).map_err(|error| Failed::local("stdin", error))?;
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    if line.len() as u64 > limit {
        return Err(CallError::TooLarge { limit }.into());
    }
    Ok((read > 0).then_some(line))
}
