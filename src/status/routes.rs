//! What is answered at which path, and who may ask.

use std::net::IpAddr;
use std::sync::Arc;

use ringplane_core::chain::Chain;
use ringplane_tokio::observe::metrics::Format;
use ringplane_tokio::random::random_u64;
use ringplane_tokio::status::{Answer, Ask};
use tokio::time::timeout;

use crate::error::Error;
use crate::status::gather;
use crate::status::hall::Hall;
use crate::status::page::render;
use crate::status::subject::Act;
use crate::status::verdict::{Told, word};

/// The header that a POST must have: a page of another site cannot send it without being allowed to, which it never is.
const SIGN: &str = "x-ringplane";

/// Answers one request.
pub(super) async fn answer(hall: Arc<Hall>, ask: Ask) -> Answer {
    // A name that leads to this host only for as long as a browser's rules ask for it is nobody's to use.
    if hall.is_local && ask.has("host") && !is_plain_host(&ask) {
        return Answer::text(421, "ask this server by its address, or as localhost");
    }
    match ask.method.as_str() {
        "GET" | "HEAD" if ask.path == "/metrics" => metrics(&hall, ask.header("accept")).await,
        "GET" | "HEAD" => get(&hall, &ask.path).await,
        "POST" => post(&hall, &ask).await,
        _ => {
            Answer::text(405, "there is GET, HEAD and, where it is switched on, POST").with("allow", "GET, HEAD, POST")
        }
    }
}

async fn get(hall: &Hall, path: &str) -> Answer {
    if path == hall.config.live_path {
        return live(hall).await;
    }
    if path == hall.config.health_path || path == "/ready" {
        let rows = gather::rows(hall);
        let ready = gather::ready(hall, &rows);
        let facts = gather::facts(hall, &rows);
        return probe(hall, word(ready.is_ok()), facts.words(), ready.as_ref().err().map(String::as_str));
    }
    if let Some(name) = path.strip_prefix("/ready/") {
        return ready_at(hall, name);
    }
    match path {
        "/" => {
            // The page's own styles and script are known by a number that nobody can guess.
            let nonce = format!("{:016x}", random_u64());
            let body = render::page(&gather::process(hall).await, &nonce);
            Answer::new(200, "text/html; charset=utf-8", body)
                .with("content-security-policy", policy(&nonce))
                .with("referrer-policy", "no-referrer")
        }
        "/page.json" => Answer::json(200, render::cells(&gather::process(hall).await)),
        "/status.json" => Answer::json(200, serde_json::to_string(&gather::process(hall).await).unwrap_or_default()),
        "/metadata" => Answer::json(200, metadata(hall)),
        _ => Answer::text(404, "Route not found"),
    }
}

async fn metrics(hall: &Hall, accept: Option<&str>) -> Answer {
    // As long as one scrape takes at the most, so that two who scrape at the same moment are both answered.
    let Ok(Ok(_turn)) = timeout(hall.config.core_timeout, hall.scraping.acquire()).await else {
        return Answer::text(503, "others are being told the metrics; ask again").with("retry-after", "1");
    };
    let format = Format::accepted(accept.unwrap_or_default());
    Answer::new(200, format.content_type(), hall.metrics.text(format).await)
}

fn policy(nonce: &str) -> String {
    format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

async fn live(hall: &Hall) -> Answer {
    let live = gather::live(hall).await;
    let rows = gather::rows(hall);
    let status = if live.is_err() { "stuck" } else { word(gather::ready(hall, &rows).is_ok()) };
    let facts = gather::facts(hall, &rows);
    probe_as(hall, live.is_ok(), status, facts.words(), live.as_ref().err().map(String::as_str))
}

fn ready_at(hall: &Hall, name: &str) -> Answer {
    let rows = gather::rows(hall);
    let facts = gather::facts(hall, &rows);
    match facts.ready_at(name) {
        None => Answer::text(404, "no such endpoint is served here"),
        Some(ready) => {
            let words = [(name, word(ready.is_ok()))].into();
            probe(hall, word(ready.is_ok()), words, ready.as_ref().err().map(String::as_str))
        }
    }
}

type Words<'a> = std::collections::BTreeMap<&'a str, &'static str>;

fn probe(hall: &Hall, status: &'static str, words: Words<'_>, why: Option<&str>) -> Answer {
    probe_as(hall, why.is_none(), status, words, why)
}

fn probe_as(hall: &Hall, good: bool, status: &'static str, words: Words<'_>, why: Option<&str>) -> Answer {
    let body = Told::new(status, hall.begun.elapsed(), words, why).write();
    Answer::json(if good { 200 } else { 503 }, body)
}

/// The records of this process, as discovery has them.
fn metadata(hall: &Hall) -> String {
    let records = hall.all().into_iter().flat_map(|(_, taken)| taken.subject.records());
    let records = records.filter_map(|record| serde_json::from_slice::<serde_json::Value>(&record).ok());
    let records: Vec<_> = records.take(hall.config.max_rows).collect();
    serde_json::json!({ "version": env!("CARGO_PKG_VERSION"), "pid": std::process::id(), "endpoints": records })
        .to_string()
}

/// `POST /endpoints/NAME/drain` and `/resume`.
async fn post(hall: &Hall, ask: &Ask) -> Answer {
    if !hall.config.manage {
        return Answer::text(403, "nothing can be changed here: start with `manage`, or the tool with --status-manage");
    }
    if let Err(why) = is_trusted(ask) {
        return Answer::text(403, why);
    }
    let named = ask.path.strip_prefix("/endpoints/").and_then(|rest| rest.rsplit_once('/'));
    let (name, act) = match named {
        Some((name, "drain")) => (name, Act::Drain),
        Some((name, "resume")) => (name, Act::Resume),
        _ => return Answer::text(404, "Route not found"),
    };
    let all = hall.all();
    let mut meant = all.iter().flat_map(|(_, taken)| {
        let rows = taken.subject.endpoints().into_iter().filter(|row| row.is_called(name));
        rows.map(|row| (taken.subject.clone(), row.name))
    });
    let Some((subject, endpoint)) = meant.next() else {
        return Answer::text(404, "no such endpoint is served here");
    };
    if meant.next().is_some() {
        return Answer::text(409, "several endpoints are called so: use the whole name, of one worker");
    }
    match subject.manage(endpoint, act).await {
        Ok(()) => Answer::json(202, serde_json::json!({ "status": "accepted" }).to_string()),
        Err(Error::NotServed(_)) => Answer::text(404, "no such endpoint is served here"),
        Err(error) => Answer::text(409, &Chain(&error).to_string()),
    }
}

/// Whether a request to change something comes from a program or from the page itself, and from no other site.
fn is_trusted(ask: &Ask) -> Result<(), &'static str> {
    if ask.header(SIGN) != Some("1") {
        return Err("the header `x-ringplane: 1` is missing");
    }
    // A name could lead here from anywhere.
    if !is_plain_host(ask) {
        return Err("ask this server by its address, or as localhost");
    }
    if ask.has("sec-fetch-site") && ask.header("sec-fetch-site") != Some("same-origin") {
        return Err("this is another site's request");
    }
    let same = |origin: &str| origin.strip_prefix("http://").is_some_and(|rest| Some(rest) == ask.header("host"));
    if ask.has("origin") && !ask.header("origin").is_some_and(same) {
        return Err("this is another site's request");
    }
    Ok(())
}

/// Whether the server was asked for by an address, or as `localhost`.
fn is_plain_host(ask: &Ask) -> bool {
    let Some(host) = ask.header("host") else { return false };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::status::config::StatusConfig;

    #[tokio::test]
    async fn a_scrape_waits_for_the_one_before_it_and_not_for_ever() {
        let config = StatusConfig { core_timeout: Duration::from_millis(10), ..StatusConfig::default() };
        let hall = Hall::new(config, true);
        let turn = hall.scraping.acquire().await.unwrap();
        let answer = metrics(&hall, None).await;
        assert_eq!((answer.status, &answer.headers[..]), (503, &[("retry-after", "1".to_owned())][..]));
        drop(turn);
        assert_eq!(metrics(&hall, None).await.status, 200);
    }
}
