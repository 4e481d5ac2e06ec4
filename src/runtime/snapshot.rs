//! What a group of threads holds at this moment and has counted so far.

use ringplane_core::discovery::{lease, watch};
use ringplane_core::node::Node;
use ringplane_core::route::census;
use ringplane_core::stats::groups;
use ringplane_core::time::Instant;
use ringplane_core::{caller, mux, worker};
use ringplane_driver::stats as driver;
use ringplane_tokio::discovery::Counters;
use ringplane_tokio::task::TaskStats;

groups! {
    /// Sizes of the moment and counters since the start, added up over the threads of a worker or a client, and what its
    /// discovery has counted. Every number under its name comes from [`named`](Self::named), for what exports them.
    ///
    /// ```
    /// use ringplane::{CallRequest, Client, Failure, Request, Responder, Worker};
    ///
    /// async fn echo(mut request: Request, out: Responder) -> Result<(), Failure> {
    ///     Ok(out.send(request.body().await?).await?)
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let worker = Worker::builder().discovery("mem:snapshot").endpoint("a.b.echo", echo).serve().await?;
    /// let client = Client::builder().discovery("mem:snapshot").connect()?;
    /// client.call(CallRequest::new("a.b.echo", "x"))?.collect().await?;
    ///
    /// let snapshot = client.snapshot().await?;
    /// assert_eq!((snapshot.called.calls, snapshot.called.succeeded), (1, 1));
    /// assert!(snapshot.is_idle());
    /// # client.shutdown().await;
    /// # worker.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub struct Snapshot {
        /// What the serving side holds.
        pub worker: worker::stats::Footprint,
        /// What the serving side has counted.
        pub served: worker::stats::Stats,
        /// What became of the canaries of a worker's endpoints.
        pub canaries: worker::canary::Stats,
        /// What the calling side holds.
        pub caller: caller::stats::Footprint,
        /// What the calling side has counted.
        pub called: caller::stats::Stats,
        /// Instances that the calling side knows, by what holds of them, once for each endpoint and thread that knows them.
        pub instances: census::Sizes,
        /// What happened to their health.
        pub health: census::Stats,
        /// What the mux connections of both sides have counted.
        pub mux: mux::event::Stats,
        /// What the drivers have counted, and sizes of theirs.
        pub driver: driver::Stats,
        /// Tasks in the background on tokio: watches of discovery, canaries, looks at the threads.
        pub background: TaskStats,
        /// What discovery has counted about the records of this process. Workers and clients of one backend see the same
        /// numbers, so these and the next are not to be added up over them.
        pub registered: lease::Stats,
        /// What discovery has counted about everybody's records.
        pub discovered: watch::Stats,
    }
}

impl Snapshot {
    /// What a node has at this moment; the numbers of its driver, of canaries, of background tasks and of
    /// discovery are elsewhere.
    pub(crate) fn of(node: &Node, now: Instant) -> Self {
        let mut mux = node.caller.mux_stats();
        mux.merge(&node.worker.mux_stats());
        Self {
            worker: node.worker.footprint(),
            served: *node.worker.stats(),
            canaries: worker::canary::Stats::default(),
            caller: node.caller.footprint(),
            called: *node.caller.stats(),
            instances: node.caller.sizes(now),
            health: node.caller.health(),
            mux,
            driver: driver::Stats::default(),
            background: TaskStats::default(),
            registered: lease::Stats::default(),
            discovered: watch::Stats::default(),
        }
    }

    /// With what discovery has counted, which is the process's and not a thread's.
    pub(crate) fn with(self, counters: Counters) -> Self {
        let Counters { registered, discovered } = counters;
        Self { registered, discovered, ..self }
    }

    /// Whether nothing is held but idle connections: no call, no stream, no byte that waits.
    pub fn is_idle(&self) -> bool {
        let accepted = worker::stats::Footprint { connections: self.worker.connections, ..Default::default() };
        let dialed = caller::stats::Footprint { connections: self.caller.connections, ..Default::default() };
        self.worker == accepted && self.caller == dialed
    }
}
