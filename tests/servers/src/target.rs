//! Where fetched programs are kept.

use std::path::{Path, PathBuf};

/// The workspace's `target/`; where this package stands alone, the system's place for temporary files.
pub(crate) fn target() -> PathBuf {
    let workspace =
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).filter(|root| root.join("Cargo.lock").is_file());
    workspace.map_or_else(std::env::temp_dir, |root| root.join("target"))
}
