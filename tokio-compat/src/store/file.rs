//! A file that is written beside its place and moved there when it is whole.

use std::io;
use std::path::{Path, PathBuf};

use tokio::fs::{File, OpenOptions, rename};

use crate::random::random_u64;
use crate::store::error::Error;

/// The file beside; gone when this is dropped before it was moved.
#[derive(Debug)]
pub(crate) struct Beside {
    path: PathBuf,
    target: PathBuf,
    moved: bool,
}

impl Beside {
    /// Makes it, in the folder of `target` and under a name of its own.
    pub(crate) async fn new(target: &Path) -> Result<(Self, File), Error> {
        let failed = |source| Error::File { path: target.to_owned(), source };
        let name = target.file_name().ok_or_else(|| failed(io::ErrorKind::IsADirectory.into()))?;
        let path = target.with_file_name(format!(".{}.{:016x}.part", name.to_string_lossy(), random_u64()));
        let file = OpenOptions::new().write(true).create_new(true).open(&path).await.map_err(failed)?;
        Ok((Self { path, target: target.to_owned(), moved: false }, file))
    }

    /// It is whole: moves it to its place, over what is there.
    pub(crate) async fn into_place(mut self) -> Result<(), Error> {
        let moved = rename(&self.path, &self.target).await;
        moved.map_err(|source| Error::File { path: self.target.clone(), source })?;
        self.moved = true;
        Ok(())
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if !self.moved {
            // There is nobody to be told; its name says what it is.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
