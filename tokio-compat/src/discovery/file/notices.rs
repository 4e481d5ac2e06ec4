//! Word from the kernel about changes of a directory, as long as it gives any.

use std::collections::BTreeSet;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

/// Bytes of notices read at once.
const BYTES: usize = 64 * 1024;

/// Notices after which no more come of the directory at our path.
const ENDS: ReadFlags =
    ReadFlags::IGNORED.union(ReadFlags::UNMOUNT).union(ReadFlags::DELETE_SELF).union(ReadFlags::MOVE_SELF);

/// What there is of inotify.
#[derive(Debug, Default)]
pub(super) struct Notices {
    inotify: Option<OwnedFd>,
    /// Whether the kernel tells about the directory that is there now.
    watching: bool,
}

/// Whether notices come.
#[derive(Debug)]
pub(super) enum Watching {
    Yes,
    /// The kernel has no room for it: what it said, and which limit that is.
    NoRoom {
        error: io::Error,
        limit: &'static str,
    },
}

/// What changed since the last time.
#[derive(Debug)]
pub(super) enum Changed {
    Names(BTreeSet<String>),
    /// Anything may have: some notices are lost, or the directory is another.
    All,
}

impl Notices {
    /// Watches whatever directory is at the path now. Watching the same one again changes nothing.
    pub(super) fn watch(&mut self, directory: &Path) -> io::Result<Watching> {
        self.watching = false;
        if self.inotify.is_none() {
            match inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK) {
                Ok(inotify) => self.inotify = Some(inotify),
                Err(errno) => {
                    let limit = "fs.inotify.max_user_instances, or this process's of open files";
                    return Ok(Watching::NoRoom { error: errno.into(), limit });
                }
            }
        }
        let Some(inotify) = &self.inotify else { return Err(io::ErrorKind::NotFound.into()) };
        // Not `ATTRIB` or `CLOSE_WRITE`: every touch of every owner would wake us.
        let changes = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVED_FROM | WatchFlags::MOVED_TO;
        let end = WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
        match inotify::add_watch(inotify, directory, changes | end | WatchFlags::ONLYDIR) {
            Ok(_) => {
                self.watching = true;
                Ok(Watching::Yes)
            }
            Err(errno @ (Errno::NOSPC | Errno::NOMEM)) => {
                Ok(Watching::NoRoom { error: errno.into(), limit: "fs.inotify.max_user_watches" })
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// Reads what has come.
    pub(super) fn read(&mut self) -> Changed {
        let mut changed = BTreeSet::new();
        let Some(inotify) = &self.inotify else { return Changed::Names(changed) };
        let mut lost = false;
        let mut memory = [MaybeUninit::uninit(); BYTES];
        let mut reader = inotify::Reader::new(inotify, &mut memory);
        while let Ok(notice) = reader.next() {
            let what = notice.events();
            lost |= what.contains(ReadFlags::QUEUE_OVERFLOW);
            if what.intersects(ENDS) {
                lost |= self.watching;
                self.watching = false;
            }
            changed.extend(notice.file_name().and_then(|name| name.to_str().ok()).map(str::to_owned));
        }
        if lost { Changed::All } else { Changed::Names(changed) }
    }

    /// What is readable when notices have come.
    pub(super) fn descriptor(&self) -> Option<&OwnedFd> {
        self.inotify.as_ref()
    }
}
