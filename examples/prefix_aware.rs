//! Calls go where the beginning of their prompt is cached: an index of blocks, fed by the events of the engines, is a scorer beside
//! load.
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use ringplane::ringplane_core::route::eligible::{Ask, Candidate, Eligible};
use ringplane::ringplane_core::route::policy::pick::News;
use ringplane::ringplane_core::route::policy::scored::{BEST, Score};
use ringplane::ringplane_core::route::policy::scorers::FewCalls;
use ringplane::ringplane_core::route::policy::{Custom, Scored};
use ringplane::ringplane_core::time::Instant;
use ringplane::{CallRequest, Client, Failure, InstanceId, Request, Responder, Worker};
use tokio::sync::mpsc;

/// What an engine tells of its cache.
enum KvEvent {
    Stored(InstanceId, Vec<u64>),
    /// The engine has reset its cache.
    Cleared(InstanceId),
}

/// Which instances have a block, by its hash. A block's hash covers all blocks before it.
#[derive(Default)]
struct Index(HashMap<u64, HashSet<InstanceId>>);

impl Index {
    fn apply(&mut self, event: KvEvent) {
        match event {
            KvEvent::Stored(id, blocks) => {
                blocks.into_iter().for_each(|block| {
                    self.0.entry(block).or_default().insert(id);
                });
            }
            KvEvent::Cleared(id) => self.clear(id),
        }
    }

    fn clear(&mut self, id: InstanceId) {
        self.0.retain(|_, holders| {
            holders.remove(&id);
            !holders.is_empty()
        });
    }
}

type Shared = Arc<Mutex<Index>>;

/// The more of a prompt's first blocks an instance has the better.
struct Prefix {
    index: Shared,
    /// Of this decision: how many of the request's blocks there are, and how many of the first each instance has.
    blocks: u32,
    depths: HashMap<InstanceId, u32>,
}

impl Score for Prefix {
    fn begin(&mut self, ask: &Ask<'_>, _: &Eligible<'_>) {
        let index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = ask.attributes.map_or(&[][..], |attributes| attributes.bytes());
        (self.blocks, self.depths) = (0, std::mem::take(&mut self.depths));
        self.depths.clear();
        for block in bytes.as_chunks().0.iter().map(|block| u64::from_be_bytes(*block)) {
            for holder in index.0.get(&block).into_iter().flatten() {
                let depth = self.depths.entry(*holder).or_default();
                // A block without those before it is of no use.
                *depth += u32::from(*depth == self.blocks);
            }
            self.blocks += 1;
        }
    }

    fn score(&self, _: &Ask<'_>, candidate: &Candidate, _: Instant) -> u32 {
        self.depths.get(&candidate.id).map_or(0, |depth| depth * BEST / self.blocks)
    }

    fn handle_news(&mut self, _: &Ask<'_>, id: InstanceId, news: News, _: Instant) {
        if news == News::Gone {
            self.index.lock().unwrap_or_else(PoisonError::into_inner).clear(id);
        }
    }
}

/// The hashes of a prompt's blocks, of eight bytes each here, as routers see them.
fn blocks(prompt: &str) -> Vec<u64> {
    let mut hash = 0xcbf2_9ce4_8422_2325;
    let blocks = prompt.as_bytes().chunks_exact(8);
    let mut next = |block: &[u8]| {
        hash = block.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        hash
    };
    blocks.map(&mut next).collect()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut workers = Vec::new();
    for number in 0..3u8 {
        let engine = move |_: Request, out: Responder| async move { Ok::<_, Failure>(out.send(vec![number]).await?) };
        workers.push(Worker::builder().endpoint("example.prefix.generate", engine).serve().await?);
    }

    let index = Shared::default();
    let (engines, mut events) = mpsc::channel(1024);
    let fed = index.clone();
    let feeding = tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            fed.lock().unwrap_or_else(PoisonError::into_inner).apply(event);
        }
    });
    let policy = Custom::new(move || {
        let prefix = Prefix { index: index.clone(), blocks: 0, depths: HashMap::new() };
        Scored::new().score(2, prefix).score(1, FewCalls)
    });
    let client = Client::builder().router(policy).connect()?;
    let ask = async |prompt: &str| -> Result<u8, Box<dyn std::error::Error>> {
        let hashes: Vec<u8> = blocks(prompt).into_iter().flat_map(u64::to_be_bytes).collect();
        let request = CallRequest::new("example.prefix.generate", prompt.to_owned()).with_routing_bytes(hashes);
        Ok(client.call(request)?.collect().await?[0][0])
    };

    let (system, question) = ("you are a helpful assistant", "you are a helpful assistant: why is the sky blue?");
    engines.send(KvEvent::Stored(workers[1].instance_id(), blocks(system))).await?;
    engines.send(KvEvent::Stored(workers[2].instance_id(), blocks(question))).await?;
    // Both are in the index once the channel is empty and its reader waits again.
    tokio::task::yield_now().await;
    for _ in 0..20 {
        assert_eq!(ask(question).await?, 2, "it has the whole prompt");
    }
    engines.send(KvEvent::Cleared(workers[2].instance_id())).await?;
    tokio::task::yield_now().await;
    for _ in 0..20 {
        assert_eq!(ask(question).await?, 1, "it has the beginning at least");
    }

    drop(engines);
    feeding.await?;
    client.shutdown().await;
    for worker in workers {
        worker.shutdown().await;
    }
    Ok(())
}
