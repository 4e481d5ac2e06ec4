//! The tables of defaults in `docs/operations.md` of events.

use ringplane::kv::BlockConfig;
use ringplane_core::event::{inbox, kv};
use ringplane_tokio::event::zmq;

use crate::operations_doc::{check, count, documented, optional, size, time};

#[test]
fn the_defaults_and_counters_of_a_subscription_to_events_are_documented() {
    let inbox::Config { max_events, max_bytes, slow, max_publishers } = Default::default();
    let rows = [
        ("max_events", count(max_events as u64)),
        ("max_bytes", size(max_bytes as u64)),
        ("slow", format!("{slow:?}")),
        ("max_publishers", count(max_publishers as u64)),
    ];
    check("event::inbox::Config", &rows);
    let documented = documented("event::inbox::Stats");
    let names = inbox::Stats::default().named().map(|(_, name, _)| name).collect::<Vec<_>>();
    assert_eq!(documented.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), names);
}

#[test]
fn the_defaults_of_events_are_those_documented() {
    let ringplane::events::NatsConfig { server: _, waiting, unwritten, stall } = Default::default();
    let rows = [("waiting", count(waiting as u64)), ("unwritten", count(unwritten as u64)), ("stall", time(stall))];
    check("events::NatsConfig", &rows);
    let ringplane::events::MuxConfig {
        listen,
        advertise,
        patience,
        waiting,
        waiting_bytes,
        max_wait,
        farewell,
        config,
    } = Default::default();
    assert_eq!(config, ringplane::Config::default());
    let rows = [
        ("listen", listen.to_string()),
        ("advertise", optional(&advertise)),
        ("patience", time(patience)),
        ("waiting", count(waiting as u64)),
        ("waiting_bytes", size(waiting_bytes as u64)),
        ("max_wait", time(max_wait)),
        ("farewell", time(farewell)),
    ];
    check("events::MuxConfig", &rows);
    let ringplane::events::ReplayConfig { max_events, max_bytes } = Default::default();
    let rows = [("max_events", count(max_events as u64)), ("max_bytes", size(max_bytes as u64))];
    check("events::ReplayConfig", &rows);
}

#[test]
fn the_defaults_of_zeromq_are_those_documented() {
    let zmq::ZmqConfig { way, host, all_addresses, socket } = Default::default();
    let rows = [("way", format!("{way:?}")), ("host", host.to_string()), ("all_addresses", all_addresses.to_string())];
    check("event::zmq::ZmqConfig", &rows);
    let zmq::Config {
        connect_timeout,
        hello_timeout,
        ping_interval,
        ping_timeout,
        stall_timeout,
        retry,
        max_waiting,
        max_waiting_bytes,
        max_message,
        max_peers,
        max_subscriptions,
        linger,
        farewell,
    } = socket;
    let rows = [
        ("connect_timeout", time(connect_timeout)),
        ("hello_timeout", time(hello_timeout)),
        ("ping_interval", time(ping_interval)),
        ("ping_timeout", time(ping_timeout)),
        ("stall_timeout", time(stall_timeout)),
        ("retry.base", time(retry.base)),
        ("retry.cap", time(retry.cap)),
        ("max_waiting", count(max_waiting as u64)),
        ("max_waiting_bytes", size(max_waiting_bytes as u64)),
        ("max_message", size(max_message as u64)),
        ("max_peers", count(max_peers as u64)),
        ("max_subscriptions", count(max_subscriptions as u64)),
        ("linger", time(linger)),
        ("farewell", time(farewell)),
    ];
    check("event::zmq::Config", &rows);
}

#[test]
fn the_defaults_of_kv_events_are_those_documented() {
    let kv::publisher::Config { rank, style, max_batches, max_bytes, max_requests, client_timeout, client_pause } =
        Default::default();
    let kv::write::Style { form, hashes } = style;
    let rows = [
        ("rank", count(rank.into())),
        ("style.form", format!("{form:?}")),
        ("style.hashes", format!("{hashes:?}")),
        ("max_batches", count(max_batches as u64)),
        ("max_bytes", size(max_bytes as u64)),
        ("max_requests", count(max_requests as u64)),
        ("client_timeout", time(client_timeout)),
        ("client_pause", time(client_pause)),
    ];
    check("event::kv::publisher::Config", &rows);
    let kv::subscriber::Config {
        rank,
        replay,
        limits: kv::Limits { payload, events, hashes, tokens, text, raw },
        copies: kv::copies::Config { max_hashes, max_places },
        idle_timeout,
        search_timeout,
        max_silences,
        max_resumes,
        cooldown,
        probe,
        settle,
        max_waiting,
        max_waiting_bytes,
    } = Default::default();
    let rows = [
        ("rank", count(rank.into())),
        ("replay", replay.to_string()),
        ("limits.payload", size(payload as u64)),
        ("limits.events", count(events as u64)),
        ("limits.hashes", count(hashes as u64)),
        ("limits.tokens", count(tokens as u64)),
        ("limits.text", size(text as u64)),
        ("limits.raw", size(raw as u64)),
        ("copies.max_hashes", count(max_hashes as u64)),
        ("copies.max_places", count(max_places as u64)),
        ("idle_timeout", time(idle_timeout)),
        ("search_timeout", time(search_timeout)),
        ("max_silences", count(max_silences.into())),
        ("max_resumes", count(max_resumes.into())),
        ("cooldown", time(cooldown)),
        ("probe", time(probe)),
        ("settle", time(settle)),
        ("max_waiting", count(max_waiting as u64)),
        ("max_waiting_bytes", size(max_waiting_bytes as u64)),
    ];
    check("event::kv::subscriber::Config", &rows);
}

#[test]
fn the_defaults_of_what_routers_are_told_are_those_documented() {
    let BlockConfig { rank, copies, patience, worker: _, block_size: _ } =
        BlockConfig::new(ringplane::InstanceId(1), 16);
    assert_eq!(patience, ringplane_core::task::publisher::Config::KV_EVENTS);
    let rows = [
        ("rank", count(rank.into())),
        ("copies.max_hashes", count(copies.max_hashes as u64)),
        ("copies.max_places", count(copies.max_places as u64)),
        ("patience.max_errors", count(patience.max_errors.into())),
        ("patience.max_queued", count(patience.max_queued as u64)),
    ];
    check("kv::BlockConfig", &rows);
}
