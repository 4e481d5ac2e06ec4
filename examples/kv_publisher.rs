//! Tells Dynamo's KV routers which blocks a worker holds: two of four tokens each, the second of which goes again.
use ringplane::InstanceId;
use ringplane::events::Events;
use ringplane::kv::{BlockConfig, BlockPublisher, Load, LoadPublisher};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (worker, endpoint) = (InstanceId(7), "demo.backend.generate");
    let events = Events::builder().discovery("file:target/demo").open().await?;
    let blocks = BlockPublisher::open(&events, endpoint, BlockConfig::new(worker, 4)).await?;
    blocks.stored(&[1, 2, 3, 4, 5, 6, 7, 8], &[100, 101], None)?;
    blocks.removed(&[101])?;
    let load = LoadPublisher::open(&events, endpoint, worker).await?;
    load.publish(Load { kv_used_blocks: Some(1), ..Load::default() })?;
    println!("{:?}, {:?}", blocks.close().await, load.close().await);
    Ok(())
}
