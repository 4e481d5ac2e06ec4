//! Publishes an event and hears it, within one process.
use ringplane::events::{EventValue, Events};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let events = Events::builder().open().await?;
    let mut subscriber = events.subscriber("demo.backend", "load").await?;
    let publisher = events.publisher("demo.backend", "load").await?;
    publisher.publish_as(&("gpu-0", 7)).await?;
    if let Some(Ok(ringplane::events::Delivery::Event(event))) = subscriber.next().await {
        assert_eq!(event.value::<(String, u32)>()?, ("gpu-0".to_owned(), 7));
    }
    Ok(())
}
