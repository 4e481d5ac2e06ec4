//! An answer that goes on at another worker when the one that gives it is gone: no item is missing, and none comes twice.
use std::time::Duration;

use ringplane::{CallRequest, Client, KeepAll, MigrationConfig, Onward, Request, Responder, Worker};

/// Counts from the number in the request to nine.
async fn count(mut request: Request, out: Responder) -> Result<(), ringplane::Failure> {
    let first: u32 = String::from_utf8_lossy(&request.body().await?).parse().unwrap_or_default();
    for number in first..10 {
        out.send(number.to_string()).await?;
        out.sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let serve = || Worker::builder().endpoint("example.migrate.count", count).discovery("mem:migrate").serve();
    let first = serve().await?;
    let client = Client::builder().discovery("mem:migrate").connect()?;

    // The request for the rest: from the number behind those that have come.
    let resume = KeepAll::new(|request: &CallRequest, items: &[_]| {
        Onward::Request(request.clone().with_body(items.len().to_string()))
    });
    let request = CallRequest::new("example.migrate.count", "0").with_timeout(Duration::from_secs(30));
    let mut call = client.call_migrating(request, MigrationConfig::default(), resume)?;
    let mut numbers = vec![call.next().await.ok_or("an answer")??];

    let _second = serve().await?;
    // As a worker goes that is not told to drain: its calls end at once.
    drop(first);
    while let Some(number) = call.next().await {
        numbers.push(number?);
    }
    assert_eq!(numbers, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    assert_eq!(call.migrations(), 1);
    Ok(())
}
