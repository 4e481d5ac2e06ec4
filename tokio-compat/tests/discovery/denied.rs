//! Systems that refuse what discovery in a directory is built on: links, notices, removals. The refusals are the kernel's, by
//! a filter on the thread of a test and those it starts.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use ringplane_core::chain::Chain;
use ringplane_core::discovery::key::Query;
use ringplane_core::discovery::record;
use ringplane_core::discovery::set::Change;
use ringplane_tokio::discovery::Error;
use rustix::io::Errno;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

use crate::file::{FAST, NEVER, age, bucket, files};
use crate::support::{block_on, directory, instance, log, next, until};

const LINK: [i64; 2] = [86, 265];
const UNLINK: [i64; 2] = [87, 263];
const RENAMEAT2: i64 = 316;
const INOTIFY_INIT: i64 = 294;
const INOTIFY_ADD_WATCH: i64 = 254;

/// Runs `body` on a thread that gets `errno` for these system calls.
fn denied(calls: &[i64], errno: Errno, body: impl FnOnce() + Send) {
    let rules: BTreeMap<_, _> = calls.iter().map(|call| (*call, Vec::new())).collect();
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let action = SeccompAction::Errno(errno.raw_os_error().unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, arch).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    thread::scope(|scope| {
        let ran = scope.spawn(|| {
            seccompiler::apply_filter(&program).unwrap();
            body();
        });
        ran.join().unwrap();
    });
}

/// A record is published, found, not overwritten by another, and taken back.
fn publishes(root: &Path) {
    let backend = directory(root, NEVER);
    let one = instance("ns.comp.ep", 1);
    let registration = block_on(backend.endpoints().register(one.clone())).unwrap();
    assert_eq!(files(root), ["ns%2Fcomp%2Fep%2F1"], "and nothing unfinished");
    let other = directory(root, NEVER);
    let usurper = instance("ns.comp.ep", 1);
    let usurper = ringplane_core::discovery::instance::Instance { addr: ([127, 0, 0, 1], 9).into(), ..usurper };
    assert!(matches!(block_on(other.endpoints().register(usurper)), Err(Error::Exists { .. })));
    assert_eq!(block_on(other.endpoints().list(Query::All)).unwrap(), [one]);
    block_on(registration.unregister()).unwrap();
    assert!(files(root).is_empty());
}

#[test]
fn where_there_are_no_hard_links_records_are_published_by_a_rename() {
    for errno in [Errno::XDEV, Errno::MLINK, Errno::INVAL, Errno::PERM, Errno::NOSYS, Errno::OPNOTSUPP] {
        let root = tempfile::tempdir().unwrap();
        denied(&LINK, errno, || publishes(root.path()));
        // Nor the rename that overwrites nothing.
        denied(&[LINK[0], LINK[1], RENAMEAT2], errno, || publishes(root.path()));
    }
}

#[test]
fn a_link_that_fails_for_another_reason_is_a_plain_error() {
    let root = tempfile::tempdir().unwrap();
    denied(&LINK, Errno::IO, || {
        let backend = directory(root.path(), NEVER);
        let error = block_on(backend.endpoints().register(instance("ns.comp.ep", 1))).unwrap_err();
        let error = Chain(&error).to_string();
        assert!(error.starts_with("cannot publish `") && error.contains("(os error 5)"), "{error}");
    });
    assert!(files(root.path()).is_empty());
}

#[test]
fn without_notices_of_the_kernel_changes_are_looked_for_and_one_line_names_the_limit() {
    let log = log();
    let cases = [
        (INOTIFY_INIT, Errno::MFILE, "fs.inotify.max_user_instances"),
        (INOTIFY_ADD_WATCH, Errno::NOSPC, "fs.inotify.max_user_watches"),
    ];
    for (call, errno, limit) in cases {
        let root = tempfile::tempdir().unwrap();
        let writer = directory(root.path(), NEVER);
        denied(&[call], errno, || {
            let reader = directory(root.path(), NEVER);
            let mut watch = block_on(reader.endpoints().watch(Query::All)).unwrap();
            assert_eq!(next(&mut watch), Change::Resync(vec![]));
            let one = instance("ns.comp.ep", 1);
            for _ in 0..2 {
                let registration = block_on(writer.endpoints().register(one.clone())).unwrap();
                assert_eq!(next(&mut watch), Change::Added(one.clone()));
                drop(registration);
                assert_eq!(next(&mut watch), Change::Removed(one.key()));
            }
        });
        let told = log.warnings(&[&root.path().display().to_string()]);
        assert!(matches!(&told[..], [line] if line.contains(limit)), "{told:?}");
    }
}

#[test]
fn a_dead_record_that_may_not_be_removed_is_told_once() {
    let log = log();
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(bucket(root.path())).unwrap();
    for id in 1..4 {
        let path = bucket(root.path()).join(format!("ns%2Fcomp%2Fep%2F{id}"));
        fs::write(&path, record::write(&instance("ns.comp.ep", id)).unwrap()).unwrap();
        age(&path, Duration::from_secs(60));
    }
    let told = || log.warnings(&[&root.path().display().to_string()]);
    denied(&UNLINK, Errno::ACCESS, || {
        let backend = directory(root.path(), FAST);
        let registration = block_on(backend.endpoints().register(instance("ns.comp.clock", 1))).unwrap();
        until(|| !told().is_empty());
        // Each touch of the living one is a round in which the dead ones are tried again.
        let clock = bucket(root.path()).join("ns%2Fcomp%2Fclock%2F1");
        let mut last = fs::metadata(&clock).unwrap().modified().unwrap();
        for _ in 0..10 {
            until(|| fs::metadata(&clock).unwrap().modified().unwrap() != last);
            last = fs::metadata(&clock).unwrap().modified().unwrap();
        }
        let told = told();
        assert!(matches!(&told[..], [line] if line.contains("cannot remove")), "{told:?}");
        assert!(block_on(registration.unregister()).is_err());
    });
}
