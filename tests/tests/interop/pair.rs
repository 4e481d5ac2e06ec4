//! Plays a scenario with one caller and one worker, and judges what came of it.

use serde_json::{Value, json};

use crate::place::{ENDPOINT, Kind, Place};
use crate::process::Peer;
use crate::table::{Outcome, Scenario};
use crate::wheel;

/// A caller and a worker that know each other. Declared in the order in which they end.
pub(crate) struct Pair {
    pub(crate) caller: Peer,
    pub(crate) worker: Peer,
    pub(crate) place: Place,
    caller_kind: Kind,
    worker_kind: Kind,
    calls: u32,
}

impl Pair {
    pub(crate) fn new(caller: Kind, worker: Kind, codec: &'static str) -> Self {
        Self::with(caller, worker, codec, &[])
    }

    /// With more environment for both.
    pub(crate) fn with(caller: Kind, worker: Kind, codec: &'static str, env: &[(&str, &str)]) -> Self {
        Self::at(ENDPOINT, caller, worker, codec, env)
    }

    /// The same with an endpoint of their own, where others may be found too.
    pub(crate) fn at(endpoint: &str, caller: Kind, worker: Kind, codec: &'static str, env: &[(&str, &str)]) -> Self {
        let place = Place::new(codec);
        let serving = place.worker(worker, endpoint, env);
        let calling = place.caller(caller, endpoint, 1, env);
        Self { caller: calling, worker: serving, place, caller_kind: caller, worker_kind: worker, calls: 0 }
    }

    /// A name for a call, which is its context id too.
    pub(crate) fn call_name(&mut self, of: &str) -> String {
        self.calls += 1;
        format!("{of}-{}", self.calls)
    }

    /// Plays one scenario.
    pub(crate) fn play(&mut self, scenario: &Scenario) {
        let name = self.call_name(&scenario.name);
        let mut command = scenario.command.clone();
        command["call"] = json!(name);
        command["context"] = json!(name);
        self.caller.tell(&command);
        let mut items = Vec::new();
        if let Some(then) = command.get("then").and_then(Value::as_str) {
            self.worker.wait("hanging handler", |line| line["event"] == "hanging" && line["id"] == json!(name));
            // A cancel may overtake items under way.
            let sent = command["request"]["hang_at"].as_u64().unwrap_or(0);
            items
                .extend((0..sent).map(|_| self.caller.wait("item", |line| line["call"] == json!(name))["item"].take()));
            self.caller.tell(&json!({ then: name }));
        }
        let (more, ending) = self.ending(&name);
        items.extend(more);
        self.judge(&name, &scenario.outcome, &items, &ending);
    }

    /// The items of a call and the line that ended it.
    pub(crate) fn ending(&mut self, name: &str) -> (Vec<Value>, Value) {
        let mut items = Vec::new();
        loop {
            let mut line = self.caller.wait("line of the call", |line| line["call"] == json!(name));
            match line.get_mut("item") {
                Some(item) => items.push(item.take()),
                None => return (items, line),
            }
        }
    }

    fn judge(&mut self, name: &str, outcome: &Outcome, items: &[Value], ending: &Value) {
        let said = || format!("{name}: {ending} after {items:?}");
        match outcome {
            Outcome::Items(wanted) => {
                let wanted: Vec<_> = wanted.iter().map(shown).collect();
                assert_eq!(items, wanted, "{}", said());
                assert_eq!(ending["end"], json!(wanted.len()), "{}", said());
            }
            Outcome::Calls { items } => {
                assert_eq!(ending["failed"], 0, "{}", said());
                assert_eq!(ending["items"], json!(items), "{}", said());
            }
            Outcome::Context => self.judge_context(name, items, &said()),
            Outcome::Failure { after, class, reason, text, at_call } => {
                assert_eq!(ending["after"], json!(after), "{}", said());
                self.judge_failure(ending, (class, reason, text), *at_call, &said());
            }
            Outcome::Stopped { items } => {
                assert_eq!(ending["end"], json!(items), "{}", said());
                let end = self.handler_end(name);
                assert_eq!(end["stopped"], true, "{end}");
            }
            Outcome::Dropped => {
                assert!(ending.get("dropped").is_some(), "{}", said());
                let end = self.handler_end(name);
                assert_eq!(end["stopped"], true, "{end}");
            }
        }
    }

    fn handler_end(&mut self, name: &str) -> Value {
        self.worker.wait("end of the handler", |line| line["event"] == "ended" && line["id"] == json!(name))
    }

    fn judge_context(&self, name: &str, items: &[Value], said: &str) {
        let [seen] = items else { panic!("{said}") };
        assert_eq!(seen["id"], json!(name), "{said}");
        let mut metadata = seen["metadata"].clone();
        // Ours tells handlers of Dynamo's how much time is left, which their protocol has no word for.
        let left = metadata.as_object_mut().and_then(|pairs| pairs.remove("x-ringplane-remaining-us"));
        let left = left.map(|left| left.as_str().and_then(|left| left.parse::<u64>().ok()).expect("a number"));
        assert!(left.is_none_or(|left| self.caller_kind.is_ours() && (1..=20_000_000).contains(&left)), "{said}");
        assert_eq!(metadata, json!({"tenant": "t-1", "ünïcode": "värde", "empty": ""}), "{said}");
        let trace = seen["trace"]["traceparent"].as_str().unwrap_or_default();
        let parts: Vec<_> = trace.split('-').map(str::len).collect();
        assert_eq!(parts, [2, 32, 16, 2], "{said}");
        if self.caller_kind.is_ours() {
            // Ours writes a known one; a Dynamo worker keeps the trace and puts its own span in.
            assert_eq!(trace.get(3..35), Some("4bf92f3577b34da6a3ce929d0e0e4736"), "{said}");
        }
    }

    /// A Dynamo caller shows the class in the text, or only the text if the error carried words for clients: those of a
    /// Dynamo worker's InvalidArgument, and of whatever a worker of ours calls an invalid request. What a Dynamo worker says
    /// before the stream, it reports as a lost worker with the worker's words.
    fn judge_failure(&self, ending: &Value, (class, reason, text): (&str, &str, &str), at_call: bool, said: &str) {
        let shown = ending["error"].as_str().unwrap_or_default();
        assert!(shown.contains(text), "{said}");
        if self.caller_kind.is_ours() {
            assert_eq!((ending["class"].as_str(), ending["reason"].as_str()), (Some(class), Some(reason)), "{said}");
            return;
        }
        let ours = self.worker_kind.is_ours();
        let class = if at_call && !ours { "Unavailable" } else { class };
        let public =
            ending["type"] == "InvalidArgument" && if ours { class == "InvalidRequest" } else { shown == text };
        let class = if self.caller_kind == Kind::Dynamo(wheel::OLDER) { older_name(class) } else { class };
        assert!(public || shown.starts_with(&format!("{class}: ")), "{said}");
    }
}

/// What callers before 1.6 show for a class, which they do not know.
fn older_name(class: &str) -> &str {
    match class {
        "InvalidRequest" => "InvalidArgument",
        "Internal" => "Unknown",
        class => class,
    }
}

/// A value as the peers print it: in full, or as the length and Adler-32 of its compact JSON.
pub(crate) fn shown(value: &Value) -> Value {
    let text = value.to_string();
    if text.len() <= 400 {
        return value.clone();
    }
    json!({"chars": text.len(), "adler32": adler32(text.as_bytes())})
}

fn adler32(bytes: &[u8]) -> u32 {
    let (a, b) = bytes.iter().fold((1_u32, 0_u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    b << 16 | a
}
