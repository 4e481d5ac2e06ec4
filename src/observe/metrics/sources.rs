//! Whose the metrics are: threads, places of discovery, endpoints. None of them is kept; what those that are gone have counted is.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ringplane_core::caller;
use ringplane_core::caller::view::InstanceView;
use ringplane_core::id::InstanceId;
use ringplane_core::route::census;
use ringplane_core::worker;
use ringplane_driver::error::SubmitError;
use ringplane_driver::stats as driver;
use ringplane_tokio::discovery::{Backend, Counters};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::runtime::cores::{Core, Group};
use crate::runtime::driver::DriverInfo;
use crate::runtime::snapshot::Snapshot;

/// What tells which endpoints a group calls.
pub(crate) trait Endpoints: Send + Sync {
    /// Their names, and their numbers in the group.
    fn endpoints(&self) -> Vec<(String, u64)>;
}

/// All of them.
#[derive(Default)]
pub(crate) struct Sources {
    threads: Vec<Threads>,
    places: Vec<Place>,
    /// By the number of their group.
    endpoints: Vec<(u64, Weak<dyn Endpoints>)>,
    /// What those that are gone have counted.
    gone: Sum,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("groups", &self.threads.len()).field("places", &self.places.len()).finish()
    }
}

struct Threads {
    group: Weak<Group>,
    number: u64,
    driver: &'static str,
    /// What each of them said last.
    said: Vec<Snapshot>,
    /// All of it together, with what is counted of the group as a whole.
    last: Snapshot,
}

struct Place {
    backend: Weak<dyn Backend>,
    /// What it said last.
    last: Counters,
}

/// What several groups have counted together: by driver what drivers count, and the rest.
#[derive(Clone, Default)]
pub(crate) struct Sum {
    pub(crate) rest: Snapshot,
    pub(crate) drivers: BTreeMap<&'static str, driver::Stats>,
}

impl Sum {
    fn add(&mut self, driver: &'static str, snapshot: &Snapshot) {
        self.drivers.entry(driver).or_default().merge(&snapshot.driver);
        self.rest.merge(&Snapshot { driver: driver::Stats::default(), ..*snapshot });
    }

    /// Adds what was counted by what is gone, which holds nothing any more.
    fn add_gone(&mut self, driver: &'static str, last: &Snapshot) {
        let holds_nothing = driver::Stats { connections: 0, ops_in_flight: 0, buffers_out: 0, tasks: 0, ..last.driver };
        self.add(
            driver,
            &Snapshot {
                worker: worker::stats::Footprint::default(),
                caller: caller::stats::Footprint::default(),
                instances: census::Sizes::default(),
                driver: holds_nothing,
                ..*last
            },
        );
    }

    fn add_place(&mut self, counters: Counters) {
        self.rest.merge(&Snapshot::default().with(counters));
    }
}

/// The instances of each endpoint, by its name.
pub(crate) type Instances = BTreeMap<String, BTreeMap<InstanceId, InstanceView>>;

/// What one look has seen.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) sum: Sum,
    /// The drivers in use, with their threads.
    pub(crate) running: Vec<(DriverInfo, u64)>,
    /// Threads that did not answer.
    pub(crate) silent: u64,
    pub(crate) instances: Instances,
}

impl Sources {
    pub(crate) fn add_group(&mut self, group: &Arc<Group>) {
        // Programs that make clients again and again need not be asked for metrics in between.
        self.let_go();
        if self.threads.iter().all(|known| known.number != group.number) {
            let (number, driver) = (group.number, group.info.name);
            let (said, last) = (vec![Snapshot::default(); group.len()], Snapshot::default());
            self.threads.push(Threads { group: Arc::downgrade(group), number, driver, said, last });
        }
    }

    pub(crate) fn add_backend(&mut self, backend: &Arc<dyn Backend>) {
        let backend = Arc::downgrade(backend);
        if self.places.iter().all(|place| !place.backend.ptr_eq(&backend)) {
            self.places.push(Place { backend, last: Counters::default() });
        }
    }

    pub(crate) fn add_endpoints(&mut self, group: u64, endpoints: Arc<dyn Endpoints>) {
        self.endpoints.push((group, Arc::downgrade(&endpoints)));
    }

    /// The groups that are still there.
    pub(crate) fn all(&self) -> Vec<Asked> {
        let here = self.threads.iter().filter_map(|threads| threads.group.upgrade());
        here.map(|group| {
            let of_group = self.endpoints.iter().filter(|(number, _)| *number == group.number);
            let names = of_group.filter_map(|(_, endpoints)| endpoints.upgrade()).flat_map(|all| all.endpoints());
            // An endpoint with a policy of its own has more than its name.
            let name = |text: String| text.split(' ').next().unwrap_or_default().to_owned();
            let names = names.map(|(text, number)| (number, name(text))).collect();
            Asked { group, names, ended: false, heard: Vec::new(), instances: Instances::new() }
        })
        .collect()
    }

    /// Takes in what was answered.
    pub(crate) fn settle(&mut self, asked: Vec<Asked>) -> Seen {
        let mut seen = Seen::default();
        for asked in asked {
            let Some(at) = self.threads.iter().position(|known| known.number == asked.group.number) else { continue };
            let threads = &mut self.threads[at];
            threads.last.background = asked.group.upkeep().stats();
            if asked.ended {
                self.gone.add_gone(threads.driver, &threads.last);
                self.threads.swap_remove(at);
                continue;
            }
            let all = asked.group.len();
            seen.silent += (all - asked.heard.len()) as u64;
            // One that is held does not keep back what the others say.
            for (core, snapshot) in asked.heard {
                threads.said[core] = snapshot;
            }
            threads.last = Snapshot::default();
            threads.said.iter().for_each(|said| threads.last.merge(said));
            threads.last.driver = asked.group.driver_stats();
            threads.last.canaries = asked.group.canary_stats();
            threads.last.background = asked.group.upkeep().stats();
            seen.sum.add(threads.driver, &threads.last);
            count(&mut seen.running, &asked.group.info, all as u64);
            for (name, views) in asked.instances {
                let known = seen.instances.entry(name).or_default();
                views.values().for_each(|view| merge(known, view));
            }
        }
        self.let_go();
        for place in &mut self.places {
            if let Some(backend) = place.backend.upgrade() {
                place.last = backend.counters();
            }
            seen.sum.add_place(place.last);
        }
        for (driver, stats) in &self.gone.drivers {
            seen.sum.drivers.entry(driver).or_default().merge(stats);
        }
        seen.sum.rest.merge(&self.gone.rest);
        seen
    }

    /// Lets go of what is gone, but for what it has counted.
    fn let_go(&mut self) {
        for gone in self.threads.extract_if(.., |threads| threads.group.strong_count() == 0) {
            self.gone.add_gone(gone.driver, &gone.last);
        }
        for gone in self.places.extract_if(.., |place| place.backend.strong_count() == 0) {
            self.gone.add_place(gone.last);
        }
        self.endpoints.retain(|(_, endpoints)| endpoints.strong_count() > 0);
    }
}

fn count(running: &mut Vec<(DriverInfo, u64)>, info: &DriverInfo, threads: u64) {
    match running.iter_mut().find(|(known, _)| known == info) {
        Some((_, count)) => *count += threads,
        None => running.push((info.clone(), threads)),
    }
}

fn merge(known: &mut BTreeMap<InstanceId, InstanceView>, view: &InstanceView) {
    known.entry(view.id).and_modify(|known| known.merge(view)).or_insert(*view);
}

/// A group that is asked.
pub(crate) struct Asked {
    group: Arc<Group>,
    /// The names of its endpoints by their numbers.
    names: HashMap<u64, String>,
    ended: bool,
    /// The threads that have answered, and what each said.
    heard: Vec<(usize, Snapshot)>,
    instances: Instances,
}

/// What a thread answers: which of its group it is, what it has, and the instances of each endpoint.
pub(crate) type Answer = (usize, Snapshot, Vec<(u64, Vec<InstanceView>)>);

impl Asked {
    /// Asks its threads, which answer under `index`. One whose mailbox is full is not asked.
    pub(crate) fn ask(&mut self, index: usize, tell: &mpsc::UnboundedSender<(usize, Answer)>) {
        let (tell, numbers) = (tell.clone(), self.names.keys().copied().collect::<Arc<[u64]>>());
        let answer = move |core: &Rc<Core>| {
            let now = core.node.env().now();
            let snapshot = core.node.touching(|node| Snapshot::of(node, now));
            let instances = numbers.iter().map(|number| (*number, core.instances(*number))).collect();
            let _ = tell.send((index, (core.index, snapshot, instances)));
        };
        for core in 0..self.group.len() {
            self.ended |= self.group.submit_to(core, answer.clone()) == Err(SubmitError::Stopped);
        }
    }

    pub(crate) fn hear(&mut self, (core, snapshot, instances): &Answer) {
        self.heard.push((*core, *snapshot));
        for (number, views) in instances {
            let Some(name) = self.names.get(number) else { continue };
            let known = self.instances.entry(name.clone()).or_default();
            views.iter().for_each(|view| merge(known, view));
        }
    }

    pub(crate) fn pause(&self, time: Duration) -> JoinHandle<()> {
        self.group.pause(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::config::{Config, DriverChoice};
    use crate::runtime::cores::Cores;
    use crate::runtime::observers::Observers;

    #[test]
    fn a_thread_that_does_not_answer_keeps_back_nobody_else() {
        let config = Config { cores: 2, driver: DriverChoice::Tokio, ..Config::default() };
        let cores = Cores::start("sources", &config, &Observers::default(), Vec::new(), None, |_| ()).unwrap();
        let mut sources = Sources::default();
        sources.add_group(cores.group());
        let mut scrape = |answers: &[(usize, u64)]| {
            let mut asked = sources.all();
            for (core, calls) in answers {
                let mut snapshot = Snapshot::default();
                snapshot.called.calls = *calls;
                asked[0].hear(&(*core, snapshot, Vec::new()));
            }
            let seen = sources.settle(asked);
            (seen.sum.rest.called.calls, seen.silent)
        };
        assert_eq!(scrape(&[(1, 5), (0, 3)]), (8, 0));
        assert_eq!(scrape(&[(0, 10)]), (15, 1), "the other counts with what it said last");
        assert_eq!(scrape(&[]), (15, 2));
        assert_eq!(scrape(&[(1, 6)]), (16, 1));
    }
}
