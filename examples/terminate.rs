//! A worker that a supervisor ends: SIGTERM drains it, a second signal ends it at once.
use ringplane::{Ended, Request, Responder, Signals, Worker};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut signals = Signals::new()?;
    let echo = |mut request: Request, out: Responder| async move {
        out.send(request.body().await?).await?;
        Ok(())
    };
    let worker = Worker::builder().endpoint("demo.backend.echo", echo).discovery("file:target/demo").serve().await?;
    match worker.run_until(&mut signals).await {
        Ended::InOrder { cut_off, .. } => println!("drained; {cut_off} calls took too long"),
        Ended::AtOnce => println!("ended at once"),
    }
    Ok(())
}
