//! Addresses that are written in another way than they are compared, and ports that are taken.

use std::net::SocketAddr;

use ringplane::{CallRequest, Error, Failure, Request, Responder, Worker};
use ringplane_core::caller::config::Dialect;
use ringplane_core::wire::Codec;

use crate::facade::support::{all, both, connect, end, end_worker, on, place, serve};

const ECHO: &str = "test.addresses.echo";

async fn echo(mut request: Request, out: Responder) -> Result<(), Failure> {
    Ok(out.send(request.body().await?).await?)
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn a_worker_on_every_address_dials_callers_of_its_host_however_their_address_is_written() {
    both(async |driver| {
        for home in ["[::ffff:127.0.0.1]:0", "127.0.0.1:0", "[::1]:0"] {
            for reached in ["127.0.0.1:0", "[::1]:0", "[::ffff:127.0.0.1]:0"] {
                let place = place();
                let builder = Worker::builder().endpoint(ECHO, echo).listen(addr("[::]:0")).advertise(addr(reached));
                let worker = serve(builder, &place, on(driver)).await;
                let mut config = on(driver);
                config.caller.dialect = Dialect::CallHome;
                config.caller.call_home.bind = addr(home);
                let client = connect(&place, config);
                let call = client.call(CallRequest::new(ECHO, "1").with_codec(Codec::Json)).unwrap();
                assert_eq!(call.collect().await.unwrap(), ["1"], "{home} at {reached}");
                end(worker, client).await;
            }
        }
    });
}

#[test]
fn a_port_that_another_worker_listens_on_is_refused_with_several_cores_too() {
    all(async |driver| {
        let mut config = on(driver);
        config.cores = 2;
        let worker = serve(Worker::builder().endpoint(ECHO, echo), &place(), config.clone()).await;
        for cores in [1, 2] {
            config.cores = cores;
            let builder = Worker::builder().endpoint(ECHO, echo).listen(worker.addr()).discovery(place());
            match builder.config(config.clone()).serve().await {
                Err(Error::Listen { addr, source }) => {
                    assert_eq!((addr, source.kind()), (worker.addr(), std::io::ErrorKind::AddrInUse));
                }
                other => panic!("{cores} cores: {other:?}"),
            }
        }
        end_worker(worker).await;
    });
}
