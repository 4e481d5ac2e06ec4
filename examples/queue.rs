//! A queue of tasks: one is added, taken, done and acknowledged. It needs `nats-server -js`.
use std::time::Duration;

use ringplane::nats::{self, Connection};
use ringplane::queue::{self, Queue};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let connection = Connection::open(&nats::Config::default()).await?;
    let queue = Queue::open(&connection, "demo_queue", queue::Config::default()).await?;
    queue.enqueue("a task").await?;
    let group = queue.group().await?;
    while let Some(task) = group.dequeue(Duration::from_secs(1)).await? {
        // Nobody else gets it meanwhile.
        task.keep(async { println!("{}", String::from_utf8_lossy(task.payload())) }).await;
        task.ack().await?;
    }
    Ok(())
}
