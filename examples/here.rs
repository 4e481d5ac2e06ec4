//! A worker and a client on the program's own thread: no other thread is between them.

use ringplane::{CallRequest, Client, Request, Responder, Worker};
use tokio::task::{LocalSet, spawn_local};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    LocalSet::new().run_until(run()).await
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let echo = |mut request: Request, out: Responder| async move {
        out.send(request.body().await?).await?;
        Ok(())
    };
    let worker = Worker::builder().discovery("mem:here").endpoint("demo.here.echo", echo);
    let worker = worker.here(|core| drop(spawn_local(core))).serve().await?;
    let client = Client::builder().discovery("mem:here").here(|core| drop(spawn_local(core))).connect()?;

    let items = client.call(CallRequest::new("demo.here.echo", "hello"))?.collect().await?;
    println!("{items:?} by {}", client.driver());

    client.shutdown().await;
    worker.shutdown().await;
    Ok(())
}
