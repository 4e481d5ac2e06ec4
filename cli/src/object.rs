//! `ringplane object`: bytes under names on a NATS server.

use std::io::{Read, Write};
use std::path::PathBuf;

use ringplane::nats::Connection;
use ringplane::store::{Bucket, Config, delete_bucket};
use ringplane_core::wire::line::Line;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::task::spawn_blocking;

use crate::exit::{Exit, Failed};
use crate::nats::{connect, interruptible};
use crate::progress::Progress;
use crate::streams::{Input, Output, print, written};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Put a file, or stdin, into a bucket, which is made if it is not there
    Put(Transfer),
    /// Get an object into a file, which is there only once it is whole, or to stdout
    Get(Transfer),
    /// List the objects of a bucket
    Ls(Ls),
    /// Delete an object, or a bucket with all that is in it
    Rm(Rm),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Transfer {
    /// The bucket
    bucket: String,
    /// The object
    name: String,
    /// The file; - for stdin or stdout
    file: PathBuf,
}

/// Bytes between the object store and a standard stream.
const AHEAD: usize = 256 << 10;

#[derive(Debug, clap::Args)]
pub(crate) struct Ls {
    /// The bucket
    bucket: String,
    /// One JSON object per line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Rm {
    /// The bucket
    bucket: String,
    /// The object
    #[arg(required_unless_present = "bucket_itself", conflicts_with = "bucket_itself")]
    name: Option<String>,
    /// The bucket itself
    #[arg(id = "bucket_itself", long = "bucket")]
    bucket_itself: bool,
}

/// Does what is asked, until a signal.
pub(crate) async fn run(command: Command) -> Result<(), Failed> {
    let mut connection = None;
    let ended = interruptible(async {
        let connection = connection.insert(connect().await?);
        match command {
            Command::Put(args) => put(connection, args).await,
            Command::Get(args) => get(connection, args).await,
            Command::Ls(args) => ls(connection, args).await,
            Command::Rm(args) => rm(connection, args).await,
        }
    })
    .await;
    if let (Err(_), Some(connection)) = (&ended, &connection) {
        // An upload that was left takes its pieces back.
        connection.flush().await;
    }
    ended
}

async fn existing(connection: &Connection, bucket: &str) -> Result<Bucket, Failed> {
    Ok(Bucket::existing(connection, bucket, Config::default()).await?)
}

async fn put(connection: &Connection, args: Transfer) -> Result<(), Failed> {
    if args.file.as_os_str() == "-" {
        let bucket = Bucket::open(connection, &args.bucket, Config::default()).await?;
        return put_stdin(&bucket, &args.name).await;
    }
    let failed = |error| Failed::local(args.file.display(), error);
    let size = std::fs::metadata(&args.file).map_err(failed)?.len();
    let bucket = Bucket::open(connection, &args.bucket, Config::default()).await?;
    let progress = Progress::start(&args.name, size, "bytes");
    let put = bucket.put_file_told(&args.name, &args.file, |bytes| progress.at(bytes as u64)).await;
    drop(progress);
    put.map(drop).map_err(Failed::from)
}

async fn get(connection: &Connection, args: Transfer) -> Result<(), Failed> {
    let bucket = existing(connection, &args.bucket).await?;
    if args.file.as_os_str() == "-" {
        return get_stdout(&bucket, &args.name).await;
    }
    let progress = Progress::start(&args.name, bucket.info(&args.name).await?.size as u64, "bytes");
    let got = bucket.get_file_told(&args.name, &args.file, |bytes| progress.at(bytes as u64)).await;
    drop(progress);
    got.map(drop).map_err(Failed::from)
}

/// Puts what comes on stdin, if it ends well.
async fn put_stdin(bucket: &Bucket, name: &str) -> Result<(), Failed> {
    // Held until both are done: without its end what has been read is no object.
    let (mut feed, from) = duplex(AHEAD);
    let reading = async {
        let failed = |error| Failed::local("stdin", error);
        let mut stdin = Input::new().map_err(failed)?;
        loop {
            let read = move || {
                let mut chunk = vec![0; AHEAD];
                let read = stdin.read(&mut chunk)?;
                chunk.truncate(read);
                Ok((stdin, chunk))
            };
            let read = spawn_blocking(read).await.map_err(|error| Failed::new(Exit::Internal, error))?;
            let (back, chunk) = read.map_err(failed)?;
            stdin = back;
            if chunk.is_empty() {
                return feed.shutdown().await.map_err(failed);
            }
            feed.write_all(&chunk).await.map_err(failed)?;
        }
    };
    let putting = async { bucket.put_from(name, from).await.map(drop).map_err(Failed::from) };
    tokio::try_join!(reading, putting).map(drop)
}

/// Writes an object to stdout as it comes: only a good end says that it was whole.
async fn get_stdout(bucket: &Bucket, name: &str) -> Result<(), Failed> {
    let (to, mut taken) = duplex(AHEAD);
    let getting = async { bucket.get_to(name, to).await.map(drop).map_err(Failed::from) };
    let writing = async {
        loop {
            let mut chunk = Vec::with_capacity(AHEAD);
            let read = taken.read_buf(&mut chunk).await.map_err(|error| Failed::local("stdout", error))?;
            if read == 0 {
                return Ok(());
            }
            let write = move || written(Output::stdout().and_then(|mut out| out.write_all(&chunk)));
            spawn_blocking(write).await.map_err(|error| Failed::new(Exit::Internal, error))??;
        }
    };
    tokio::try_join!(writing, getting).map(drop)
}

async fn ls(connection: &Connection, args: Ls) -> Result<(), Failed> {
    let objects = existing(connection, &args.bucket).await?.list().await?;
    print(objects.into_iter().map(|info| {
        if !args.json {
            return format!("{:>14}  {}", info.size, Line(&info.name));
        }
        let modified = info.modified.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        let modified = modified.map(|since| since.as_secs());
        json!({ "name": info.name, "size": info.size, "digest": info.digest, "modified": modified }).to_string()
    }))
}

async fn rm(connection: &Connection, args: Rm) -> Result<(), Failed> {
    match args.name {
        Some(name) => Ok(existing(connection, &args.bucket).await?.delete(&name).await?),
        None if delete_bucket(connection, &args.bucket, Config::default().answer).await? => Ok(()),
        None => Err(Failed::new(Exit::NoInstances, format_args!("there is no bucket `{}`", args.bucket))),
    }
}
