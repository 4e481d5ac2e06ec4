//! Counts calls by their outcome: an observer of the program's own.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use ringplane::observer::{CallEnded, Observer};
use ringplane::ringplane_core::caller::CallId;
use ringplane::{CallRequest, Client, Failure, Request, Responder, Worker};

/// One for each core; the counts are shared.
#[derive(Clone, Default)]
struct Outcomes(Arc<Mutex<BTreeMap<String, u64>>>);

impl Observer for Outcomes {
    fn call_ended(&self, _: CallId, ended: &CallEnded<'_>) {
        let outcome = ended.outcome.map_or_else(|error| error.class().name(), |()| "Ok");
        let took = ended.now.since(ended.times.begun);
        println!("{} took {took:?}: {outcome}", ended.endpoint);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(outcome.to_owned()).or_default() += 1;
    }
}

async fn even(mut request: Request, out: Responder) -> Result<(), Failure> {
    let body = request.body().await?;
    if body.len() % 2 == 1 { Err(Failure::invalid("an odd length")) } else { Ok(out.send(body).await?) }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let worker = Worker::builder().discovery("mem:observer").endpoint("example.count.even", even).serve().await?;
    let outcomes = Outcomes::default();
    let counts = outcomes.0.clone();
    let client = Client::builder().discovery("mem:observer").observer(move |_| outcomes.clone()).connect()?;
    for body in ["", "a", "ab", "abc"] {
        let _ = client.call(CallRequest::new("example.count.even", body))?.collect().await;
    }
    client.shutdown().await;
    let counts = counts.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert_eq!(counts, BTreeMap::from([("InvalidRequest".to_owned(), 2), ("Ok".to_owned(), 2)]));
    worker.shutdown().await;
    Ok(())
}
