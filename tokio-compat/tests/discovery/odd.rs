//! What others may put into a discovery directory: everything but records, and records in places of others.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use ringplane_core::discovery::key::Query;
use ringplane_core::discovery::record;
use ringplane_core::discovery::set::Change;
use ringplane_tokio::discovery::{Error, Timing};
use rustix::fs::{CWD, FileType, RenameFlags, mknodat, renameat_with};

use crate::file::{FAST, NEVER, age, bucket, seen_live};
use crate::support::{block_on, directory, instance, log, next, until};

fn fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, 0o600.into(), 0).unwrap();
}

#[test]
fn a_record_that_others_replace_by_pipes_links_sockets_and_directories_comes_back_and_its_owner_still_stops() {
    let log = log();
    let root = tempfile::tempdir().unwrap();
    // Nothing dies of old age meanwhile, however long the machine takes.
    let timing = Timing { ttl: NEVER.ttl, ..FAST };
    let owner = directory(root.path(), timing);
    let reader = directory(root.path(), timing);
    let one = instance("ns.comp.replaced", 1);
    let registration = block_on(owner.endpoints().register(one.clone())).unwrap();
    let (new, name) = (root.path().join("new"), "ns%2Fcomp%2Freplaced%2F1");
    let path = bucket(root.path()).join(name);
    let listed = || block_on(reader.endpoints().list(Query::All)).unwrap() == [one.clone()];
    let is_back = || {
        let is_file = path.symlink_metadata().unwrap().is_file();
        is_file && fs::read_to_string(&path).is_ok_and(|text| text.contains("4000"))
    };
    until(listed);
    for _ in 0..200 {
        fs::write(&new, "no record").unwrap();
        fs::rename(&new, &path).unwrap();
        fifo(&new);
        fs::rename(&new, &path).unwrap();
        assert!(listed(), "what was known of it goes on");
    }
    until(is_back);
    let elsewhere = root.path().join("elsewhere");
    fs::write(&elsewhere, record::write(&one).unwrap()).unwrap();
    age(&elsewhere, std::time::Duration::from_secs(1000));
    let before = fs::metadata(&elsewhere).unwrap().modified().unwrap();
    symlink(&elsewhere, &new).unwrap();
    fs::rename(&new, &path).unwrap();
    until(is_back);
    assert_eq!(fs::metadata(&elsewhere).unwrap().modified().unwrap(), before, "a link leads nowhere");
    let _socket = UnixListener::bind(&new).unwrap();
    fs::rename(&new, &path).unwrap();
    until(is_back);
    for full in [false, true] {
        fs::create_dir(&new).unwrap();
        if full {
            fs::write(new.join("theirs"), "").unwrap();
        }
        renameat_with(CWD, &new, CWD, &path, RenameFlags::EXCHANGE).unwrap();
        fs::remove_file(&new).unwrap();
        until(is_back);
    }
    until(listed);
    block_on(registration.unregister()).unwrap();
    assert!(!path.exists());
    let told = log.warnings(&[name]).len();
    assert!((1..40).contains(&told), "{told} warnings for 400 changes");
}

#[test]
fn another_file_in_the_place_of_ours_is_neither_kept_alive_nor_removed_and_ours_follows_when_it_dies() {
    let root = tempfile::tempdir().unwrap();
    let owner = directory(root.path(), FAST);
    let one = instance("ns.comp.taken", 1);
    let registration = block_on(owner.endpoints().register(one.clone())).unwrap();
    let (new, path) = (root.path().join("new"), bucket(root.path()).join("ns%2Fcomp%2Ftaken%2F1"));
    let theirs = record::write(&one).unwrap().replace("4000", "4001");
    fs::write(&new, &theirs).unwrap();
    fs::rename(&new, &path).unwrap();
    // Nobody touches theirs, so it dies, and ours is written again.
    until(|| fs::read_to_string(&path).is_ok_and(|text| text.contains("4000")));
    assert_eq!(block_on(owner.endpoints().list(Query::All)).unwrap(), [one]);
    fs::write(&new, &theirs).unwrap();
    fs::rename(&new, &path).unwrap();
    block_on(registration.unregister()).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), theirs, "it is not ours to remove");
}

#[test]
fn an_equal_record_in_the_place_of_ours_is_kept_alive_as_ours() {
    let root = tempfile::tempdir().unwrap();
    let owner = directory(root.path(), FAST);
    let one = instance("ns.comp.twin", 1);
    let registration = block_on(owner.endpoints().register(one.clone())).unwrap();
    let (new, path) = (root.path().join("new"), bucket(root.path()).join("ns%2Fcomp%2Ftwin%2F1"));
    fs::write(&new, record::write(&one).unwrap()).unwrap();
    age(&new, FAST.ttl * 100);
    let inode = fs::metadata(&new).unwrap().ino();
    fs::rename(&new, &path).unwrap();
    let touched =
        || fs::metadata(&path).is_ok_and(|data| data.modified().unwrap().elapsed().unwrap_or_default() < FAST.ttl);
    until(touched);
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode, "nothing was written");
    block_on(registration.unregister()).unwrap();
    assert!(!path.exists());
}

#[test]
fn a_file_larger_than_any_record_is_not_read_and_told_once() {
    let log = log();
    let root = tempfile::tempdir().unwrap();
    let reader = directory(root.path(), NEVER);
    let (name, content) = seen_live();
    let large = "ns%2Fcomp%2Flarge%2F1";
    let new = root.path().join("new");
    fs::File::create(&new).unwrap().set_len(64 << 20).unwrap();
    fs::rename(&new, bucket(root.path()).join(large)).unwrap();
    // As large as a record may be.
    let padded = format!("{content}{}", " ".repeat((1 << 20) - content.len()));
    fs::write(&new, padded).unwrap();
    fs::rename(&new, bucket(root.path()).join(name)).unwrap();
    for _ in 0..20 {
        assert_eq!(block_on(reader.endpoints().list(Query::All)).unwrap().len(), 1);
    }
    let told = log.warnings(&[large]);
    assert!(matches!(&told[..], [line] if line.contains("more than 1048576 bytes")), "{told:?}");
    let one = instance("ns.comp.large", 1);
    fs::write(&new, record::write(&one).unwrap()).unwrap();
    fs::rename(&new, bucket(root.path()).join(large)).unwrap();
    until(|| block_on(reader.endpoints().list(Query::All)).unwrap().contains(&one));
}

#[test]
fn no_change_between_two_looks_is_missed_though_number_length_and_time_of_the_file_are_the_same() {
    let root = tempfile::tempdir().unwrap();
    let reader = directory(root.path(), NEVER);
    let (new, one) = (root.path().join("new"), instance("ns.comp.same", 1));
    let path = bucket(root.path()).join("ns%2Fcomp%2Fsame%2F1");
    let content = |port: u16| record::write(&one).unwrap().replace("4000", &port.to_string());
    let port = || block_on(reader.endpoints().list(Query::All)).unwrap().first().map(|found| found.addr.port());
    fs::write(&new, content(4000)).unwrap();
    fs::rename(&new, &path).unwrap();
    until(|| port() == Some(4000));
    let before = fs::metadata(&path).unwrap();
    for next in 4001..4020 {
        // Written in place, which no notice tells of.
        let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all(content(next).as_bytes()).unwrap();
        file.set_modified(before.modified().unwrap()).unwrap();
        drop(file);
        assert_eq!(port(), Some(next));
    }
    let after = fs::metadata(&path).unwrap();
    let same = |data: &fs::Metadata| (data.ino(), data.len(), data.modified().unwrap());
    assert_eq!(same(&before), same(&after));
}

#[test]
fn a_pipe_in_the_place_of_the_directory_keeps_nobody_waiting() {
    let root = tempfile::tempdir().unwrap();
    let backend = directory(root.path(), NEVER);
    // In one step, for a directory that is gone is made again at once.
    let new = root.path().join("new");
    fifo(&new);
    renameat_with(CWD, &new, CWD, bucket(root.path()), RenameFlags::EXCHANGE).unwrap();
    let refused = block_on(backend.endpoints().register(instance("ns.comp.ep", 1)));
    assert!(matches!(refused, Err(Error::Io { doing: "lock", .. })), "{refused:?}");
}

#[test]
fn a_watch_hears_of_a_record_that_is_replaced_by_a_pipe_when_its_time_is_up() {
    let root = tempfile::tempdir().unwrap();
    let reader = directory(root.path(), FAST);
    let mut watch = block_on(reader.endpoints().watch(Query::All)).unwrap();
    assert_eq!(next(&mut watch), Change::Resync(vec![]));
    let (new, one) = (root.path().join("new"), instance("ns.comp.gone", 1));
    let path = bucket(root.path()).join("ns%2Fcomp%2Fgone%2F1");
    fs::write(&new, record::write(&one).unwrap()).unwrap();
    fs::rename(&new, &path).unwrap();
    assert_eq!(next(&mut watch), Change::Added(one.clone()));
    fifo(&new);
    fs::rename(&new, &path).unwrap();
    assert_eq!(next(&mut watch), Change::Removed(one.key()));
}
