//! A page that shows what a process does: open the address that it prints.
use ringplane::status::Status;
use ringplane::{CallRequest, Client, Failure, Request, Responder, Worker};

async fn echo(mut request: Request, out: Responder) -> Result<(), Failure> {
    Ok(out.send(request.body().await?).await?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let status = Status::serve("127.0.0.1:9090".parse::<std::net::SocketAddr>()?)?;
    println!("http://{}/", status.addr());
    let builder = Worker::builder().endpoint("demo.backend.echo", echo);
    let _worker = builder.discovery("mem:status").status(&status).serve().await?;
    let client = Client::builder().discovery("mem:status").status(&status).connect()?;
    loop {
        client.call(CallRequest::new("demo.backend.echo", "x"))?.collect().await?;
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}
