//! The subscribing side: what order batches are applied in, what is asked for again, and when a hole is a hole.

use alloc::collections::VecDeque;
use core::time::Duration;

use bytes::Bytes;

use crate::event::kv::copies;
use crate::event::kv::frames::{self, Answer};
use crate::event::kv::limits::Limits;
use crate::event::kv::source::{KvSourceStats, Output, Source};
use crate::time::{Deadline, Instant, Reason};

/// What a subscriber expects of its source, and how patient it is.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The data-parallel rank it listens to, for batches that name none. Default 0.
    pub rank: u32,
    /// Whether the publisher can be asked for batches of the past. Default yes.
    pub replay: bool,
    /// Bounds on one batch.
    pub limits: Limits,
    /// Bounds on what is remembered of the source.
    pub copies: copies::Config,
    /// The longest silence within an answer. Default 2 s.
    pub idle_timeout: Duration,
    /// The longest search for missing batches, however often it is taken up again. Default 120 s.
    pub search_timeout: Duration,
    /// Silences in a row, without a batch that was missing, that end a search. Default 3.
    pub max_silences: u32,
    /// Holes within one search that are asked for again, to tell those the publisher has from those the way to us made. Default
    /// 16; further ones are believed.
    pub max_resumes: u32,
    /// How long a gap is not searched for after a search without an answer. Default 30 s.
    pub cooldown: Duration,
    /// A source that has been quiet for so long is asked whether there is more: a lost last batch leaves no gap. Default 30 s; zero
    /// never asks.
    pub probe: Duration,
    /// A source from which nothing has come live is asked once more so long after a connection was made. A publisher takes note of a
    /// subscription some time after it is made, and what it sends meanwhile leaves no gap if nothing follows. Default 1 s; zero never
    /// asks.
    pub settle: Duration,
    /// Live batches that wait while an answer is awaited. Default 4,096. Beyond, the oldest are dropped and asked for again.
    pub max_waiting: usize,
    /// Bytes of live batches that wait. Default 32 MiB.
    pub max_waiting_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            rank: 0,
            replay: true,
            limits: Limits::DEFAULT,
            copies: copies::Config::default(),
            idle_timeout: Duration::from_secs(2),
            search_timeout: Duration::from_secs(120),
            max_silences: 3,
            max_resumes: 16,
            cooldown: Duration::from_secs(30),
            probe: Duration::from_secs(30),
            settle: Duration::from_secs(1),
            max_waiting: 4096,
            max_waiting_bytes: 32 << 20,
        }
    }
}

/// A question for the publisher: every batch from `start` on. Each has a connection of its own, so that what an earlier one still
/// brings is not taken for its answer.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Ask {
    /// Which question; answers are handed in with it.
    pub id: u64,
    /// The first batch wanted.
    pub start: u64,
}

/// What the subscriber is doing.
///
/// ```text
///            connected, or a live batch                gap, or quiet for long
///   Waiting ────────────────────────────▶ Searching ◀───────────────────────── Live
///      ▲                                   │   │ end, or nobody answers          ▲ │
///      │           disconnected            │   └─────────────────────────────────┘ │
///      └───────────────────────────────────┴───────────────────────────────────────┘
/// ```
#[derive(Clone, Debug)]
enum State {
    Waiting,
    Live,
    Searching(Search),
}

/// One search for batches, over all questions it takes.
#[derive(Copy, Clone, Debug)]
struct Search {
    id: u64,
    start: u64,
    /// The question begins with the last batch applied, to see whether it is still the same engine that answers.
    verify: bool,
    asked: bool,
    /// The newest live batch when the question went out: an answer that ends before it has a hole.
    live_then: Option<u64>,
    /// Nothing from `start` on has come yet.
    empty: bool,
    /// When the first question went out.
    since: Option<Instant>,
    heard: Instant,
    silences: u32,
    resumes: u32,
}

/// A subscriber of one publisher and rank, without its sockets. Its owner hands in what comes, sends what
/// [`Subscriber::poll_ask`] gives, and takes every [`Output`] after each call.
///
/// A batch is applied when all before it were, or when it is certain or has to be accepted that they will not come. The cursor
/// moves on in every case: nothing a publisher lost or spoilt stops the stream.
///
/// Deadlines: [`Reason::Replay`] ends the wait for an answer, and asks a source that is quiet or has just been connected to.
#[derive(Clone, Debug)]
pub struct Subscriber {
    config: Config,
    source: Source,
    state: State,
    /// The last batch applied, or given up.
    applied: Option<u64>,
    /// The bytes of the last batch applied, to know its engine again.
    last: Bytes,
    /// The last batch that came live.
    live: Option<u64>,
    waiting: VecDeque<(u64, Bytes)>,
    waiting_bytes: usize,
    searches: u64,
    /// No gap is searched for before.
    rested: Instant,
    /// When the source is asked whether it sent anything before it knew the subscription. None once a live batch shows that it does.
    unsettled: Option<Instant>,
    /// When the source last said anything.
    heard: Instant,
}

impl Subscriber {
    /// A subscriber that has heard nothing.
    pub fn new(config: Config) -> Self {
        Self {
            source: Source::new(config.rank, config.limits, config.copies),
            config,
            state: State::Waiting,
            applied: None,
            last: Bytes::new(),
            live: None,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            searches: 0,
            rested: Instant::ZERO,
            unsettled: None,
            heard: Instant::ZERO,
        }
    }

    /// The subscription works: what is published from now on comes.
    pub fn handle_connected(&mut self, now: Instant) {
        if !matches!(self.state, State::Waiting) {
            return;
        }
        self.heard = now;
        self.unsettled = (!self.config.settle.is_zero()).then(|| now + self.config.settle);
        match self.applied {
            _ if !self.config.replay => {
                // Another engine may be there by now, and nobody can be asked.
                self.source.doubt();
                self.state = State::Live;
            }
            Some(applied) => self.search(applied, true, now),
            None => self.search(0, false, now),
        }
    }

    /// The connection is gone, and with it what was published meanwhile.
    pub fn handle_disconnected(&mut self) {
        self.state = State::Waiting;
        // What waits may be of an engine that is not there any more; if it still is, it has these batches.
        self.drop_waiting();
    }

    /// A batch has come live.
    pub fn handle_live(&mut self, seq: u64, payload: Bytes, now: Instant) {
        self.source.stats.received += 1;
        if seq == frames::END {
            self.source.stats.malformed += 1;
            return;
        }
        if self.live.is_some_and(|live| seq <= live) {
            self.restart();
            self.drop_waiting();
        }
        self.handle_connected(now);
        (self.live, self.heard, self.unsettled) = (Some(seq), now, None);
        match self.state {
            State::Searching(_) => self.wait(seq, payload),
            _ => {
                self.wait(seq, payload);
                self.settle(None, now);
            }
        }
    }

    /// A message that is none of this stream has come.
    pub const fn handle_malformed(&mut self) {
        self.source.stats.malformed += 1;
    }

    /// A message of the answer to question `id` has come.
    pub fn handle_answer(&mut self, id: u64, answer: Answer, now: Instant) {
        let State::Searching(mut search) = self.state else {
            self.source.stats.late_answers += 1;
            return;
        };
        if search.id != id || !search.asked {
            self.source.stats.late_answers += 1;
            return;
        }
        (search.heard, self.heard) = (now, now);
        self.state = State::Searching(search);
        if search.verify {
            return self.verify(search, &answer, now);
        }
        match answer {
            Answer::End => self.settle(Some(search), now),
            Answer::Batch { seq, payload } => self.fill(search, seq, payload, now),
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.state {
            State::Waiting => {}
            State::Live => {
                if self.probe_at().is_some_and(|at| at <= now) {
                    self.unsettled = self.unsettled.filter(|at| *at > now);
                    self.search(self.next(), false, now);
                }
            }
            State::Searching(search) if !search.asked => {}
            State::Searching(mut search) => {
                let over = search.since.is_some_and(|since| now.since(since) >= self.config.search_timeout);
                if !over && now.since(search.heard) < self.config.idle_timeout {
                    return;
                }
                search.silences += 1;
                if over || search.silences >= self.config.max_silences {
                    self.give_up(search, now);
                } else {
                    self.again(search, now);
                }
            }
        }
    }

    /// A question to send, once.
    pub fn poll_ask(&mut self, now: Instant) -> Option<Ask> {
        let State::Searching(search) = &mut self.state else { return None };
        if search.asked {
            return None;
        }
        search.since.get_or_insert(now);
        (search.asked, search.heard, search.live_then) = (true, now, self.live);
        self.source.stats.requests += 1;
        Some(Ask { id: search.id, start: search.start })
    }

    /// Whether [`Subscriber::poll_ask`] has a question.
    pub const fn wants_to_ask(&self) -> bool {
        matches!(self.state, State::Searching(Search { asked: false, .. }))
    }

    /// The question whose answer is awaited: what others still bring is dropped.
    pub const fn awaited(&self) -> Option<u64> {
        match self.state {
            State::Searching(Search { id, asked: true, .. }) => Some(id),
            _ => None,
        }
    }

    /// The next thing to tell.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.source.poll()
    }

    /// When an answer is overdue, or a quiet source is asked.
    pub fn next_deadline(&self) -> Option<Deadline> {
        let at = match &self.state {
            State::Waiting => None,
            State::Live => self.probe_at(),
            State::Searching(search) if !search.asked => None,
            State::Searching(search) => {
                let idle = search.heard + self.config.idle_timeout;
                let over = search.since.map_or(Instant::FAR, |since| since + self.config.search_timeout);
                Some(idle.min(over))
            }
        };
        at.map(|at| Deadline { at, why: Reason::Replay })
    }

    /// Whether what was told is all there is up to the batch applied last: since a clear or the very first batch nothing was missed
    /// and all could be read. Not while there is no connection, or it is not certain whose it is.
    pub const fn is_exact(&self) -> bool {
        let doubtful = matches!(self.state, State::Waiting | State::Searching(Search { verify: true, .. }));
        self.source.is_exact() && !doubtful
    }

    /// The last batch that was applied or given up.
    pub const fn applied(&self) -> Option<u64> {
        self.applied
    }

    /// The last batch that came live.
    pub const fn live(&self) -> Option<u64> {
        self.live
    }

    /// Hashes that are remembered, each once per place it lies in.
    pub fn held(&self) -> usize {
        self.source.held()
    }

    /// Live batches that wait for an answer.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// What it has seen.
    pub const fn stats(&self) -> KvSourceStats {
        self.source.stats
    }

    fn next(&self) -> u64 {
        self.applied.map_or(0, |applied| applied.saturating_add(1))
    }

    /// When a source that says nothing is asked.
    fn probe_at(&self) -> Option<Instant> {
        let quiet = (!self.config.probe.is_zero()).then(|| self.heard + self.config.probe);
        let first = quiet.into_iter().chain(self.unsettled).min().filter(|_| self.config.replay);
        first.map(|at| self.rested.max(at))
    }

    fn search(&mut self, start: u64, verify: bool, now: Instant) {
        self.searches += 1;
        self.state = State::Searching(Search {
            id: self.searches,
            start,
            verify,
            asked: false,
            live_then: None,
            empty: true,
            since: None,
            heard: now,
            silences: 0,
            resumes: 0,
        });
    }

    /// Asks for what is still missing, within the bounds of the same search.
    fn again(&mut self, search: Search, now: Instant) {
        let start = if search.verify { search.start } else { self.next() };
        self.searches += 1;
        self.state =
            State::Searching(Search { id: self.searches, start, asked: false, empty: true, heard: now, ..search });
    }

    /// Another engine has taken the place of this one: what it says begins at 0.
    fn restart(&mut self) {
        self.source.restart();
        self.state = State::Waiting;
        (self.applied, self.live, self.last) = (None, None, Bytes::new());
    }

    /// The answer to a question for the last batch applied: the same bytes come from the same engine.
    fn verify(&mut self, search: Search, answer: &Answer, now: Instant) {
        let same =
            matches!(answer, Answer::Batch { seq, payload } if Some(*seq) == self.applied && *payload == self.last);
        if same {
            self.state = State::Searching(Search { verify: false, empty: false, ..search });
            return;
        }
        // What waits came by this connection, so from the new engine; what was live before it was the old one's.
        let live = self.waiting.back().map(|(seq, _)| *seq);
        self.restart();
        self.live = live;
        self.search(0, false, now);
    }

    fn fill(&mut self, mut search: Search, seq: u64, payload: Bytes, now: Instant) {
        let next = self.next();
        if seq < next {
            self.source.stats.overlapped += 1;
            return;
        }
        if seq > next {
            // The first batch of an answer is the one its way to us cannot have cost: what is missing before it is gone.
            let believed = search.empty || search.resumes >= self.config.max_resumes;
            if !believed {
                search.resumes += 1;
                return self.again(search, now);
            }
            self.miss_before(seq, search.empty);
        }
        (search.empty, search.silences) = (false, 0);
        self.state = State::Searching(search);
        self.apply(seq, payload);
    }

    /// Applies what waits, up to a gap that can be searched for. `search` is one that has come to its end.
    fn settle(&mut self, mut search: Option<Search>, now: Instant) {
        self.state = State::Live;
        while let Some((seq, payload)) = self.waiting.pop_front() {
            self.waiting_bytes -= payload.len();
            let next = self.next();
            if seq < next {
                self.source.stats.overlapped += 1;
                continue;
            }
            if seq > next {
                let ended = search.take();
                let confirmed = ended.is_some_and(|search| search.empty && search.live_then >= Some(seq));
                let tired = ended.is_some_and(|search| search.resumes >= self.config.max_resumes);
                if !confirmed && !tired && self.config.replay && now >= self.rested {
                    self.waiting_bytes += payload.len();
                    self.waiting.push_front((seq, payload));
                    return match ended {
                        Some(search) => self.again(Search { resumes: search.resumes + 1, ..search }, now),
                        None => self.search(next, false, now),
                    };
                }
                self.miss_before(seq, confirmed);
            }
            self.apply(seq, payload);
        }
    }

    /// Nobody answers: goes on with what there is.
    fn give_up(&mut self, search: Search, now: Instant) {
        self.source.stats.unanswered += 1;
        self.rested = now + self.config.cooldown;
        if search.verify || self.applied.is_none() {
            self.source.doubt();
        }
        self.settle(None, now);
    }

    fn miss_before(&mut self, seq: u64, confirmed: bool) {
        let first = self.next();
        self.source.miss(first, seq.saturating_sub(1), confirmed);
    }

    fn apply(&mut self, seq: u64, payload: Bytes) {
        self.source.apply(seq, &payload, self.applied.is_none() && seq == 0);
        (self.applied, self.last) = (Some(seq), payload);
    }

    fn wait(&mut self, seq: u64, payload: Bytes) {
        self.waiting_bytes += payload.len();
        self.waiting.push_back((seq, payload));
        let Config { max_waiting, max_waiting_bytes, .. } = self.config;
        while self.waiting.len() > 1 && (self.waiting.len() > max_waiting || self.waiting_bytes > max_waiting_bytes) {
            let oldest = self.waiting.pop_front().map_or(0, |(_, payload)| payload.len());
            self.waiting_bytes -= oldest;
            self.source.stats.merge_dropped += 1;
        }
    }

    fn drop_waiting(&mut self) {
        self.waiting.clear();
        self.waiting_bytes = 0;
    }
}
