//! Who plays a role, and the ground a test stands on: a discovery directory of its own and the peers' environment.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::process::Peer;
use crate::wheel;

/// What every test serves and calls.
pub(crate) const ENDPOINT: &str = "interop.backend.generate";
/// The argument that makes this binary a ringplane peer instead of the tests.
pub(crate) const AS_PEER: &str = "--as-ringplane";

/// Whose program plays a role.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// The wheel of this version.
    Dynamo(&'static str),
    /// Ours, on this driver.
    Ours(&'static str),
    /// Our caller on this driver, which speaks Dynamo's protocol with everybody.
    Homely(&'static str),
}

impl Kind {
    pub(crate) fn name(self) -> String {
        match self {
            Self::Dynamo(wheel::PINNED) => "dynamo".to_owned(),
            Self::Dynamo(version) => format!("dynamo-{version}"),
            Self::Ours(driver) => format!("ringplane-{driver}"),
            Self::Homely(driver) => format!("ringplane-{driver}-call-home"),
        }
    }

    pub(crate) const fn is_ours(self) -> bool {
        matches!(self, Self::Ours(_) | Self::Homely(_))
    }

    /// Whether it can be had here, else the reason.
    pub(crate) fn available(self) -> Result<(), String> {
        match self {
            Self::Ours(_) | Self::Homely(_) => Ok(()),
            Self::Dynamo(version) => wheel::python(version).map(drop),
        }
    }

    fn command(self, role: &str) -> Command {
        match self {
            Self::Ours(driver) | Self::Homely(driver) => {
                let mut command = Command::new(std::env::current_exe().unwrap());
                let dialect = if matches!(self, Self::Homely(_)) { "call-home" } else { "auto" };
                command.args([AS_PEER, role]).env("PEER_DRIVER", driver).env("PEER_DIALECT", dialect);
                command
            }
            Self::Dynamo(version) => {
                let mut command = Command::new(wheel::python(version).unwrap());
                let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
                command.arg(scripts.join(format!("{role}.py")));
                command
            }
        }
    }
}

/// A discovery directory of one test's own, and how its peers are set up.
pub(crate) struct Place {
    dir: TempDir,
    codec: &'static str,
}

impl Place {
    /// A place whose workers advertise `codec`.
    pub(crate) fn new(codec: &'static str) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), codec }
    }

    /// The directory that discovery uses.
    pub(crate) fn discovery(&self) -> PathBuf {
        self.dir.path().join("kv")
    }

    /// A worker that serves `endpoint`, once it says so.
    pub(crate) fn worker(&self, kind: Kind, endpoint: &str, env: &[(&str, &str)]) -> Peer {
        let mut worker = Peer::start(self.set(kind.command("worker").arg(endpoint)).envs(env.iter().copied()));
        worker.wait_for("event", "serving");
        worker
    }

    /// A worker of the bidirectional kind.
    pub(crate) fn bidirectional(&self, kind: Kind, endpoint: &str, env: &[(&str, &str)]) -> Peer {
        let mut command = kind.command("worker");
        let mut worker = Peer::start(self.set(command.args([endpoint, "bidirectional"])).envs(env.iter().copied()));
        worker.wait_for("event", "serving");
        worker
    }

    /// A caller of `endpoint` that sees at least so many instances.
    pub(crate) fn caller(&self, kind: Kind, endpoint: &str, instances: usize, env: &[(&str, &str)]) -> Peer {
        let mut command = kind.command("caller");
        command.args([endpoint, &instances.to_string()]);
        let mut caller = Peer::start(self.set(&mut command).envs(env.iter().copied()));
        caller.wait_for("event", "ready");
        caller
    }

    /// A Dynamo process that registers a model of this name, and publishers of events, on an endpoint.
    pub(crate) fn records(&self, endpoint: &str, model: &str, env: &[(&str, &str)]) -> Peer {
        let mut command = Kind::Dynamo(wheel::PINNED).command("records");
        Peer::start(self.set(command.args([endpoint, model, "some/path"])).envs(env.iter().copied()))
    }

    /// A Dynamo process that publishes and hears events about an endpoint.
    pub(crate) fn events(&self, kind: Kind, endpoint: &str, env: &[(&str, &str)]) -> Peer {
        let mut command = kind.command("events");
        Peer::start(self.set(command.arg(endpoint)).envs(env.iter().copied()))
    }

    /// A worker of the model in `directory` by this name, on an endpoint.
    pub(crate) fn model(
        &self,
        kind: Kind,
        endpoint: &str,
        (directory, name): (&Path, &str),
        env: &[(&str, &str)],
    ) -> Peer {
        let mut command = kind.command("model");
        Peer::start(self.set(command.arg(endpoint).arg(directory).arg(name)).envs(env.iter().copied()))
    }

    /// A Dynamo process that registers the model in `directory` by this name as one that takes tokens.
    pub(crate) fn tokens(&self, endpoint: &str, model: &str, directory: &Path) -> Peer {
        let mut command = Kind::Dynamo(wheel::PINNED).command("records");
        Peer::start(self.set(command.args([endpoint, model]).arg(directory).arg("tokens")))
    }

    /// Dynamo's frontend on a port of this host, by an interpreter that has it.
    pub(crate) fn frontend(&self, mut python: Command, port: u16, env: &[(&str, &str)]) -> Peer {
        let planes = ["--discovery-backend", "file", "--request-plane", "tcp", "--event-plane", "zmq"];
        python.args(["-m", "dynamo.frontend"]).args(planes).args(["--http-host", "127.0.0.1", "--http-port"]);
        self.set(python.arg(port.to_string())).env("DYN_TCP_RPC_HOST", "127.0.0.1");
        // A line of its logs that is JSON would be taken for an answer.
        python.env("DYN_TCP_RESPONSE_STREAM_HOST", "127.0.0.1").env_remove("DYN_LOGGING_JSONL");
        // The model is here; nothing is to be looked up elsewhere.
        Peer::start(python.env("HF_HUB_OFFLINE", "1").env("DYN_LOG", "warn").envs(env.iter().copied()))
    }

    fn set<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("DYN_DISCOVERY_BACKEND", "file").env("DYN_FILE_KV", self.discovery());
        command.env("DYN_REQUEST_PLANE_CODEC", self.codec);
        // One failed call must not hide the only worker from the next one.
        command.env("DYN_RUNTIME_INHIBITED_DURATION_SECS", "0");
        // Without it a Dynamo caller sends no trace headers.
        command.env("DYN_LOGGING_JSONL", "1");
        command.env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONUNBUFFERED", "1")
    }
}
