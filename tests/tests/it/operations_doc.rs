//! The tables of defaults in `docs/operations.md` against the code: every knob, no other, and its value.

use std::time::Duration;

use ringplane_core::event::kv;
use ringplane_core::retry::{backoff, budget};
use ringplane_core::route::rules;
use ringplane_core::wire::Limits;
use ringplane_core::{caller, dynamo, mux, overload, worker};
use ringplane_tests::house::files::files;
use ringplane_tokio::event::zmq;
use ringplane_tokio::{discovery, task};

/// Knob and default, as the document writes them.
pub(super) type Row = (String, String);

/// The rows of the table below the heading `### `NAME``.
pub(super) fn documented(name: &str) -> Vec<Row> {
    let documents = files("docs", "operations.md");
    let heading = format!("### `{name}`");
    let below = documents[0].text.lines().skip_while(|line| *line != heading).skip(1);
    let rows: Vec<Row> = below
        .take_while(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split(" | ");
            Some((cells.next()?.trim_end_matches('`').to_owned(), cells.next()?.to_owned()))
        })
        .collect();
    assert!(!rows.is_empty(), "no table below {heading}");
    rows
}

pub(super) fn check(name: &str, code: &[(&str, String)]) {
    let code: Vec<Row> = code.iter().map(|(knob, value)| ((*knob).to_owned(), value.clone())).collect();
    assert_eq!(documented(name), code, "docs/operations.md, {name}");
}

/// Whole units: `5 s`, `100 ms`, `50 µs`, `0`.
pub(super) fn time(value: Duration) -> String {
    match value.as_millis() {
        0 if value.is_zero() => "0".to_owned(),
        0 => format!("{} µs", value.as_micros()),
        millis if millis % 1000 == 0 => format!("{} s", millis / 1000),
        millis => format!("{millis} ms"),
    }
}

/// Whole binary units: `64 MiB`, `256 KiB`, else bytes.
pub(super) fn size(value: u64) -> String {
    for (unit, bits) in [("MiB", 20), ("KiB", 10)] {
        if value.trailing_zeros() >= bits && value > 0 {
            return format!("{} {unit}", value >> bits);
        }
    }
    format!("{} B", count(value))
}

/// With commas between thousands.
pub(super) fn count(value: u64) -> String {
    let digits = value.to_string();
    let groups: Vec<&[u8]> = digits.as_bytes().rchunks(3).rev().collect();
    String::from_utf8(groups.join(&b',')).expect("digits are text")
}

pub(super) fn optional<T: std::fmt::Debug>(value: &Option<T>) -> String {
    assert!(value.is_none(), "a default of {value:?} needs a way to be written");
    "None".to_owned()
}

#[test]
fn numbers_are_written_as_the_document_writes_them() {
    assert_eq!([count(7), count(1000), count(1_234_567)], ["7", "1,000", "1,234,567"]);
    assert_eq!([size(64 << 20), size(1536 << 10), size(65_535)], ["64 MiB", "1536 KiB", "65,535 B"]);
    assert_eq!([time(Duration::from_millis(1500)), time(Duration::from_secs(120))], ["1500 ms", "120 s"]);
}

#[test]
fn every_counter_of_a_snapshot_is_documented_below_its_group() {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for (group, name, _) in ringplane::Snapshot::default().named() {
        match groups.last_mut() {
            Some((last, names)) if *last == group => names.push(name),
            _ => groups.push((group, vec![name])),
        }
    }
    for (group, names) in groups {
        let documented = documented(&format!("Snapshot::{group}"));
        let documented: Vec<&str> = documented.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(documented, names, "docs/operations.md, Snapshot::{group}");
    }
}

#[test]
fn every_counter_outside_a_snapshot_is_documented() {
    let names = |named: &mut dyn Iterator<Item = (&'static str, u64)>| named.map(|(name, _)| name).collect::<Vec<_>>();
    for (group, names) in [
        ("TaskStats", names(&mut task::TaskStats::default().named())),
        ("PublisherStats", names(&mut task::PublisherStats::default().named())),
        ("ZmqStats", names(&mut zmq::ZmqStats::default().named())),
        ("KvPublisherStats", names(&mut kv::publisher::KvPublisherStats::default().named())),
        ("KvSourceStats", names(&mut kv::source::KvSourceStats::default().named())),
        ("KvAnnouncerStats", names(&mut kv::announcer::KvAnnouncerStats::default().named())),
        ("LineStats", names(&mut ringplane::kv::LineStats::default().named())),
    ] {
        let documented = documented(group);
        assert_eq!(documented.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), names, "{group}");
    }
}

#[test]
fn every_counter_of_a_snapshot_is_in_a_sum() {
    let mut one = ringplane::Snapshot::default();
    one.each_mut().zip(1..).for_each(|(counter, n)| *counter = n);
    let mut sum = one;
    sum.merge(&one);
    assert!(sum.named().map(|(_, _, n)| n).eq((1..).map(|n| 2 * n).take(sum.named().count())));
    // The compiler makes `Debug` of the fields, so each shows there once.
    assert_eq!(sum.named().count(), format!("{sum:?}").split(", ").count());
}

// The patterns below name every field, so that a new knob does not compile until it is documented.

#[test]
fn the_facades_defaults_are_those_documented() {
    let ringplane::Config {
        driver,
        cores,
        pin,
        bridge,
        endpoint_idle,
        max_endpoints,
        common,
        io_uring,
        tokio,
        runtimes,
        worker,
        caller,
    } = Default::default();
    let names = ringplane::DriverChoice::ALL;
    let driver = names.into_iter().find(|(_, choice)| *choice == driver).expect("every choice has a name").0;
    check(
        "ringplane::Config",
        &[
            ("driver", driver.to_owned()),
            ("cores", count(cores as u64)),
            ("pin", pin.to_string()),
            ("bridge", count(bridge as u64)),
            ("endpoint_idle", time(endpoint_idle)),
            ("max_endpoints", count(max_endpoints as u64)),
        ],
    );
    // What it hands on to drivers are their own defaults.
    assert_eq!((common, io_uring, tokio, runtimes), Default::default());
    // What it hands on differs from the machines' own defaults in the checksum alone.
    let mux = mux::Config { crc: worker.mux.crc, ..mux::Config::default() };
    assert_eq!(worker, worker::config::Config { mux, ..Default::default() });
    assert_eq!(caller, caller::Config { mux, ..Default::default() });
}

#[test]
fn the_callers_defaults_are_those_documented() {
    let caller::Config {
        max_calls,
        max_outgoing,
        connections_per_address,
        connect_timeout,
        accept_timeout,
        item_timeout,
        instance_timeout,
        deadline,
        idle_timeout,
        backoff: _,
        budget: _,
        health: _,
        penalty,
        front: _,
        throttle,
        mux: _,
        dialect,
        call_home: caller::CallHome { bind, advertise, max_unread, response_timeout, establish_timeout, lost_timeout },
        max_unclaimed,
        requests: _,
        carriers,
        responses: _,
        items: _,
    } = Default::default();
    check(
        "caller::Config",
        &[
            ("max_calls", count(max_calls as u64)),
            ("max_outgoing", size(max_outgoing as u64)),
            ("connections_per_address", count(connections_per_address as u64)),
            ("connect_timeout", time(connect_timeout)),
            ("accept_timeout", time(accept_timeout)),
            ("item_timeout", time(item_timeout)),
            ("instance_timeout", time(instance_timeout)),
            ("deadline", optional(&deadline)),
            ("idle_timeout", time(idle_timeout)),
            ("penalty", time(penalty)),
            ("throttle", optional(&throttle)),
            ("dialect", format!("{dialect:?}").to_lowercase()),
            ("call_home.bind", bind.to_string()),
            ("call_home.advertise", optional(&advertise)),
            ("call_home.max_unread", size(max_unread as u64)),
            ("call_home.response_timeout", time(response_timeout)),
            ("call_home.establish_timeout", optional(&establish_timeout)),
            ("call_home.lost_timeout", time(lost_timeout)),
            ("max_unclaimed", count(max_unclaimed as u64)),
        ],
    );
    let caller::dynamo::carrier::Config { max_unacked, max_unacked_bytes, nats_timeout, http_timeout } = carriers;
    check(
        "caller::dynamo::carrier::Config",
        &[
            ("max_unacked", count(max_unacked as u64)),
            ("max_unacked_bytes", size(max_unacked_bytes as u64)),
            ("nats_timeout", time(nats_timeout)),
            ("http_timeout", time(http_timeout)),
        ],
    );
}

#[test]
fn the_defaults_of_calls_that_wait_or_are_turned_away_are_those_documented() {
    let caller::front::Config { max_waiting, max_wait, wait_target, wait_interval, retry_after, max_retry_after } =
        Default::default();
    check(
        "caller::front::Config",
        &[
            ("max_waiting", count(max_waiting as u64)),
            ("max_wait", time(max_wait)),
            ("wait_target", time(wait_target)),
            ("wait_interval", time(wait_interval)),
            ("retry_after", time(retry_after)),
            ("max_retry_after", time(max_retry_after)),
        ],
    );
    let overload::throttle::Config { k, window } = Default::default();
    check("overload::throttle::Config", &[("k", format!("{k} %")), ("window", time(window))]);
}

#[test]
fn the_defaults_of_retries_and_marks_are_those_documented() {
    let backoff::Config { base, cap, attempts } = Default::default();
    check("backoff::Config", &[("base", time(base)), ("cap", time(cap)), ("attempts", count(attempts.into()))]);
    let budget::Config { max_tokens, milli_tokens_per_success } = Default::default();
    check(
        "budget::Config",
        &[
            ("max_tokens", count(max_tokens.into())),
            ("milli_tokens_per_success", count(milli_tokens_per_success.into())),
        ],
    );
}

#[test]
fn the_defaults_of_health_are_those_documented() {
    let rules::Config {
        base,
        cap,
        jitter,
        silences,
        interval,
        min_tries,
        min_compared,
        deviations,
        max_ejected,
        panic,
        lease,
        lease_cap,
        leaving,
        slow_start,
        inhibited,
    } = Default::default();
    check(
        "route::rules::Config",
        &[
            ("base", time(base)),
            ("cap", time(cap)),
            ("jitter", format!("{jitter} %")),
            ("silences", count(silences.into())),
            ("interval", time(interval)),
            ("min_tries", count(min_tries.into())),
            ("min_compared", count(min_compared.into())),
            ("deviations", format!("{}.{}", deviations / 10, deviations % 10)),
            ("max_ejected", format!("{max_ejected} %")),
            ("panic", format!("{panic} %")),
            ("lease", time(lease)),
            ("lease_cap", time(lease_cap)),
            ("leaving", time(leaving)),
            ("slow_start", time(slow_start)),
            ("inhibited", optional(&inhibited)),
        ],
    );
}

#[test]
fn the_defaults_of_tasks_and_publishers_are_those_documented() {
    let task::Retry { backoff, slot } = Default::default();
    assert_eq!(backoff, backoff::Config::default());
    let rows = [("backoff", format!("{} tries", backoff.attempts)), ("slot", format!("{slot:?}"))];
    check("task::Retry", &rows);
    let task::Rate { max_failures_per_mille, window, min_samples } = Default::default();
    check(
        "task::Rate",
        &[
            ("max_failures_per_mille", count(max_failures_per_mille.into())),
            ("window", time(window)),
            ("min_samples", count(min_samples.into())),
        ],
    );
    let task::publisher::Config { pauses, max_errors, max_queued } = Default::default();
    let ringplane_core::task::pauses::Pauses { first, doublings, cap, jitter, within } = pauses;
    check(
        "task::publisher::Config",
        &[
            ("pauses.first", time(first)),
            ("pauses.doublings", count(doublings.into())),
            ("pauses.cap", time(cap)),
            ("pauses.jitter", format!("{jitter:?}")),
            ("pauses.within", optional(&within)),
            ("max_errors", count(max_errors.into())),
            ("max_queued", count(max_queued as u64)),
        ],
    );
}

#[test]
fn the_workers_defaults_are_those_documented() {
    let worker::config::Config {
        max_running,
        max_queued,
        share,
        endpoint_share,
        max_wait,
        wait_target,
        wait_interval,
        adaptive,
        report_every,
        retry_after,
        max_retry_after,
        drain_timeout,
        canary,
        mux: _,
        requests: _,
        responses: _,
        items: _,
        call_home,
        dial_timeout,
        redials,
        redial_pause,
        max_partial,
        max_refusals,
        max_outgoing,
        max_request_bytes,
    } = Default::default();
    assert!(call_home.iter().all(Option::is_none), "the document says nobody");
    check_canary(canary);
    check(
        "worker::Config",
        &[
            ("max_running", count(max_running as u64)),
            ("max_queued", count(max_queued as u64)),
            ("share", format!("{share} %")),
            ("endpoint_share", format!("{endpoint_share} %")),
            ("max_wait", time(max_wait)),
            ("wait_target", time(wait_target)),
            ("wait_interval", time(wait_interval)),
            ("max_request_bytes", size(max_request_bytes as u64)),
            ("max_outgoing", size(max_outgoing as u64)),
            ("adaptive", optional(&adaptive)),
            ("report_every", report_every.map_or_else(|| "None".to_owned(), time)),
            ("retry_after", time(retry_after)),
            ("max_retry_after", time(max_retry_after)),
            ("drain_timeout", time(drain_timeout)),
            ("call_home", "nobody".to_owned()),
            ("dial_timeout", time(dial_timeout)),
            ("redials", count(redials.into())),
            ("redial_pause", time(redial_pause)),
            ("max_partial", size(max_partial as u64)),
            ("max_refusals", count(max_refusals as u64)),
        ],
    );
}

fn check_canary(canary: worker::canary::Config) {
    let worker::canary::Config { enabled, wait, jitter, timeout } = canary;
    let [enabled, jitter] = [enabled.to_string(), format!("{jitter} %")];
    let rows = [("enabled", enabled), ("wait", time(wait)), ("jitter", jitter), ("timeout", time(timeout))];
    check("worker::canary::Config", &rows);
}

#[test]
fn the_defaults_of_the_adaptive_limit_are_those_documented() {
    let overload::gradient::Config { least, window, tolerance, measure_every } = Default::default();
    check(
        "overload::gradient::Config",
        &[
            ("least", count(least as u64)),
            ("window", time(window)),
            ("tolerance", format!("{tolerance} %")),
            ("measure_every", time(measure_every)),
        ],
    );
}

#[test]
fn the_worst_case_of_a_workers_memory_is_the_one_documented() {
    let (each, all) = worker::Config::default().most_memory();
    let line = format!("{} KiB for each connection and {} MiB for all together", each >> 10, all >> 20);
    let page = include_str!("../../../docs/operations.md").replace('\n', " ");
    assert!(page.contains(&line), "the page does not say: {line}");
}

#[test]
fn the_defaults_of_dynamos_connections_are_those_documented() {
    let dynamo::request::client::Config { max_unacked, max_message, max_ack, ack_timeout, send_timeout } =
        Default::default();
    check(
        "dynamo::request::client::Config",
        &[
            ("max_unacked", count(max_unacked as u64)),
            ("max_message", size(max_message as u64)),
            ("max_ack", size(max_ack as u64)),
            ("ack_timeout", time(ack_timeout)),
            ("send_timeout", time(send_timeout)),
        ],
    );
    let dynamo::response::receiver::Config { max_item, handshake_timeout, sentinel_timeout, flush_timeout } =
        Default::default();
    check(
        "dynamo::response::receiver::Config",
        &[
            ("max_item", size(max_item as u64)),
            ("handshake_timeout", time(handshake_timeout)),
            ("sentinel_timeout", time(sentinel_timeout)),
            ("flush_timeout", time(flush_timeout)),
        ],
    );
    let dynamo::request::server::Config {
        max_message,
        max_acks,
        max_waiting,
        frame_timeout,
        send_timeout,
        flush_timeout,
    } = Default::default();
    check(
        "dynamo::request::server::Config",
        &[
            ("max_message", size(max_message as u64)),
            ("max_acks", size(max_acks as u64)),
            ("max_waiting", size(max_waiting as u64)),
            ("frame_timeout", time(frame_timeout)),
            ("send_timeout", time(send_timeout)),
            ("flush_timeout", time(flush_timeout)),
        ],
    );
    let dynamo::response::sender::Config { send_buffer, send_timeout, fin_timeout, flush_timeout } = Default::default();
    check(
        "dynamo::response::sender::Config",
        &[
            ("send_buffer", size(send_buffer as u64)),
            ("send_timeout", time(send_timeout)),
            ("fin_timeout", time(fin_timeout)),
            ("flush_timeout", time(flush_timeout)),
        ],
    );
}

#[test]
fn the_defaults_of_dynamos_request_streams_are_those_documented() {
    let dynamo::items::sender::Config { send_buffer, send_timeout, flush_timeout } = Default::default();
    check(
        "dynamo::items::sender::Config",
        &[
            ("send_buffer", size(send_buffer as u64)),
            ("send_timeout", time(send_timeout)),
            ("flush_timeout", time(flush_timeout)),
        ],
    );
    let dynamo::items::receiver::Config {
        max_item,
        max_unread,
        item_timeout,
        frame_timeout,
        fin_timeout,
        flush_timeout,
    } = Default::default();
    check(
        "dynamo::items::receiver::Config",
        &[
            ("max_item", size(max_item as u64)),
            ("max_unread", size(max_unread as u64)),
            ("item_timeout", time(item_timeout)),
            ("frame_timeout", time(frame_timeout)),
            ("fin_timeout", time(fin_timeout)),
            ("flush_timeout", time(flush_timeout)),
        ],
    );
}

#[test]
fn the_defaults_of_a_connection_are_those_documented() {
    let mux::Config {
        stream_window,
        connection_window,
        max_item,
        reserve_pool,
        max_streams,
        send_buffer,
        connection_buffer,
        hello_timeout,
        ping_interval,
        ping_timeout,
        send_timeout,
        frame_timeout,
        item_timeout,
        credit_timeout,
        idle_timeout,
        flush_timeout,
        crc,
    } = Default::default();
    assert_eq!(crc, ringplane_core::wire::Crc32c::PORTABLE);
    check(
        "mux::Config",
        &[
            ("stream_window", size(stream_window.into())),
            ("connection_window", size(connection_window.into())),
            ("max_item", size(max_item)),
            ("reserve_pool", size(reserve_pool)),
            ("max_streams", count(max_streams.into())),
            ("send_buffer", size(send_buffer as u64)),
            ("connection_buffer", size(connection_buffer as u64)),
            ("hello_timeout", time(hello_timeout)),
            ("ping_interval", time(ping_interval)),
            ("ping_timeout", time(ping_timeout)),
            ("send_timeout", time(send_timeout)),
            ("frame_timeout", time(frame_timeout)),
            ("item_timeout", time(item_timeout)),
            ("credit_timeout", time(credit_timeout)),
            ("idle_timeout", time(idle_timeout)),
            ("flush_timeout", time(flush_timeout)),
            ("crc", "portable".to_owned()),
        ],
    );
}

#[test]
fn the_limits_of_frames_are_those_documented() {
    let Limits { max_message, max_header, max_body, max_fragment, max_mux_header } = Default::default();
    check(
        "Limits",
        &[
            ("max_message", size(max_message as u64)),
            ("max_header", size(max_header as u64)),
            ("max_body", size(max_body as u64)),
            ("max_fragment", size(max_fragment as u64)),
            ("max_mux_header", size(max_mux_header as u64)),
        ],
    );
}

#[test]
fn the_defaults_of_what_all_drivers_share_are_those_documented() {
    let ringplane::CommonConfig {
        mailbox,
        max_connections,
        send_batch,
        notsent_lowat,
        user_timeout,
        home_user_timeout,
        keepalive,
        linger,
    } = Default::default();
    let ringplane::Keepalive { idle, interval, retries } = keepalive.expect("quiet connections are probed");
    check(
        "ringplane::CommonConfig",
        &[
            ("mailbox", count(mailbox as u64)),
            ("max_connections", count(max_connections as u64)),
            ("send_batch", size(send_batch as u64)),
            ("notsent_lowat", size(notsent_lowat.into())),
            ("user_timeout", time(user_timeout)),
            ("home_user_timeout", time(home_user_timeout)),
            ("keepalive.idle", time(idle)),
            ("keepalive.interval", time(interval)),
            ("keepalive.retries", count(retries.into())),
            ("linger", time(linger)),
        ],
    );
}

#[test]
fn the_defaults_of_each_driver_are_those_documented() {
    let ringplane::IoUringConfig { recv_buffer, recv_buffers, entries, flavor, spin } = Default::default();
    check(
        "ringplane::IoUringConfig",
        &[
            ("recv_buffer", size(recv_buffer as u64)),
            ("recv_buffers", count(recv_buffers.into())),
            ("entries", count(entries.into())),
            ("flavor", format!("{flavor:?}")),
            ("spin", time(spin)),
        ],
    );
    let ringplane::TokioConfig { recv_buffer } = Default::default();
    check("ringplane::TokioConfig", &[("recv_buffer", size(recv_buffer as u64))]);
    let ringplane::HedgeConfig { slow, share } = Default::default();
    let ringplane::Slow::Beyond(percent) = slow else { panic!("another default has to be written down") };
    let rows = [("slow", format!("beyond {percent} %")), ("share", count(share.into()))];
    check("ringplane::HedgeConfig", &rows);
    let ringplane::MigrationConfig { limit, max_kept, within } = Default::default();
    let rows = [("limit", count(limit.into())), ("max_kept", size(max_kept as u64)), ("within", time(within))];
    check("ringplane::MigrationConfig", &rows);
    let ringplane::RuntimeConfig { recv_buffer, entries } = Default::default();
    check("ringplane::RuntimeConfig", &[("recv_buffer", size(recv_buffer as u64)), ("entries", count(entries.into()))]);
}

#[test]
fn the_timing_of_a_discovery_directory_is_that_documented() {
    let discovery::Timing { touch, ttl } = Default::default();
    check("discovery::Timing", &[("touch", time(touch)), ("ttl", time(ttl))]);
}

#[test]
fn the_knobs_of_a_registry_are_those_documented() {
    let config = ringplane_core::discovery::config::Config::default();
    let (lease, watch, etcd) = (config.lease, config.watch, config.etcd);
    let rows = [
        ("lease.ttl", time(lease.ttl)),
        ("lease.answer", time(lease.answer)),
        ("lease.check", time(lease.check)),
        ("lease.retry.base", time(lease.retry.base)),
        ("lease.retry.cap", time(lease.retry.cap)),
        ("watch.answer", time(watch.answer)),
        ("watch.quiet", time(watch.quiet)),
        ("watch.grace", time(watch.grace)),
        ("watch.retry.base", time(watch.retry.base)),
        ("watch.retry.cap", time(watch.retry.cap)),
        ("etcd.startup", time(etcd.startup)),
        ("etcd.ping", time(etcd.ping)),
        ("etcd.pong", time(etcd.pong)),
        ("etcd.user", optional(&etcd.user)),
    ];
    check("discovery::config::Config", &rows);
}

#[test]
fn the_defaults_of_nats_are_those_documented() {
    let ringplane::nats::Config { servers, login, tls, startup, connect, retry_base, retry_cap, ping } =
        Default::default();
    let rows = [
        ("servers", servers.join(",")),
        ("login", format!("{login:?}")),
        ("tls", format!("{tls:?}")),
        ("startup", time(startup)),
        ("connect", time(connect)),
        ("retry_base", time(retry_base)),
        ("retry_cap", time(retry_cap)),
        ("ping", time(ping)),
    ];
    check("nats::Config", &rows);
    let ringplane::request::nats::Config { server: _, outage, waiting, in_hand, in_hand_bytes, farewell, services } =
        Default::default();
    let rows = [
        ("outage", time(outage)),
        ("waiting", count(waiting as u64)),
        ("in_hand", count(in_hand as u64)),
        ("in_hand_bytes", size(in_hand_bytes as u64)),
        ("farewell", time(farewell)),
        ("services", services.to_string()),
    ];
    check("request::nats::Config", &rows);
    let ringplane::service::Ask { deadline, replicas, most } = Default::default();
    let rows = [("deadline", time(deadline)), ("replicas", optional(&replicas)), ("most", count(most as u64))];
    check("service::Ask", &rows);
}

#[test]
fn the_defaults_of_a_queue_are_those_documented() {
    let ringplane::queue::Config { max_age, ack_wait, inactive, group_inactive, max_tries, dead_age, answer } =
        Default::default();
    let rows = [
        ("max_age", time(max_age)),
        ("ack_wait", time(ack_wait)),
        ("inactive", time(inactive)),
        ("group_inactive", time(group_inactive)),
        ("max_tries", count(max_tries.into())),
        ("dead_age", time(dead_age)),
        ("answer", time(answer)),
    ];
    check("queue::Config", &rows);
}

#[test]
fn the_defaults_of_an_object_store_are_those_documented() {
    let ringplane::store::Config { max_age, piece, ahead, max_value, answer } = Default::default();
    let rows = [
        ("max_age", time(max_age)),
        ("piece", size(piece as u64)),
        ("ahead", count(ahead as u64)),
        ("max_value", size(max_value as u64)),
        ("answer", time(answer)),
    ];
    check("store::Config", &rows);
}

#[test]
fn the_defaults_of_http_are_those_documented() {
    let ringplane::request::http::Config {
        bind,
        root,
        max_connections,
        quiet,
        stall,
        body,
        max_body,
        drain,
        in_hand,
        in_hand_bytes,
        answer,
        farewell,
    } = Default::default();
    let rows = [
        ("bind", bind.to_string()),
        ("root", root),
        ("max_connections", count(max_connections as u64)),
        ("quiet", time(quiet)),
        ("stall", time(stall)),
        ("body", time(body)),
        ("max_body", optional(&max_body)),
        ("drain", size(drain as u64)),
        ("in_hand", count(in_hand as u64)),
        ("in_hand_bytes", size(in_hand_bytes as u64)),
        ("answer", time(answer)),
        ("farewell", time(farewell)),
    ];
    check("request::http::Config", &rows);
    let ringplane::request::http::CallerConfig { in_hand, connect, idle, max_answer } = Default::default();
    let rows = [
        ("in_hand", count(in_hand as u64)),
        ("connect", time(connect)),
        ("idle", time(idle)),
        ("max_answer", size(max_answer as u64)),
    ];
    check("request::http::CallerConfig", &rows);
}

#[test]
fn every_deadline_of_a_machine_has_its_row() {
    let documents = files("docs", "operations.md");
    for reason in ringplane_core::time::Reason::ALL {
        let row = format!("| `{reason:?}` | ");
        let rows = documents[0].text.lines().filter(|line| line.starts_with(&row)).count();
        assert_eq!(rows, 1, "{reason:?} in docs/operations.md");
    }
}
