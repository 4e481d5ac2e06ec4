//! The smallest caller: prints what a worker streams back.
use ringplane::{CallRequest, Client};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::builder().discovery("file:target/demo").connect()?;
    let mut call = client.call(CallRequest::new("demo.backend.echo", "hello"))?;
    while let Some(item) = call.next().await {
        println!("{}", String::from_utf8_lossy(&item?));
    }
    Ok(())
}
