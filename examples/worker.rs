//! The smallest worker: echoes every request.
use ringplane::{Request, Responder, Worker};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let echo = |mut request: Request, out: Responder| async move {
        out.send(request.body().await?).await?;
        Ok(())
    };
    let worker = Worker::builder().endpoint("demo.backend.echo", echo).discovery("file:target/demo").serve().await?;
    println!("serving on {} with {}", worker.addr(), worker.driver());
    std::future::pending().await
}
