//! Where pictures come from: a status server, or discovery and the workers that it names.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ringplane::discovery::Backend;
use ringplane_core::discovery::instance::Instance;
use ringplane_core::discovery::key::Query;
use tokio::sync::watch;

use crate::alive::Findings;
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
    pub(super) async fn look(&self) -> Result<Picture, Failed> {
        match self {
            Self::Process(server) => match server.ask().await {
                Ok(process) => Ok(Picture::of(&process)),
                Err(why) => Err(Failed::new(Exit::Unavailable, format_args!("{}: {why}", server.name()))),
            },
            Self::Discovery { url, backend } => {
                let listed = backend.endpoints().list(Query::All).await;
                let instances = listed.map_err(|error| Failed::local("discovery", error))?;
                let findings = Findings::of(&instances).await?;
                Ok(found(url, &instances, &findings))
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
            match self.look().await {
                Ok(picture) => _ = tell.send_replace(picture),
                Err(failed) => tell.send_modify(|picture| picture.trouble = Some(plain(&failed.message))),
            }
            tokio::time::sleep(interval).await;
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
