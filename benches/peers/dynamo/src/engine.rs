//! The engine: an endpoint that answers with streams of items, and a caller that a router gives them to.

use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use async_trait::async_trait;
use bytes::Bytes;
use dynamo_runtime::component::Endpoint;
use dynamo_runtime::distributed::DistributedConfig;
use dynamo_runtime::engine::{AsyncEngine, AsyncEngineContextProvider, DataStream};
use dynamo_runtime::pipeline::network::Ingress;
use dynamo_runtime::pipeline::network::egress::push_router::{PushRouter, RouterMode};
use dynamo_runtime::pipeline::{ManyOut, ResponseStream, SingleIn};
use dynamo_runtime::protocols::maybe_error::MaybeError;
use dynamo_runtime::{DistributedRuntime, Runtime};
use futures::{StreamExt, stream};
use ringplane_benches::content::{Ask, Pattern};
use ringplane_benches::engine::{Result, Sides};
use ringplane_benches::load::{Call, Client, generate};
use ringplane_benches::local::{Local, run};
use ringplane_benches::measure::{Measured, Plan};
use ringplane_benches::line::Ready;
use ringplane_benches::scenario::Scenario;
use tokio::time::{Instant, sleep_until};

use crate::item::{Item, Request};

/// Dynamo's runtime on one thread: TCP for requests, TCP dialed back for answers, workers found through files. Which
/// connections carry requests is its own business: it keeps a pool.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Dynamo;

impl Sides for Dynamo {
    fn serve(&self, scenario: &Scenario, ready: Ready) -> Result<()> {
        let worker = Worker(Pattern::new(scenario.largest()));
        run(async move {
            let endpoint = endpoint().await?;
            let ingress = Ingress::for_engine(Arc::new(worker))?;
            let started = endpoint.endpoint_builder().handler(ingress).start_with_registration().await?;
            ready.tell(std::env::var("DYN_FILE_KV")?);
            Ok(started.wait().await?)
        })
    }

    fn load(&self, scenario: &Scenario, _: &str, plan: &Plan) -> Result<Measured> {
        run(async {
            let client = endpoint().await?.client().await?;
            client.wait_for_instances().await?;
            let router = PushRouter::from_client(client, RouterMode::RoundRobin).await?;
            Ok(generate(scenario, plan, Router(router), Local).await)
        })
    }
}

async fn endpoint() -> Result<Endpoint> {
    let runtime = DistributedRuntime::new(Runtime::from_current()?, DistributedConfig::try_from_settings()?).await?;
    Ok(runtime.namespace("ringplane")?.component("bench")?.endpoint("generate"))
}

/// The endpoint's handler.
#[derive(Copy, Clone, Debug)]
struct Worker(Pattern);

#[async_trait]
impl AsyncEngine<SingleIn<Request>, ManyOut<Item>, anyhow::Error> for Worker {
    async fn generate(&self, request: SingleIn<Request>) -> anyhow::Result<ManyOut<Item>> {
        let pattern = self.0;
        let (Request(request), context) = request.into_parts();
        let ask = Ask::receive(&request, pattern).map_err(|why| anyhow!(why))?;
        let items = (0..ask.items).map(move |index| (index, Item::from(pattern.item(&ask, index))));
        let items: DataStream<Item> = if ask.gap_us == 0 {
            Box::pin(stream::iter(items.map(|(_, item)| item)))
        } else {
            let begun = Instant::now();
            let gap = u64::from(ask.gap_us);
            Box::pin(stream::iter(items).then(move |(index, item)| async move {
                sleep_until(begun + Duration::from_micros(gap * u64::from(index))).await;
                item
            }))
        };
        Ok(ResponseStream::new(items, context.context()))
    }
}

/// The caller's side.
struct Router(PushRouter<Request, Item>);

impl Client for Router {
    type Call = Answer;

    async fn call(&self, _: usize, request: Bytes) -> Result<Answer> {
        Ok(Answer(self.0.round_robin(SingleIn::new(Request(request))).await?))
    }
}

/// An answer as it comes.
struct Answer(ManyOut<Item>);

impl Call for Answer {
    type Item = Bytes;

    async fn next(&mut self) -> Option<Result<Bytes>> {
        let item = self.0.next().await?;
        Some(match item.err() {
            None => Ok(item.data),
            Some(error) => Err(error.into()),
        })
    }
}
