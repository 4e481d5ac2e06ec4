//! What a client knows of the instances of an endpoint.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use ringplane_core::caller::view::InstanceView;
use ringplane_core::id::InstanceId;
use tokio::sync::mpsc;

use crate::client::client::Client;
use crate::error::Error;
use crate::runtime::cores::{Core, Group};
use crate::runtime::known::Known;

impl Client {
    /// The instances of an endpoint (`namespace.component.endpoint`) at this moment, in order of ids: where each is, what
    /// is held against it and for how much longer, and how many calls are at it, of all the client's threads together. An
    /// endpoint that was not known before is watched from here on, and has no instances until discovery has told of them.
    ///
    /// # Errors
    /// As [`endpoint`](Self::endpoint).
    pub async fn instances(&self, name: &str) -> Result<Vec<InstanceView>, Error> {
        self.see(self.known(name)?).await
    }

    pub(super) async fn see(&self, known: Arc<Known>) -> Result<Vec<InstanceView>, Error> {
        see(self.group(), known).await
    }
}

/// What all the threads of a group know of an endpoint's instances.
pub(super) async fn see(group: &Arc<Group>, known: Arc<Known>) -> Result<Vec<InstanceView>, Error> {
    let (tell, mut told) = mpsc::channel(group.len());
    let look = move |core: &Rc<Core>| {
        let (key, now) = (core.key(&known), core.node.env().now());
        let seen: Vec<InstanceView> = core.node.touching(|node| node.caller.view(key, now).collect());
        let _ = tell.try_send(seen);
    };
    group.each(look).await?;
    let mut all: BTreeMap<InstanceId, InstanceView> = BTreeMap::new();
    for _ in 0..group.len() {
        for one in told.recv().await.ok_or(Error::Stopped)? {
            all.entry(one.id).and_modify(|known| known.merge(&one)).or_insert(one);
        }
    }
    Ok(all.into_values().collect())
}
