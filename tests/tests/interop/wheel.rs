//! The real Dynamo from PyPI: one virtual environment per version below the build directory, made once.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustix::fs::{FlockOperation, flock};

/// The version whose behaviour is the specification.
pub(crate) const PINNED: &str = "1.6.1";
/// The version of the year before.
pub(crate) const OLDER: &str = "1.5.1";
/// What becomes the next version, as of the day it was compared with [`PINNED`].
pub(crate) const NIGHTLY: &str = "1.7.0.dev20261026";
/// The whole of [`PINNED`] with its HTTP frontend.
pub(crate) const FRONTEND: &str = "frontend-1.6.1";

/// What is installed for [`FRONTEND`], one call of pip after the other. The last one leaves the requirements of its package
/// out: one of them is not on PyPI, and those that the frontend uses are named.
const FRONTEND_PACKAGES: [&[&str]; 2] = [
    &[
        "ai-dynamo-runtime==1.6.1",
        "aiohttp",
        "msgspec",
        "prometheus-client",
        "pyzmq",
        "transformers",
        "zstandard",
        "redis<9",
        "kubernetes<33",
    ],
    &["--no-deps", "ai-dynamo==1.6.1"],
];

/// What speaks the stream of KV events: pyzmq, msgspec, and one module of a release of SGLang.
pub(crate) const KV_EVENTS: &str = "kv-events-1";
const KV_EVENTS_PACKAGES: [&[&str]; 1] = [&["msgspec", "pyzmq", "pydantic"]];
/// Its publisher needs nothing else of the package, which would bring gigabytes.
const SGLANG: &str = "sglang==0.5.20";
const SGLANG_MODULE: &str = "sglang/srt/disaggregation/kv_events.py";

type Found = Arc<OnceLock<Result<PathBuf, String>>>;

static KNOWN: Mutex<Option<HashMap<String, Found>>> = Mutex::new(None);

/// Fetches these side by side.
pub(crate) fn fetch(versions: &[&str]) {
    std::thread::scope(|scope| {
        for version in versions {
            scope.spawn(|| drop(python(version)));
        }
    });
}

/// The interpreter with `ai-dynamo-runtime` of this version, or with what [`FRONTEND`] names, or why there is none. Asked
/// again it answers the same.
pub(crate) fn python(version: &str) -> Result<PathBuf, String> {
    let place = {
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.get_or_insert_default().entry(version.to_owned()).or_default())
    };
    place.get_or_init(|| obtain(version)).clone()
}

/// Makes the environment unless its stamp says that it is there. Several processes may try at once: one works.
fn obtain(version: &str) -> Result<PathBuf, String> {
    let top = Path::new(env!("CARGO_TARGET_TMPDIR")).join("peers");
    fs::create_dir_all(&top).map_err(|error| format!("{}: {error}", top.display()))?;
    let lock = File::create(top.join(format!("{version}.lock"))).map_err(|error| error.to_string())?;
    flock(&lock, FlockOperation::LockExclusive).map_err(|error| error.to_string())?;
    let (venv, stamp) = (top.join(format!("venv-{version}")), top.join(format!("{version}.stamp")));
    let python = venv.join("bin/python");
    let runtime = format!("ai-dynamo-runtime=={version}");
    let alone: [&str; 1] = [&runtime];
    let packages = match version {
        FRONTEND => FRONTEND_PACKAGES.to_vec(),
        KV_EVENTS => KV_EVENTS_PACKAGES.to_vec(),
        _ => vec![&alone[..]],
    };
    let wanted = packages.concat().join(" ");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) && python.exists() {
        return Ok(python);
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    for packages in packages {
        let quiet = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        run(Command::new(&python).args(quiet).args(packages))?;
    }
    if version == KV_EVENTS {
        sglang(&python)?;
    }
    fs::write(&stamp, wanted).map_err(|error| format!("{}: {error}", stamp.display()))?;
    Ok(python)
}

/// Puts the module where the package would have it.
fn sglang(python: &Path) -> Result<(), String> {
    let wheel = tempfile::tempdir().map_err(|error| error.to_string())?;
    let quiet = ["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest"];
    run(Command::new(python).args(quiet).arg(wheel.path()).arg(SGLANG))?;
    let extract = "import glob, sys, sysconfig, zipfile\n\
        wheel, = glob.glob(sys.argv[1] + '/*.whl')\n\
        zipfile.ZipFile(wheel).extract(sys.argv[2], sysconfig.get_path('purelib'))";
    run(Command::new(python).args(["-c", extract]).arg(wheel.path()).arg(SGLANG_MODULE))
}

fn run(command: &mut Command) -> Result<(), String> {
    let ended = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if ended.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&ended.stderr);
    Err(format!("{command:?}: {}: {}", ended.status, said.lines().last().unwrap_or_default()))
}
