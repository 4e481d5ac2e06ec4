//! What a client tells a status server.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use ringplane_tokio::discovery::{BoxFuture, Counters};

use crate::client::client::Client;
use crate::client::view::see;
use crate::client::watch::Watcher;
use crate::runtime::cores::Group;
use crate::status::server::Status;
use crate::status::subject::{Known, Subject};
use crate::status::watching::Times;

/// It keeps neither the client nor its threads.
struct Told {
    number: u64,
    /// Where its calls are.
    group: Arc<Group>,
    /// Whether the numbers of these threads are the client's own.
    own: bool,
    watcher: Weak<Watcher>,
}

impl Client {
    /// Takes part in a status server.
    pub(super) fn sit(&mut self, status: &Status, times: Option<Arc<Times>>) {
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        let told = Told {
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            group: self.group().clone(),
            own: self.has_own_threads(),
            watcher: Arc::downgrade(self.watcher()),
        };
        self.seat = Some(Arc::new(status.seat(Arc::new(told), times)));
    }

    /// The same of a client that a worker hands out.
    pub(crate) fn seated(mut self, status: &Status) -> Self {
        self.sit(status, None);
        self
    }
}

impl Subject for Told {
    fn is_worker(&self) -> bool {
        false
    }

    fn name(&self) -> String {
        format!("client {}", self.number)
    }

    fn group(&self) -> Option<Arc<Group>> {
        self.own.then(|| self.group.clone())
    }

    fn counters(&self) -> Counters {
        self.watcher.upgrade().map(|watcher| watcher.counters()).unwrap_or_default()
    }

    fn instances(&self, most: usize) -> BoxFuture<'static, (Vec<Known>, usize)> {
        let all = self.watcher.upgrade().map(|watcher| watcher.all()).unwrap_or_default();
        let group = self.group.clone();
        Box::pin(async move {
            let (mut known, mut more) = (Vec::new(), 0);
            for (endpoint, one) in all {
                let views = see(&group, one).await.unwrap_or_default();
                let room = most - known.len();
                more += views.len().saturating_sub(room);
                let views = views.into_iter().take(room);
                known.extend(views.map(|view| Known { endpoint: endpoint.clone(), view }));
            }
            (known, more)
        })
    }
}
