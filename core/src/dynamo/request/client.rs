//! The caller's end of a Dynamo request connection: pipelined request frames out, acks in, matched first-in first-out.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use crate::buf::progress::Progress;
use crate::buf::send_queue::SendQueue;
use crate::protocol::{Closing, Fault};
use crate::time::{Deadline, Instant, Reason};
use crate::wire::dynamo::ack::Ack;
use crate::wire::mux::message::RejectCode;
use crate::wire::parse::{Format, Limits, Parse};

/// What bounds the caller's end of a request connection.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Requests written or queued and not acked. Default 1024, as Dynamo's.
    pub max_unacked: usize,
    /// The largest request frame that is written, the whole frame. Default 32 MiB, what a Dynamo worker takes.
    pub max_message: usize,
    /// The longest ack frame that is believed. Default 128 KiB: Dynamo's own texts echo a path of at most 64 KiB.
    pub max_ack: usize,
    /// The longest that the oldest request may stay without an ack before the connection counts as dead. Default 30 s.
    pub ack_timeout: Duration,
    /// The longest that bytes may fail to move. Default 60 s.
    pub send_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_unacked: 1024,
            max_message: 32 << 20,
            max_ack: 128 << 10,
            ack_timeout: Duration::from_secs(30),
            send_timeout: Duration::from_secs(60),
        }
    }
}

/// What the worker says to one request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The owner's name of the request.
    pub tag: u64,
    /// Why it was refused; `None`: taken. An unknown text is a refusal.
    pub refusal: Option<Refusal>,
}

/// Why a request was refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// As [`Ack::code`] says; `None` for a text nobody knows.
    pub code: Option<RejectCode>,
    /// The worker's text, at most 512 bytes of it.
    pub text: Box<str>,
}

impl Refusal {
    /// What an ack refuses; `None` if it accepts. An unknown text is a refusal.
    pub(crate) fn of(ack: &Ack<'_>) -> Option<Self> {
        if *ack == Ack::Accepted {
            return None;
        }
        let text = ack.text();
        let text = String::from_utf8_lossy(text.get(..MAX_TEXT).unwrap_or(text)).into_owned();
        Some(Self { code: ack.code(), text: text.into() })
    }
}

/// A request on its way to its ack.
#[derive(Debug)]
struct Sent {
    tag: u64,
    /// When its last byte was handed to the driver.
    since: Instant,
}

/// One request connection.
///
/// ```text
///  Up ──an ack nobody waits for, an ack too long, silence, stall──▶ Closing
///   └──leave()───────────────────────────────────────────────────────▶ Closing
/// ```
/// A request that its owner gives up keeps its place in the queue and swallows its ack, so that the pairing holds.
///
/// # Deadlines
/// `Accept` while the oldest request has no ack, `SendStall` while bytes do not move.
#[derive(Debug)]
pub struct Client {
    config: Config,
    /// Whole frames, head and payload, that have not been handed out.
    queue: VecDeque<(u64, Vec<u8>, Bytes)>,
    unacked: VecDeque<Sent>,
    carry: Vec<u8>,
    progress: Progress,
    closing: Option<Closing>,
    told: bool,
}

/// Text of an ack that is kept, in bytes.
const MAX_TEXT: usize = 512;

impl Client {
    /// A connection that has just come up.
    pub const fn new(config: Config, now: Instant) -> Self {
        Self {
            config,
            queue: VecDeque::new(),
            unacked: VecDeque::new(),
            carry: Vec::new(),
            progress: Progress::new(now),
            closing: None,
            told: false,
        }
    }

    /// Whether another request may be submitted.
    pub fn can_submit(&self) -> bool {
        self.closing.is_none() && self.queue.len() + self.unacked.len() < self.config.max_unacked
    }

    /// Queues a request frame: its bytes up to the body, then the body.
    pub fn submit(&mut self, tag: u64, head: Vec<u8>, body: Bytes) {
        self.queue.push_back((tag, head, body));
    }

    /// Takes a request back that has not been handed to the driver; whether it could.
    pub fn withdraw(&mut self, tag: u64) -> bool {
        let before = self.queue.len();
        self.queue.retain(|(queued, ..)| *queued != tag);
        before != self.queue.len()
    }

    /// Whether the request is here and has not been handed to the driver.
    pub fn holds(&self, tag: u64) -> bool {
        self.queue.iter().any(|(queued, ..)| *queued == tag)
    }

    /// Whether the request has been handed to the driver and has no ack yet.
    pub fn was_written(&self, tag: u64) -> bool {
        self.unacked.iter().any(|sent| sent.tag == tag)
    }

    /// Takes the next answer off the front of `input`; `None` once that is used up.
    ///
    /// # Errors
    /// [`Fault::State`] for an ack that answers no request, [`Fault::Wire`] for one that is too long. The connection ends.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<Answer>, Fault> {
        if self.closing.is_some() {
            *input = &[];
            return Ok(None);
        }
        let limits = Limits { max_message: self.config.max_ack, ..Limits::default() };
        loop {
            let missing = match Ack::parse(&self.carry, &limits) {
                Ok(Parse::Complete { value, used }) => {
                    let Some(sent) = self.unacked.pop_front() else { return self.fail(Fault::State) };
                    let refusal = Refusal::of(&value);
                    self.carry.drain(..used);
                    return Ok(Some(Answer { tag: sent.tag, refusal }));
                }
                Ok(Parse::Incomplete { needed }) => needed,
                Err(error) => return self.fail(Fault::Wire(error)),
            };
            if input.is_empty() {
                return Ok(None);
            }
            let (front, rest) = input.split_at_checked(missing).unwrap_or((input, &[]));
            self.carry.extend_from_slice(front);
            *input = rest;
        }
    }

    fn fail<T>(&mut self, fault: Fault) -> Result<T, Fault> {
        self.closing = Some(Closing::Abort);
        self.carry = Vec::new();
        Err(fault)
    }

    /// Bytes of what was handed out are written.
    pub const fn handle_sent(&mut self, bytes: usize, now: Instant) {
        self.progress.on_sent(bytes, now);
    }

    /// Time has passed.
    ///
    /// # Errors
    /// [`Fault::Silent`] without an ack in time, [`Fault::Stalled`] if bytes do not move.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Fault> {
        match self.poll_timeout() {
            Some(Deadline { at, why }) if at <= now => {
                self.fail(if why == Reason::SendStall { Fault::Stalled } else { Fault::Silent })
            }
            _ => Ok(()),
        }
    }

    /// Whether a request waits to be handed out.
    pub fn wants_transmit(&self) -> bool {
        self.closing.is_none() && !self.queue.is_empty()
    }

    /// Appends requests while there is room; whether there was anything.
    pub fn poll_transmit(&mut self, out: &mut SendQueue, now: Instant) -> bool {
        if !self.wants_transmit() || out.is_full() {
            return false;
        }
        self.progress.begin(now);
        let before = out.len();
        while !out.is_full() {
            let Some((tag, head, body)) = self.queue.pop_front() else { break };
            out.push(&head);
            out.push_payload(&body, 0..body.len());
            self.unacked.push_back(Sent { tag, since: now });
        }
        self.progress.on_handed_out(out.len() - before);
        true
    }

    /// No more requests, and nobody waits for an ack that is still due: the connection closes.
    pub fn leave(&mut self) {
        if self.queue.is_empty() && self.closing.is_none() {
            self.closing = Some(Closing::Abort);
        }
    }

    /// Whether it takes no more requests for good.
    pub const fn is_leaving(&self) -> bool {
        self.closing.is_some()
    }

    /// How the socket should be closed now, if it should; each answer once.
    pub const fn poll_close(&mut self) -> Option<Closing> {
        if self.told {
            return None;
        }
        self.told = self.closing.is_some();
        self.closing
    }

    /// When to wake this machine, and why.
    pub fn poll_timeout(&self) -> Option<Deadline> {
        if self.closing.is_some() {
            return None;
        }
        let stall = self.progress.deadline(self.config.send_timeout);
        // A request that is still being written is the stall's question.
        let ack = self.unacked.front().map(|sent| Deadline {
            at: sent.since.max(self.progress.moved()) + self.config.ack_timeout,
            why: Reason::Accept,
        });
        Deadline::soonest(stall, ack)
    }

    /// Bytes held for requests not handed out.
    pub fn held(&self) -> usize {
        self.queue.iter().map(|(_, head, body)| head.len() + body.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    const T0: Instant = Instant::ZERO;

    fn sent(count: u64) -> Client {
        let mut client = Client::new(Config::default(), T0);
        for tag in 0..count {
            client.submit(tag, vec![1, 2], Bytes::from_static(b"body"));
        }
        let mut queue = SendQueue::new(1 << 20);
        client.poll_transmit(&mut queue, T0);
        client.handle_sent(queue.len(), T0);
        client
    }

    fn ack(text: &str) -> Vec<u8> {
        [&(text.len() as u32).to_be_bytes()[..], text.as_bytes()].concat()
    }

    /// Whose ack it is, and what a refusal says if it is one.
    type Seen = (u64, Option<Option<RejectCode>>);

    fn answers(client: &mut Client, mut bytes: &[u8]) -> Result<Vec<Seen>, Fault> {
        let mut seen = Vec::new();
        while let Some(answer) = client.next(&mut bytes)? {
            seen.push((answer.tag, answer.refusal.map(|refusal| refusal.code)));
        }
        Ok(seen)
    }

    #[test]
    fn acks_are_matched_in_order_however_the_bytes_are_cut_and_unknown_texts_are_refusals() {
        let texts = ["", "Server overloaded: worker at capacity", "Read error: x", "Invalid endpoint path", "hm", ""];
        let bytes = texts.map(ack).concat();
        let known = |code| Some(Some(code));
        let expected = [
            None,
            known(RejectCode::Overloaded),
            known(RejectCode::Other),
            known(RejectCode::UnknownEndpoint),
            Some(None),
            None,
        ];
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let mut client = sent(6);
                let mut seen = Vec::new();
                for part in [&bytes[..first], &bytes[first..second], &bytes[second..]] {
                    seen.extend(answers(&mut client, part).unwrap());
                }
                let expected: Vec<_> = (0..6).zip(expected).collect();
                assert_eq!(seen, expected, "cut at {first} and {second}");
            }
        }
    }

    #[test]
    fn an_ack_nobody_waits_for_closes_the_connection_and_does_not_spin() {
        let mut client = sent(1);
        assert_eq!(answers(&mut client, &[0; 8]), Err(Fault::State));
        assert_eq!(client.poll_close(), Some(Closing::Abort));
        assert_eq!(client.poll_close(), None);
        assert_eq!(answers(&mut client, &[0; 8]), Ok(vec![]));
        assert!(!client.can_submit());
    }

    #[test]
    fn an_ack_longer_than_the_bound_is_refused_by_its_length_alone() {
        let mut client = sent(1);
        assert!(matches!(answers(&mut client, &[0x15, 3, 3, 0]), Err(Fault::Wire(_))));
    }

    #[test]
    fn a_worker_that_acks_nothing_is_given_up_and_one_that_reads_nothing_too() {
        let mut client = sent(1);
        let deadline = client.poll_timeout().unwrap();
        assert_eq!((deadline.why, deadline.at), (Reason::Accept, T0 + Config::default().ack_timeout));
        assert_eq!(client.handle_timeout(deadline.at), Err(Fault::Silent));
        let config = Config { ack_timeout: Duration::from_secs(600), ..Config::default() };
        let mut client = Client::new(config, T0);
        client.submit(1, vec![1], Bytes::new());
        client.poll_transmit(&mut SendQueue::new(64), T0);
        let deadline = client.poll_timeout().unwrap();
        assert_eq!(deadline.why, Reason::SendStall);
        assert_eq!(client.handle_timeout(deadline.at), Err(Fault::Stalled));
    }

    #[test]
    fn requests_are_bounded_and_one_not_written_can_be_withdrawn() {
        let mut client = Client::new(Config { max_unacked: 2, ..Config::default() }, T0);
        client.submit(1, vec![1], Bytes::new());
        assert!(client.can_submit());
        client.submit(2, vec![2], Bytes::new());
        assert!(!client.can_submit());
        assert!(client.withdraw(1));
        assert!(!client.withdraw(1));
        assert!(client.can_submit());
        client.poll_transmit(&mut SendQueue::new(64), T0);
        assert!(client.was_written(2));
        assert!(!client.withdraw(2));
        client.leave();
        assert!(client.is_leaving(), "whose request it was has given it up");
    }
}
