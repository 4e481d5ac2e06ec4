//! One trace through every process: calls that handlers make, retries, hedges and migrations continue it, byte for byte.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ringplane::{
    CallRequest, Class, Codec, Endpoint, Failure, Hedge, HedgeConfig, KeepAll, MigrationConfig, Onward, Remote,
    Request, Responder, Slow, TraceContext, Worker, WorkerBuilder, current_trace,
};

use crate::facade::support::{both, clients, connect, end_client, end_worker, on, place, serve};

const LAST: &str = "test.traces.last";
const MIDDLE: &str = "test.traces.middle";
const FIRST: &str = "test.traces.first";

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
const STATE: &str = "rojo=00f067aa0ba902b7,, congo=t61 rcWkgMzE";
const CLIENTS_ID: &str = "order 66/ä";

fn context() -> TraceContext {
    TraceContext::read(Some(PARENT), Some(STATE), Some(CLIENTS_ID))
}

/// In Dynamo's protocol an item is a value: a text in JSON.
fn json(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

/// What a request has brought of its trace.
fn brought(request: &Request<impl ringplane::Side>) -> String {
    let open = request.open();
    json(&[open.traceparent, open.tracestate, open.x_request_id].map(|text| text.unwrap_or("-")).join(" | "))
}

fn builder() -> WorkerBuilder {
    Worker::builder().codec(Codec::Json)
}

fn ask(order: &str) -> CallRequest {
    CallRequest::new(FIRST, json(order))
}

async fn last(request: Request, out: Responder) -> Result<(), Failure> {
    Ok(out.send(brought(&request)).await?)
}

type Behind = Arc<OnceLock<Endpoint>>;

/// Says what it has got, then what those behind it have got, with the trace it finds itself in or as the request says.
fn first(behind: &Behind) -> impl ringplane::Handler {
    let behind = behind.clone();
    move |mut request: Request, out: Responder| {
        let behind = behind.clone();
        async move {
            let order = request.body().await?;
            out.send(brought(&request)).await?;
            // Others of the core run meanwhile.
            out.sleep(Duration::from_millis(1)).await;
            let on = match &order[..] {
                br#""apart""# => CallRequest::item(order.clone()).without_trace(),
                _ => CallRequest::item(order.clone()),
            };
            let endpoint = behind.get().ok_or_else(|| Failure::internal("not yet"))?;
            let mut items = Vec::new();
            match endpoint.local() {
                Some(local) => {
                    let mut call = local.call(on)?;
                    while let Some(item) = call.next().await {
                        items.push(item?);
                    }
                }
                None => items = endpoint.call(on)?.collect().await?,
            }
            for item in items {
                out.send(item).await?;
            }
            Ok(())
        }
    }
}

/// The same on a runtime, by a task of its own for an order to do so: that one is told the trace.
fn middle(behind: &Behind) -> impl ringplane::Handler<Remote> {
    let behind = behind.clone();
    move |mut request: Request<Remote>, out: Responder<Remote>| {
        let behind = behind.clone();
        async move {
            let order = request.body().await?;
            out.send(brought(&request)).await?;
            tokio::task::yield_now().await;
            let endpoint = behind.get().ok_or_else(|| Failure::internal("not yet"))?.clone();
            let items = if &order[..] == br#""spawn""# {
                let context = current_trace().ok_or_else(|| Failure::internal("no trace"))?;
                let call = tokio::spawn(async move {
                    assert_eq!(current_trace(), None, "a task is no part of its handler");
                    endpoint.call(CallRequest::item("0").with_context(&context))
                });
                call.await.map_err(Failure::internal)??.collect().await?
            } else {
                endpoint.call(CallRequest::item(order))?.collect().await?
            };
            for item in items {
                out.send(item).await?;
            }
            Ok(())
        }
    }
}

/// Four workers, each with a client of its own, in a row: two on their cores, one on a runtime, and the last.
#[test]
fn a_chain_of_workers_sees_one_trace_whatever_runs_them_and_in_either_protocol() {
    both(async |driver| {
        let place = place();
        let last = serve(builder().endpoint(LAST, last), &place, on(driver)).await;
        for client in clients(&place, driver) {
            let (to_middle, to_last) = (Behind::default(), Behind::default());
            let runtime = tokio::runtime::Handle::current();
            let middle = builder().endpoint_on(runtime, MIDDLE, middle(&to_last));
            let middle = serve(middle, &place, on(driver)).await;
            let first = serve(builder().endpoint(FIRST, first(&to_middle)), &place, on(driver)).await;
            let _ = to_middle.set(client.endpoint(MIDDLE).unwrap());
            let _ = to_last.set(client.endpoint(LAST).unwrap());
            let seen = json(&[PARENT, STATE, CLIENTS_ID].join(" | "));
            let nothing = json("- | - | -");
            for order in ["plain", "spawn"] {
                let call = client.call(ask(order).with_context(&context())).unwrap();
                assert_eq!(call.collect().await.unwrap(), [&*seen; 3], "{order:?}");
            }
            // A trace is one request's: those after it, and those beside it, have their own or none.
            let call = client.call(ask("plain")).unwrap();
            assert_eq!(call.collect().await.unwrap(), [&*nothing; 3]);
            let call = client.call(ask("apart").with_context(&context())).unwrap();
            assert_eq!(call.collect().await.unwrap(), [&*seen, &*nothing, &*nothing]);
            assert_eq!(current_trace(), None);
            end_client(client).await;
            end_worker(first).await;
            end_worker(middle).await;
        }
        end_worker(last).await;
    });
}

#[test]
fn a_handlers_calls_on_its_own_core_continue_its_trace() {
    both(async |driver| {
        let (place, behind) = (place(), Behind::default());
        let builder = builder().endpoint(LAST, last).endpoint(FIRST, first(&behind));
        let worker = serve(builder, &place, on(driver)).await;
        let own = worker.client().unwrap();
        let _ = behind.set(own.endpoint(LAST).unwrap());
        let client = connect(&place, on(driver));
        // Many at once: each core polls them by turns.
        let calls: Vec<_> = (1..=50)
            .map(|number: u64| {
                let parent = PARENT.replace("00f067aa0ba902b7", &format!("{number:016x}"));
                let request = ask("plain").with_trace(parent.clone(), Some("a=1".to_owned()));
                (client.call(request).unwrap(), json(&format!("{parent} | a=1 | -")))
            })
            .collect();
        for (call, seen) in calls {
            assert_eq!(call.collect().await.unwrap(), [&*seen, &*seen]);
        }
        // What is no parent arrives as it is and goes no further.
        let call = client.call(ask("plain").with_trace("00-1-2-3", Some("a=1".to_owned()))).unwrap();
        assert_eq!(call.collect().await.unwrap(), [json("00-1-2-3 | a=1 | -"), json("- | - | -")]);
        drop(behind);
        end_client(own).await;
        end_client(client).await;
        end_worker(worker).await;
    });
}

/// The request for what is left, without a word of the trace.
fn once_more(_: &CallRequest, _: &[bytes::Bytes]) -> Onward {
    Onward::Request(CallRequest::item("0"))
}

/// Calls on in the way of its order, which may take more than one call.
fn insisting(behind: &Behind) -> impl ringplane::Handler<Remote> {
    let behind = behind.clone();
    move |mut request: Request<Remote>, out: Responder<Remote>| {
        let behind = behind.clone();
        async move {
            let endpoint = behind.get().ok_or_else(|| Failure::internal("not yet"))?;
            let items = if &request.body().await?[..] == br#""hedge""# {
                let slow = Slow::After(Duration::from_millis(1));
                let hedge = Hedge::new(HedgeConfig { slow, share: 100 });
                endpoint.call_hedged(CallRequest::item("0"), &hedge)?.collect().await?
            } else {
                let resume = KeepAll::new(once_more);
                endpoint.call_migrating(CallRequest::item("0"), MigrationConfig::default(), resume)?.collect().await?
            };
            for item in items {
                out.send(item).await?;
            }
            Ok(())
        }
    }
}

#[test]
fn calls_made_again_beside_or_in_place_of_others_are_of_the_same_trace() {
    both(async |driver| {
        let place = place();
        // One answers nothing, one says that it ends, one answers.
        let refuse = |_: Request, out: Responder| async move {
            out.cancelled().await;
            Ok(())
        };
        let leave = |_: Request, _: Responder| async move {
            Err(Failure::new(Class::Unavailable, "backend.engine_shutdown", "it ends"))
        };
        let silent = serve(builder().endpoint("test.traces.hedge", refuse), &place, on(driver)).await;
        let leaving = serve(builder().endpoint("test.traces.migrate", leave), &place, on(driver)).await;
        let both = builder().endpoint("test.traces.hedge", last).endpoint("test.traces.migrate", last);
        let answering = serve(both, &place, on(driver)).await;
        for (nth, client) in clients(&place, driver).into_iter().enumerate() {
            for way in ["hedge", "migrate"] {
                let behind = Behind::default();
                let _ = behind.set(client.endpoint(&format!("test.traces.{way}")).unwrap());
                // A name of its own: a call waits until it is known, and meets nobody who has ended.
                let name = format!("test.traces.{way}-{nth}");
                let handle = tokio::runtime::Handle::current();
                let first = serve(builder().endpoint_on(handle, &*name, insisting(&behind)), &place, on(driver)).await;
                for _ in 0..4 {
                    let request = CallRequest::new(&*name, json(way)).with_context(&context());
                    let seen = json(&[PARENT, STATE, CLIENTS_ID].join(" | "));
                    assert_eq!(client.call(request).unwrap().collect().await.unwrap(), [seen], "{way}");
                }
                end_worker(first).await;
            }
            end_client(client).await;
        }
        for worker in [silent, leaving, answering] {
            end_worker(worker).await;
        }
    });
}
