//! The frames of this stream's messages: live, request, answer.

use bytes::Bytes;
use core::fmt;

/// The number no batch has: it marks the end of an answer.
pub const END: u64 = u64::MAX;

/// A batch as it is sent to everybody: `topic`, number, payload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Live {
    /// What subscribers filter by.
    pub topic: Bytes,
    /// The batch's number.
    pub seq: u64,
    /// The batch.
    pub payload: Bytes,
}

/// One message of an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// A batch that was kept.
    Batch {
        /// Its number.
        seq: u64,
        /// The batch, byte by byte what was sent live.
        payload: Bytes,
    },
    /// Nothing more is kept.
    End,
}

/// Frames that are no message of this stream.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum FrameError {
    /// So many frames are too few or too many.
    Count(usize),
    /// The number has so many bytes, and not eight.
    Number(usize),
    /// The first frame is not empty, as the one between address and content has to be.
    Delimiter,
    /// A live batch has the number that marks an end.
    Reserved,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(found) => write!(f, "{found} frames"),
            Self::Number(len) => write!(f, "a sequence number of {len} bytes"),
            Self::Delimiter => f.write_str("no empty frame before the content"),
            Self::Reserved => f.write_str("the sequence number of an end on a live batch"),
        }
    }
}

impl core::error::Error for FrameError {}

fn number(frame: &[u8]) -> Result<u64, FrameError> {
    frame.try_into().map(u64::from_be_bytes).map_err(|_| FrameError::Number(frame.len()))
}

fn written(seq: u64) -> Bytes {
    Bytes::copy_from_slice(&seq.to_be_bytes())
}

impl Live {
    /// Reads the frames that a subscriber receives.
    ///
    /// # Errors
    /// [`FrameError`] unless there are exactly three, with a number of eight bytes.
    pub fn read(frames: &[Bytes]) -> Result<Self, FrameError> {
        let [topic, seq, payload] = frames else { return Err(FrameError::Count(frames.len())) };
        match number(seq)? {
            END => Err(FrameError::Reserved),
            seq => Ok(Self { topic: topic.clone(), seq, payload: payload.clone() }),
        }
    }

    /// The frames to publish.
    pub fn frames(self) -> [Bytes; 3] {
        [self.topic, written(self.seq), self.payload]
    }
}

/// The frames that ask for every kept batch from `start` on, as a DEALER sends them.
pub fn request(start: u64) -> [Bytes; 2] {
    [Bytes::new(), written(start)]
}

/// Reads a request from the frames behind the identity that a ROUTER receives. A start of any length is read as a number, big
/// end first; one beyond 64 bits lies in the future.
///
/// # Errors
/// [`FrameError`] unless there are an empty frame and a start.
pub fn read_request(frames: &[Bytes]) -> Result<u64, FrameError> {
    match frames {
        [delimiter, start] if delimiter.is_empty() => {
            let wide = start.iter().take(start.len().saturating_sub(8)).any(|byte| *byte != 0);
            let last = start.iter().fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
            Ok(if wide { u64::MAX } else { last })
        }
        [_, _] => Err(FrameError::Delimiter),
        _ => Err(FrameError::Count(frames.len())),
    }
}

impl Answer {
    /// Reads the frames that a DEALER receives, from the last backwards: three of vLLM up to 0.25 and SGLang up to 0.5.21, four
    /// of later ones, with the topic. The topic can be empty, so that two empty frames come first.
    ///
    /// # Errors
    /// [`FrameError`] unless there are three or four, the first one empty, with a number of eight bytes.
    pub fn read(frames: &[Bytes]) -> Result<Self, FrameError> {
        let (first, seq, payload) = match frames {
            [first, seq, payload] | [first, _, seq, payload] => (first, number(seq)?, payload),
            _ => return Err(FrameError::Count(frames.len())),
        };
        match seq {
            _ if !first.is_empty() => Err(FrameError::Delimiter),
            END if payload.is_empty() => Ok(Self::End),
            END => Err(FrameError::Reserved),
            seq => Ok(Self::Batch { seq, payload: payload.clone() }),
        }
    }

    /// The frames to send behind the identity, as vLLM has them from 0.26.
    pub fn frames(self, topic: &Bytes) -> [Bytes; 4] {
        match self {
            Self::Batch { seq, payload } => [Bytes::new(), topic.clone(), written(seq), payload],
            Self::End => [Bytes::new(), Bytes::new(), written(END), Bytes::new()],
        }
    }
}
