//! Programs of Debian's that tests show things to: `tests/run` installs them where it may.

use std::path::PathBuf;

/// A browser that needs no screen.
///
/// # Errors
/// Which package has it.
pub fn chromium() -> Result<PathBuf, String> {
    find("chromium")
}

/// A terminal that needs no screen.
///
/// # Errors
/// Which package has it.
pub fn tmux() -> Result<PathBuf, String> {
    find("tmux")
}

/// Program and package have the same name.
fn find(name: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file());
    found.ok_or_else(|| format!("no {name} here (Debian: {name})"))
}
