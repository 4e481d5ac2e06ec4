//! The command of `serve --exec`: looked for at the start, and started in a process group of its own.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use ringplane::Failure;
use rustix::fs::{Access, access};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::exec::errors::Errors;
use crate::exec::outcome::failed;
use crate::exit::{Exit, Failed};
use crate::limits;

/// What makes Python write each line at once, though nobody sees it on a terminal.
const UNBUFFERED: &str = "PYTHONUNBUFFERED";

/// A command and its arguments.
#[derive(Clone, Debug)]
pub(crate) struct Program(Arc<[OsString]>);

impl Program {
    /// Looks for the command, so that a name which leads nowhere is told before anybody calls.
    pub(crate) fn find(words: &[OsString]) -> Result<Self, Failed> {
        let program = words.first().map(Path::new).unwrap_or(Path::new(""));
        match look(program, env::var_os("PATH").unwrap_or_default()) {
            Ok(()) => Ok(Self(words.into())),
            Err(why) => Err(Failed::new(Exit::Local, format_args!("--exec: `{}` {why}", program.display()))),
        }
    }

    /// Starts it; `set` may say more.
    pub(super) fn start(&self, set: impl FnOnce(&mut Command)) -> Result<Running, Failure> {
        let Some((program, arguments)) = self.0.split_first() else { return Err(failed("no command")) };
        let mut command = Command::new(program);
        command.args(arguments).process_group(0).kill_on_drop(true);
        if env::var_os(UNBUFFERED).is_none() {
            command.env(UNBUFFERED, "1");
        }
        set(&mut command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let spawned = command.spawn();
        let mut child =
            spawned.map_err(|error| failed(format_args!("`{}` does not start: {error}", program.display())))?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).unwrap_or(0);
        if let Some(command) = Pid::from_raw(group) {
            limits::give_back(command);
        }
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else { return Err(failed("a pipe is missing")) };
        let group = Group(AtomicI32::new(group));
        Ok(Running { stdin, stdout, errors: Errors::read(stderr), child, group })
    }
}

/// A command that runs, and its ends of the pipes.
pub(super) struct Running {
    pub(super) stdin: ChildStdin,
    pub(super) stdout: ChildStdout,
    pub(super) errors: Errors,
    pub(super) child: Child,
    pub(super) group: Group,
}

/// A command's process group, which the drop kills.
pub(super) struct Group(AtomicI32);

impl Group {
    /// Signals it. Nobody left to hear it is no error.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(group) = Pid::from_raw(self.0.load(Ordering::Relaxed)) {
            let _ = kill_process_group(group, signal);
        }
    }

    /// The command has been waited for: from here on the number may be somebody else's.
    pub(super) fn forget(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// Whether there is such a command: by its path if it has one, else in one of the folders that are looked through.
fn look(program: &Path, folders: OsString) -> Result<(), String> {
    let runs = |path: &Path| path.is_file() && access(path, Access::EXEC_OK).is_ok();
    if program.as_os_str().is_empty() {
        return Err("is no command".to_owned());
    }
    if program.components().nth(1).is_some() || program.is_absolute() {
        return match program {
            path if runs(path) => Ok(()),
            path if path.exists() => Err("is no file that may be executed".to_owned()),
            _ => Err("does not exist".to_owned()),
        };
    }
    let mut candidates = env::split_paths(&folders).map(|folder: PathBuf| folder.join(program));
    if candidates.any(|path| runs(&path)) { Ok(()) } else { Err("is in no folder of PATH".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_found_by_its_path_or_in_the_folders_that_are_looked_through() {
        let look = |program: &str| look(Path::new(program), "/nowhere:/bin:/usr/bin".into());
        assert_eq!((look("sh"), look("/bin/sh")), (Ok(()), Ok(())));
        assert_eq!(look("no-such-command").unwrap_err(), "is in no folder of PATH");
        assert_eq!(look("/no/such/command").unwrap_err(), "does not exist");
        assert_eq!(look("./no-such-command").unwrap_err(), "does not exist");
        assert_eq!(look("/etc/hostname/x").unwrap_err(), "does not exist");
        assert_eq!(look("/proc/version").unwrap_err(), "is no file that may be executed");
        assert_eq!(look("/bin").unwrap_err(), "is no file that may be executed");
        assert_eq!(look("").unwrap_err(), "is no command");
    }
}
