//! The transports that the suite runs on.

use std::sync::Arc;

use ringplane_tokio::event::{InProc, Transport};

/// A publisher's end and a subscriber's, which meet.
pub(super) struct Ends {
    pub(super) publishing: Arc<dyn Transport>,
    pub(super) listening: Arc<dyn Transport>,
    /// What has to live as long.
    _keeps: Box<dyn std::any::Any + Send>,
}

/// Runs a check on each transport.
pub(super) async fn each_transport<F: Future<Output = ()>>(check: impl Fn(Ends) -> F) {
    for make in [in_process] {
        check(make()).await;
    }
}

fn in_process() -> Ends {
    let place = Arc::new(InProc::new());
    Ends { publishing: place.clone(), listening: place, _keeps: Box::new(()) }
}
