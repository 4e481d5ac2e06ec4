//! Workers found through etcd, with the feature `etcd`: `cargo run --features etcd --example etcd`, and an etcd on its port.
use ringplane::{CallRequest, Client, Request, Responder, Worker};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let place = "etcd:http://127.0.0.1:2379";
    let echo = |mut request: Request, out: Responder| async move {
        out.send(request.body().await?).await?;
        Ok(())
    };
    let worker = Worker::builder().endpoint("example.etcd.echo", echo).discovery(place).serve().await?;
    let client = Client::builder().discovery(place).connect()?;
    let answer = client.call(CallRequest::new("example.etcd.echo", "hello"))?.collect().await?;
    println!("{}", String::from_utf8_lossy(&answer.concat()));

    client.shutdown().await;
    // The record goes with the worker, or when its lease runs out.
    worker.shutdown().await;
    Ok(())
}
