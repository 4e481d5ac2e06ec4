//! The directory backend: Dynamo's layout, death, other processes, and everything that can happen to a directory.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use ringplane_core::discovery::key::Query;
use ringplane_core::discovery::record;
use ringplane_core::discovery::set::Change;
use ringplane_core::id::EndpointId;
use ringplane_tokio::discovery::{Backend, Error, File, Timing};

use crate::support::{block_on, instance, next};

const FILE_TREE: &str = include_str!("../../../tests/vectors/discovery/file-tree-endpoint-registered.txt");

/// Short enough for a test, long enough for a busy machine.
const FAST: Timing = Timing { touch: Duration::from_millis(100), ttl: Duration::from_millis(1500) };
/// A look that never comes, to prove that something else did it.
const NEVER: Timing = Timing { touch: Duration::from_secs(3600), ttl: Duration::from_secs(7200) };

fn bucket(root: &Path) -> PathBuf {
    root.join("v1/instances")
}

fn files(root: &Path) -> Vec<String> {
    let names = fs::read_dir(bucket(root)).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn age(path: &Path, by: Duration) {
    fs::File::open(path).unwrap().set_modified(SystemTime::now() - by).unwrap();
}

/// Name and content of the file a real process was seen to write.
fn seen_live() -> (&'static str, &'static str) {
    let file = FILE_TREE.lines().find(|line| line.starts_with("FILE")).unwrap();
    let record = FILE_TREE.lines().map(str::trim).find(|line| line.starts_with('{')).unwrap();
    (file.rsplit('/').next().unwrap(), record)
}

#[test]
fn a_file_dynamo_wrote_is_found_and_ours_looks_the_same() {
    let root = tempfile::tempdir().unwrap();
    let reader = File::with_timing(root.path(), NEVER).unwrap();
    let (name, record) = seen_live();
    fs::write(root.path().join("new"), record).unwrap();
    fs::rename(root.path().join("new"), bucket(root.path()).join(name)).unwrap();
    let found = block_on(reader.list(Query::All)).unwrap();
    let [theirs] = &found[..] else { panic!("{found:?}") };
    assert_eq!((theirs.mux, theirs.endpoint.clone()), (None, EndpointId::new("w-ns", "wcomp", "wep")));

    let other = tempfile::tempdir().unwrap();
    let writer = File::open(other.path()).unwrap();
    let registration = block_on(writer.register(theirs.clone())).unwrap();
    assert_eq!(files(other.path()), [name]);
    assert_eq!(fs::read_to_string(bucket(other.path()).join(name)).unwrap(), record);
    drop(registration);
    assert!(files(other.path()).is_empty());
}

#[test]
fn a_change_is_noticed_without_waiting_for_the_next_look() {
    let root = tempfile::tempdir().unwrap();
    let reader = File::with_timing(root.path(), NEVER).unwrap();
    let mut watch = block_on(reader.watch(Query::All)).unwrap();
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
    let reader = File::with_timing(root.path(), FAST).unwrap();
    let (name, record) = seen_live();
    let put = |name: &str, content: &str| fs::write(bucket(root.path()).join(name), content).unwrap();
    put("a%2Fb%2Fc%2F1", "not JSON");
    put("a%2Fb%2Fc%2F2", record);
    put("README", "old");
    age(&bucket(root.path()).join("README"), Duration::from_secs(60));
    put(".tmp_0123456789abcdef", record);
    fs::create_dir(bucket(root.path()).join("a%2Fb%2Fc%2F3")).unwrap();
    assert_eq!(block_on(reader.list(Query::All)).unwrap(), []);
    put(name, record);
    let mut watch = block_on(reader.watch(Query::All)).unwrap();
    let Change::Added(good) = next(&mut watch) else { panic!("the good one") };
    assert_eq!(next(&mut watch), Change::Resync(vec![good.clone()]));
    // Nobody touches any of them: all die.
    assert_eq!(next(&mut watch), Change::Removed(good.key()));
    let begun = Instant::now();
    while files(root.path()) != ["README", "a%2Fb%2Fc%2F3"] {
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", files(root.path()));
        std::thread::yield_now();
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
    let backend = File::open(root.path()).unwrap();
    assert_eq!(block_on(backend.list(Query::All)).unwrap(), []);
    let _registration = block_on(backend.register(mine.clone())).unwrap();
    assert_eq!(block_on(backend.list(Query::All)).unwrap(), [mine]);
}

#[test]
fn a_live_instance_stays_listed_far_beyond_its_time_to_live() {
    let root = tempfile::tempdir().unwrap();
    let owner = File::with_timing(root.path(), FAST).unwrap();
    let reader = File::with_timing(root.path(), FAST).unwrap();
    let (stays, goes) = (instance("ns.comp.ep", 1), instance("ns.comp.ep", 2));
    let _registration = block_on(owner.register(stays.clone())).unwrap();
    let mut watch = block_on(reader.watch(Query::All)).unwrap();
    assert_eq!(next(&mut watch), Change::Added(stays.clone()));
    assert_eq!(next(&mut watch), Change::Resync(vec![stays]));
    // An instance nobody touches marks the time: it dies of old age while the other goes on.
    let path = bucket(root.path()).join("ns%2Fcomp%2Fep%2F2");
    for _ in 0..2 {
        fs::write(root.path().join("new"), record::write(&goes).unwrap()).unwrap();
        fs::rename(root.path().join("new"), &path).unwrap();
        assert_eq!(next(&mut watch), Change::Added(goes.clone()));
        assert_eq!(next(&mut watch), Change::Removed(goes.key()));
    }
}

#[test]
fn an_owner_makes_its_file_again_when_somebody_removed_it() {
    let root = tempfile::tempdir().unwrap();
    let owner = File::with_timing(root.path(), FAST).unwrap();
    let reader = File::with_timing(root.path(), FAST).unwrap();
    let one = instance("ns.comp.ep", 1);
    let registration = block_on(owner.register(one.clone())).unwrap();
    let mut watch = block_on(reader.watch(Query::All)).unwrap();
    assert_eq!(next(&mut watch), Change::Added(one.clone()));
    assert_eq!(next(&mut watch), Change::Resync(vec![one.clone()]));
    fs::remove_file(bucket(root.path()).join("ns%2Fcomp%2Fep%2F1")).unwrap();
    assert_eq!(next(&mut watch), Change::Removed(one.key()));
    assert_eq!(next(&mut watch), Change::Added(one.clone()));
    // Even with the directory gone.
    fs::rename(root.path().join("v1"), root.path().join("elsewhere")).unwrap();
    while !bucket(root.path()).join("ns%2Fcomp%2Fep%2F1").exists() {
        std::thread::yield_now();
    }
    assert_eq!(block_on(reader.list(Query::All)).unwrap(), [one]);
    drop(registration);
    assert!(files(root.path()).is_empty());
    assert_eq!(block_on(reader.list(Query::All)).unwrap(), []);
}

#[test]
fn more_changes_than_the_kernel_queues_are_still_all_seen() {
    let queue: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    let root = tempfile::tempdir().unwrap();
    let reader = File::with_timing(root.path(), NEVER).unwrap();
    let mut watch = block_on(reader.watch(Query::All)).unwrap();
    assert_eq!(next(&mut watch), Change::Resync(vec![]));
    // The keeper reads no notices while it waits, up to a second, for a lock that is taken.
    let lock = fs::File::open(bucket(root.path())).unwrap();
    lock.lock().unwrap();
    let busy = reader.clone();
    let stalled = std::thread::spawn(move || block_on(busy.register(instance("ns.comp.ep", 1))));
    let noise = bucket(root.path()).join("noise");
    // Twice what fits: the keeper may read some of it before it gets to the lock.
    for _ in 0..queue {
        fs::File::create(&noise).unwrap();
        fs::remove_file(&noise).unwrap();
    }
    let (name, record) = seen_live();
    fs::write(root.path().join("new"), record).unwrap();
    fs::hard_link(root.path().join("new"), bucket(root.path()).join(name)).unwrap();
    assert!(matches!(stalled.join().unwrap(), Err(Error::Locked { .. })));
    let Change::Added(seen) = next(&mut watch) else { panic!("nothing added") };
    assert_eq!(seen.endpoint, EndpointId::new("w-ns", "wcomp", "wep"));
    drop(lock);
    let _registration = block_on(reader.register(instance("ns.comp.ep", 1))).unwrap();
}

#[test]
fn an_answer_nobody_waits_for_leaves_no_registration() {
    let root = tempfile::tempdir().unwrap();
    let backend = File::open(root.path()).unwrap();
    {
        let mut register = backend.register(instance("ns.comp.ep", 1));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(register.as_mut().poll(&mut context).is_pending());
    }
    // Requests are served in order, so this one is answered after the other was.
    assert_eq!(block_on(backend.list(Query::All)).unwrap(), []);
    assert!(files(root.path()).is_empty());
}

#[test]
fn names_too_long_for_a_file_and_hopeless_timing_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let backend = File::open(root.path()).unwrap();
    let long = format!("ns.comp.{}", "e-".repeat(100));
    let refused = block_on(backend.register(instance(&long, 1)));
    assert!(matches!(refused, Err(Error::NameTooLong { bytes: 400.. })), "{refused:?}");
    let timing = Timing { touch: Duration::from_secs(6), ttl: Duration::from_secs(10) };
    assert!(matches!(File::with_timing(root.path(), timing), Err(Error::Timing { .. })));
}

const CHILD: &str = "RINGPLANE_TEST_DISCOVERY_ROOT";

#[test]
#[ignore = "is the other process of the test below"]
fn child_that_registers_and_waits_to_be_killed() {
    let root = std::env::var(CHILD).unwrap();
    let backend = File::with_timing(root, FAST).unwrap();
    let _registration = block_on(backend.register(instance("ns.comp.child", 1))).unwrap();
    // The parent answers to the registration, so it may be there before the watch is, or come after.
    let mut watch = block_on(backend.watch(Query::Namespace("other".into()))).unwrap();
    let parent = std::iter::repeat_with(|| next(&mut watch)).find_map(|change| match change {
        Change::Added(parent) => Some(parent),
        Change::Removed(_) | Change::Resync(_) => None,
    });
    let parent = parent.expect("nobody there");
    println!("\nsees {}", parent.endpoint);
    loop {
        std::thread::park();
    }
}

#[test]
fn two_processes_see_each_other_and_a_killed_one_vanishes() {
    let root = tempfile::tempdir().unwrap();
    let backend = File::with_timing(root.path(), FAST).unwrap();
    let mut watch = block_on(backend.watch(Query::Namespace("ns".into()))).unwrap();
    assert_eq!(next(&mut watch), Change::Resync(vec![]));
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "file::child_that_registers_and_waits_to_be_killed"])
        .env(CHILD, root.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let theirs = instance("ns.comp.child", 1);
    assert_eq!(next(&mut watch), Change::Added(theirs.clone()));
    let mine = instance("other.comp.parent", 2);
    let _registration = block_on(backend.register(mine.clone())).unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let heard = lines.any(|line| line == "sees other.comp.parent");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(heard, "the child saw its parent");
    let killed = Instant::now();
    assert_eq!(next(&mut watch), Change::Removed(theirs.key()));
    assert!(killed.elapsed() < FAST.ttl * 4, "{:?}", killed.elapsed());
    assert_eq!(block_on(backend.list(Query::All)).unwrap(), [mine]);
}
