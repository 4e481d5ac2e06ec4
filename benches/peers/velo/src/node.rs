//! A node of velo, and how two of them meet.

use std::net::TcpListener;
use std::sync::Arc;

use bytes::Bytes;
use ringplane_benches::engine::Result;
use velo::streaming::{FlushPolicy, MuxConfig, StreamAnchorHandle};
use velo::transports::tcp::TcpTransportBuilder;
use velo::{StreamOpenTicket, Velo};

use crate::engine::Setting;

/// The handler of calls with one item.
pub(crate) const UNARY: &str = "answer";
/// The handler of calls with more.
pub(crate) const STREAM: &str = "stream";
/// The handler by which a server gets to know its caller.
pub(crate) const MEET: &str = "meet";

/// A node with this setting.
pub(crate) async fn node(setting: Setting) -> Result<Velo> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let transport = TcpTransportBuilder::new().from_listener(listener)?.lanes(setting.lanes).build()?;
    let flush_policy = if setting.manual { FlushPolicy::Manual } else { FlushPolicy::default() };
    let mux = MuxConfig { initial_credit: setting.credit, flush_policy, ..MuxConfig::default() };
    Ok(Velo::builder().add_transport(Arc::new(transport)).mux_only().messenger_mux(mux)?.build().await?)
}

/// How others reach it, in a line.
pub(crate) fn peer_text(velo: &Velo) -> Result<String> {
    Ok(serde_json::to_string(&velo.peer_info())?)
}

/// What the message of a stream's request says: where its items are to go, and the request.
pub(crate) type Request = (u128, StreamOpenTicket, Bytes);

/// A request for a stream, as it travels.
pub(crate) fn pack(handle: StreamAnchorHandle, ticket: StreamOpenTicket, request: Bytes) -> Result<Bytes> {
    let request: Request = (handle.as_u128(), ticket, request);
    Ok(rmp_serde::to_vec(&request)?.into())
}
