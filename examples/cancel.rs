//! How a call ends early: the caller stops it, the caller kills it, or its time runs out.
use std::time::Duration;

use ringplane::{CallError, CallRequest, Cause, Client, Request, Responder, Worker};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Counts until it is asked to stop, and says so. After any other cause its future is dropped where it waits.
    let count = |_request: Request, out: Responder| async move {
        for number in 0_u64.. {
            if out.cause() == Some(Cause::Stop) {
                out.send("stopped").await?;
                break;
            }
            out.send(number.to_string()).await?;
        }
        Ok(())
    };
    let worker = Worker::builder().endpoint("example.cancel.count", count).serve().await?;
    let client = Client::builder().connect()?;
    let counter = client.endpoint("example.cancel.count")?;

    // A stop is a wish: what the handler still sends arrives.
    let mut call = counter.call(CallRequest::item(""))?;
    assert_eq!(call.next().await, Some(Ok("0".into())));
    call.stop();
    assert_eq!(call.collect().await?.last().map(|item| &item[..]), Some(&b"stopped"[..]));

    // A kill ends the call here and now; dropping it does the same.
    let mut call = counter.call(CallRequest::item(""))?;
    assert_eq!(call.next().await, Some(Ok("0".into())));
    call.kill();
    assert_eq!(call.collect().await, Err(CallError::Cancelled));

    // A deadline travels with the call: the worker drops the handler when it passes.
    let call = counter.call(CallRequest::item("").with_timeout(Duration::from_millis(50)))?;
    assert_eq!(call.collect().await, Err(CallError::DeadlineExceeded));

    client.shutdown().await;
    worker.shutdown().await;
    Ok(())
}
