//! The server: a handler for one item, one for streams, and what flushes them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ringplane_benches::content::{Ask, Pattern};
use ringplane_benches::engine::Result;
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};
use velo::streaming::StreamAnchorHandle;
use velo::{Handler, StreamSender, Velo, WeakVelo};

use crate::engine::Setting;
use crate::node::{MEET, Request, STREAM, UNARY, node};

/// A node that answers.
pub(crate) async fn serve(setting: Setting, pattern: Pattern) -> Result<Velo> {
    let velo = node(setting).await?;
    let weak = velo.downgrade();
    let meet = move |context: velo::Context| {
        let velo = weak.upgrade().ok_or_else(|| anyhow::anyhow!("the server is gone"))?;
        // A peer that is known already stays as it is.
        let _ = velo.register_peer(serde_json::from_slice(&context.payload)?);
        Ok(Some(Bytes::new()))
    };
    velo.register_handler(Handler::unary_handler(MEET, meet).build())?;
    let unary = move |context: velo::Context| {
        let ask = Ask::receive(&context.payload, pattern).map_err(anyhow::Error::msg)?;
        Ok(Some(pattern.item(&ask, 0)))
    };
    velo.register_handler(Handler::unary_handler(UNARY, unary).build())?;
    let written = Arc::new(Notify::new());
    if setting.manual {
        tokio::spawn(flush(velo.downgrade(), written.clone()));
    }
    let (weak, manual) = (velo.downgrade(), setting.manual);
    let stream = move |context: velo::Context| answer(weak.clone(), context, pattern, manual.then(|| written.clone()));
    velo.register_handler(Handler::am_handler_async(STREAM, stream).build())?;
    Ok(velo)
}

/// Writes when every stream that could send an item has: one write for a round, as in a serving loop.
async fn flush(velo: WeakVelo, written: Arc<Notify>) {
    loop {
        written.notified().await;
        yield_now().await;
        let Some(velo) = velo.upgrade() else { return };
        velo.flush_batch();
    }
}

async fn answer(
    velo: WeakVelo,
    context: velo::Context,
    pattern: Pattern,
    written: Option<Arc<Notify>>,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    let (handle, ticket, request): Request = rmp_serde::from_slice(&context.payload)?;
    let velo = velo.upgrade().ok_or_else(|| anyhow::anyhow!("the server is gone"))?;
    let sender: StreamSender<Bytes> = velo.open_anchor_stream(StreamAnchorHandle::from_u128(handle), ticket).await?;
    match Ask::receive(&request, pattern) {
        Err(why) => sender.send_err(why).await?,
        Ok(ask) => {
            for index in 0..ask.items {
                if ask.gap_us > 0 && index > 0 {
                    sleep_until(begun + Duration::from_micros(u64::from(ask.gap_us) * u64::from(index))).await;
                }
                sender.send_bytes(pattern.item(&ask, index)).await?;
                if let Some(written) = &written {
                    written.notify_one();
                    yield_now().await;
                }
            }
        }
    }
    sender.finalize()?;
    Ok(())
}
