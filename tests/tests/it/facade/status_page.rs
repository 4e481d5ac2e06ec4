//! The status page as a browser shows it: its script runs, its numbers are right, and what others named does nothing.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ringplane::status::Status;
use ringplane::{CallRequest, Client, DriverChoice, Request, Responder, Worker};
use ringplane_servers::programs::chromium;

use crate::facade::status::patient;
use crate::facade::support::{end, on, place, runtime, serve, skipped};

/// Calls that are made before anybody looks.
const CALLS: usize = 42;
/// The longest that the browser may take.
const PATIENCE: Duration = Duration::from_secs(100);

/// A browser, ended by its own id.
struct Browser(Child);

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The page as it is after four seconds of its own time.
fn look(program: &std::path::Path, url: &str) -> String {
    let profile = tempfile::tempdir().unwrap();
    let mut command = Command::new(program);
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]);
    command.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
    command.arg(format!("--user-data-dir={}", profile.path().display()));
    command.args(["--virtual-time-budget=4500", "--dump-dom", url]);
    let file = profile.path().join("dom");
    let out = std::fs::File::create(&file).unwrap();
    let child = command.stdin(Stdio::null()).stdout(out).stderr(Stdio::null()).spawn().unwrap();
    let (mut browser, begun) = (Browser(child), Instant::now());
    while browser.0.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < PATIENCE, "the browser does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
    std::fs::read_to_string(&file).unwrap()
}

#[test]
fn a_browser_shows_the_page_and_renews_its_numbers() {
    let program = match chromium() {
        Ok(program) => program,
        Err(why) => {
            skipped(&why);
            return;
        }
    };
    runtime().block_on(async {
        let (status, place) = (Status::serve(patient()).unwrap(), place());
        let echo = |mut request: Request, out: Responder| async move { Ok(out.send(request.body().await?).await?) };
        let builder = Worker::builder().endpoint("demo.backend.echo", echo).status(&status);
        let worker = serve(builder, &place, on(DriverChoice::Tokio)).await;
        let client = Client::builder().discovery(&place).config(on(DriverChoice::Tokio)).status(&status);
        let client = client.connect().unwrap();
        for _ in 0..CALLS {
            client.call(CallRequest::new("demo.backend.echo", "x")).unwrap().collect().await.unwrap();
        }
        status.note("<img src=x onerror=document.title=1>", "an error");
        let url = format!("http://{}/", status.addr());
        let page = tokio::task::spawn_blocking(move || look(&program, &url)).await.unwrap();
        let looks = page.split("data-looks=\"").nth(1).and_then(|rest| rest.split('"').next());
        let looks: u32 = looks.and_then(|looks| looks.parse().ok()).unwrap_or_else(|| panic!("no script ran: {page}"));
        assert!(looks >= 2 && !page.contains("class=\"away\""), "{page}");
        assert_eq!(page.matches(&format!(">{CALLS}</dd>")).count(), 2, "the worker and the client: {page}");
        assert!(page.contains("demo.backend.echo") && page.contains("routable"), "{page}");
        assert!(page.contains("&lt;img") && page.contains("<title>ringplane</title>"), "{page}");
        end(worker, client).await;
    });
}
