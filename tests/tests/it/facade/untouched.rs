//! What is not needed takes no memory.

use ringplane::{Failure, Request, Responder, Worker};

use crate::facade::child::in_children;
use crate::facade::support::{connect, drivers, end, on, place, resident, runtime, serve};

const ECHO: &str = "test.untouched.echo";

async fn echo(mut request: Request, out: Responder) -> Result<(), Failure> {
    Ok(out.send(request.body().await?).await?)
}

/// Pages this process has touched for the first time, so far.
fn page_faults() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // The name of the program, in parentheses, may hold anything.
    stat.rsplit(')').next().unwrap().split_whitespace().nth(7).unwrap().parse().unwrap()
}

#[test]
fn a_worker_and_a_client_that_have_done_nothing_have_touched_little_memory() {
    in_children(&["io-uring", "tokio", "monoio", "tokio-uring"], |role| {
        let driver = role.parse().unwrap();
        if !drivers().any(|known| known == driver) {
            return;
        }
        runtime().block_on(async {
            let (memory, faults) = (resident(), page_faults());
            let place = place();
            let worker = serve(Worker::builder().endpoint(ECHO, echo), &place, on(driver)).await;
            let client = connect(&place, on(driver));
            let (memory, faults) = (resident().saturating_sub(memory), page_faults() - faults);
            println!("measured: {driver:?}: {memory} bytes and {faults} page faults for a worker and a client");
            // 32 MiB of receive buffers each, if they were touched.
            assert!(memory < 16 << 20 && faults < 4000, "{driver:?}: {memory} bytes, {faults} page faults");
            end(worker, client).await;
        });
    });
}
