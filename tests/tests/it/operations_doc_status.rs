//! The table of defaults in `docs/operations.md` of the status server, and that of its counters.

use ringplane::status::{StatusConfig, StatusStats};

use crate::operations_doc::{check, count, documented, time};

#[test]
fn the_defaults_and_counters_of_the_status_server_are_those_documented() {
    let StatusConfig {
        listen,
        manage,
        ready_at_start,
        required,
        health_path,
        live_path,
        core_timeout,
        max_connections,
        header_timeout,
        connection_life,
        farewell,
        max_rows,
        max_errors,
    } = StatusConfig::default();
    let rows = [
        ("listen", listen.to_string()),
        ("manage", manage.to_string()),
        ("ready_at_start", ready_at_start.to_string()),
        ("required", format!("{required:?}")),
        ("health_path", format!("{health_path:?}")),
        ("live_path", format!("{live_path:?}")),
        ("core_timeout", time(core_timeout)),
        ("max_connections", count(max_connections as u64)),
        ("header_timeout", time(header_timeout)),
        ("connection_life", time(connection_life)),
        ("farewell", time(farewell)),
        ("max_rows", count(max_rows as u64)),
        ("max_errors", count(max_errors as u64)),
    ];
    check("status::StatusConfig", &rows);
    let names = StatusStats::default().named().map(|(name, _)| name).collect::<Vec<_>>();
    let rows = documented("StatusStats");
    assert_eq!(rows.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), names);
}
