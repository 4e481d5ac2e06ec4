//! A handler on a runtime of the user's own: it may block a thread there, or move between threads.
use ringplane::{CallRequest, Client, Request, Responder, Worker};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The `_` says that the builder decides where it runs. With `endpoint` it would run on the core that took the request.
    let sum = |mut request: Request<_>, out: Responder<_>| async move {
        let body = request.body().await?;
        let sum = tokio::task::block_in_place(|| body.iter().map(|byte| u64::from(*byte)).sum::<u64>());
        out.send(sum.to_string()).await?;
        Ok(())
    };
    let runtime = tokio::runtime::Handle::current();
    let worker = Worker::builder().endpoint_on(runtime, "example.blocking.sum", sum).serve().await?;

    let client = Client::builder().connect()?;
    let answer = client.call(CallRequest::new("example.blocking.sum", &b"abc"[..]))?.collect().await?;
    assert_eq!(answer, ["294"]);

    client.shutdown().await;
    worker.shutdown().await;
    Ok(())
}
