//! What calls hear of their streams over mux.

use alloc::sync::Arc;
use core::time::Duration;

use crate::buf::slab::Key;
use crate::caller::call::State;
use crate::caller::dynamo::failures::no_memory;
use crate::caller::error::CallError;
use crate::caller::machine::Caller;
use crate::caller::phase::Phase;
use crate::caller::request::{CallId, Event};
use crate::mux::connection::Connection;
use crate::mux::event::Event as MuxEvent;
use crate::route::load::Load;
use crate::time::Instant;
use crate::wire::mux::load::Load as WireLoad;
use crate::wire::mux::message::{RejectCode, Status};

impl Caller {
    pub(super) fn take_mux_events(&mut self, link: Key, now: Instant) {
        while let Some(event) = self.pool.links.mux(link).and_then(Connection::poll_event) {
            match event {
                MuxEvent::Up => self.open_waiting(link, now),
                MuxEvent::Opened(stream) => {
                    if let Some(mux) = self.pool.links.mux(link) {
                        mux.reject(stream, RejectCode::NotServing, 0, "this side only calls");
                    }
                }
                MuxEvent::Readable(tag) => self.on_readable(CallId(Key::from_u64(tag)), now),
                MuxEvent::Writable(tag) => self.events.push_back(Event::Writable(CallId(Key::from_u64(tag)))),
                MuxEvent::Status(tag, status) => self.on_status(CallId(Key::from_u64(tag)), status, now),
                MuxEvent::Rejected { tag, code, retry_after_ms, message } => {
                    let retry_after = (retry_after_ms > 0).then(|| Duration::from_millis(u64::from(retry_after_ms)));
                    let error = match code {
                        RejectCode::Cancelled => CallError::Cancelled,
                        // Both clocks watch the deadline; which of them sees it pass first says nothing of the call.
                        RejectCode::Expired => CallError::DeadlineExceeded,
                        _ => CallError::Rejected { code, retry_after, message, at: None },
                    };
                    self.on_rejected(CallId(Key::from_u64(tag)), error, retry_after, now);
                }
                MuxEvent::Starved(tag) => self.fail(CallId(Key::from_u64(tag)), no_memory(), now),
                MuxEvent::Load(header) => self.on_reported(link, &header, now),
                MuxEvent::GoingAway => self.redirect_waiting(link, now),
                MuxEvent::Cancelled(..) | MuxEvent::Stalled(..) => {}
            }
        }
    }

    /// The worker at the other end has said how much it has to do: news for every instance that calls went to on this connection.
    fn on_reported(&mut self, link: Key, header: &[u8], now: Instant) {
        let (Ok(report), Some(dialed)) = (WireLoad::parse(header), self.pool.dialed(link)) else { return };
        let WireLoad { running, queued, capacity, .. } = report;
        let mut load = Load { running, queued, capacity, at: now, ..Load::default() };
        for (name, value) in report.gauges() {
            load.set_gauge(name, value);
        }
        self.stats.reports += 1;
        let load = Arc::new(load);
        for (endpoint, instance) in &dialed.called {
            self.endpoints.on_reported(*endpoint, *instance, &load);
        }
        if self.may_wait() {
            self.serve_fronts(now);
        }
    }

    fn on_readable(&mut self, call: CallId, now: Instant) {
        let Some(entry) = self.calls.get_mut(call.0) else { return };
        let heard = entry.heard;
        entry.on_sign(Phase::Accepted, now);
        self.tell_waited(call, heard, now);
        self.on_answered(call, now);
        self.events.push_back(Event::Readable(call));
    }

    fn on_status(&mut self, call: CallId, status: Status, now: Instant) {
        if let Some(entry) = self.calls.get_mut(call.0) {
            entry.on_accepted(now);
            self.events.push_back(Event::Status(call, status));
        }
    }

    /// The worker refused the call; its stream is gone.
    fn on_rejected(&mut self, call: CallId, error: CallError, retry_after: Option<Duration>, now: Instant) {
        if let Some(entry) = self.calls.get_mut(call.0)
            && let State::Open { link, .. } = entry.state
        {
            entry.state = State::Attached { link };
        }
        if error.is_of_one_that_leaves() {
            self.redirect(call, error, now);
        } else if error.is_retryable() {
            self.on_not_delivered(call, error, retry_after, now);
        } else {
            self.fail(call, error, now);
        }
    }
}
