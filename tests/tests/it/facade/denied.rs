//! Systems that refuse io_uring: what starts, what does not, and what is said about it.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};

use ringplane::{CallRequest, Client, Config, DriverChoice, Request, Responder, Worker};
use ringplane_core::chain::Chain;
use rustix::process::{Resource, Rlimit, setrlimit};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

use crate::facade::child::in_children;
use crate::facade::support::{connect, end, on, place, runtime, serve};

const ECHO: &str = "test.denied.echo";

async fn echo(mut request: Request, out: Responder) -> Result<(), ringplane::Failure> {
    Ok(out.send(request.body().await?).await?)
}

/// Keeps what is logged.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// All of it so far.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub(crate) fn listen_to_the_log() -> Log {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).init();
    log
}

/// From now on this thread and those it starts get `errno` for io_uring_setup.
fn deny(errno: u32) {
    const IO_URING_SETUP: i64 = 425;
    let rules = BTreeMap::from([(IO_URING_SETUP, Vec::new())]);
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno), arch).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    seccompiler::apply_filter(&program).unwrap();
}

/// A worker and two clients on `auto` find each other; which driver it became and why.
fn auto_works() -> (&'static str, String) {
    runtime().block_on(async {
        let place = place();
        let worker = serve(Worker::builder().endpoint(ECHO, echo), &place, on(DriverChoice::Auto)).await;
        let client = connect(&place, on(DriverChoice::Auto));
        assert_eq!(client.driver(), worker.driver());
        let info = client.driver().clone();
        let items = client.call(CallRequest::new(ECHO, "hello")).unwrap().collect().await.unwrap();
        assert_eq!(items, ["hello"]);
        end(worker, client).await;
        (info.name, info.why)
    })
}

/// What a client says that insists on io_uring.
fn required() -> Result<(), String> {
    let config = Config { driver: DriverChoice::IoUring, ..Config::default() };
    let client = Client::builder().discovery(place()).config(config).connect();
    client.map(drop).map_err(|error| Chain(&error).to_string())
}

#[test]
fn where_io_uring_is_forbidden_auto_runs_on_tokio_and_says_so_once_and_io_uring_refuses_in_one_line() {
    const EPERM: u32 = 1;
    const ENOSYS: u32 = 38;
    in_children(&["EPERM", "ENOSYS"], |role| {
        let log = listen_to_the_log();
        deny(if role == "EPERM" { EPERM } else { ENOSYS });
        for _ in 0..2 {
            let (name, why) = auto_works();
            assert_eq!(name, "tokio");
            assert!(why.starts_with("io_uring is refused: ") && why.contains("seccomp"), "{why}");
        }
        let refusal = required().unwrap_err();
        println!("{refusal}");
        assert!(
            refusal.starts_with("the io_uring driver does not start: io_uring is not available: ")
                && refusal.lines().count() == 1,
            "{refusal}"
        );
        let log = log.text();
        let said: Vec<&str> = log.lines().filter(|line| line.contains(" WARN ")).collect();
        assert!(matches!(said[..], [line] if line.contains("tokio takes its place")), "{log}");
    });
}

#[test]
fn with_64_kib_of_lockable_memory_io_uring_runs_smaller_or_tokio_takes_its_place() {
    in_children(&["memlock"], |_| {
        let log = listen_to_the_log();
        let limit = Rlimit { current: Some(64 << 10), maximum: Some(64 << 10) };
        setrlimit(Resource::Memlock, limit).unwrap();
        let (name, why) = auto_works();
        println!("{name}: {why}");
        let log = log.text();
        match name {
            "io-uring" => assert_eq!(required(), Ok(())),
            _ => {
                assert!(log.contains("tokio takes its place"), "{log}");
                assert_eq!(required().unwrap_err().lines().count(), 1);
            }
        }
    });
}
