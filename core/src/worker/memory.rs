//! The memory of requests under way that no credit covers: their headers, and bodies in Dynamo's protocol until they are
//! read.

use crate::buf::room::fits;

/// One connection may take this part of it.
const SHARES: usize = 4;

/// What a request counts for beside its bytes.
const COST: usize = 64;

/// The memory of all requests of one worker.
#[derive(Debug)]
pub(super) struct Memory {
    limit: usize,
    held: usize,
}

/// What the requests of one connection hold, in bytes.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Share(usize);

/// What one request holds, in bytes.
#[derive(Debug)]
pub(super) struct Charge {
    header: usize,
    body: usize,
}

impl Charge {
    /// A request of so many bytes of header and of body.
    pub(super) const fn new(header: usize, body: usize) -> Self {
        Self { header: header + COST, body }
    }

    const fn bytes(&self) -> usize {
        self.header + self.body
    }
}

impl Memory {
    /// All of it free: `limit` bytes.
    pub(super) const fn new(limit: usize) -> Self {
        Self { limit, held: 0 }
    }

    /// Whether there is room for a request, and the connection it came on has some of its share left; one that came on no
    /// connection of ours has none.
    pub(super) fn fits(&self, charge: &Charge, share: Option<Share>) -> bool {
        let held = share.map_or(0, |share| share.0);
        fits(self.held, charge.bytes(), self.limit) && fits(held, charge.bytes(), self.limit / SHARES)
    }

    /// A request is kept.
    pub(super) const fn keep(&mut self, charge: &Charge, share: Option<&mut Share>) {
        self.held += charge.bytes();
        if let Some(share) = share {
            share.0 += charge.bytes();
        }
    }

    /// The request is gone.
    pub(super) const fn give_back(&mut self, charge: &Charge, share: Option<&mut Share>) {
        self.free(charge.bytes(), share);
    }

    /// The handler has the request's body.
    pub(super) const fn give_back_body(&mut self, charge: &mut Charge, share: Option<&mut Share>) {
        let body = core::mem::replace(&mut charge.body, 0);
        self.free(body, share);
    }

    /// Bytes held.
    pub(super) const fn held(&self) -> usize {
        self.held
    }

    const fn free(&mut self, bytes: usize, share: Option<&mut Share>) {
        self.held -= bytes;
        if let Some(share) = share {
            share.0 -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_has_a_quarter_of_it_and_all_together_have_the_rest() {
        let (mut memory, mut greedy) = (Memory::new(8000), Share::default());
        let charge = Charge::new(436, 500);
        assert!(memory.fits(&charge, Some(greedy)));
        memory.keep(&charge, Some(&mut greedy));
        memory.keep(&charge, Some(&mut greedy));
        assert!(!memory.fits(&charge, Some(greedy)));
        assert!(memory.fits(&charge, Some(Share::default())) && memory.fits(&charge, None));
        for _ in 0..6 {
            memory.keep(&charge, None);
        }
        assert_eq!((memory.held(), memory.fits(&charge, None)), (8000, false));
    }

    #[test]
    fn a_body_is_given_back_when_it_is_read_and_the_rest_with_the_request() {
        let (mut memory, mut share) = (Memory::new(8000), Share::default());
        let mut charge = Charge::new(100, 500);
        memory.keep(&charge, Some(&mut share));
        memory.give_back_body(&mut charge, Some(&mut share));
        memory.give_back_body(&mut charge, Some(&mut share));
        assert_eq!(memory.held(), 100 + COST);
        memory.give_back(&charge, Some(&mut share));
        assert_eq!((memory.held(), share), (0, Share::default()));
    }
}
