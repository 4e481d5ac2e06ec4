//! Two-part frames out of bytes that come cut anywhere.

use alloc::vec::Vec;

use crate::buf::hold::append;
use crate::protocol::Fault;
use crate::wire::dynamo::two_part::TwoPart;
use crate::wire::parse::{Error, ErrorKind, Limits, Parse};

/// Where a frame declares the length of its body.
const BODY_LEN: usize = 8;

/// What is wrong with a frame that brings an item: one whose body has more than `max_item` bytes is a frame all the same.
pub(super) const fn of_item(fault: Fault, max_item: usize) -> Fault {
    match fault {
        Fault::Wire(Error { kind: ErrorKind::TooLarge { declared, limit }, offset: BODY_LEN })
            if limit == max_item as u64 =>
        {
            Fault::ItemTooLarge { declared, limit }
        }
        fault => fault,
    }
}

/// The frame at hand, as far as it has come.
#[derive(Debug, Default)]
pub(super) struct Frames {
    carry: Vec<u8>,
    /// Bytes that would complete it.
    missing: usize,
}

impl Frames {
    pub(super) const fn new() -> Self {
        Self { carry: Vec::new(), missing: 0 }
    }

    /// Takes the next frame off the front of `input`, checksum compared, and has it read; `None` once `input` is used up.
    /// A frame that lies whole in `input` is read where it is.
    ///
    /// # Errors
    /// [`Fault::Wire`] for bytes that are no frame within `limits`, [`Fault::NoMemory`], and whatever `read` makes of one.
    pub(super) fn next<T>(
        &mut self,
        input: &mut &[u8],
        limits: &Limits,
        read: impl FnOnce(&TwoPart<'_>) -> Result<T, Fault>,
    ) -> Result<Option<T>, Fault> {
        loop {
            let bytes: &[u8] = if self.carry.is_empty() { input } else { &self.carry };
            let (value, used) = match TwoPart::parse_unverified(bytes, limits)? {
                Parse::Incomplete { needed } => {
                    if input.is_empty() {
                        self.missing = if self.carry.is_empty() { 0 } else { needed };
                        return Ok(None);
                    }
                    let take = if self.carry.is_empty() { input.len() } else { needed.min(input.len()) };
                    let (front, rest) = input.split_at_checked(take).unwrap_or((input, &[]));
                    append(&mut self.carry, front)?;
                    *input = rest;
                    continue;
                }
                Parse::Complete { value, used } => {
                    value.verify()?;
                    (read(&value)?, used)
                }
            };
            if self.carry.is_empty() {
                *input = input.get(used..).unwrap_or_default();
            } else {
                self.carry = Vec::new();
            }
            self.missing = 0;
            return Ok(Some(value));
        }
    }

    /// Forgets the frame at hand.
    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }

    /// Bytes that would complete the frame at hand, as far as is known.
    pub(super) const fn missing(&self) -> usize {
        self.missing
    }

    /// Bytes held of it.
    pub(super) const fn held(&self) -> usize {
        self.carry.len()
    }
}
