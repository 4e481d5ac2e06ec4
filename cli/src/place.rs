//! Where instances are found when nobody says, and what is refused when somebody does.

use std::fs::{DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ringplane::discovery::{self, Backend};
use ringplane_core::discovery::config::Config;

use crate::environment;
use crate::exit::{Exit, Failed};

/// The discovery URL of a command and what is there: the URL given, else the one of the environment, else a directory of
/// this user in the temporary directory, made on first use and readable by nobody else. The knobs are the environment's.
pub(crate) fn open(given: Option<String>) -> Result<(String, Arc<dyn Backend>), Failed> {
    let temporary = environment::temporary()?;
    open_with(given, &environment::followed(|get| Config::from_vars(get, &temporary))?)
}

/// The same for a command that has read the environment.
pub(crate) fn open_with(given: Option<String>, config: &Config) -> Result<(String, Arc<dyn Backend>), Failed> {
    let temporary = environment::temporary()?;
    let url = url(given.or_else(|| config.url.clone()), Path::new(&temporary))?;
    let backend = discovery::open_with(&url, config).map_err(|error| Failed::local("discovery", error))?;
    Ok((url, backend))
}

fn url(named: Option<String>, temporary: &Path) -> Result<String, Failed> {
    if let Some(url) = named {
        return shared(url);
    }
    let uid = rustix::process::getuid().as_raw();
    private(&temporary.join(format!("ringplane-{uid}")), uid).map(|path| format!("file:{}", path.display()))
}

/// Refuses a place that no other process can see.
fn shared(url: String) -> Result<String, Failed> {
    if url == "mem" || url.starts_with("mem:") {
        let why = format_args!("`{url}` is seen by one process only; name a place for several: file:DIR or etcd:URL");
        return Err(Failed::new(Exit::Usage, why));
    }
    Ok(url)
}

/// Makes the directory, or checks that the one there is ours: the temporary directory belongs to everybody.
fn private(path: &Path, uid: u32) -> Result<PathBuf, Failed> {
    let refuse = |error: io::Error| Failed::local(format_args!("cannot use `{}`", path.display()), error);
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(refuse(error)),
    }
    let found = path.symlink_metadata().map_err(refuse)?;
    if is_ours(&found, uid) {
        return Ok(path.to_owned());
    }
    let why = "it is no directory of this user that only this user can write to; name another place with --discovery";
    Err(refuse(io::Error::new(io::ErrorKind::PermissionDenied, why)))
}

fn is_ours(found: &Metadata, uid: u32) -> bool {
    found.is_dir() && found.uid() == uid && found.mode() & 0o022 == 0
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_place_within_one_process_is_refused_and_others_are_taken_as_they_are() {
        for url in ["mem", "mem:there"] {
            assert_eq!(shared(url.to_owned()).unwrap_err().exit, Exit::Usage);
        }
        assert_eq!(url(Some("file:/a".to_owned()), Path::new("/")).unwrap(), "file:/a");
    }

    #[test]
    fn the_default_directory_is_made_private_and_a_foreign_one_is_refused() {
        let uid = rustix::process::getuid().as_raw();
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("ringplane");
        assert_eq!(private(&path, uid).unwrap(), path);
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o700);
        assert_eq!(private(&path, uid).unwrap(), path, "it is found again");

        assert!(private(&path, uid + 1).is_err(), "somebody else's");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o777)).unwrap();
        assert!(private(&path, uid).is_err(), "everybody may write");
        let link = top.path().join("link");
        std::os::unix::fs::symlink(top.path(), &link).unwrap();
        assert!(private(&link, uid).is_err(), "a link leads elsewhere");
    }
}
