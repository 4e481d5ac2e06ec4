//! A file and a value on a NATS server, put and read again. It needs `nats-server -js`.
use std::path::Path;

use ringplane::nats::{self, Connection};
use ringplane::store::{self, Bucket};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let connection = Connection::open(&nats::Config::default()).await?;
    let bucket = Bucket::open(&connection, "demo", store::Config::default()).await?;
    bucket.put_file("manifest", Path::new("Cargo.toml")).await?;
    bucket.put_value("pair", &(42, "a value".to_owned())).await?;
    let (number, text): (i32, String) = bucket.get_value("pair").await?;
    println!("{number} {text}");
    let info = bucket.get_file("manifest", Path::new("target/manifest")).await?;
    println!("{} bytes, {}", info.size, info.digest.unwrap_or_default());
    Ok(())
}
