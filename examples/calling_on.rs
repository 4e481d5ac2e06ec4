//! A handler that calls another endpoint, on its own core: no thread is crossed, and a failure behind it stays what it is.
use std::sync::{Arc, OnceLock};

use ringplane::{CallRequest, Client, Endpoint, Failure, Request, Responder, Worker};

async fn shout(mut request: Request, out: Responder) -> Result<(), Failure> {
    let body = request.body().await?;
    Ok(out.send(body.to_ascii_uppercase()).await?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The worker's own client exists once the worker does.
    let behind: Arc<OnceLock<Endpoint>> = Arc::default();
    let inside = behind.clone();
    let greet = move |mut request: Request, out: Responder| {
        let local = inside.get().and_then(Endpoint::local);
        async move {
            let local = local.ok_or_else(|| Failure::internal("the worker has just begun"))?;
            out.send("hello").await?;
            let mut call = local.call(CallRequest::item(request.body().await?))?;
            while let Some(item) = call.next().await {
                out.send(item?).await?;
            }
            Ok(())
        }
    };
    let builder = Worker::builder().endpoint("example.on.greet", greet).endpoint("example.on.shout", shout);
    let worker = builder.serve().await?;
    let _ = behind.set(worker.client()?.endpoint("example.on.shout")?);

    let client = Client::builder().connect()?;
    let answer = client.call(CallRequest::new("example.on.greet", "world"))?.collect().await?;
    assert_eq!(answer, ["hello", "WORLD"]);

    client.shutdown().await;
    worker.shutdown().await;
    Ok(())
}
