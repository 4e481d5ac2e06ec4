//! The caller: a node for each connection.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use ringplane_benches::content::Ask;
use ringplane_benches::engine::{Error, Result};
use ringplane_benches::load::{Call, Client};
use ringplane_benches::scenario::Scenario;
use tokio::sync::OnceCell;
use velo::streaming::{StreamAnchor, StreamFrame};
use velo::{PeerInfo, Velo};

use crate::engine::Setting;
use crate::node::{MEET, STREAM, UNARY, node, pack, peer_text};

/// Nodes that know the server, made when they are first needed.
pub(crate) struct Nodes {
    setting: Setting,
    server: PeerInfo,
    nodes: RefCell<Vec<Rc<OnceCell<Velo>>>>,
}

impl Nodes {
    pub(crate) fn new(setting: Setting, scenario: &Scenario, server: &str) -> Result<Self> {
        let nodes = RefCell::new((0..scenario.all_connections()).map(|_| Rc::default()).collect());
        Ok(Self { setting, server: serde_json::from_str(server)?, nodes })
    }

    async fn meet(&self) -> Result<Velo> {
        let velo = node(self.setting).await?;
        velo.register_peer(self.server.clone())?;
        let me = peer_text(&velo)?;
        velo.unary(MEET)?.raw_payload(me.into()).instance(self.server.instance_id()).send().await?;
        Ok(velo)
    }
}

impl Client for Nodes {
    type Call = Reply;

    async fn call(&self, connection: usize, request: Bytes) -> Result<Reply> {
        let cell = self.nodes.borrow().get(connection).cloned().ok_or("no such connection")?;
        let velo = cell.get_or_try_init(|| self.meet()).await?;
        let server = self.server.instance_id();
        if Ask::read(&request).is_some_and(|ask| ask.items == 1) {
            let item = velo.unary(UNARY)?.raw_payload(request).instance(server).send().await?;
            return Ok(Reply::Item(Some(item)));
        }
        let anchor = velo.create_anchor::<Bytes>();
        let ticket = velo.prebind_anchor(anchor.handle()).ok_or("no ticket for a stream")?;
        let request = pack(anchor.handle(), ticket, request)?;
        velo.am_send(STREAM)?.raw_payload(request).instance(server).send().await?;
        Ok(Reply::Items(Box::new(anchor)))
    }
}

/// An answer as it comes.
pub(crate) enum Reply {
    /// Of a unary message: all there is, or nothing more.
    Item(Option<Bytes>),
    /// Of a stream.
    Items(Box<StreamAnchor<Bytes>>),
}

impl Call for Reply {
    type Item = Bytes;

    async fn next(&mut self) -> Option<Result<Bytes>> {
        match self {
            Self::Item(item) => item.take().map(Ok),
            Self::Items(anchor) => match anchor.next_bytes().await {
                Some(Ok(StreamFrame::Item(item))) => Some(Ok(item)),
                Some(Ok(StreamFrame::Finalized)) => None,
                Some(Ok(frame)) => Some(Err(format!("a stream ends with {frame:?}").into())),
                Some(Err(error)) => Some(Err(Error::from(error))),
                None => Some(Err("a stream has no end".into())),
            },
        }
    }
}
