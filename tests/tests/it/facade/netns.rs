//! A real network that drops dead: a worker in a network namespace, its link taken down.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ringplane::{CallError, CallRequest, DriverChoice, Request, Responder, Worker};
use ringplane_core::caller::config::Dialect;
use ringplane_core::protocol::Fault;
use ringplane_core::wire::Codec;

use crate::facade::child::{command, role};
use crate::facade::support::{
    both, connect, drivers, end, end_client, on, place, runtime, serve, skipped, until_client,
};

const RUN: &str = "test.netns.run";
const CALLS: usize = 5;
const NEIGHBOURS: &str = "facade::netns::inside_the_namespace_a_caller_calls_its_own_host";
const WORKER: &str = "facade::netns::inside_the_namespace_a_worker_serves";

async fn endless(_: Request, out: Responder) -> Result<(), ringplane::Failure> {
    loop {
        out.send("item").await?;
    }
}

/// The other process: does nothing unless it is told to.
#[test]
fn inside_the_namespace_a_worker_serves() {
    let Some(role) = role() else { return };
    let parts: Vec<&str> = role.split(' ').collect();
    let [driver, ip, place] = parts[..] else { panic!("{role}") };
    let driver = driver.parse().unwrap();
    runtime().block_on(async {
        let builder = Worker::builder().endpoint(RUN, endless).listen(format!("{ip}:0").parse().unwrap());
        let _worker = builder.discovery(place).config(on(driver)).serve().await.unwrap();
        // Ends when the parent closes the pipe or dies.
        let read = || std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _ = tokio::task::spawn_blocking(read).await;
    });
}

/// The other process of [`a_caller_with_default_addresses_reaches_a_worker_at_the_routed_address_of_its_host`].
#[test]
fn inside_the_namespace_a_caller_calls_its_own_host() {
    let Some(ip) = role() else { return };
    both(async |driver| {
        let place = place();
        let echo = async |mut request: Request, out: Responder| Ok(out.send(request.body().await?).await?);
        let builder = Worker::builder().endpoint(RUN, echo).listen(format!("{ip}:0").parse().unwrap());
        let worker = serve(builder, &place, on(driver)).await;
        assert_eq!(worker.addr().ip().to_string(), ip);
        let mut config = on(driver);
        config.caller.dialect = Dialect::CallHome;
        assert!(config.caller.call_home.bind.ip().is_loopback());
        let client = connect(&place, config);
        let items = client.call(CallRequest::new(RUN, "1").with_codec(Codec::Json)).unwrap().collect().await;
        assert_eq!(items.unwrap(), ["1"]);
        end(worker, client).await;
    });
}

#[test]
fn a_caller_with_default_addresses_reaches_a_worker_at_the_routed_address_of_its_host() {
    let block = format!("10.213.{}", std::process::id() % 100);
    let (here, there) = (format!("{block}.21"), format!("{block}.22"));
    let namespace = match Namespace::new('c', &here, &there) {
        Ok(namespace) => namespace,
        Err(reason) => {
            skipped(&format!("no network namespace: {reason}"));
            return;
        }
    };
    let wrapper = ["ip", "netns", "exec", &namespace.name];
    let output = command(&wrapper, NEIGHBOURS, &there).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// A namespace with a link to it; gone when dropped.
struct Namespace {
    name: String,
    link: String,
}

fn ip(args: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(args).output().map_err(|error| format!("ip: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("ip {}: {}", args.join(" "), said.trim())) }
}

impl Namespace {
    fn new(tag: char, here: &str, there: &str) -> Result<Self, String> {
        let number = std::process::id() % 1_000_000;
        let (name, link, peer) = (format!("rp{number}{tag}"), format!("rp{number}{tag}0"), format!("rp{number}{tag}1"));
        ip(&["netns", "add", &name])?;
        let namespace = Self { name, link };
        let (name, link) = (namespace.name.as_str(), namespace.link.as_str());
        ip(&["link", "add", link, "type", "veth", "peer", "name", &peer, "netns", name])?;
        ip(&["addr", "add", &format!("{here}/30"), "dev", link])?;
        ip(&["link", "set", link, "up"])?;
        ip(&["-n", name, "addr", "add", &format!("{there}/30"), "dev", &peer])?;
        ip(&["-n", name, "link", "set", &peer, "up"])?;
        ip(&["-n", name, "link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    fn link_down(&self) {
        ip(&["link", "set", &self.link, "down"]).unwrap();
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The link goes with either of its ends.
        let _ = ip(&["link", "del", &self.link]);
        let _ = ip(&["netns", "del", &self.name]);
    }
}

/// A process that is killed when dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Streams from the namespace, takes the link down, waits for the end of every call.
async fn dies(driver: DriverChoice, namespace: &Namespace, there: &str, directory: &Path) -> Duration {
    let place = format!("file:{}", directory.display());
    let name = if driver == DriverChoice::Tokio { "tokio" } else { "io-uring" };
    let wrapper = ["ip", "netns", "exec", &namespace.name];
    let mut worker = command(&wrapper, WORKER, &format!("{name} {there} {place}"));
    let _worker = Killed(worker.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap());
    let mut config = on(driver);
    config.caller.instance_timeout = Duration::from_secs(20);
    let client = connect(&place, config);
    let mut calls = Vec::new();
    for _ in 0..CALLS {
        let mut call = client.call(CallRequest::new(RUN, "")).unwrap();
        assert_eq!(call.next().await.unwrap().unwrap(), "item");
        calls.push(call);
    }
    namespace.link_down();
    let begun = Instant::now();
    for mut call in calls {
        let error = loop {
            match call.next().await.expect("a broken stream does not end well") {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        let silent = |fault| matches!(fault, Fault::Silent | Fault::Stalled);
        let typed = match error {
            CallError::Protocol { fault, delivered: true } => silent(fault),
            CallError::Disconnected { delivered: true, .. } => true,
            _ => false,
        };
        assert!(typed, "{driver:?}: {error:?}");
        assert!(call.next().await.is_none());
    }
    let took = begun.elapsed();
    until_client("the connection is given up", &client, |snapshot| snapshot.caller.connections == 0).await;
    end_client(client).await;
    took
}

#[test]
fn when_the_network_drops_dead_every_call_ends_with_a_typed_error_within_ten_seconds() {
    let mut threads = Vec::new();
    for (driver, tag, net) in drivers().zip(['a', 'b']).zip([12, 16]).map(|((driver, tag), net)| (driver, tag, net)) {
        // Two runs on one host meet only if their process ids agree in the last two digits.
        let block = format!("10.213.{}", std::process::id() % 100);
        let (here, there) = (format!("{block}.{}", net + 1), format!("{block}.{}", net + 2));
        let namespace = match Namespace::new(tag, &here, &there) {
            Ok(namespace) => namespace,
            Err(reason) => {
                skipped(&format!("no network namespace: {reason}"));
                return;
            }
        };
        threads.push(std::thread::spawn(move || {
            let directory = tempfile::tempdir().unwrap();
            (driver, runtime().block_on(dies(driver, &namespace, &there, directory.path())))
        }));
    }
    for thread in threads {
        let (driver, took) = thread.join().unwrap();
        println!("measured: {driver:?}: {CALLS} calls over {took:?} after the link went down; the bound is 10 s");
        assert!(took < Duration::from_millis(11_500), "{driver:?}: {took:?}");
    }
}
