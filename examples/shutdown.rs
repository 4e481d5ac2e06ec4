//! An end in order: the worker leaves discovery, refuses what is new, lets running calls finish, and says what was left.
use std::time::Duration;

use ringplane::{CallRequest, Client, Leftovers, Request, Responder, Worker};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let slow = |_request: Request, out: Responder| async move {
        out.send("begun").await?;
        out.sleep(Duration::from_millis(50)).await;
        out.send("done").await?;
        Ok(())
    };
    let worker = Worker::builder().endpoint("example.shutdown.slow", slow).serve().await?;
    let client = Client::builder().connect()?;
    let mut call = client.call(CallRequest::new("example.shutdown.slow", ""))?;
    assert_eq!(call.next().await, Some(Ok("begun".into())));

    // Waits for the call, for at most `config.worker.drain_timeout`, and answers how many calls that bound ended.
    assert_eq!(worker.drain().await, 0);
    assert_eq!(call.next().await, Some(Ok("done".into())));

    assert_eq!(client.shutdown().await, Leftovers::default());
    assert_eq!(worker.shutdown().await, Leftovers::default());
    Ok(())
}
