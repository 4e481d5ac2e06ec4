//! Where instances are found when nobody says, and what is refused when somebody does.

use std::fs::{DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ringplane::discovery::{self, Backend};
use ringplane_core::discovery::config::Config;
use ringplane_core::discovery::instance::Instance;
use ringplane_core::discovery::kind::Kind;

use crate::environment;
use crate::exit::{Exit, Failed};

/// Between two looks for a directory that is missing.
const LOOK: Duration = Duration::from_millis(50);

/// The discovery URL of a command and what is there: the URL given, else the one of the environment, else a directory of
/// this user in the temporary directory, made on first use and readable by nobody else. The knobs are those of `config`.
pub(crate) fn open_with(given: Option<String>, config: &Config) -> Result<(String, Arc<dyn Backend>), Failed> {
    let temporary = environment::temporary()?;
    let url = url(given.or_else(|| config.url.clone()), Path::new(&temporary), private)?;
    let backend = discovery::open_with(&url, config).map_err(|error| Failed::local("discovery", error))?;
    Ok((url, backend))
}

/// Where a command only looks: it makes no directory.
pub(crate) struct Sight {
    /// The discovery URL.
    pub(crate) url: String,
    config: Config,
}

/// What nobody has made yet.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Missing {
    /// The directory that the URL names.
    Root(PathBuf),
    /// That of the kind of record, within it.
    Bucket,
}

/// Where to look, as [`open_with`] has it.
pub(crate) fn look(given: Option<String>) -> Result<Sight, Failed> {
    let temporary = environment::temporary()?;
    look_with(given, environment::followed(|get| Config::from_vars(get, &temporary))?)
}

/// The same for a command that has read the environment.
pub(crate) fn look_with(given: Option<String>, config: Config) -> Result<Sight, Failed> {
    let temporary = environment::temporary()?;
    let url = url(given.or_else(|| config.url.clone()), Path::new(&temporary), private_if_any)?;
    Ok(Sight { url, config })
}

impl Sight {
    /// What is missing, if records of this kind are kept in a directory that nobody has made yet.
    pub(crate) fn missing<R: Kind>(&self) -> Option<Missing> {
        let root = self.url.strip_prefix("file:")?;
        let root = Path::new(root.strip_prefix("//").unwrap_or(root));
        if root.as_os_str().is_empty() {
            // There is nothing to look for, and opening says so.
            None
        } else if is_missing(root) {
            Some(Missing::Root(root.to_owned()))
        } else {
            // Whoever opens the directory makes that of the instances, whatever else it looks for.
            [Instance::BUCKET, R::BUCKET].iter().any(|bucket| is_missing(&root.join(bucket))).then_some(Missing::Bucket)
        }
    }

    /// Opens what is there.
    pub(crate) fn open(&self) -> Result<Arc<dyn Backend>, Failed> {
        discovery::open_with(&self.url, &self.config).map_err(|error| Failed::local("discovery", error))
    }

    /// Opens it once it is there.
    pub(crate) async fn wait<R: Kind>(&self) -> Result<Arc<dyn Backend>, Failed> {
        while self.missing::<R>().is_some() {
            tokio::time::sleep(LOOK).await;
        }
        self.open()
    }
}

/// Whether there is nothing at all: what is something else is refused with its reason when it is opened.
fn is_missing(path: &Path) -> bool {
    matches!(path.metadata(), Err(error) if error.kind() == io::ErrorKind::NotFound)
}

fn url(
    named: Option<String>,
    temporary: &Path,
    private: impl FnOnce(&Path, u32) -> Result<PathBuf, Failed>,
) -> Result<String, Failed> {
    if let Some(url) = named {
        return shared(url);
    }
    let uid = rustix::process::getuid().as_raw();
    private(&temporary.join(format!("ringplane-{uid}")), uid).map(|path| format!("file:{}", path.display()))
}

/// Refuses a place that no other process can see.
fn shared(url: String) -> Result<String, Failed> {
    if url == "mem" || url.starts_with("mem:") {
        let why = format_args!(
            "`{url}` is seen by one process only; name a place for several: file:DIR, etcd:URL or static:HOST:PORT"
        );
        return Err(Failed::new(Exit::Usage, why));
    }
    Ok(url)
}

/// Checks the directory if there is one.
fn private_if_any(path: &Path, uid: u32) -> Result<PathBuf, Failed> {
    if is_missing(path) { Ok(path.to_owned()) } else { private(path, uid) }
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

    use ringplane_core::discovery::model::Model;

    use super::*;

    #[test]
    fn a_place_within_one_process_is_refused_and_others_are_taken_as_they_are() {
        for url in ["mem", "mem:there"] {
            assert_eq!(shared(url.to_owned()).unwrap_err().exit, Exit::Usage);
        }
        assert_eq!(url(Some("file:/a".to_owned()), Path::new("/"), private).unwrap(), "file:/a");
    }

    #[test]
    fn a_look_makes_no_directory_and_knows_what_is_missing() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("there");
        let sight = |path: &Path| Sight { url: format!("file:{}", path.display()), config: Config::default() };
        assert_eq!(sight(&path).missing::<Instance>(), Some(Missing::Root(path.clone())));
        assert_eq!(url(None, top.path(), private_if_any).unwrap(), sight(&top.path().join(default())).url);
        assert!(top.path().read_dir().unwrap().next().is_none(), "nothing has been made");
        std::fs::create_dir_all(path.join(Instance::BUCKET)).unwrap();
        assert_eq!(sight(&path).missing::<Instance>(), None);
        assert_eq!(sight(&path).missing::<Model>(), Some(Missing::Bucket));
        assert_eq!(Sight { url: "file:".to_owned(), config: Config::default() }.missing::<Instance>(), None);
    }

    fn default() -> String {
        format!("ringplane-{}", rustix::process::getuid().as_raw())
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
