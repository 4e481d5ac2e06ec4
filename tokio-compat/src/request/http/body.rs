//! The body of a request, read within its bounds, and that of a response.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::timeout;

use crate::request::http::config::Config;
use crate::request::room::{Room, Share};

/// Why a body is not taken.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Refused {
    /// It is, or says that it is, larger than may be.
    TooLarge,
    /// There is no room for it beside the others.
    NoRoom,
    /// It broke off, stood still or took too long.
    Broken,
}

/// The whole body, and its share of the room.
type Whole = (Bytes, Share);

/// Reads the whole of it, and the room it takes. A length that is declared is refused before anything is read; memory
/// follows what has arrived.
pub(super) async fn read(body: &mut Incoming, config: &Config, room: &Room) -> Result<Whole, Refused> {
    if body.size_hint().lower() > config.most() as u64 {
        return Err(Refused::TooLarge);
    }
    timeout(config.body, collect(body, config, room)).await.unwrap_or(Err(Refused::Broken))
}

async fn collect(body: &mut Incoming, config: &Config, room: &Room) -> Result<Whole, Refused> {
    let (mut whole, mut share) = (Vec::new(), room.try_reserve(1).ok_or(Refused::NoRoom)?);
    loop {
        let frame = match timeout(config.stall, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(None) => return Ok((whole.into(), share)),
            Ok(Some(Err(_))) | Err(_) => return Err(Refused::Broken),
        };
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > config.most() {
            return Err(Refused::TooLarge);
        }
        if !share.grow(whole.len() + data.len()) {
            return Err(Refused::NoRoom);
        }
        whole.extend_from_slice(&data);
    }
}

/// Reads and drops what is left of a refused request. A connection that is closed under what its peer still sends is reset,
/// and the peer may lose the refusal.
async fn drain(mut body: Incoming, config: &Config) {
    let mut left = config.drain;
    let dropped = async {
        while let Ok(Some(Ok(frame))) = timeout(config.stall, body.frame()).await {
            match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                Some(less) => left = less,
                None => return,
            }
        }
    };
    let _ = timeout(config.body, dropped).await;
}

/// The body of a response: its text, which is over only when what is left of a refused request has been read.
pub(super) struct Text {
    text: Option<Bytes>,
    rest: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Text {
    pub(super) fn new(text: &str) -> Self {
        let text = (!text.is_empty()).then(|| Bytes::copy_from_slice(text.as_bytes()));
        Self { text, rest: None }
    }

    /// The same for a request that is refused before `body` has been read. `done` is dropped when it has.
    pub(super) fn draining<T: Send + 'static>(mut self, body: Incoming, config: &Arc<Config>, done: T) -> Self {
        // One that would not be read to its end is not worth the wait.
        if !body.is_end_stream() && body.size_hint().lower() <= config.drain as u64 {
            let config = Arc::clone(config);
            self.rest = Some(Box::pin(async move {
                drain(body, &config).await;
                drop(done);
            }));
        }
        self
    }
}

impl Body for Text {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(text) = self.text.take() {
            return Poll::Ready(Some(Ok(Frame::data(text))));
        }
        if let Some(rest) = &mut self.rest {
            ready!(rest.as_mut().poll(cx));
            self.rest = None;
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.text.is_none() && self.rest.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.rest {
            // With a length the response would be over once its text is.
            Some(_) => SizeHint::default(),
            None => SizeHint::with_exact(self.text.as_ref().map_or(0, |text| text.len() as u64)),
        }
    }
}
