//! The tables of `docs/operations.md` about the export of spans.

use ringplane::observe::{SpanStats, otlp};

use crate::operations_doc::{check, count, documented, time};

#[test]
fn the_defaults_and_counters_of_the_export_of_spans_are_documented() {
    let otlp::Config { protocol, endpoint, headers, timeout, sampling, service, resource, queue, batch, delay } =
        Default::default();
    assert!(headers.is_empty() && resource.is_empty());
    let rows = [
        ("protocol", format!("{protocol:?}")),
        ("endpoint", format!("`{endpoint}`")),
        ("headers", "none".to_owned()),
        ("timeout", time(timeout)),
        ("sampling.share", sampling.share.to_string()),
        ("sampling.parent_based", sampling.parent_based.to_string()),
        ("service", format!("`{service}`")),
        ("resource", "none".to_owned()),
        ("queue", count(queue as u64)),
        ("batch", count(batch as u64)),
        ("delay", time(delay)),
    ];
    check("observe::otlp::Config", &rows);
    let documented = documented("SpanStats");
    let names = SpanStats::default().named().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(documented.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), names);
}
