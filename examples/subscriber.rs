//! Prints the events of a topic, and what is missing of them.
use ringplane::events::{Delivery, Events, MuxConfig};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let events = Events::builder().discovery("file:target/demo").plane(MuxConfig::default()).open().await?;
    let mut subscriber = events.subscriber("demo.backend", "load").await?;
    while let Some(delivery) = subscriber.next().await {
        match delivery? {
            Delivery::Event(event) => println!("{:?} {}: {:?}", event.publisher, event.sequence, event.payload),
            other => println!("{other:?}"),
        }
    }
    Ok(())
}
