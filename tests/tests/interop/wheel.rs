//! The real Dynamo from PyPI: one virtual environment per version below the build directory, made once.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FlockOperation, flock};

/// The version whose behaviour is the specification.
pub(crate) const PINNED: &str = "1.6.1";

static KNOWN: Mutex<Option<HashMap<String, Result<PathBuf, String>>>> = Mutex::new(None);

/// The interpreter with `ai-dynamo-runtime` of this version, or why there is none. Asked again it answers the same.
pub(crate) fn python(version: &str) -> Result<PathBuf, String> {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let known = known.get_or_insert_default();
    known.entry(version.to_owned()).or_insert_with(|| obtain(version)).clone()
}

/// Makes the environment unless its stamp says that it is there. Several processes may try at once: one works.
fn obtain(version: &str) -> Result<PathBuf, String> {
    let top = Path::new(env!("CARGO_TARGET_TMPDIR")).join("peers");
    fs::create_dir_all(&top).map_err(|error| format!("{}: {error}", top.display()))?;
    let lock = File::create(top.join(format!("{version}.lock"))).map_err(|error| error.to_string())?;
    flock(&lock, FlockOperation::LockExclusive).map_err(|error| error.to_string())?;
    let (venv, stamp) = (top.join(format!("venv-{version}")), top.join(format!("{version}.stamp")));
    let python = venv.join("bin/python");
    let wanted = format!("ai-dynamo-runtime=={version}");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) && python.exists() {
        return Ok(python);
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    let quiet = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    run(Command::new(&python).args(quiet).arg(&wanted))?;
    fs::write(&stamp, wanted).map_err(|error| format!("{}: {error}", stamp.display()))?;
    Ok(python)
}

fn run(command: &mut Command) -> Result<(), String> {
    let ended = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if ended.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&ended.stderr);
    Err(format!("{command:?}: {}: {}", ended.status, said.lines().last().unwrap_or_default()))
}
