//! Taking one endpoint of a worker out of service, and back.

use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::error::Error;
use crate::runtime::cores::{Core, Group};
use crate::worker::records::Records;

/// What [`Worker::drain_endpoint`](crate::Worker::drain_endpoint) does, by whatever part of the worker.
pub(super) async fn drain_endpoint(group: &Arc<Group>, records: &Records, endpoint: &str) -> Result<u64, Error> {
    let turn = records.turn().await;
    let path = records.take_out(endpoint).await?;
    let (tell, mut told) = mpsc::channel::<u64>(group.len());
    let drain = move |core: &Rc<Core>| {
        let tell = tell.clone();
        core.node.drain_endpoint(&path, move |cut_off| _ = tell.try_send(cut_off));
    };
    group.each(drain).await?;
    // It may be resumed while its calls end.
    drop(turn);
    let mut cut_off = 0;
    // Every core drops its sender with what it says.
    while let Some(more) = told.recv().await {
        cut_off += more;
    }
    Ok(cut_off)
}

/// What [`Worker::resume_endpoint`](crate::Worker::resume_endpoint) does.
pub(super) async fn resume_endpoint(group: &Arc<Group>, records: &Records, endpoint: &str) -> Result<(), Error> {
    let _turn = records.turn().await;
    let path = records.path(endpoint).await?;
    group.each(move |core: &Rc<Core>| core.node.resume_endpoint(&path)).await?;
    records.put_back(endpoint).await
}
