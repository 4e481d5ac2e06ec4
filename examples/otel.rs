//! Sends the spans of a call to an OpenTelemetry collector, which the variables `OTEL_*` name.
use std::time::Duration;

use ringplane::observe::{export, otlp};
use ringplane::{CallRequest, Client};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = otlp::Config::from_vars(|name| std::env::var(name).ok())?.unwrap_or_default();
    let telemetry = export(&config)?;
    let client = Client::builder().discovery("file:target/demo").telemetry(&telemetry).connect()?;
    let answer = client.call(CallRequest::new("demo.backend.echo", "hello"))?.collect().await?;
    println!("{answer:?}");
    client.shutdown().await;
    println!("{:?}", telemetry.shutdown(Duration::from_secs(5)).await);
    Ok(())
}
