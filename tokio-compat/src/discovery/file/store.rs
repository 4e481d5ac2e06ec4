//! The directory: publishing, touching and removing files so that no reader ever sees half of one, and looking at what
//! others put there without following, waiting for or swallowing it.

use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{CWD, OFlags, RenameFlags, Timespec, Timestamps, UTIME_NOW, futimens, renameat_with};
use rustix::io::Errno;

use crate::discovery::error::Error;
use crate::discovery::file::lock::{Lock, Locks};
use crate::discovery::file::name;
use crate::random::random_u64;

/// Bytes a record may have. A larger file is not read.
pub(super) const MAX: u64 = 1 << 20;

/// The directory of one bucket.
#[derive(Clone, Debug)]
pub(super) struct Store {
    directory: PathBuf,
    locks: Locks,
}

/// Which file it is, however it is called. No other has this number while somebody holds it open.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct FileId {
    pub(super) device: u64,
    pub(super) inode: u64,
}

/// What tells a file from another of the same name, and when its owner last touched it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Stamp {
    pub(super) file: FileId,
    pub(super) bytes: u64,
    /// When anything about it changed, in seconds and nanoseconds. A touch counts, and nobody can set it.
    pub(super) changed: (i64, i64),
    pub(super) touched: SystemTime,
}

/// What is at a name.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Found {
    Nothing,
    /// No record, whatever it says: what it is.
    Odd(&'static str),
    File(Stamp),
}

/// What reading came to.
#[derive(Debug)]
pub(super) enum Content {
    Nothing,
    Odd(&'static str),
    /// Larger than [`MAX`].
    Large,
    /// The file, held, and what it says.
    Bytes(Held, Vec<u8>),
}

/// What a sign of life came to.
#[derive(Debug)]
pub(super) enum Touched {
    Done,
    Gone,
    /// The name is another's by now.
    Other(Found),
}

/// An open file. As long as it is held nobody else's file can have its number.
#[derive(Debug)]
pub(super) struct Held {
    file: fs::File,
    pub(super) id: FileId,
}

impl Store {
    /// The bucket below `root`, made if need be. Links on the way are followed once, now.
    pub(super) fn open(root: &Path, bucket: &str) -> Result<Self, Error> {
        let made = fs::create_dir_all(root.join(bucket));
        made.map_err(|source| Error::Io { doing: "create", path: root.join(bucket), source })?;
        let root = root.canonicalize().map_err(|source| Error::Io { doing: "find", path: root.into(), source })?;
        Ok(Self { directory: root.join(bucket), locks: Locks::default() })
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Makes the directory again if somebody removed it.
    pub(super) fn restore(&self) -> Result<(), Error> {
        fs::create_dir_all(&self.directory).map_err(|source| self.error("create", "", source))
    }

    /// Creates the file with its content in one step. `None` if the name is taken. What is no file makes way.
    pub(super) fn publish(&self, name: &str, content: &[u8]) -> Result<Option<Held>, Error> {
        let _lock = self.lock()?;
        let temporary = self.temporary();
        let linked = write(&temporary, content).and_then(|held| {
            let to = self.directory.join(name);
            if place(&temporary, &to, held.id)? {
                return Ok(Some(held));
            }
            let Found::Odd(_) = look(&to)? else { return Ok(None) };
            self.displace(&temporary, &to)?;
            Ok(Some(held))
        });
        // Gone already after a rename. What a crash leaves here, the next sweep takes.
        let _ = fs::remove_file(&temporary);
        linked.map_err(|source| self.error("publish", name, source))
    }

    /// Replaces the content by what `edit` makes of it, in one step and under the lock; `None` leaves it, and `None` comes
    /// back then.
    pub(super) fn replace(
        &self,
        name: &str,
        edit: impl FnOnce(&[u8]) -> Result<Option<Vec<u8>>, Error>,
    ) -> Result<Option<Held>, Error> {
        let _lock = self.lock()?;
        let Content::Bytes(_, found) = self.read(name)? else {
            return Err(self.error("replace", name, ErrorKind::NotFound.into()));
        };
        let Some(content) = edit(&found)? else { return Ok(None) };
        let temporary = self.temporary();
        let written = write(&temporary, &content);
        let renamed = written.and_then(|held| fs::rename(&temporary, self.directory.join(name)).map(|()| held));
        renamed.map(Some).map_err(|source| {
            // What cannot be removed here, the next sweep takes.
            let _ = fs::remove_file(&temporary);
            self.error("replace", name, source)
        })
    }

    /// Says that the owner of the held file lives, if the name is still its.
    pub(super) fn touch(&self, name: &str, held: &Held) -> Result<Touched, Error> {
        match self.look(name)? {
            Found::Nothing => return Ok(Touched::Gone),
            Found::File(stamp) if stamp.file == held.id => {}
            other => return Ok(Touched::Other(other)),
        }
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        // By descriptor: whatever has the name in the meantime is not ours to touch.
        futimens(&held.file, &times).map_err(|errno| self.error("touch", name, errno.into()))?;
        Ok(Touched::Done)
    }

    /// Removes the held file if the name is still its, or an equal one's. One that is gone is as good as removed, and
    /// another's is left.
    pub(super) fn remove(&self, name: &str, held: &Held, content: &[u8]) -> Result<(), Error> {
        let ours = match self.look(name)? {
            Found::File(stamp) if stamp.file == held.id => true,
            Found::File(_) => matches!(self.read(name)?, Content::Bytes(_, found) if found == content),
            _ => false,
        };
        if ours { self.unlink(name) } else { Ok(()) }
    }

    /// Removes a file unless it has changed since `stamp` was taken. Only under the [lock](Self::lock).
    pub(super) fn sweep(&self, name: &str, stamp: Stamp, _lock: &Lock) -> Result<(), Error> {
        if self.look(name)? == Found::File(stamp) { self.unlink(name) } else { Ok(()) }
    }

    /// What is at the name, without opening it.
    pub(super) fn look(&self, name: &str) -> Result<Found, Error> {
        look(&self.directory.join(name)).map_err(|source| self.error("look at", name, source))
    }

    /// What the file says. Never waits: what is no file is not read.
    pub(super) fn read(&self, name: &str) -> Result<Content, Error> {
        read(&self.directory.join(name)).map_err(|source| self.error("read", name, source))
    }

    /// Every name that is UTF-8; others are none of ours.
    pub(super) fn names(&self) -> Result<Vec<String>, Error> {
        let entries = fs::read_dir(&self.directory).map_err(|source| self.error("list", "", source))?;
        let names = entries.map(|entry| entry.map(|entry| entry.file_name().into_string().ok()));
        let names: io::Result<Vec<_>> = names.collect();
        Ok(names.map_err(|source| self.error("list", "", source))?.into_iter().flatten().collect())
    }

    /// The lock every writer of the directory takes. Released by the drop.
    pub(super) fn lock(&self) -> Result<Lock, Error> {
        self.locks.take(&self.directory)
    }

    /// Puts the new file in the place of something that is no file and so no record, in one step: nobody finds the name
    /// free meanwhile.
    fn displace(&self, from: &Path, to: &Path) -> io::Result<()> {
        match fs::rename(from, to) {
            Err(_) if to.symlink_metadata().is_ok_and(|found| found.is_dir()) => {}
            renamed => return renamed,
        }
        if renameat_with(CWD, from, CWD, to, RenameFlags::EXCHANGE).is_err() {
            fs::rename(to, self.temporary())?;
            return fs::rename(from, to);
        }
        // What is in a directory is not ours to remove: one that is not empty stays under the unfinished file's name.
        let _ = fs::remove_dir(from);
        Ok(())
    }

    fn unlink(&self, name: &str) -> Result<(), Error> {
        match fs::remove_file(self.directory.join(name)) {
            Err(source) if source.kind() != ErrorKind::NotFound => Err(self.error("remove", name, source)),
            _ => Ok(()),
        }
    }

    fn temporary(&self) -> PathBuf {
        self.directory.join(format!("{}{:016x}", name::TEMPORARY, random_u64()))
    }

    fn error(&self, doing: &'static str, name: &str, source: io::Error) -> Error {
        Error::Io { doing, path: self.directory.join(name), source }
    }
}

/// A new file with this content, closed and opened again: on a network file system others see what was written before.
fn write(path: &Path, content: &[u8]) -> io::Result<Held> {
    let mut file = fs::File::create_new(path)?;
    let (device, inode) =
        file.write_all(content).and_then(|()| file.metadata()).map(|data| (data.dev(), data.ino()))?;
    drop(file);
    match open(path)? {
        Ok(held) if held.id == (FileId { device, inode }) => Ok(held),
        _ => Err(io::Error::other("somebody else has replaced the new file")),
    }
}

/// Gives the new file its name. `false` if that is taken. Only under the lock, for the last of three ways has a gap.
fn place(from: &Path, to: &Path, id: FileId) -> io::Result<bool> {
    let Err(error) = fs::hard_link(from, to) else { return Ok(true) };
    if error.kind() == ErrorKind::AlreadyExists {
        // A network file system that was asked twice says so of what it has done itself.
        return Ok(matches!(look(to)?, Found::File(stamp) if stamp.file == id));
    }
    if !is_unsupported(&error) {
        return Err(error);
    }
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE).map_err(io::Error::from) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) if is_unsupported(&error) => match look(to)? {
            Found::Nothing => fs::rename(from, to).map(|()| true),
            _ => Ok(false),
        },
        Err(error) => Err(error),
    }
}

/// Whether a file system says that it does without this kind of call; each says it in its own way.
fn is_unsupported(error: &io::Error) -> bool {
    use Errno as E;
    const ALL: [Errno; 8] = [E::XDEV, E::MLINK, E::INVAL, E::PERM, E::ACCESS, E::NOSYS, E::NOTSUP, E::OPNOTSUPP];
    error.raw_os_error().is_some_and(|code| ALL.contains(&Errno::from_raw_os_error(code)))
}

fn look(path: &Path) -> io::Result<Found> {
    match path.symlink_metadata() {
        Ok(data) => Ok(match kind(&data) {
            Some(odd) => Found::Odd(odd),
            None => Found::File(stamp(&data)?),
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Found::Nothing),
        Err(error) => Err(error),
    }
}

/// Opens a file for reading. Neither follows a link nor waits for the other end of a pipe; `Err` within is what is there
/// instead of a file.
fn open(path: &Path) -> io::Result<Result<Held, Content>> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        // A link, a socket: what cannot be opened says so in many ways.
        Err(error) => match look(path)? {
            Found::Nothing => return Ok(Err(Content::Nothing)),
            Found::Odd(odd) => return Ok(Err(Content::Odd(odd))),
            Found::File(_) => return Err(error),
        },
    };
    let data = file.metadata()?;
    Ok(match kind(&data) {
        Some(odd) => Err(Content::Odd(odd)),
        None => Ok(Held { file, id: FileId { device: data.dev(), inode: data.ino() } }),
    })
}

fn read(path: &Path) -> io::Result<Content> {
    let held = match open(path)? {
        Ok(held) => held,
        Err(instead) => return Ok(instead),
    };
    let bytes = held.file.metadata()?.len();
    if bytes > MAX {
        return Ok(Content::Large);
    }
    let mut content = Vec::with_capacity(usize::try_from(bytes).unwrap_or_default());
    // It may grow while it is read.
    (&held.file).take(MAX + 1).read_to_end(&mut content)?;
    Ok(if content.len() as u64 > MAX { Content::Large } else { Content::Bytes(held, content) })
}

fn stamp(data: &Metadata) -> io::Result<Stamp> {
    let file = FileId { device: data.dev(), inode: data.ino() };
    Ok(Stamp { file, bytes: data.len(), changed: (data.ctime(), data.ctime_nsec()), touched: data.modified()? })
}

/// What it is, unless it is a file.
fn kind(data: &Metadata) -> Option<&'static str> {
    let kind = data.file_type();
    match kind {
        _ if kind.is_file() => None,
        _ if kind.is_dir() => Some("a directory"),
        _ if kind.is_symlink() => Some("a symbolic link"),
        _ if kind.is_fifo() => Some("a FIFO"),
        _ if kind.is_socket() => Some("a socket"),
        _ => Some("a device"),
    }
}
