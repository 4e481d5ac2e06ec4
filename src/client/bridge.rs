//! The core's ends of a call that crosses threads.

use std::pin::pin;

use bytes::Bytes;
use ringplane_core::caller::error::CallError;
use ringplane_core::local::LocalCall;
use ringplane_core::local::call::LocalSender;
use ringplane_core::wire::mux::CancelMode;
use tokio::sync::mpsc;

use crate::runtime::room::{Gone, Room, Taken};

/// An item, or `None` after the last. A channel that closes without it has lost the call.
pub(super) type Last = Option<Result<Bytes, CallError>>;

/// The core's ends of a `Call`.
pub(crate) struct Bridge {
    pub(super) items: mpsc::Sender<Last>,
    pub(super) room: Room,
    pub(super) control: mpsc::Receiver<CancelMode>,
    pub(super) requests: Option<(mpsc::Receiver<Bytes>, Taken)>,
}

impl Bridge {
    /// The call could not be made.
    pub(crate) fn fail(self, error: CallError) {
        let _ = self.items.try_send(Some(Err(error)));
    }

    /// Moves items until the call is over or nobody reads it any more.
    pub(crate) async fn pump(self, mut call: LocalCall) {
        let Self { items, room, mut control, mut requests } = self;
        let sender = call.sender();
        if let Some((requests, taken)) = requests.take() {
            call.spawn(forward(requests, taken, sender, items.downgrade()));
        }
        let mut controlled = true;
        loop {
            let permit = tokio::select! {
                biased;
                mode = control.recv(), if controlled => {
                    controlled = apply(&call, mode);
                    continue;
                }
                permit = items.reserve() => permit,
            };
            let Ok(permit) = permit else { return };
            let item = loop {
                tokio::select! {
                    biased;
                    mode = control.recv(), if controlled => controlled = apply(&call, mode),
                    item = call.next() => break item,
                    () = items.closed() => return,
                }
            };
            let over = item.is_none();
            if let Some(Ok(item)) = &item {
                let mut taking = pin!(room.take(item.len()));
                loop {
                    tokio::select! {
                        biased;
                        mode = control.recv(), if controlled => controlled = apply(&call, mode),
                        taken = taking.as_mut() => match taken {
                            Ok(()) => break,
                            Err(Gone) => return,
                        },
                    }
                }
            }
            permit.send(item);
            if over {
                return;
            }
        }
    }
}

fn apply(call: &LocalCall, mode: Option<CancelMode>) -> bool {
    mode.map(|mode| call.cancel(mode)).is_some()
}

async fn forward(
    mut requests: mpsc::Receiver<Bytes>,
    taken: Taken,
    sender: LocalSender,
    items: mpsc::WeakSender<Last>,
) {
    while let Some(item) = requests.recv().await {
        let len = item.len();
        if sender.send(item).await.is_err() {
            return;
        }
        taken.give_back(len);
    }
    // A request whose call has been dropped is not complete; it ends with the call.
    if items.upgrade().is_some_and(|items| !items.is_closed()) {
        sender.finish().await;
    }
}
