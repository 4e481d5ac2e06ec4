//! Where pictures come from: a status server, or discovery and the workers that it names.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ringplane::discovery::Backend;
use ringplane::status::ProcessView;
use ringplane_core::discovery::instance::Instance;
use ringplane_core::discovery::key::Query;
use serde_json::json;
use tokio::sync::watch;

use crate::alive::Findings;
use crate::discover::examined;
use crate::exit::{Exit, Failed};
use crate::place::{self, Missing, Sight};
use crate::top::fetch::Server;
use crate::top::picture::{Entry, Picture, Tone, plain};

/// Between two looks where nobody says it: one at a process is a request, one at what discovery finds dials every instance.
const PROCESS: Duration = Duration::from_secs(1);
const DISCOVERY: Duration = Duration::from_secs(5);

/// What is looked at.
pub(super) enum Source {
    Process(Server),
    Discovery { url: String, backend: Arc<dyn Backend> },
}

impl Source {
    /// A status server, or discovery as other commands find it.
    pub(super) async fn open(status: Option<Server>, discovery: Option<String>) -> Result<Self, Failed> {
        if let Some(server) = status {
            return Ok(Self::Process(server));
        }
        let sight: Sight = place::look(discovery)?;
        let backend = sight.wait::<Instance>().await?;
        Ok(Self::Discovery { url: sight.url, backend })
    }

    /// The directory of discovery that nobody has made yet, if that is what is missing.
    pub(super) fn missing(discovery: Option<String>) -> Result<Option<PathBuf>, Failed> {
        Ok(match place::look(discovery)?.missing::<Instance>() {
            Some(Missing::Root(root)) => Some(root),
            Some(Missing::Bucket) | None => None,
        })
    }

    /// Looks once.
    pub(super) async fn see(&self) -> Result<Seen<'_>, Failed> {
        match self {
            Self::Process(server) => match server.ask().await {
                Ok(process) => Ok(Seen::Process(Box::new(process))),
                Err(why) => Err(Failed::new(Exit::Unavailable, format_args!("{}: {why}", server.name()))),
            },
            Self::Discovery { url, backend } => {
                let listed = backend.endpoints().list(Query::All).await;
                let instances = listed.map_err(|error| Failed::local("discovery", error))?;
                let findings = Findings::of(&instances).await?;
                Ok(Seen::Discovery { url, instances, findings })
            }
        }
    }

    /// Looks again and again, and tells what it saw last. What cannot be seen leaves the picture as it was, with a word about it.
    pub(super) async fn follow(&self, interval: Option<Duration>, tell: &watch::Sender<Picture>) {
        let interval = interval.unwrap_or(match self {
            Self::Process(_) => PROCESS,
            Self::Discovery { .. } => DISCOVERY,
        });
        loop {
            match self.see().await {
                Ok(seen) => _ = tell.send_replace(seen.picture()),
                Err(failed) => tell.send_modify(|picture| picture.trouble = Some(plain(&failed.message))),
            }
            tokio::time::sleep(interval).await;
        }
    }
}

/// What one look has seen.
pub(super) enum Seen<'a> {
    Process(Box<ProcessView>),
    Discovery { url: &'a str, instances: Vec<Instance>, findings: Findings },
}

impl Seen<'_> {
    /// For people.
    pub(super) fn picture(&self) -> Picture {
        match self {
            Self::Process(process) => Picture::of(process),
            Self::Discovery { url, instances, findings } => found(url, instances, findings),
        }
    }

    /// For programs, in a line: a process as its status server tells it, or the instances as `discover list --health` does.
    pub(super) fn object(&self) -> Result<String, Failed> {
        match self {
            Self::Process(process) => {
                serde_json::to_string(process).map_err(|error| Failed::local("what is seen", error))
            }
            Self::Discovery { url, instances, findings } => {
                let instances: Vec<_> = instances.iter().map(|instance| examined(instance, findings)).collect();
                Ok(json!({ "discovery": url, "instances": instances }).to_string())
            }
        }
    }
}

/// What discovery has, and whether it is there.
fn found(url: &str, instances: &[Instance], findings: &Findings) -> Picture {
    let mut dead = 0;
    let entries = instances.iter().map(|instance| {
        let (state, tone) = match findings.object(instance)["alive"].as_bool() {
            Some(true) => ("alive", Tone::Good),
            Some(false) => ("dead", Tone::Bad),
            None => ("not dialed", Tone::Plain),
        };
        dead += usize::from(tone == Tone::Bad);
        Entry {
            endpoint: plain(&instance.endpoint.to_string()),
            place: format!("{} at {}", instance.id, instance.addr),
            state: state.to_owned(),
            tone,
            under_way: None,
            why: findings.line(instance),
        }
    });
    let entries: Vec<Entry> = entries.collect();
    let many = match entries.len() {
        1 => "1 instance".to_owned(),
        more => format!("{more} instances"),
    };
    let health = if dead == 0 { ("none is dead".to_owned(), Tone::Good) } else { (format!("{dead} dead"), Tone::Bad) };
    let title = vec![(format!("discovery {}", plain(url)), Tone::Plain), (many, Tone::Plain), health];
    Picture { title, entries, ..Picture::default() }
}
