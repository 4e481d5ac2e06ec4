//! The page: what is at one moment, by the same words for a first look and for those that follow.

use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::status::page::html::Html;
use crate::status::view::{EndpointView, ErrorView, InstanceRow, PartView, ProcessView, Rates};
use crate::status::words::{bytes, count, rate, short, time};

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The whole page. Its styles and its script carry the nonce.
pub(crate) fn page(process: &ProcessView, nonce: &str) -> String {
    let main = body(process);
    let shape = main.shape();
    let (body, _) = main.done();
    // The body comes last: what it says is looked through for nothing.
    let whole = PAGE.replace("{nonce}", nonce).replace("{style}", STYLE).replace("{script}", SCRIPT);
    let (head, foot) = whole.split_once("{body}").unwrap_or((&whole, ""));
    format!("{}{body}{foot}", head.replace("{shape}", &shape))
}

/// The texts that change, as JSON, and the shape of the page that they fit into.
pub(crate) fn cells(process: &ProcessView) -> String {
    let main = body(process);
    let shape = main.shape();
    let (_, cells) = main.done();
    json!({ "shape": shape, "cells": cells }).to_string()
}

fn body(process: &ProcessView) -> Html {
    let mut html = Html::default();
    html.raw("<header><h1>ringplane</h1><p class=\"pills\">");
    pill(&mut html, process.ready, if process.ready { "ready" } else { "not ready" });
    pill(&mut html, process.live, if process.live { "live" } else { "stuck" });
    html.raw("</p><p class=\"dim\">version ");
    html.text(&process.version);
    html.raw(" · process ");
    html.text(&process.pid.to_string());
    html.raw(" · up ");
    html.cell("span", time(Duration::from_millis(process.uptime_ms)));
    html.raw("</p></header>");
    if let Some(why) = &process.why {
        html.raw("<p class=\"why\" role=\"status\">");
        html.text(why);
        html.raw("</p>");
    }
    if process.parts.is_empty() {
        html.raw("<section><p class=\"dim\">No worker and no client of this process takes part yet.</p></section>");
    }
    process.parts.iter().for_each(|one| part(&mut html, one, process.manage));
    errors(&mut html, &process.errors, process.errors_total);
    html
}

fn pill(html: &mut Html, good: bool, word: &str) {
    html.raw(if good { "<span class=\"pill ok\">" } else { "<span class=\"pill bad\">" });
    html.text(word);
    html.raw("</span>");
}

fn part(html: &mut Html, part: &PartView, manage: bool) {
    html.raw("<section><h2>");
    html.raw(if part.is_worker() { "Worker <code>" } else { "Client <code>" });
    html.text(&part.name);
    html.raw("</code></h2><p class=\"dim\">");
    match &part.driver {
        Some(driver) => {
            html.text(&format!("{} {} on {driver}", part.threads, if part.threads == 1 { "core" } else { "cores" }));
        }
        None if part.is_worker() => html.raw("it starts"),
        None => html.raw("on the cores of the worker"),
    }
    html.raw("</p>");
    if !part.current {
        html.raw("<p class=\"why\">A core does not answer: these numbers are old.</p>");
    }
    if part.driver.is_some() {
        figures(html, part);
    }
    if !part.endpoints.is_empty() {
        endpoints(html, &part.endpoints, manage);
    }
    if !part.instances.is_empty() {
        instances(html, &part.instances);
    }
    if part.left_out > 0 {
        html.raw("<p class=\"dim\">and more, which are not shown: ");
        html.cell("span", count(part.left_out as u64));
        html.raw("</p>");
    }
    html.raw("</section>");
}

/// What is shown of the numbers, each below its name.
fn figures(html: &mut Html, part: &PartView) {
    let per_second = |get: fn(&Rates) -> f64| part.rates.as_ref().map_or("–".to_owned(), |rates| rate(get(rates)));
    let bytes_per_second =
        |get: fn(&Rates) -> f64| part.rates.as_ref().map_or("–".to_owned(), |rates| bytes(get(rates)));
    let time_of = |get: fn(&Rates) -> Option<u64>| part.rates.as_ref().and_then(get).map_or("–".to_owned(), short);
    let number = |name: &str| count(part.number(name));
    html.raw("<dl class=\"figures\">");
    let mut figure = |name: &'static str, value: String| {
        html.raw("<div><dt>");
        html.raw(name);
        html.raw("</dt>");
        html.cell("dd", value);
        html.raw("</div>");
    };
    figure("calls per second", per_second(|rates| rates.calls));
    if part.is_worker() {
        figure("calls", number("served.admitted"));
        figure("running and waiting", number("worker.jobs"));
        figure("refused per second", per_second(|rates| rates.failed));
        let refused = ["served.overloaded", "served.refused", "served.expired", "served.cut_off"];
        figure("refused", count(refused.iter().map(|name| part.number(name)).sum()));
        figure("connections", number("worker.connections"));
    } else {
        figure("calls", number("called.calls"));
        figure("under way", number("caller.calls"));
        figure("failed per second", per_second(|rates| rates.failed));
        figure("failed", number("called.failed"));
        figure("tried again", number("called.retries"));
        figure("connections", number("caller.connections"));
    }
    figure("median time", time_of(|rates| rates.p50_us));
    figure("99 % within", time_of(|rates| rates.p99_us));
    figure("in, per second", bytes_per_second(|rates| rates.bytes_in));
    figure("out, per second", bytes_per_second(|rates| rates.bytes_out));
    html.raw("</dl>");
}

fn endpoints(html: &mut Html, all: &[EndpointView], manage: bool) {
    html.raw("<table><thead><tr><th>Endpoint<th>State<th>Why");
    html.raw(if manage { "<th><span class=\"hidden\">Change</span></thead><tbody>" } else { "</thead><tbody>" });
    for one in all {
        html.raw("<tr><td data-label=\"Endpoint\"><code>");
        html.text(&one.name);
        html.raw("</code><td data-label=\"State\">");
        pill(html, one.ready, &one.state);
        html.raw("<td data-label=\"Why\" class=\"dim\">");
        html.text(&one.why);
        if manage {
            html.raw("<td><button type=\"button\" data-act=\"");
            html.raw(if one.state == "drained" { "resume" } else { "drain" });
            html.raw("\" data-endpoint=\"");
            html.text(&one.name);
            html.raw(if one.state == "drained" { "\">Resume</button>" } else { "\">Drain</button>" });
        }
    }
    html.raw("</tbody></table>");
}

fn instances(html: &mut Html, all: &[InstanceRow]) {
    html.raw("<table><thead><tr><th>Endpoint<th>Instance<th>Address<th>Health<th>Why<th class=\"number\">Under way</thead><tbody>");
    for one in all {
        html.raw("<tr><td data-label=\"Endpoint\"><code>");
        html.text(&one.endpoint);
        html.raw("</code><td data-label=\"Instance\"><code>");
        html.text(&one.id);
        html.raw("</code><td data-label=\"Address\">");
        html.text(&one.address);
        html.raw(" <span class=\"dim\">");
        html.text(&one.protocol);
        html.raw("</span><td data-label=\"Health\">");
        pill(html, one.state == "routable" || one.state == "warming", &one.state);
        html.raw("<td data-label=\"Why\" class=\"dim\">");
        html.text(&one.why);
        html.raw(" ");
        html.cell("span", one.remaining_ms.map(left).unwrap_or_default());
        html.raw("<td data-label=\"Under way\" class=\"number\">");
        html.cell("span", count(one.in_flight.into()));
    }
    html.raw("</tbody></table>");
}

fn left(millis: u64) -> String {
    format!("for {}", time(Duration::from_millis(millis)))
}

fn errors(html: &mut Html, all: &[ErrorView], total: u64) {
    html.raw("<section><h2>Recent errors</h2>");
    if all.is_empty() {
        html.raw("<p class=\"dim\">None.</p></section>");
        return;
    }
    html.raw("<p class=\"dim\">");
    html.cell("span", count(total));
    html.raw(" in all; the newest first</p><ul class=\"errors\">");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    for one in all {
        html.raw("<li>");
        html.cell("time", format!("{} ago", time(now.saturating_sub(Duration::from_millis(one.at_ms)))));
        html.raw(" <code>");
        html.text(&one.place);
        html.raw("</code> ");
        html.text(&one.text);
        html.raw(" ");
        html.cell("b", if one.count > 1 { format!("× {}", count(one.count)) } else { String::new() });
    }
    html.raw("</ul></section>");
}
