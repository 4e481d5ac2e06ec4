//! Whether a process may get traffic and why not, and how Dynamo's probes are told.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::status::subject::Row;

/// What decides.
pub(super) struct Facts<'a> {
    /// What holds of a process without a worker.
    pub(super) flag: bool,
    /// Whether there is a worker, or has been one.
    pub(super) had_worker: bool,
    /// The endpoints that have to be ready.
    pub(super) required: &'a [String],
    /// Those that are served.
    pub(super) rows: &'a [Row],
}

impl Facts<'_> {
    /// Whether the process may get traffic; else why not.
    pub(super) fn ready(&self) -> Result<(), String> {
        if !self.had_worker && self.required.is_empty() {
            return if self.flag { Ok(()) } else { Err("nothing is served yet".to_owned()) };
        }
        for name in self.required {
            let mut meant = self.rows.iter().filter(|row| row.is_called(name)).peekable();
            if meant.peek().is_none() {
                return Err(format!("`{name}` is not served"));
            }
            meant.try_for_each(fit)?;
        }
        if self.required.is_empty() {
            // One that was drained alone does not take the others down with it.
            self.rows.iter().filter(|row| !row.drained).try_for_each(fit)?;
            if !self.rows.iter().any(|row| row.ready) {
                return Err("no endpoint is ready".to_owned());
            }
        }
        Ok(())
    }

    /// The same for one endpoint; `None`: there is none of that name.
    pub(super) fn ready_at(&self, name: &str) -> Option<Result<(), String>> {
        let mut meant = self.rows.iter().filter(|row| row.is_called(name)).peekable();
        meant.peek()?;
        Some(meant.try_for_each(fit))
    }

    /// Each endpoint as Dynamo names it: by the last part of its name, unless several have that.
    pub(super) fn words(&self) -> BTreeMap<&str, &'static str> {
        let name = |row: &'_ Row| self.rows.iter().filter(|other| other.short() == row.short()).count() == 1;
        let mut words = BTreeMap::new();
        for row in self.rows {
            let shown = if name(row) { row.short() } else { row.name.as_str() };
            words.insert(shown, word(row.ready));
        }
        words
    }
}

fn fit(row: &Row) -> Result<(), String> {
    if row.ready { Ok(()) } else { Err(format!("`{}` is {}: {}", row.name, row.state, row.why)) }
}

/// Dynamo's words.
pub(super) const fn word(ready: bool) -> &'static str {
    if ready { "ready" } else { "notready" }
}

/// The body of a probe's answer, with Dynamo's fields in its order; ours are behind them, where there is something to say.
#[derive(Serialize)]
pub(super) struct Told<'a> {
    status: &'static str,
    uptime: Uptime,
    endpoints: BTreeMap<&'a str, &'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
}

#[derive(Serialize)]
struct Uptime {
    secs: u64,
    nanos: u32,
}

impl<'a> Told<'a> {
    pub(super) fn new(
        status: &'static str,
        uptime: Duration,
        endpoints: BTreeMap<&'a str, &'static str>,
        why: Option<&'a str>,
    ) -> Self {
        let uptime = Uptime { secs: uptime.as_secs(), nanos: uptime.subsec_nanos() };
        Self { status, uptime, endpoints, why }
    }

    pub(super) fn write(&self) -> String {
        // Texts and numbers: there is nothing in it that could not be written.
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, state: &'static str) -> Row {
        let (ready, drained) = (state == "ready", state == "drained");
        Row { name: name.to_owned(), state, why: "so it is", ready, drained }
    }

    fn ready(had_worker: bool, required: &[&str], rows: &[Row]) -> Result<(), String> {
        let required: Vec<String> = required.iter().map(|name| (*name).to_owned()).collect();
        Facts { flag: false, had_worker, required: &required, rows }.ready()
    }

    #[test]
    fn a_process_is_ready_if_its_endpoints_are_but_for_those_that_were_drained_alone() {
        let (one, two) = (row("a.b.one", "ready"), row("a.b.two", "drained"));
        assert!(ready(true, &[], std::slice::from_ref(&one)).is_ok());
        assert!(ready(true, &[], &[one.clone(), two.clone()]).is_ok());
        assert_eq!(ready(true, &[], std::slice::from_ref(&two)).unwrap_err(), "no endpoint is ready");
        let lost = row("a.b.three", "lost");
        let why = "`a.b.three` is lost: so it is";
        assert_eq!(ready(true, &[], &[one.clone(), lost]).unwrap_err(), why);
        assert!(ready(true, &["two"], &[one.clone(), two]).unwrap_err().contains("a.b.two"));
        assert_eq!(ready(true, &["four"], std::slice::from_ref(&one)).unwrap_err(), "`four` is not served");
        assert!(ready(true, &["one"], &[one, row("a.b.three", "lost")]).is_ok(), "the others are not asked for");
    }

    #[test]
    fn a_process_without_a_worker_is_what_it_says_until_it_has_one() {
        let facts = |flag, had_worker| Facts { flag, had_worker, required: &[], rows: &[] }.ready().is_ok();
        assert_eq!([facts(true, false), facts(false, false), facts(true, true)], [true, false, false]);
    }

    #[test]
    fn dynamos_probes_read_what_they_know() {
        let rows = [row("a.b.one", "ready"), row("a.b.two", "lost"), row("a.c.two", "ready")];
        let facts = Facts { flag: false, had_worker: true, required: &[], rows: &rows };
        let told = Told::new(word(false), Duration::new(1, 5), facts.words(), None).write();
        let wanted = r#"{"status":"notready","uptime":{"secs":1,"nanos":5},"endpoints":{"a.b.two":"notready","a.c.two":"ready","one":"ready"}}"#;
        assert_eq!(told, wanted);
        assert_eq!(facts.ready_at("one"), Some(Ok(())));
        assert!(facts.ready_at("two").unwrap().is_err() && facts.ready_at("none").is_none());
    }
}
