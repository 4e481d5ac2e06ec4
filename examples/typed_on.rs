//! Values in and out of a handler that may block, because it runs on a runtime of the user's own.
use ringplane::{CallRequest, Client, Remote, TypedResponder, Worker};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sum = |numbers: Vec<u64>, out: TypedResponder<u64, Remote>| async move {
        let sum = tokio::task::block_in_place(|| numbers.iter().sum());
        out.send(&sum).await
    };
    let runtime = tokio::runtime::Handle::current();
    let worker = Worker::builder().typed_endpoint_on(runtime, "example.typed.sum", sum).serve().await?;

    let client = Client::builder().connect()?;
    let call = client.call(CallRequest::typed("example.typed.sum", &[1, 2, 39])?)?;
    assert_eq!(call.typed::<u64>().collect().await?, [42]);

    client.shutdown().await;
    worker.shutdown().await;
    Ok(())
}
