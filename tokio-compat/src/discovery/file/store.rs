//! The directory: publishing, touching and removing files so that no reader ever sees half of one.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};

use crate::discovery::backend::{Error, random_u64};
use crate::discovery::file::name;

/// Tries to get the directory's lock, and the wait between them.
const LOCK_TRIES: u32 = 100;
const LOCK_WAIT: Duration = Duration::from_millis(10);

/// The directory of one bucket.
#[derive(Clone, Debug)]
pub(super) struct Store {
    directory: PathBuf,
}

/// What tells a file from another of the same name, and when its owner last touched it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Stamp {
    /// Changes whenever a file is replaced.
    pub(super) content: (u64, u64),
    pub(super) touched: SystemTime,
}

impl Store {
    /// The bucket below `root`, made if need be. Links on the way are followed once, now.
    pub(super) fn open(root: &Path, bucket: &str) -> Result<Self, Error> {
        let made = fs::create_dir_all(root.join(bucket));
        made.map_err(|source| Error::Io { doing: "create", path: root.join(bucket), source })?;
        let root = root.canonicalize().map_err(|source| Error::Io { doing: "find", path: root.into(), source })?;
        Ok(Self { directory: root.join(bucket) })
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Makes the directory again if somebody removed it.
    pub(super) fn restore(&self) -> Result<(), Error> {
        fs::create_dir_all(&self.directory).map_err(|source| self.error("create", "", source))
    }

    /// Creates the file with its content in one step. `false` if the name is taken.
    pub(super) fn publish(&self, name: &str, content: &[u8]) -> Result<bool, Error> {
        let _lock = self.lock()?;
        let temporary = format!("{}{:016x}", name::TEMPORARY, random_u64());
        let from = self.directory.join(&temporary);
        let to = self.directory.join(name);
        let written = fs::File::create_new(&from).and_then(|mut file| file.write_all(content));
        let linked = written.and_then(|()| fs::hard_link(&from, &to)).or_else(|error| match error.kind() {
            // A file system without hard links. The lock keeps others from the gap between look and rename.
            ErrorKind::PermissionDenied | ErrorKind::Unsupported if from.exists() && !to.exists() => {
                fs::rename(&from, &to)
            }
            _ => Err(error),
        });
        // Gone already after a rename. What a crash leaves here, the next sweep takes.
        let _ = fs::remove_file(&from);
        match linked {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists && to.exists() => Ok(false),
            Err(source) => Err(self.error("publish", name, source)),
        }
    }

    /// Replaces the content by what `edit` makes of it, in one step and under the lock; `None` leaves it.
    pub(super) fn replace(
        &self,
        name: &str,
        edit: impl FnOnce(&[u8]) -> Result<Option<Vec<u8>>, Error>,
    ) -> Result<(), Error> {
        let _lock = self.lock()?;
        let Some(content) = edit(&self.read(name)?)? else { return Ok(()) };
        let temporary = self.directory.join(format!("{}{:016x}", name::TEMPORARY, random_u64()));
        let written = fs::File::create_new(&temporary).and_then(|mut file| file.write_all(&content));
        let renamed = written.and_then(|()| fs::rename(&temporary, self.directory.join(name)));
        renamed.map_err(|source| {
            // What cannot be removed here, the next sweep takes.
            let _ = fs::remove_file(&temporary);
            self.error("replace", name, source)
        })
    }

    /// Says that the owner lives. `false` if the file is gone.
    pub(super) fn touch(&self, name: &str) -> Result<bool, Error> {
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        // By name and not by descriptor: an open for writing would wake every watcher of the directory.
        match utimensat(CWD, self.directory.join(name), &times, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::NOENT) => Ok(false),
            Err(errno) => Err(self.error("touch", name, errno.into())),
        }
    }

    /// Removes the file. One that is gone is as good as removed.
    pub(super) fn remove(&self, name: &str) -> Result<(), Error> {
        match fs::remove_file(self.directory.join(name)) {
            Err(source) if source.kind() != ErrorKind::NotFound => Err(self.error("remove", name, source)),
            _ => Ok(()),
        }
    }

    /// Removes the file under the lock, unless it has changed since `stamp` was taken.
    pub(super) fn sweep(&self, name: &str, stamp: Stamp) -> Result<(), Error> {
        let _lock = self.lock()?;
        if self.stamp(name)? == Some(stamp) { self.remove(name) } else { Ok(()) }
    }

    /// The file's stamp; `None` if there is no such file.
    pub(super) fn stamp(&self, name: &str) -> Result<Option<Stamp>, Error> {
        use std::os::unix::fs::MetadataExt;
        let found = fs::symlink_metadata(self.directory.join(name));
        match found.and_then(|data| Ok((data.modified()?, data))) {
            Ok((_, data)) if !data.is_file() => Ok(None),
            Ok((touched, data)) => Ok(Some(Stamp { content: (data.ino(), data.len()), touched })),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(self.error("look at", name, source)),
        }
    }

    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>, Error> {
        fs::read(self.directory.join(name)).map_err(|source| self.error("read", name, source))
    }

    /// Every name that is UTF-8; others are none of ours.
    pub(super) fn names(&self) -> Result<Vec<String>, Error> {
        let entries = fs::read_dir(&self.directory).map_err(|source| self.error("list", "", source))?;
        let names = entries.map(|entry| entry.map(|entry| entry.file_name().into_string().ok()));
        let names: io::Result<Vec<_>> = names.collect();
        Ok(names.map_err(|source| self.error("list", "", source))?.into_iter().flatten().collect())
    }

    /// The lock every writer of the directory takes. Released by the drop. Opened anew each time: the directory may have
    /// been replaced.
    fn lock(&self) -> Result<fs::File, Error> {
        let directory = fs::File::open(&self.directory).map_err(|source| self.error("open", "", source))?;
        for _ in 0..LOCK_TRIES {
            match directory.try_lock() {
                Ok(()) => return Ok(directory),
                Err(fs::TryLockError::WouldBlock) => thread::sleep(LOCK_WAIT),
                Err(fs::TryLockError::Error(source)) => return Err(self.error("lock", "", source)),
            }
        }
        Err(Error::Locked { path: self.directory.clone() })
    }

    fn error(&self, doing: &'static str, name: &str, source: io::Error) -> Error {
        Error::Io { doing, path: self.directory.join(name), source }
    }
}
