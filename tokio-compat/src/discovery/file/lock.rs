//! The lock of a directory, on file systems of every kind.

use std::fs::{self, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::discovery::error::Error;

/// Tries to get the directory's lock, and the wait between them.
const TRIES: u32 = 100;
const WAIT: Duration = Duration::from_millis(10);

/// How locks are taken; another way in tests.
#[derive(Copy, Clone, Debug)]
pub(super) struct Locks {
    try_lock: fn(&fs::File) -> Result<(), TryLockError>,
}

impl Default for Locks {
    fn default() -> Self {
        Self { try_lock: fs::File::try_lock }
    }
}

/// A lock that is held until the drop.
#[derive(Debug)]
pub(super) struct Lock {
    _file: fs::File,
}

impl Locks {
    /// Locks `directory`, as Dynamo does. A network file system locks only what is open for writing, which a directory
    /// cannot be: there it is a file beside the directory, `NAME.lock`, which everybody finds to be needed.
    pub(super) fn take(&self, directory: &Path) -> Result<Lock, Error> {
        for _ in 0..TRIES {
            let locked = match self.lock_directory(directory) {
                Err(error) if error.raw_os_error() == Some(Errno::BADF.raw_os_error()) => self.lock_beside(directory),
                locked => locked,
            };
            match locked {
                Ok(Some(lock)) => return Ok(lock),
                Ok(None) => thread::sleep(WAIT),
                Err(source) => return Err(Error::Io { doing: "lock", path: directory.to_owned(), source }),
            }
        }
        Err(Error::Locked { path: directory.to_owned() })
    }

    /// `None` if somebody else has it. Opened anew each time: the directory may have been replaced.
    fn lock_directory(&self, directory: &Path) -> io::Result<Option<Lock>> {
        self.lock(OpenOptions::new().read(true).custom_flags(flags(OFlags::DIRECTORY)).open(directory)?)
    }

    fn lock_beside(&self, directory: &Path) -> io::Result<Option<Lock>> {
        let path = beside(directory);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).custom_flags(flags(OFlags::NOFOLLOW));
        let file = options.open(&path)?;
        let id = |data: fs::Metadata| (data.is_file(), data.dev(), data.ino());
        let opened = id(file.metadata()?);
        if !opened.0 {
            return Err(io::Error::other(format!("`{}` is no file", path.display())));
        }
        let lock = self.lock(file)?;
        // Somebody may have removed it meanwhile, and others lock the next one.
        Ok(lock.filter(|_| path.symlink_metadata().is_ok_and(|now| id(now) == opened)))
    }

    fn lock(&self, file: fs::File) -> io::Result<Option<Lock>> {
        match (self.try_lock)(&file) {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// The file that is locked where the directory cannot be. Not within it: nobody takes it for a record.
fn beside(directory: &Path) -> PathBuf {
    let mut path = directory.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}

fn flags(more: OFlags) -> i32 {
    i32::try_from((more | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC).bits()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use ringplane_core::chain::Chain;

    use super::*;

    /// What a network file system answers: it locks what is open for writing only.
    fn writable_only(file: &fs::File) -> Result<(), TryLockError> {
        let mode = rustix::fs::fcntl_getfl(file).map_err(|errno| TryLockError::Error(errno.into()))?;
        if mode.contains(OFlags::RDWR) { file.try_lock() } else { Err(TryLockError::Error(Errno::BADF.into())) }
    }

    #[test]
    fn where_a_directory_cannot_be_locked_a_file_beside_it_is() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("instances");
        fs::create_dir(&directory).unwrap();
        let locks = Locks { try_lock: writable_only };
        let lock = locks.take(&directory).unwrap();
        assert!(matches!(locks.take(&directory), Err(Error::Locked { .. })), "it is held");
        drop(lock);
        locks.take(&directory).unwrap();
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0, "nothing is put among the records");
        assert!(root.path().join("instances.lock").is_file());
    }

    #[test]
    fn a_pipe_in_the_place_of_the_lock_is_no_lock_and_keeps_nobody_waiting() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("instances");
        fs::create_dir(&directory).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, beside(&directory), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let locks = Locks { try_lock: writable_only };
        let error = Chain(&locks.take(&directory).unwrap_err()).to_string();
        assert!(error.ends_with(".lock` is no file"), "{error}");
    }

    #[test]
    fn a_file_system_without_locks_is_told_in_one_line() {
        let root = tempfile::tempdir().unwrap();
        let locks = Locks { try_lock: |_| Err(TryLockError::Error(Errno::NOLCK.into())) };
        let error = Chain(&locks.take(root.path()).unwrap_err()).to_string();
        assert!(error.starts_with("cannot lock `") && error.contains("No locks available"), "{error}");
    }
}
