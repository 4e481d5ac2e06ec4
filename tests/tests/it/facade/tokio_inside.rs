//! Handlers on the cores use tokio's timers, sockets and tasks, whichever driver runs them.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use ringplane::{CallRequest, Failure, Request, Responder, Worker};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::facade::support::{all, connect, end, on, place, serve};

const ASK: &str = "test.tokio.ask";
const SLEEP: &str = "test.tokio.sleep";
const NAP: Duration = Duration::from_millis(30);

/// Sleeps, then asks the server at the address in the request, from a task of its own.
async fn ask(mut request: Request, out: Responder) -> Result<(), Failure> {
    tokio::time::sleep(NAP).await;
    let addr = String::from_utf8(request.body().await?.to_vec()).map_err(Failure::invalid)?;
    let asked = tokio::spawn(async move {
        let mut stream = TcpStream::connect(addr).await?;
        stream.write_all(b"ping").await?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await?;
        std::io::Result::Ok(answer)
    });
    let answer = asked.await.map_err(Failure::internal)?.map_err(Failure::internal)?;
    Ok(out.send(answer.to_vec()).await?)
}

/// Sleeps by the driver's own clock.
async fn nap(_request: Request, out: Responder) -> Result<(), Failure> {
    let begun = Instant::now();
    out.sleep(NAP).await;
    Ok(out.send(if begun.elapsed() >= NAP { "slept" } else { "woke early" }).await?)
}

/// A server of one answer a connection.
fn server(connections: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().take(connections) {
            let mut stream = stream.unwrap();
            let mut question = [0; 4];
            stream.read_exact(&mut question).unwrap();
            assert_eq!(&question, b"ping");
            stream.write_all(b"pong").unwrap();
        }
    });
    addr
}

#[test]
fn a_handler_sleeps_connects_and_spawns_by_tokio_on_every_driver() {
    all(async |driver| {
        let place = place();
        let builder = Worker::builder().endpoint(ASK, ask).endpoint(SLEEP, nap);
        let worker = serve(builder, &place, on(driver)).await;
        let client = connect(&place, on(driver));
        let addr = server(8);
        let begun = Instant::now();
        let calls: Vec<_> = (0..8).map(|_| client.call(CallRequest::new(ASK, addr.clone())).unwrap()).collect();
        for call in calls {
            assert_eq!(call.collect().await.unwrap(), ["pong"]);
        }
        assert!(begun.elapsed() >= NAP, "nobody slept");
        assert_eq!(client.call(CallRequest::new(SLEEP, "")).unwrap().collect().await.unwrap(), ["slept"]);
        end(worker, client).await;
    });
}
