//! `ringplane record`: passes connections on to a worker and writes down what goes either way.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ringplane::Signals;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::decode::MAX_INPUT;
use crate::environment;
use crate::exit::Failed;
use crate::options;
use crate::stderr::say;

/// Connections that are passed on at once; further ones wait.
const AT_ONCE: usize = 64;
/// Bytes that are passed on at once.
const CHUNK: usize = 64 << 10;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where callers connect: an address, a host or a network interface, with a port or on any free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0", value_parser = options::listen)]
    listen: ringplane_core::config::Place,
    /// The worker that connections are passed on to
    #[arg(long, value_name = "HOST:PORT")]
    to: String,
    /// Where recordings go, a file for each connection and direction: 1.up (from the caller), 1.down (from the worker), 2.up …
    #[arg(value_name = "DIR", default_value = ".")]
    directory: PathBuf,
}

/// Records until a signal.
pub(crate) async fn run(args: Args) -> Result<(), Failed> {
    let mut signals = Signals::new()?;
    let (listen, _) = environment::bind(&args.listen)?;
    let refused = |error| Failed::local(format_args!("cannot listen on {listen}"), error);
    let listener = TcpListener::bind(listen).await.map_err(refused)?;
    let at = listener.local_addr().map_err(refused)?;
    say(format_args!("ringplane: recording what goes through {at} to {} in `{}`", args.to, args.directory.display()));
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut number = 0_u64;
    loop {
        let accepted = async {
            // It is never closed.
            let permit = Arc::clone(&room).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, (caller, from)) = tokio::select! {
            biased;
            () = signals.next() => return Ok(()),
            (permit, accepted) = accepted => (permit, accepted.map_err(|error| Failed::local("cannot accept", error))?),
        };
        number += 1;
        let (up, down) = (recording(&args.directory, number, "up")?, recording(&args.directory, number, "down")?);
        let to = args.to.clone();
        tokio::spawn(async move {
            if let Err(error) = pass_on(caller, from, &to, number, [up, down]).await {
                say(format_args!("ringplane: connection {number} from {from} to {to}: {error}"));
            }
            drop(permit);
        });
    }
}

/// A new file, never one that is there already.
fn recording(directory: &Path, number: u64, direction: &'static str) -> Result<Recording, Failed> {
    let path = directory.join(format!("{number}.{direction}"));
    let file = OpenOptions::new().write(true).create_new(true).open(&path);
    let file = file.map_err(|error| Failed::local(format_args!("cannot make `{}`", path.display()), error))?;
    Ok(Recording { path, file: Some(file), bytes: 0 })
}

async fn pass_on(
    caller: TcpStream,
    from: SocketAddr,
    to: &str,
    number: u64,
    [up, down]: [Recording; 2],
) -> io::Result<()> {
    let worker = TcpStream::connect(to).await?;
    say(format_args!("ringplane: connection {number} from {from}"));
    let _ = (caller.set_nodelay(true), worker.set_nodelay(true));
    let ((from_caller, to_caller), (from_worker, to_worker)) = (caller.into_split(), worker.into_split());
    let (up, down) = tokio::join!(one_way(from_caller, to_worker, up), one_way(from_worker, to_caller, down));
    up.and(down)
}

/// Passes everything on, then the end.
async fn one_way(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut recording: Recording) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let len = from.read(&mut chunk).await?;
        let bytes = chunk.get(..len).unwrap_or_default();
        if bytes.is_empty() {
            return to.shutdown().await;
        }
        recording.add(bytes);
        to.write_all(bytes).await?;
    }
}

/// The file of one direction, as long as it can be written and has room.
struct Recording {
    path: PathBuf,
    file: Option<File>,
    bytes: u64,
}

impl Recording {
    /// Writes down what fits; a connection goes on without its recording.
    fn add(&mut self, bytes: &[u8]) {
        let Some(file) = &mut self.file else { return };
        let left = usize::try_from(MAX_INPUT - self.bytes).unwrap_or(usize::MAX);
        let fits = bytes.get(..left).unwrap_or(bytes);
        self.bytes += fits.len() as u64;
        let why = match file.write_all(fits) {
            Ok(()) if fits.len() == bytes.len() => return,
            Ok(()) => format!("it has {MAX_INPUT} bytes, and `decode` reads no more"),
            Err(error) => error.to_string(),
        };
        self.file = None;
        say(format_args!("ringplane: `{}` ends here: {why}", self.path.display()));
    }
}
