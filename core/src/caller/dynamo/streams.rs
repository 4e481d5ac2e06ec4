//! The call-home connections of calls: which call each is for, what goes out on them, and the call that leaves them.

use alloc::boxed::Box;

use bytes::Bytes;

use crate::buf::outbox::SendError;
use crate::buf::slab::Key;
use crate::caller::call::State;
use crate::caller::dynamo::sent::{Feed, Sent, Via};
use crate::caller::line::Line;
use crate::caller::machine::Caller;
use crate::caller::pool::{Accepted, Peer};
use crate::caller::request::{CallId, Event};
use crate::dynamo::items::sender::Sender;
use crate::dynamo::response::receiver::{Receiver, State as HomeState};
use crate::dynamo::subjects::{Subject, Unclaimed};
use crate::id::ConnId;
use crate::links::Link;
use crate::protocol::Closing;
use crate::time::Instant;
use crate::wire::dynamo::control::StreamType;
use crate::wire::dynamo::word::Word;

impl Caller {
    /// A worker has come to the listener.
    pub(in crate::caller) fn on_call_home(&mut self, conn: ConnId, now: Instant) {
        let key = self.pool.links.insert(Peer::Accepted(Accepted::default()), |_| conn);
        if let Some(link) = self.pool.links.get_mut(key) {
            link.line = Some(Line::Answers(Box::new(Receiver::new(self.config.responses, now))));
            let seat = Some(self.call_home.on_opened(conn.number(), key));
            link.owner = Peer::Accepted(Accepted { call: None, seat });
        }
        // A worker names its subject at once: the connections that have been silent longest are not a worker's.
        while let Some(oldest) = self.call_home.excess(self.config.max_unclaimed) {
            self.leave_unclaimed(oldest);
            self.stats.strangers += 1;
            if let Some(Line::Answers(receiver)) = self.pool.links.line(oldest) {
                receiver.close(Closing::Abort, now);
            }
            self.settle_link(oldest, now);
        }
        self.settle_link(key, now);
    }

    /// Gives back the seat of a connection that has said whose response it brings, or is gone.
    pub(in crate::caller) fn leave_unclaimed(&mut self, link: Key) {
        if let Some(seat) = self.pool.accepted(link).and_then(|home| home.seat.take()) {
            self.call_home.give_back(seat);
        }
    }

    pub(super) fn claim(&mut self, link: Key, subject: &str, stream: StreamType, now: Instant) {
        self.leave_unclaimed(link);
        let call = self.call_home.claim(subject);
        if let Ok(call) = call
            && let Some(entry) = self.calls.get_mut(call.0)
            && let stopping = entry.is_stopping()
            && let State::Sent(sent) = &mut entry.state
            && let Some(Link { line: Some(line), owner: Peer::Accepted(home), .. }) = self.pool.links.get_mut(link)
            && let Line::Answers(receiver) = line
        {
            let subject = Subject::read(subject);
            match (stream, &mut sent.feed) {
                (StreamType::Response, _) if subject == Some(sent.subject) => {
                    sent.home = Some(link);
                    receiver.claim(sent.codec);
                    home.call = Some(call);
                    if stopping {
                        receiver.stop();
                    }
                    return;
                }
                (StreamType::Request, Some(feed)) if subject == Some(feed.subject) => {
                    feed.link = Some(link);
                    let mut feeder = Sender::new(self.config.items, now);
                    if stopping {
                        feeder.end(Word::Stop);
                    }
                    *line = Line::Items(Box::new(feeder));
                    home.call = Some(call);
                    self.events.push_back(Event::Writable(call));
                    return;
                }
                // One stream under the other's name.
                _ => {}
            }
        }
        if call == Err(Unclaimed::Unknown) {
            self.stats.strangers += 1;
        }
        if let Some(Line::Answers(receiver)) = self.pool.links.line(link) {
            receiver.close(Closing::Abort, now);
        }
    }

    /// Queues an item of a request that is a stream.
    pub(in crate::caller) fn feed(&mut self, feed: Option<Feed>, item: Bytes) -> Result<(), SendError> {
        let Some(feed) = feed else { return Err(SendError::Closed) };
        let Some(link) = feed.link else { return Err(SendError::Blocked(item)) };
        self.pool.links.send(link, None, item)
    }

    /// Ends a request that is a stream. `false` while the worker has not come for it.
    pub(in crate::caller) fn finish_feed(&mut self, feed: Option<Feed>) -> bool {
        let Some(feed) = feed else { return true };
        let Some(link) = feed.link else { return false };
        if let Some(Line::Items(feeder)) = self.pool.links.line(link) {
            feeder.end(Word::Sentinel);
        }
        self.pool.links.nudge(link);
        true
    }

    /// Asks the worker to stop, on each of the call's streams that is here.
    pub(in crate::caller) fn say_stop(&mut self, home: Option<Key>, feed: Option<Feed>, now: Instant) {
        for link in [home, feed.and_then(|feed| feed.link)].into_iter().flatten() {
            match self.pool.links.line(link) {
                Some(Line::Answers(receiver)) => receiver.stop(),
                Some(Line::Items(feeder)) => feeder.end(Word::Stop),
                _ => {}
            }
            self.settle_link(link, now);
        }
    }

    /// The call has left this try: nobody waits for its response any more.
    pub(in crate::caller) fn abandon(&mut self, call: CallId, sent: &Sent, now: Instant) {
        self.call_home.withdraw(sent.subject);
        match sent.by {
            Via::Link(link) => {
                if let Some(Line::Requests(client)) = self.pool.links.line(link) {
                    client.withdraw(call.0.to_u64());
                }
            }
            Via::Carrier(posted) => self.window.release(&posted),
        }
        if let Some(feed) = sent.feed {
            self.call_home.withdraw(feed.subject);
            if let Some(Link { line: Some(Line::Items(feeder)), owner: Peer::Accepted(home), .. }) =
                feed.link.and_then(|link| self.pool.links.get_mut(link))
            {
                home.call = None;
                // Whoever has the end of the response needs no more items.
                feeder.end(Word::Kill);
            }
            if let Some(link) = feed.link {
                self.settle_link(link, now);
            }
        }
        let Some(home) = sent.home else { return };
        if let Some(Link { line: Some(Line::Answers(receiver)), owner: Peer::Accepted(peer), .. }) =
            self.pool.links.get_mut(home)
        {
            peer.call = None;
            receiver.resume();
            if matches!(receiver.state(), HomeState::Prologue | HomeState::Items) {
                receiver.kill(now);
            }
        }
        self.settle_link(home, now);
    }
}
