//! Limits of the process and the system: descriptors, connections, locked memory, seccomp.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::TcpStream;
use std::time::Duration;

use ringplane_core::id::ConnId;
use ringplane_core::protocol::CloseReason;
use ringplane_io_uring::{Common, Config, Refusal, probe};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

use crate::child::{descriptors, in_child};
use crate::closing::Silent;
use crate::toy::{Event, Knobs, Node, PATIENCE, Role, few, pattern, small};

/// Another descriptor of the same socket, if it is one.
pub(crate) fn duplicate(fd: i32) -> Option<socket2::Socket> {
    let path = format!("/proc/self/fd/{fd}");
    let link = std::fs::read_link(&path).ok()?;
    if !link.to_str()?.starts_with("socket:") {
        return None;
    }
    let pidfd = rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty()).ok()?;
    let copy = rustix::process::pidfd_getfd(pidfd, fd, rustix::process::PidfdGetfdFlags::empty()).ok()?;
    Some(copy.into())
}

#[test]
fn stopping_with_everything_armed_leaves_nothing_behind() {
    in_child(|| {
        let before = descriptors();
        for _ in 0..3 {
            let silent = Silent::new();
            let node = Node::start(Role::Record, small());
            let streams: Vec<_> = (0..20).map(|_| TcpStream::connect(node.addr).unwrap()).collect();
            let blocked = node.accepted();
            let addr = silent.addr;
            node.tell(move |toy| {
                toy.send(blocked, pattern(1, 16 << 20).into());
                (0..5).for_each(|n| toy.dial(ConnId::dialed(n), addr));
            });
            let asleep = |_: &_, env: &ringplane_core::local::Env| {
                let inner = env.clone();
                env.spawn(async move { inner.sleep(Duration::from_secs(3600)).await });
            };
            node.handle.submit(asleep).unwrap();
            node.until(|stats| stats.ring_sends > 0 && stats.accepts == 20 && stats.dials == 5 && stats.tasks == 1);
            let Node { driver, events, handle, .. } = node;
            let report = driver.stop();
            assert!(report.is_clean(), "{report:?}");
            drop(handle);
            let opened = 20 + 5;
            let ends = events.iter().filter(|event| matches!(event, Event::Closed(_, CloseReason::Local))).count();
            assert_eq!(ends, opened, "the machine hears of every end");
            drop(streams);
        }
        // The kernel closes the ring's last reference a moment after the thread is gone.
        let start = std::time::Instant::now();
        while descriptors() != before {
            assert!(start.elapsed() < PATIENCE, "{} descriptors before, {} after", before, descriptors());
            std::thread::yield_now();
        }
    });
}

#[test]
fn without_descriptors_the_listener_pauses_and_serves_when_some_are_back() {
    in_child(|| {
        // The kernel notes the limit when the accept is armed, which also takes a descriptor for a moment.
        let limit = Rlimit { current: Some(64), ..getrlimit(Resource::Nofile) };
        setrlimit(Resource::Nofile, limit).unwrap();
        let node = Node::start(Role::Record, small());
        for jobs in [1, 2] {
            node.tell(|_| {});
            node.until(|stats| stats.jobs == jobs);
        }
        let mut fillers: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
        // One for the client, none for its other end.
        fillers.pop();
        let _client = TcpStream::connect(node.addr).unwrap();
        node.until(|stats| stats.accept_pauses >= 2);
        node.tell(|toy| toy.dial(ConnId::dialed(1), ([127, 0, 0, 1], 9).into()));
        assert_eq!(node.next(), Event::Closed(ConnId::dialed(1), CloseReason::NoDescriptors));
        drop(fillers);
        node.accepted();
        let _second = TcpStream::connect(node.addr).unwrap();
        node.accepted();
        node.stop();
    });
}

#[test]
fn connections_beyond_the_limit_are_closed_at_once_and_counted() {
    let node = Node::start(Role::Record, Common { max_connections: 2, ..few() });
    let streams = [(); 3].map(|()| TcpStream::connect(node.addr).unwrap());
    node.accepted();
    node.accepted();
    let mut third = &streams[2];
    assert_eq!(std::io::Read::read(&mut third, &mut [0; 1]).unwrap(), 0);
    let addr = node.addr;
    node.tell(move |toy| toy.dial(ConnId::dialed(1), addr));
    assert_eq!(node.next(), Event::Closed(ConnId::dialed(1), CloseReason::NoDescriptors));
    assert_eq!(node.until(|stats| stats.refused == 2).connections, 2);
    node.stop();
}

#[test]
fn this_machine_passes_the_probe() {
    let features = probe().unwrap();
    assert!(features.completion_entries >= features.submission_entries, "{features:?}");
    assert!(!features.kernel.is_empty());
}

#[test]
fn a_seccomp_filter_is_named_as_the_reason() {
    in_child(|| {
        for errno in [libc::EPERM, libc::ENOSYS] {
            // Each errno gets a thread of its own: filters add up.
            std::thread::spawn(move || {
                let rules = BTreeMap::from([(libc::SYS_io_uring_setup, vec![])]);
                let (allow, deny) = (SeccompAction::Allow, SeccompAction::Errno(errno as u32));
                let arch = std::env::consts::ARCH.try_into().unwrap();
                let filter: BpfProgram = SeccompFilter::new(rules, allow, deny, arch).unwrap().try_into().unwrap();
                seccompiler::apply_filter(&filter).unwrap();
                let refusal = probe().unwrap_err();
                assert_eq!(refusal, Refusal::Seccomp { errno });
                assert!(refusal.to_string().contains("seccomp"));
            })
            .join()
            .unwrap();
        }
    });
}

#[test]
fn little_locked_memory_shrinks_the_ring_or_is_named_as_the_reason() {
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    in_child(|| {
        for limit in [64 * 1024, 16 * 1024, 0] {
            std::thread::spawn(move || {
                // Root ignores the limit.
                let mut sets = capabilities(None).unwrap();
                sets.effective.remove(CapabilitySet::IPC_LOCK);
                sets.permitted.remove(CapabilitySet::IPC_LOCK);
                set_capabilities(None, sets).unwrap();
                setrlimit(Resource::Memlock, Rlimit { current: Some(limit), maximum: Some(limit) }).unwrap();
                match probe() {
                    Ok(features) => {
                        assert_eq!(features.memlock, Some(limit));
                        let node = Node::start(
                            Role::Echo,
                            Knobs { common: Common::default(), own: Config::default(), cpu: None },
                        );
                        let mut stream = TcpStream::connect(node.addr).unwrap();
                        std::io::Write::write_all(&mut stream, &pattern(1, 10_000)).unwrap();
                        std::io::Read::read_exact(&mut stream, &mut [0; 10_000]).unwrap();
                        node.stop();
                    }
                    Err(refusal) => assert_eq!(refusal, Refusal::Memlock { limit: Some(limit) }),
                }
            })
            .join()
            .unwrap();
        }
    });
}
