//! Programs of Debian's packages, found on this machine or unpacked below `target/` without being installed.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::target::target;

/// The program of that name: this machine's, or that of the package, kept in the folder `place`.
///
/// # Errors
/// Why it cannot be had.
pub fn program(name: &str, package: &str, place: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(found) = std::env::split_paths(&path).map(|place| place.join(name)).find(|file| file.is_file()) {
        return Ok(found);
    }
    let kept = target().join(place);
    let program = kept.join("usr/bin").join(name);
    if program.is_file() {
        return Ok(program);
    }
    // Made apart and moved: several test programs may get here at once.
    let apart = target().join(format!("{place}-{}", std::process::id()));
    std::fs::create_dir_all(&apart).map_err(|error| error.to_string())?;
    let fetched = run(Command::new("apt-get").args(["download", "-qq", package]).current_dir(&apart));
    let unpacked = fetched.and_then(|()| run(Command::new("sh").args(["-c", "dpkg -x *.deb ."]).current_dir(&apart)));
    let moved = unpacked.and_then(|()| std::fs::rename(&apart, &kept).map_err(|error| error.to_string()));
    if moved.is_err() {
        let _ = std::fs::remove_dir_all(&apart);
    }
    if program.is_file() { Ok(program) } else { Err(moved.err().unwrap_or_else(|| "an empty package".to_owned())) }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("{command:?}: {}", said.trim())) }
}
