//! Queues on a real NATS server with JetStream: what is handed to whom and how often, depth, dead letters, and Dynamo's form.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::time::Duration;

use futures::StreamExt;
use ringplane::nats::{Config as Server, Connection, JetStreamError, Login};
use ringplane::queue::{Config, Consumer, DEAD, Dead, Depth, Error, GROUP, QUEUE, Queue, Task};
use ringplane_core::chain::Chain;
use ringplane_servers::nats::NatsServer;
use serde_json::{Value, json};

use crate::facade::child::{command, role};
use crate::facade::killed::Killed;
use crate::facade::support::runtime;

/// The longest a test may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than anything that is bound to come takes.
const LONG: Duration = Duration::from_secs(30);
/// Time enough for a task, and soon over when its worker is gone.
const ACK_WAIT: Duration = Duration::from_secs(1);
const READY: &str = "the task is in hand";

/// Runs a test with a server of its own.
pub(crate) fn with_server(test: impl AsyncFn(&mut NatsServer)) {
    let mut server = NatsServer::with_jetstream().unwrap();
    let bounded = async { tokio::time::timeout(PATIENCE, test(&mut server)).await };
    assert!(runtime().block_on(bounded).is_ok(), "not done after {PATIENCE:?}");
}

pub(crate) async fn connect(address: &str) -> Connection {
    let config = Server { servers: vec![address.to_owned()], login: Login::Anonymous, ..Server::default() };
    Connection::open(&config).await.unwrap()
}

fn quick() -> Config {
    Config { ack_wait: ACK_WAIT, ..Config::default() }
}

async fn open(address: &str, name: &str, config: Config) -> Queue {
    Queue::open(&connect(address).await, name, config).await.unwrap()
}

async fn next(consumer: &Consumer) -> Task {
    consumer.dequeue(LONG).await.unwrap().expect("a task is there")
}

async fn depth(queue: &Queue, consumer: &str) -> (u64, u64) {
    let Depth { pending, unacknowledged } = queue.depth_of(consumer).await.unwrap();
    (pending, unacknowledged)
}

/// Takes a task and never comes back to it.
fn take_in_child(address: &str) {
    runtime().block_on(async {
        let group = open(address, "killed", quick()).await.group().await.unwrap();
        let task = next(&group).await;
        println!("{READY}: {}", task.tries());
        let _ = std::io::stdin().read(&mut [0]);
    });
}

#[test]
fn a_task_of_a_worker_that_was_killed_goes_to_another_once() {
    if let Some(address) = role() {
        return take_in_child(&address);
    }
    with_server(async |server| {
        let queue = open(server.address(), "killed", quick()).await;
        assert_eq!(queue.enqueue("work").await.unwrap(), 1);
        let name = std::thread::current().name().expect("tests run on threads named after them").to_owned();
        let child = command(&[], &name, server.address()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = Killed(child.unwrap());
        let out = BufReader::new(child.0.stdout.take().unwrap());
        assert!(out.lines().any(|line| line.unwrap().contains(&format!("{READY}: 1"))), "the child ended early");
        assert_eq!(depth(&queue, GROUP).await, (0, 1));
        // SIGKILL.
        drop(child);

        let group = queue.group().await.unwrap();
        let task = next(&group).await;
        assert_eq!((task.payload().as_ref(), task.tries(), task.sequence()), (b"work".as_ref(), 2, 1));
        task.ack().await.unwrap();
        assert_eq!(depth(&queue, GROUP).await, (0, 0));
        assert!(group.dequeue(Duration::ZERO).await.unwrap().is_none());
    });
}

#[test]
fn a_task_whose_worker_lost_its_connection_goes_to_another() {
    with_server(async |server| {
        let queue = open(server.address(), "cut", quick()).await;
        queue.enqueue("work").await.unwrap();
        let lost = open(server.address(), "cut", quick()).await.group().await.unwrap();
        assert_eq!(next(&lost).await.tries(), 1);
        drop(lost);
        let task = next(&queue.group().await.unwrap()).await;
        assert_eq!(task.tries(), 2);
        task.ack().await.unwrap();
        assert_eq!(queue.depth().await.unwrap(), Depth::default());
    });
}

#[test]
fn each_group_gets_all_and_depth_is_right_at_every_step() {
    with_server(async |server| {
        let queue = open(server.address(), "Two.Groups", Config::default()).await;
        assert_eq!(queue.stream(), "two_groups");
        assert_eq!(queue.depth().await.unwrap().total(), 0);
        for n in 0..3 {
            assert_eq!(queue.enqueue(format!("{n}")).await.unwrap(), n + 1);
            // Nobody is there yet; all of it will be handed out.
            assert_eq!(depth(&queue, GROUP).await, (n + 1, 0));
        }
        queue.publish("kv_event", r#"{"a":1}"#).await.unwrap();
        let (workers, colleague) = (queue.group().await.unwrap(), queue.group().await.unwrap());
        let other = queue.consumer("other").await.unwrap();
        for (taken, consumer) in (0..).zip([&workers, &colleague, &workers]) {
            assert_eq!(depth(&queue, GROUP).await, (4 - taken, 0));
            let task = next(consumer).await;
            assert_eq!((task.payload().as_ref(), task.event()), (taken.to_string().as_bytes(), QUEUE));
            assert_eq!(depth(&queue, GROUP).await, (3 - taken, 1));
            assert_eq!(queue.depth().await.unwrap().total(), 4 - taken);
            task.ack().await.unwrap();
            assert_eq!(depth(&queue, GROUP).await, (3 - taken, 0));
        }
        let event = next(&colleague).await;
        assert_eq!((event.event(), event.payload().as_ref()), ("kv_event", br#"{"a":1}"#.as_ref()));
        event.ack().await.unwrap();

        assert_eq!(depth(&queue, "other").await, (4, 0));
        let in_hand = [next(&other).await, next(&other).await];
        assert_eq!(depth(&queue, "other").await, (2, 2));
        // Given back, it is counted as before.
        in_hand[0].retry(Duration::ZERO).await.unwrap();
        assert_eq!(queue.depth_of("other").await.unwrap().total(), 4);
        in_hand[1].ack().await.unwrap();
        let mut came = Vec::new();
        for left in (0..3).rev() {
            let task = next(&other).await;
            came.push((task.sequence(), task.tries()));
            task.ack().await.unwrap();
            assert_eq!(queue.depth_of("other").await.unwrap().total(), left);
        }
        // In whatever order.
        came.sort_unstable();
        assert_eq!(came, [(1, 2), (3, 1), (4, 1)]);
        let groups = queue.consumers().await.unwrap();
        let groups: Vec<_> = groups.into_iter().map(|group| (group.name, group.depth, group.acknowledged)).collect();
        let done = |name: &str| (name.to_owned(), Depth::default(), 4);
        assert_eq!(groups, [done("other"), done(GROUP)]);
        assert_eq!(queue.info().await.unwrap().consumers, 2);
    });
}

#[test]
fn what_fails_too_often_is_a_dead_letter_whether_its_worker_says_so_or_not() {
    with_server(async |server| {
        let config = Config { max_tries: 2, ..quick() };
        let queue = open(server.address(), "poison", config.clone()).await;
        queue.enqueue("said").await.unwrap();
        let group = queue.group().await.unwrap();
        for tries in [1, 2] {
            let task = next(&group).await;
            assert_eq!(task.tries(), tries);
            task.retry(Duration::ZERO).await.unwrap();
        }
        assert_eq!(queue.depth().await.unwrap().total(), 0);
        // One that ends its worker is never answered for.
        queue.publish("event", "silent").await.unwrap();
        for tries in [1, 2] {
            assert_eq!(next(&group).await.tries(), tries);
        }
        // The third is not handed to anybody; what comes after it is.
        let (later, ()) = tokio::join!(next(&group), async {
            while queue.depth().await.unwrap().total() > 0 {
                tokio::task::yield_now().await;
            }
            queue.enqueue("later").await.unwrap();
        });
        assert_eq!(later.payload().as_ref(), b"later");
        later.ack().await.unwrap();

        let dead = open(server.address(), &format!("poison{DEAD}"), config).await.group().await.unwrap();
        for (payload, event, sequence, tries) in [("said", QUEUE, 1, 2), ("silent", "event", 2, 3)] {
            let task = next(&dead).await;
            let (queue, consumer) = ("poison".to_owned(), GROUP.to_owned());
            assert_eq!(task.dead(), Some(Dead { queue, consumer, sequence, tries }));
            assert_eq!((task.payload().as_ref(), task.event()), (payload.as_bytes(), event));
            task.ack().await.unwrap();
        }
        assert!(dead.dequeue(Duration::ZERO).await.unwrap().is_none());
        assert_eq!(later.dead(), None);
        // The queue of dead letters is made with an age of its own.
        let info = open(server.address(), &format!("poison{DEAD}"), Config::default()).await.info().await.unwrap();
        assert_eq!(info.max_age, Config::default().dead_age);
    });
}

#[test]
fn a_dead_letter_that_is_buried_twice_is_there_once_and_one_that_leaves_no_room_for_headers_too() {
    with_server(async |server| {
        let queue = open(server.address(), "twice", Config::default()).await;
        let most = connect(server.address()).await.max_payload();
        for (number, payload) in (1..).zip([b"hopeless".to_vec(), vec![7; most], vec![7; most - 20]]) {
            queue.publish("kind", payload.clone()).await.unwrap();
            let task = next(&queue.group().await.unwrap()).await;
            for _ in 0..2 {
                task.bury().await.unwrap();
            }
            let dead = open(server.address(), &format!("twice{DEAD}"), Config::default()).await;
            assert_eq!(dead.info().await.unwrap().messages, number);
            let letter = next(&dead.group().await.unwrap()).await;
            let from = Dead { queue: "twice".to_owned(), consumer: GROUP.to_owned(), sequence: number, tries: 1 };
            assert_eq!((letter.dead(), letter.event()), (Some(from), "kind"));
            assert!(letter.payload() == &payload);
            letter.ack().await.unwrap();
        }
        assert_eq!(queue.depth().await.unwrap().total(), 0);
    });
}

#[test]
fn a_task_in_hand_is_extended_while_it_is_worked_on() {
    with_server(async |server| {
        let queue = open(server.address(), "long", Config { ack_wait: ACK_WAIT, ..Config::default() }).await;
        queue.enqueue("work").await.unwrap();
        let task = next(&queue.group().await.unwrap()).await;
        let client = async_nats::connect(server.address()).await.unwrap();
        let mut heard = client.subscribe("$JS.ACK.long.>").await.unwrap();
        client.flush().await.unwrap();
        let done = task.keep(async {
            for _ in 0..3 {
                assert_eq!(heard.next().await.unwrap().payload.as_ref(), b"+WPI");
            }
            "done"
        });
        assert_eq!(done.await, "done");
        task.ack().await.unwrap();
        assert_eq!(queue.depth().await.unwrap().total(), 0);
    });
}

#[test]
fn what_all_have_acknowledged_is_purged_and_a_newcomer_loses_nothing() {
    with_server(async |server| {
        let queue = open(server.address(), "purge", Config::default()).await;
        for n in 0..6 {
            queue.enqueue(format!("{n}")).await.unwrap();
        }
        // Without a consumer nobody has seen anything.
        assert_eq!(queue.purge_acknowledged().await.unwrap(), 0);
        let (fast, slow) = (queue.consumer("fast").await.unwrap(), queue.consumer("slow").await.unwrap());
        for _ in 0..4 {
            next(&fast).await.ack().await.unwrap();
        }
        // Dynamo would take four messages from the slow one here.
        assert_eq!(queue.purge_acknowledged().await.unwrap(), 0);
        for _ in 0..2 {
            next(&slow).await.ack().await.unwrap();
        }
        let in_hand = next(&slow).await;
        assert_eq!(queue.purge_acknowledged().await.unwrap(), 2);
        let info = queue.info().await.unwrap();
        assert_eq!((info.messages, info.first, info.last), (4, 3, 6));
        assert_eq!(in_hand.payload().as_ref(), b"2");
        in_hand.ack().await.unwrap();

        assert_eq!(queue.purge_before(0).await.unwrap(), 0);
        assert_eq!(queue.purge_before(6).await.unwrap(), 3);
        let task = next(&slow).await;
        assert_eq!((task.payload().as_ref(), task.sequence()), (b"5".as_ref(), 6));
        queue.remove_consumer("slow").await.unwrap();
        queue.remove_consumer("slow").await.unwrap();
        let gone = slow.dequeue(LONG).await.unwrap_err();
        assert!(matches!(&gone, Error::NoConsumer(name) if name == "slow"), "{gone}");
        assert!(matches!(task.ack().await, Err(Error::NoConsumer(_))));
        assert_eq!(queue.purge_all().await.unwrap(), 1);
        assert_eq!(queue.info().await.unwrap().messages, 0);
    });
}

#[test]
fn a_worker_that_waits_goes_on_when_a_lost_server_is_back_with_all_it_kept() {
    with_server(async |server| {
        let queue = open(server.address(), "back", Config::default()).await;
        queue.enqueue("before").await.unwrap();
        let group = queue.group().await.unwrap();
        next(&group).await.ack().await.unwrap();
        let waiting = tokio::spawn(async move { next(&group).await });
        server.stop();
        server.resume().unwrap();
        // The connection is still on its way back: what is not kept is told, and tried again here.
        while let Err(error) = queue.enqueue("after").await {
            println!("{}", Chain(&error));
        }
        let task = waiting.await.unwrap();
        assert_eq!((task.payload().as_ref(), task.sequence()), (b"after".as_ref(), 2));
        task.ack().await.unwrap();
    });
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    with_server(async |server| {
        let connection = connect(server.address()).await;
        let refused = Queue::open(&connection, "?!", Config::default()).await.unwrap_err();
        assert_eq!(refused.to_string(), "`?!` is no name of a queue: it needs a letter or a digit");
        let queue = Queue::open(&connection, "refused", Config::default()).await.unwrap();
        assert!(matches!(queue.consumer("a.b").await, Err(Error::Consumer(name)) if name == "a.b"));
        assert!(matches!(queue.publish("*", "").await, Err(Error::Event(name)) if name == "*"));
        let large = queue.enqueue(vec![0; connection.max_payload() + 1]).await.unwrap_err();
        assert_eq!(
            Chain(&large).to_string(),
            "the queue does not answer as it should: larger than the 1048576 bytes that the NATS server takes"
        );
        assert_eq!(queue.info().await.unwrap().messages, 0);
    });
    // One without JetStream says so at once.
    let server = NatsServer::start().unwrap();
    runtime().block_on(async {
        let refused = Queue::open(&connect(server.address()).await, "q", Config::default()).await.unwrap_err();
        assert!(matches!(refused, Error::JetStream(JetStreamError::Absent { .. })), "{refused:?}");
    });
}

/// The queue of the captured requests.
const CAPTURED: &str = "my_ns_prefill_queue";

pub(crate) async fn ask(client: &async_nats::Client, subject: &str, question: &str) -> Value {
    let answer = client.request(subject.to_owned(), question.to_owned().into()).await.unwrap();
    serde_json::from_slice(&answer.payload).unwrap()
}

#[test]
fn a_queue_that_dynamo_has_made_and_filled_is_ours_too() {
    with_server(async |server| {
        // The requests of its queue, as captured.
        let client = async_nats::connect(server.address()).await.unwrap();
        let create = r#"{"name":"my_ns_prefill_queue","max_bytes":0,"max_msgs":0,"max_msgs_per_subject":0,"discard":"old","subjects":["my_ns_prefill_queue.*"],"retention":"limits","max_consumers":0,"max_age":3600000000000,"storage":"file","num_replicas":0,"consumer_limits":null}"#;
        ask(&client, &format!("$JS.API.STREAM.CREATE.{CAPTURED}"), create).await;
        let create = r#"{"action":"","config":{"ack_policy":"explicit","deliver_policy":"all","durable_name":"worker-group","inactive_threshold":300000000000,"replay_policy":"instant"},"stream_name":"my_ns_prefill_queue"}"#;
        ask(&client, &format!("$JS.API.CONSUMER.CREATE.{CAPTURED}.{GROUP}"), create).await;
        for n in 0..4 {
            let kept = ask(&client, &format!("{CAPTURED}.queue"), &format!("task{n}")).await;
            assert_eq!(kept, json!({"stream": CAPTURED, "seq": n + 1}));
        }
        ask(&client, &format!("{CAPTURED}.kv_event"), r#"{"a":1}"#).await;

        let queue = open(server.address(), "My.NS Prefill_Queue", quick()).await;
        assert_eq!(queue.info().await.unwrap().max_age, Duration::from_secs(3600));
        let group = queue.group().await.unwrap();
        for n in 0..4 {
            let task = next(&group).await;
            assert_eq!(task.payload().as_ref(), format!("task{n}").as_bytes());
            task.ack().await.unwrap();
        }
        assert_eq!(next(&group).await.event(), "kv_event");
        // Its consumer is as it was.
        let seen = ask(&client, &format!("$JS.API.CONSUMER.INFO.{CAPTURED}.{GROUP}"), "{}").await;
        assert_eq!(seen["config"]["inactive_threshold"], 300_000_000_000_u64);
        assert_eq!(seen["config"]["ack_wait"], 30_000_000_000_u64);
    });
}

#[test]
fn a_queue_that_ours_has_made_and_filled_is_dynamos_too() {
    with_server(async |server| {
        let queue = open(server.address(), CAPTURED, Config::default()).await;
        queue.enqueue("ours").await.unwrap();
        queue.group().await.unwrap();
        let client = async_nats::connect(server.address()).await.unwrap();
        // Made by ours, it is what the capture has, for streams and for consumers that Dynamo makes.
        let seen = ask(&client, &format!("$JS.API.STREAM.INFO.{CAPTURED}"), "null").await;
        for (field, value) in [
            ("subjects", json!(["my_ns_prefill_queue.*"])),
            ("retention", json!("limits")),
            ("max_msgs", json!(-1)),
            ("max_bytes", json!(-1)),
            ("max_age", json!(3_600_000_000_000_u64)),
            ("discard", json!("old")),
            ("storage", json!("file")),
            ("num_replicas", json!(1)),
            ("allow_direct", json!(false)),
        ] {
            assert_eq!(seen["config"][field], value, "{field}");
        }
        let create = r#"{"action":"","config":{"ack_policy":"explicit","deliver_policy":"all","durable_name":"worker-group","inactive_threshold":300000000000,"replay_policy":"instant"},"stream_name":"my_ns_prefill_queue"}"#;
        let made = ask(&client, &format!("$JS.API.CONSUMER.CREATE.{CAPTURED}.{GROUP}"), create).await;
        assert_eq!(made["error"], Value::Null, "{made}");
        let pull = r#"{"batch":200,"expires":30000000000,"max_bytes":0,"idle_heartbeat":15000000000,"min_pending":null,"min_ack_pending":null,"group":null,"priority":null}"#;
        let inbox = client.new_inbox();
        let mut messages = client.subscribe(inbox.clone()).await.unwrap();
        let next = format!("$JS.API.CONSUMER.MSG.NEXT.{CAPTURED}.{GROUP}");
        client.publish_with_reply(next, inbox, pull.into()).await.unwrap();
        let message = messages.next().await.unwrap();
        assert_eq!(
            (message.subject.as_str(), message.payload.as_ref()),
            ("my_ns_prefill_queue.queue", b"ours".as_ref())
        );
        assert_eq!(depth(&queue, GROUP).await, (0, 1));
        client.request(message.reply.unwrap(), "+ACK".into()).await.unwrap();
        assert_eq!(depth(&queue, GROUP).await, (0, 0));
    });
}
