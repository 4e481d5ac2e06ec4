//! The directory backend: Dynamo's layout, death, other processes, and everything that can happen to a directory.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use ringplane_core::discovery::event::EventQuery;
use ringplane_core::discovery::key::Query;
use ringplane_core::discovery::kind::Kind;
use ringplane_core::discovery::record;
use ringplane_core::discovery::set::{Change, Set};
use ringplane_core::id::EndpointId;
use ringplane_tokio::discovery::{Backend, Error, File, Registration, Timing, Watch};
use rustix::process::{Pid, Signal, kill_process};

use crate::records::{channel, model, taints};
use crate::support::{block_on, directory, instance, next, until};

const FILE_TREE: &str = include_str!("../vectors/file-tree-endpoint-registered.txt");

/// Short enough for a test, long enough for a busy machine.
pub(crate) const FAST: Timing = Timing { touch: Duration::from_millis(100), ttl: Duration::from_millis(1500) };
/// A look that never comes, to prove that something else did it.
pub(crate) const NEVER: Timing = Timing { touch: Duration::from_secs(3600), ttl: Duration::from_secs(7200) };

pub(crate) fn bucket(root: &Path) -> PathBuf {
    root.join("v1/instances")
}

pub(crate) fn files(root: &Path) -> Vec<String> {
    let names = fs::read_dir(bucket(root)).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub(crate) fn age(path: &Path, by: Duration) {
    fs::File::open(path).unwrap().set_modified(SystemTime::now() - by).unwrap();
}

/// Name and content of the file a real process was seen to write.
pub(crate) fn seen_live() -> (&'static str, &'static str) {
    let file = FILE_TREE.lines().find(|line| line.starts_with("FILE")).unwrap();
    let record = FILE_TREE.lines().map(str::trim).find(|line| line.starts_with('{')).unwrap();
    (file.rsplit('/').next().unwrap(), record)
}

#[test]
fn a_file_dynamo_wrote_is_found_and_ours_looks_the_same() {
    let root = tempfile::tempdir().unwrap();
    let reader = directory(root.path(), NEVER);
    let (name, record) = seen_live();
    fs::write(root.path().join("new"), record).unwrap();
    fs::rename(root.path().join("new"), bucket(root.path()).join(name)).unwrap();
    let found = block_on(reader.endpoints().list(Query::All)).unwrap();
    let [theirs] = &found[..] else { panic!("{found:?}") };
    assert_eq!((theirs.mux, theirs.endpoint.clone()), (None, EndpointId::new("w-ns", "wcomp", "wep")));

    let other = tempfile::tempdir().unwrap();
    let writer = directory(other.path(), Timing::default());
    let registration = block_on(writer.endpoints().register(theirs.clone())).unwrap();
    assert_eq!(files(other.path()), [name]);
    assert_eq!(fs::read_to_string(bucket(other.path()).join(name)).unwrap(), record);
    drop(registration);
    assert!(files(other.path()).is_empty());
}

#[test]
fn a_change_is_noticed_without_waiting_for_the_next_look() {
    let root = tempfile::tempdir().unwrap();
    let reader = directory(root.path(), NEVER);
    let mut watch = block_on(reader.endpoints().watch(Query::All)).unwrap();
    assert_eq!(next(&mut watch), Change::Resync(vec![]));
    let (name, record) = seen_live();
    let path = bucket(root.path()).join(name);
    fs::write(root.path().join("new"), record).unwrap();
    fs::hard_link(root.path().join("new"), &path).unwrap();
    let Change::Added(added) = next(&mut watch) else { panic!("nothing added") };
    fs::remove_file(&path).unwrap();
    assert_eq!(next(&mut watch), Change::Removed(added.key()));
    fs::rename(root.path().join("new"), &path).unwrap();
    assert_eq!(next(&mut watch), Change::Added(added.clone()));
    fs::write(root.path().join("new"), record.replace("34017", "34018")).unwrap();
    fs::rename(root.path().join("new"), &path).unwrap();
    let Change::Added(replaced) = next(&mut watch) else { panic!("nothing replaced") };
    assert_eq!((replaced.key(), replaced.addr.port()), (added.key(), 34018));
}

#[test]
fn unusable_files_are_left_out_and_what_is_ours_by_name_is_swept() {
    let root = tempfile::tempdir().unwrap();
    let reader = directory(root.path(), FAST);
    let (name, record) = seen_live();
    let put = |name: &str, content: &str| fs::write(bucket(root.path()).join(name), content).unwrap();
    put("a%2Fb%2Fc%2F1", "not JSON");
    put("a%2Fb%2Fc%2F2", record);
    put("README", "old");
    age(&bucket(root.path()).join("README"), Duration::from_secs(60));
    put(".tmp_0123456789abcdef", record);
    fs::create_dir(bucket(root.path()).join("a%2Fb%2Fc%2F3")).unwrap();
    assert_eq!(block_on(reader.endpoints().list(Query::All)).unwrap(), []);
    until(|| reader.counters().discovered.ignored > 0);
    put(name, record);
    let mut watch = block_on(reader.endpoints().watch(Query::All)).unwrap();
    let Change::Added(good) = next(&mut watch) else { panic!("the good one") };
    assert_eq!(next(&mut watch), Change::Resync(vec![good.clone()]));
    // Nobody touches any of them: all die.
    assert_eq!(next(&mut watch), Change::Removed(good.key()));
    let begun = Instant::now();
    while files(root.path()) != ["README", "a%2Fb%2Fc%2F3"] {
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", files(root.path()));
        thread::yield_now();
    }
}

#[test]
fn a_leftover_of_a_dead_process_is_never_listed_and_makes_way() {
    let root = tempfile::tempdir().unwrap();
    let mine = instance("ns.comp.ep", 1);
    let leftover = record::write(&mine).unwrap().replace("4000", "1");
    fs::create_dir_all(bucket(root.path())).unwrap();
    let path = bucket(root.path()).join("ns%2Fcomp%2Fep%2F1");
    fs::write(&path, leftover).unwrap();
    age(&path, Duration::from_secs(11));
    let backend = directory(root.path(), Timing::default());
    assert_eq!(block_on(backend.endpoints().list(Query::All)).unwrap(), []);
    let _registration = block_on(backend.endpoints().register(mine.clone())).unwrap();
    assert_eq!(block_on(backend.endpoints().list(Query::All)).unwrap(), [mine]);
}

#[test]
fn a_live_instance_stays_listed_far_beyond_its_time_to_live() {
    let root = tempfile::tempdir().unwrap();
    let owner = directory(root.path(), FAST);
    let reader = directory(root.path(), FAST);
    let (stays, goes) = (instance("ns.comp.ep", 1), instance("ns.comp.ep", 2));
    let _registration = block_on(owner.endpoints().register(stays.clone())).unwrap();
    let mut watch = block_on(reader.endpoints().watch(Query::All)).unwrap();
    assert_eq!(next(&mut watch), Change::Added(stays.clone()));
    assert_eq!(next(&mut watch), Change::Resync(vec![stays]));
    // An instance nobody touches marks the time: it dies of old age while the other goes on.
    let path = bucket(root.path()).join("ns%2Fcomp%2Fep%2F2");
    for _ in 0..2 {
        let seen = AtomicBool::new(false);
        thread::scope(|scope| {
            // Until it has been seen: a reader that stands still for a time to live would take it for dead at first sight.
            scope.spawn(|| {
                let begun = Instant::now();
                while !seen.load(Ordering::SeqCst) && begun.elapsed() < Duration::from_secs(90) {
                    fs::write(root.path().join("new"), record::write(&goes).unwrap()).unwrap();
                    fs::rename(root.path().join("new"), &path).unwrap();
                    thread::sleep(FAST.touch);
                }
            });
            let change = next(&mut watch);
            seen.store(true, Ordering::SeqCst);
            assert_eq!(change, Change::Added(goes.clone()));
        });
        assert_eq!(next(&mut watch), Change::Removed(goes.key()));
    }
}

#[test]
fn an_owner_makes_its_file_again_when_somebody_removed_it() {
    let root = tempfile::tempdir().unwrap();
    let owner = directory(root.path(), FAST);
    let reader = directory(root.path(), FAST);
    let one = instance("ns.comp.ep", 1);
    let registration = block_on(owner.endpoints().register(one.clone())).unwrap();
    let mut watch = block_on(reader.endpoints().watch(Query::All)).unwrap();
    assert_eq!(next(&mut watch), Change::Added(one.clone()));
    assert_eq!(next(&mut watch), Change::Resync(vec![one.clone()]));
    fs::remove_file(bucket(root.path()).join("ns%2Fcomp%2Fep%2F1")).unwrap();
    assert_eq!(next(&mut watch), Change::Removed(one.key()));
    assert_eq!(next(&mut watch), Change::Added(one.clone()));
    until(|| owner.counters().registered.losses > 0 && owner.counters().registered.writes > 1);
    until(|| owner.counters().registered.renewals > 0);
    // Even with the directory gone.
    fs::rename(root.path().join("v1"), root.path().join("elsewhere")).unwrap();
    while !bucket(root.path()).join("ns%2Fcomp%2Fep%2F1").exists() {
        thread::yield_now();
    }
    assert_eq!(block_on(reader.endpoints().list(Query::All)).unwrap(), [one]);
    drop(registration);
    assert!(files(root.path()).is_empty());
    assert_eq!(block_on(reader.endpoints().list(Query::All)).unwrap(), []);
}

#[test]
fn an_answer_nobody_waits_for_leaves_no_registration() {
    let root = tempfile::tempdir().unwrap();
    let backend = directory(root.path(), Timing::default());
    {
        let mut register = backend.endpoints().register(instance("ns.comp.ep", 1));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(register.as_mut().poll(&mut context).is_pending());
    }
    // Requests are served in order, so this one is answered after the other was.
    assert_eq!(block_on(backend.endpoints().list(Query::All)).unwrap(), []);
    assert!(files(root.path()).is_empty());
}

#[test]
fn names_too_long_for_a_file_and_hopeless_timing_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let backend = directory(root.path(), Timing::default());
    let long = format!("ns.comp.{}", "e-".repeat(100));
    let refused = block_on(backend.endpoints().register(instance(&long, 1)));
    assert!(matches!(refused, Err(Error::NameTooLong { bytes: 400.. })), "{refused:?}");
    let timing = Timing { touch: Duration::from_secs(6), ttl: Duration::from_secs(10) };
    assert!(matches!(File::with_timing(root.path(), timing), Err(Error::Timing { .. })));
}

const CHILD: &str = "RINGPLANE_TEST_DISCOVERY_ROOT";

/// Another process, which is killed with its owner.
struct Other {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Other {
    /// Runs the test `name` of this file, which is ignored otherwise.
    fn start(name: &str, root: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture", &format!("file::{name}")])
            .env(CHILD, root)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn wait_for(&mut self, said: &str) {
        assert!(self.lines.any(|line| line.unwrap() == said), "it ended without `{said}`");
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Stops it, and returns once it stands still.
    fn pause(&self) {
        self.signal(Signal::STOP);
        let status = format!("/proc/{}/stat", self.child.id());
        until(|| fs::read_to_string(&status).unwrap().rsplit(") ").next().unwrap().starts_with('T'));
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.kill();
    }
}

#[test]
#[ignore = "is the other process of the test below"]
fn child_that_tells_whom_it_sees() {
    let reader = directory(std::env::var(CHILD).unwrap(), NEVER);
    let mut watch = block_on(reader.endpoints().watch(Query::All)).unwrap();
    assert_eq!(next(&mut watch), Change::Resync(vec![]));
    println!("\nlooks");
    let Change::Added(seen) = next(&mut watch) else { panic!("nothing added") };
    println!("\nsees {}", seen.endpoint);
}

#[test]
fn more_changes_than_the_kernel_queues_are_still_all_seen() {
    let queue: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    let root = tempfile::tempdir().unwrap();
    let mut reader = Other::start("child_that_tells_whom_it_sees", root.path());
    reader.wait_for("looks");
    // Nobody reads the queue now, and it holds only so many: no notice of the last file is in it.
    reader.pause();
    let noise = bucket(root.path()).join("noise");
    for _ in 0..queue / 2 + 1 {
        fs::File::create(&noise).unwrap();
        fs::remove_file(&noise).unwrap();
    }
    let (name, record) = seen_live();
    fs::write(root.path().join("new"), record).unwrap();
    fs::hard_link(root.path().join("new"), bucket(root.path()).join(name)).unwrap();
    reader.signal(Signal::CONT);
    reader.wait_for("sees w-ns.wcomp.wep");
}

/// Long enough for a machine that keeps a process waiting for seconds: one that cannot say for so long that it lives is
/// hidden, and comes back, which is no mistake.
const PATIENT: Timing = Timing { touch: Duration::from_millis(100), ttl: Duration::from_secs(6) };

#[test]
#[ignore = "is the other process of the tests below"]
fn child_that_registers_and_waits_to_be_killed() {
    let root = std::env::var(CHILD).unwrap();
    let backend = directory(root, PATIENT);
    let _registration = block_on(backend.endpoints().register(instance("ns.comp.child", 1))).unwrap();
    // The parent answers to the registration, so it may be there before the watch is, or come after.
    let mut watch = block_on(backend.endpoints().watch(Query::Namespace("other".into()))).unwrap();
    let parent = std::iter::repeat_with(|| next(&mut watch)).find_map(|change| match change {
        Change::Added(parent) => Some(parent),
        _ => None,
    });
    let parent = parent.expect("nobody there");
    println!("\nsees {}", parent.endpoint);
    loop {
        thread::park();
    }
}

/// Another process that sees us, and whom we see: its instance, and our watch and registration.
fn acquainted(root: &Path, backend: &dyn Backend) -> (Other, Watch, Registration) {
    let mut watch = block_on(backend.endpoints().watch(Query::Namespace("ns".into()))).unwrap();
    assert_eq!(next(&mut watch), Change::Resync(vec![]));
    let mut other = Other::start("child_that_registers_and_waits_to_be_killed", root);
    assert_eq!(next(&mut watch), Change::Added(instance("ns.comp.child", 1)));
    let registration = block_on(backend.endpoints().register(instance("other.comp.parent", 2))).unwrap();
    other.wait_for("sees other.comp.parent");
    (other, watch, registration)
}

#[test]
fn two_processes_see_each_other_and_a_killed_one_vanishes() {
    let root = tempfile::tempdir().unwrap();
    let backend = directory(root.path(), PATIENT);
    let (mut other, mut watch, mine) = acquainted(root.path(), &*backend);
    other.kill();
    let mut theirs = Set::default();
    theirs.apply(Change::Added(instance("ns.comp.child", 1)));
    // A process that stood still may have gone and come back before.
    while !(theirs.is_empty() && block_on(backend.endpoints().list(Query::All)).unwrap() == [mine.instance().clone()]) {
        theirs.apply(next(&mut watch));
    }
}

#[test]
fn a_process_that_stood_still_vanishes_and_comes_back_under_the_same_name() {
    let root = tempfile::tempdir().unwrap();
    let backend = directory(root.path(), PATIENT);
    let (other, mut watch, _mine) = acquainted(root.path(), &*backend);
    let theirs = instance("ns.comp.child", 1);
    let file = bucket(root.path()).join("ns%2Fcomp%2Fchild%2F1");
    other.pause();
    until(|| !file.exists());
    let listed = || block_on(backend.endpoints().list(Query::Namespace("ns".into()))).unwrap();
    assert_eq!(listed(), []);
    // Heard before it is back: a watch tells no way there and back.
    while next(&mut watch) != Change::Removed(theirs.key()) {}
    other.signal(Signal::CONT);
    while next(&mut watch) != Change::Added(theirs.clone()) {}
    assert_eq!(listed(), [theirs]);
    assert!(file.exists());
}

#[test]
fn files_of_events_that_dynamo_wrote_are_found_and_ours_look_the_same() {
    let tree = include_str!("../vectors/file-tree-event-plane.txt");
    let (theirs, ours) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut files = BTreeMap::new();
    for (path, content) in tree.lines().zip(tree.lines().skip(1)).filter(|(path, _)| path.starts_with("FILE")) {
        let path = path.split_once("KVROOT/").unwrap().1;
        if path.starts_with("v1/event") {
            files.insert(path, content.trim());
            fs::create_dir_all(theirs.path().join(path).parent().unwrap()).unwrap();
            fs::write(theirs.path().join(path), content.trim()).unwrap();
        }
    }
    let (reader, writer) = (directory(theirs.path(), Timing::default()), directory(ours.path(), Timing::default()));
    let (channels, sources) = (reader.channels(), reader.sources());
    let found = block_on(channels.list(EventQuery::default())).unwrap();
    let _channels: Vec<_> =
        found.iter().map(|one| block_on(writer.channels().register(one.clone())).unwrap()).collect();
    let found = block_on(sources.list(EventQuery::default())).unwrap();
    let _sources: Vec<_> = found.iter().map(|one| block_on(writer.sources().register(one.clone())).unwrap()).collect();
    for (path, content) in &files {
        assert_eq!(&fs::read_to_string(ours.path().join(path)).unwrap(), content, "{path}");
    }
    assert_eq!((_channels.len(), _sources.len(), files.len()), (3, 1, 4));
}

#[test]
fn a_channel_that_moves_is_told_with_its_new_address() {
    let root = tempfile::tempdir().unwrap();
    let backend = directory(root.path(), NEVER);
    let mut watch = block_on(backend.channels().watch(EventQuery::default())).unwrap();
    let _channel = block_on(backend.channels().register(channel(1, 1))).unwrap();
    while next(&mut watch) != Change::Added(channel(1, 1)) {}
    let bucket = root.path().join("v1/event_channels");
    let file = fs::read_dir(&bucket).unwrap().next().unwrap().unwrap().path();
    let moved = channel(1, 2);
    fs::write(root.path().join("new"), moved.write().unwrap()).unwrap();
    fs::rename(root.path().join("new"), file).unwrap();
    while next(&mut watch) != Change::Updated(moved.clone()) {}
}

#[test]
fn taints_are_in_the_file_that_is_made_again_when_somebody_removed_it() {
    let root = tempfile::tempdir().unwrap();
    let backend = directory(root.path(), FAST);
    let mut registration = block_on(backend.models().register(model(1, "m"))).unwrap();
    let file = root.path().join("v1/mdc/ns%2Fcomp%2Fep%2F1");
    let inode = |file: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(file).unwrap());
    block_on(registration.update_taints(taints(&["a"]))).unwrap();
    let before = inode(&file);
    block_on(registration.update_taints(taints(&["a"]))).unwrap();
    assert_eq!(inode(&file), before, "the same taints are not written again");
    let content = fs::read_to_string(&file).unwrap();
    assert!(content.contains(r#""taints":["a"]"#), "{content}");
    fs::remove_file(&file).unwrap();
    until(|| fs::read_to_string(&file).is_ok_and(|again| again == content));
    // Even in between: it is made again first.
    fs::remove_file(&file).unwrap();
    block_on(registration.update_taints(taints(&["b"]))).unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), content.replace("[\"a\"]", "[\"b\"]"));
}
