//! One bucket: what is put, read, listed and deleted there.

use std::path::Path;
use std::time::Duration;

use async_nats::jetstream::object_store::{ObjectInfo, ObjectOptions};
use async_nats::{HeaderMap, datetime};
use bytes::{BufMut, Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::nats::connection::Connection;
use crate::nats::jetstream::{self, JetStream, NAME_IN_USE, NO_MESSAGE, NO_STREAM};
use crate::store::bincode;
use crate::store::config::Config;
use crate::store::error::Error;
use crate::store::file::Beside;
use crate::store::meta::{self, Info};
use crate::store::pieces::{Piece, Pieces, Which};
use crate::store::told::Told;
use crate::store::upload::{Upload, purge};

/// Objects that a list may have.
const MOST_LISTED: usize = 100_000;

/// How often a description is put in the place of another that has just come.
const TRIES: usize = 64;

/// A bucket of objects on a NATS server. Clones are the same bucket.
///
/// Of two that put one name at the same time the last one wins, whole, and takes the pieces of the other away. What is read while it is replaced ends with
/// [`Error::Incomplete`] or [`Error::Damaged`], never with a mixture.
#[derive(Clone, Debug)]
pub struct Bucket {
    server: JetStream,
    name: String,
    stream: String,
    config: Config,
}

/// Deletes a bucket and all that is in it: whether it was there.
///
/// # Errors
/// [`Error::BucketName`], or what JetStream says.
pub async fn delete_bucket(connection: &Connection, name: &str, answer: Duration) -> Result<bool, Error> {
    let server = JetStream::new(connection, answer);
    match server.ask::<Value>(&format!("STREAM.DELETE.{}", meta::stream(name)?), &json!({})).await {
        Err(error) if error.is(NO_STREAM) => Ok(false),
        deleted => Ok(deleted.map(|_| true)?),
    }
}

impl Bucket {
    /// The bucket of this name, made if it is not there.
    ///
    /// # Errors
    /// [`Error::BucketName`], or what JetStream says.
    pub async fn open(connection: &Connection, name: &str, config: Config) -> Result<Self, Error> {
        let max_age = config.max_age;
        let bucket = match Self::existing(connection, name, config.clone()).await {
            Err(Error::NoBucket(_)) => Self::new(connection, name, config)?,
            found => return found,
        };
        let question = json!({
            "name": bucket.stream,
            "subjects": [meta::pieces(name, ">"), meta::descriptions(name)],
            "retention": "limits",
            "discard": "new",
            "storage": "file",
            "max_age": u64::try_from(max_age.as_nanos()).unwrap_or(u64::MAX).min(i64::MAX as u64),
            "allow_rollup_hdrs": true,
            "allow_direct": true,
        });
        match bucket.server.ask::<Value>(&format!("STREAM.CREATE.{}", bucket.stream), &question).await {
            // Another has made it meanwhile, in another way.
            Err(error) if !error.is(NAME_IN_USE) => Err(error.into()),
            _ => Ok(bucket),
        }
    }

    /// The bucket of this name.
    ///
    /// # Errors
    /// [`Error::NoBucket`] if it is not there, or as [`open`](Self::open).
    pub async fn existing(connection: &Connection, name: &str, config: Config) -> Result<Self, Error> {
        let bucket = Self::new(connection, name, config)?;
        match bucket.server.ask::<Value>(&format!("STREAM.INFO.{}", bucket.stream), &json!({})).await {
            Err(error) => Err(bucket.missing(error)),
            Ok(_) => Ok(bucket),
        }
    }

    fn new(connection: &Connection, name: &str, config: Config) -> Result<Self, Error> {
        let server = JetStream::new(connection, config.answer);
        Ok(Self { server, name: name.to_owned(), stream: meta::stream(name)?, config })
    }

    /// Puts bytes under a name, over what was there.
    ///
    /// # Errors
    /// As [`put_from`](Self::put_from).
    pub async fn put(&self, name: &str, bytes: impl AsRef<[u8]>) -> Result<Info, Error> {
        self.put_from(name, bytes.as_ref()).await
    }

    /// Puts a value that serde knows, in [the form of bincode 1](bincode).
    ///
    /// # Errors
    /// [`Error::Value`], or as [`put_from`](Self::put_from).
    pub async fn put_value<T: Serialize + ?Sized>(&self, name: &str, value: &T) -> Result<Info, Error> {
        self.put(name, bincode::to_vec(value)?).await
    }

    /// Puts a file, piece by piece.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be opened, or as [`put_from`](Self::put_from).
    pub async fn put_file(&self, name: &str, path: &Path) -> Result<Info, Error> {
        self.put_file_told(name, path, |_| {}).await
    }

    /// The same; `told` hears how many bytes have been read whenever some have.
    ///
    /// # Errors
    /// As there.
    pub async fn put_file_told(&self, name: &str, path: &Path, told: impl FnMut(usize) + Unpin) -> Result<Info, Error> {
        let file = File::open(path).await.map_err(|source| Error::File { path: path.to_owned(), source })?;
        self.put_from(name, Told::new(file, told)).await
    }

    /// Puts what is read until it ends, piece by piece, of which [`Config::ahead`] are in memory. The name stands for it when
    /// all is there; what was there before is read until then. If this fails or is dropped before
    /// that, its pieces are taken back.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::Read`], or what JetStream says.
    pub async fn put_from(&self, name: &str, mut from: impl AsyncRead + Unpin) -> Result<Info, Error> {
        let subject = meta::description(&self.name, name)?;
        let before = self.last(&subject).await?;
        let subject_of = |id: &str| meta::pieces(&self.name, id);
        let (mut upload, id) = Upload::new(&self.server, &self.stream, self.config.ahead, subject_of).await?;
        let length = self.config.piece.clamp(1, self.server.connection().max_payload().max(1));
        let (mut size, mut chunks, mut hash) = (0, 0, Sha256::new());
        loop {
            let piece = piece(&mut from, length).await.map_err(Error::Read)?;
            if piece.is_empty() {
                break;
            }
            hash.update(&piece);
            (size, chunks) = (size + piece.len(), chunks + 1);
            upload.send(piece).await?;
        }
        upload.all_kept().await?;
        let described = ObjectInfo {
            options: Some(ObjectOptions { link: None, max_chunk_size: Some(length) }),
            size,
            chunks,
            digest: Some(meta::digest(&hash.finalize())),
            ..self.described(name, id)
        };
        // From here on it goes to its end, whatever becomes of the one that waits for it.
        upload.stay();
        self.finish(|bucket| bucket.replace_by(subject, before, described)).await
    }

    /// The bytes of an object, of at most [`Config::max_value`].
    ///
    /// # Errors
    /// [`Error::TooLarge`], or as [`get_to`](Self::get_to).
    pub async fn get(&self, name: &str) -> Result<Bytes, Error> {
        let found = self.found(name).await?;
        let limit = self.config.max_value;
        if found.size > limit {
            return Err(Error::TooLarge { size: found.size, limit });
        }
        let mut bytes = Vec::with_capacity(found.size);
        self.read(&found, &mut bytes).await?;
        Ok(bytes.into())
    }

    /// A value that serde knows, in [the form of bincode 1](bincode).
    ///
    /// # Errors
    /// [`Error::Value`], or as [`get`](Self::get).
    pub async fn get_value<T: DeserializeOwned>(&self, name: &str) -> Result<T, Error> {
        Ok(bincode::from_slice(&self.get(name).await?)?)
    }

    /// Writes an object to a file, over what is there. It is written beside it, under a name with a dot in front and `.part` behind,
    /// and moved there when the digest is right; otherwise nothing is left, and what was there stays.
    ///
    /// # Errors
    /// [`Error::File`], or as [`get_to`](Self::get_to).
    pub async fn get_file(&self, name: &str, path: &Path) -> Result<Info, Error> {
        self.get_file_told(name, path, |_| {}).await
    }

    /// The same; `told` hears how many bytes have been written whenever some have.
    ///
    /// # Errors
    /// As there.
    pub async fn get_file_told(&self, name: &str, path: &Path, told: impl FnMut(usize) + Unpin) -> Result<Info, Error> {
        let found = self.found(name).await?;
        let (beside, file) = Beside::new(path).await?;
        self.read(&found, &mut Told::new(file, told)).await?;
        beside.into_place().await?;
        Ok(found.into())
    }

    /// Writes the bytes of an object as they come, of which [`Config::ahead`] pieces are in memory. Only when this returns well is
    /// what was written the object.
    ///
    /// # Errors
    /// [`Error::NoObject`], [`Error::Link`], [`Error::Damaged`], [`Error::Incomplete`], [`Error::Write`], or what JetStream says.
    pub async fn get_to(&self, name: &str, mut to: impl AsyncWrite + Unpin) -> Result<Info, Error> {
        let found = self.found(name).await?;
        self.read(&found, &mut to).await?;
        Ok(found.into())
    }

    /// What is known of an object.
    ///
    /// # Errors
    /// [`Error::NoObject`], or what JetStream says.
    pub async fn info(&self, name: &str) -> Result<Info, Error> {
        self.look(name).await.map(Info::from)
    }

    /// All objects, by name; 100,000 at the most.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if there are more, [`Error::NoBucket`], or what JetStream says.
    pub async fn list(&self) -> Result<Vec<Info>, Error> {
        let subject = meta::descriptions(&self.name);
        let opened = Pieces::new(&self.server, &self.stream, subject, Which::Newest, 256).await;
        let mut described = opened.map_err(|error| self.missing_of(error))?;
        if described.left() > MOST_LISTED {
            return Err(Error::TooLarge { size: described.left(), limit: MOST_LISTED });
        }
        let mut all = Vec::new();
        while let Some(piece) = described.next().await? {
            let found = meta::read(&meta::named(&piece.subject), &piece.payload)?;
            if !found.deleted {
                all.push(Info::from(found));
            }
        }
        described.end().await;
        all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// [`Error::NoObject`], or what JetStream says.
    pub async fn delete(&self, name: &str) -> Result<(), Error> {
        let subject = meta::description(&self.name, name)?;
        let name = name.to_owned();
        self.finish(|bucket| bucket.unput(subject, name)).await
    }

    /// Does what must not be left half done.
    async fn finish<T, F>(&self, work: impl FnOnce(Self) -> F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let done = self.server.connection().finish(work(self.clone())).await;
        done.map_err(|_| jetstream::Error::Broken("the runtime of the connection has ended".to_owned()))?
    }

    /// Puts a description in the place of the last one, and takes the pieces of that away. If it does not come about, its own
    /// pieces go; if that cannot be known they stay: a description must not be without them.
    async fn replace_by(self, subject: String, mut before: Option<Last>, described: ObjectInfo) -> Result<Info, Error> {
        for _ in 0..TRIES {
            let put = self.describe(&subject, &described, before.as_ref().map_or(0, |last| last.sequence)).await;
            let stands = match &put {
                Err(jetstream::Error::Unanswered { .. } | jetstream::Error::Broken(_)) => {
                    self.holds(&subject, &described.nuid).await
                }
                put => put.is_ok(),
            };
            match put {
                _ if stands => {
                    if let Some(id) = before.and_then(|last| meta::id(&last.text)) {
                        self.purge(&id).await?;
                    }
                    return Ok(described.into());
                }
                Err(error) if !error.is_overtaken() => {
                    if matches!(error, jetstream::Error::Refused { .. } | jetstream::Error::TooLarge { .. }) {
                        self.purge(&described.nuid).await?;
                    }
                    return Err(error.into());
                }
                _ => {}
            }
            before = match self.last(&subject).await {
                Ok(last) => last,
                Err(error) => {
                    self.purge(&described.nuid).await?;
                    return Err(error);
                }
            };
        }
        self.purge(&described.nuid).await?;
        Err(Error::Contended(described.name))
    }

    /// Says in the place of an object's description that it is deleted, and takes its pieces away.
    async fn unput(self, subject: String, name: String) -> Result<(), Error> {
        for _ in 0..TRIES {
            let missing = Error::NoObject { bucket: self.name.clone(), name: name.clone() };
            let Some(last) = self.last(&subject).await? else { return Err(missing) };
            let id = meta::id(&last.text);
            let gone = match meta::read(&name, &last.text) {
                Ok(found) if found.deleted => return Err(missing),
                Ok(found) => ObjectInfo { size: 0, chunks: 0, deleted: true, ..found },
                Err(_) => ObjectInfo {
                    deleted: true,
                    ..self.described(&name, id.clone().unwrap_or_else(|| "none".to_owned()))
                },
            };
            match self.describe(&subject, &gone, last.sequence).await {
                Err(error) if error.is_overtaken() => continue,
                said => said?,
            }
            return match id {
                Some(id) => self.purge(&id).await,
                None => Ok(()),
            };
        }
        Err(Error::Contended(name))
    }

    /// The description of an object that can be read.
    async fn found(&self, name: &str) -> Result<ObjectInfo, Error> {
        let found = self.look(name).await?;
        let is_link = found.options.as_ref().is_some_and(|options| options.link.is_some());
        if is_link { Err(Error::Link(name.to_owned())) } else { Ok(found) }
    }

    /// The description of an object.
    async fn look(&self, name: &str) -> Result<ObjectInfo, Error> {
        let subject = meta::description(&self.name, name)?;
        let last = self.last(&subject).await?.map(|last| meta::read(name, &last.text)).transpose()?;
        let missing = || Error::NoObject { bucket: self.name.clone(), name: name.to_owned() };
        last.filter(|found| !found.deleted).ok_or_else(missing)
    }

    /// What is there under a description's subject, whatever it says.
    async fn last(&self, subject: &str) -> Result<Option<Last>, Error> {
        // From the stream's leader: what was put is there.
        let about = format!("STREAM.MSG.GET.{}", self.stream);
        let found: Found = match self.server.ask(&about, &json!({ "last_by_subj": subject })).await {
            Err(error) if error.is(NO_MESSAGE) => return Ok(None),
            found => found.map_err(|error| self.missing(error))?,
        };
        let text = meta::unbase64(&found.message.data).unwrap_or_default();
        Ok(Some(Last { sequence: found.message.seq, text }))
    }

    /// Whether the description there is that of the object with this id.
    async fn holds(&self, subject: &str, id: &str) -> bool {
        let last = self.last(subject).await;
        last.is_ok_and(|last| last.is_some_and(|last| meta::id(&last.text).as_deref() == Some(id)))
    }

    /// Writes the pieces of an object, and compares.
    async fn read(&self, found: &ObjectInfo, to: &mut (impl AsyncWrite + Unpin)) -> Result<(), Error> {
        let damaged = |what| Error::Damaged { name: found.name.clone(), what };
        let (mut size, mut hash) = (0, Sha256::new());
        if found.chunks > 0 {
            let subject = meta::pieces(&self.name, &found.nuid);
            let mut pieces = Pieces::new(&self.server, &self.stream, subject, Which::All, self.config.ahead).await?;
            if pieces.left() != found.chunks {
                return Err(damaged("another number of pieces than its description says"));
            }
            while let Some(Piece { payload: piece, .. }) = pieces.next().await? {
                size += piece.len();
                if size > found.size {
                    return Err(damaged("more bytes than its description says"));
                }
                hash.update(&piece);
                to.write_all(&piece).await.map_err(Error::Write)?;
            }
            pieces.end().await;
        }
        to.flush().await.map_err(Error::Write)?;
        let said = found.digest.as_deref().ok_or_else(|| damaged("its description has no digest"))?;
        match () {
            () if size < found.size => Err(damaged("fewer bytes than its description says")),
            () if !meta::is_digest(said, &meta::digest(&hash.finalize())) => Err(damaged("another digest")),
            () => Ok(()),
        }
    }

    /// Publishes a description in place of the one with this sequence; zero is none.
    async fn describe(&self, subject: &str, described: &ObjectInfo, before: u64) -> Result<(), jetstream::Error> {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Rollup", "sub");
        headers.insert("Nats-Expected-Last-Subject-Sequence", before.to_string());
        let text = serde_json::to_vec(described).map_err(|error| jetstream::Error::Broken(error.to_string()))?;
        self.server.keep(subject.to_owned(), Some(headers), text.into()).await?;
        Ok(())
    }

    /// The description of an object without bytes.
    fn described(&self, name: &str, id: String) -> ObjectInfo {
        ObjectInfo {
            name: name.to_owned(),
            description: None,
            metadata: Default::default(),
            headers: None,
            options: None,
            bucket: self.name.clone(),
            nuid: id,
            size: 0,
            chunks: 0,
            modified: Some(datetime::now()),
            digest: None,
            deleted: false,
        }
    }

    async fn purge(&self, id: &str) -> Result<(), Error> {
        Ok(purge(&self.server, &self.stream, &meta::pieces(&self.name, id)).await?)
    }

    /// A stream that is not there is a bucket that is not there.
    fn missing(&self, error: jetstream::Error) -> Error {
        if error.is(NO_STREAM) { Error::NoBucket(self.name.clone()) } else { error.into() }
    }

    fn missing_of(&self, error: Error) -> Error {
        match error {
            Error::JetStream(error) => self.missing(error),
            other => other,
        }
    }
}

/// Reads until there are `length` bytes, or no more.
async fn piece(from: &mut (impl AsyncRead + Unpin), length: usize) -> std::io::Result<Bytes> {
    let mut piece = BytesMut::with_capacity(length);
    while piece.len() < length {
        let room = length - piece.len();
        if from.read_buf(&mut (&mut piece).limit(room)).await? == 0 {
            break;
        }
    }
    Ok(piece.freeze())
}

/// A message of a stream, as asked for by its subject.
#[derive(Deserialize)]
struct Found {
    message: Stored,
}

#[derive(Deserialize)]
struct Stored {
    seq: u64,
    #[serde(default)]
    data: String,
}

/// What stands under a description's subject.
struct Last {
    sequence: u64,
    text: Vec<u8>,
}
