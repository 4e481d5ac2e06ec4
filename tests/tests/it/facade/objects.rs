//! Objects on a real NATS server with JetStream: what is put comes back whole or not at all, in bounded memory.

use std::io::Write;
use std::path::Path;
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll};

use ringplane::nats::Connection;
use ringplane::store::{Bucket, Config, Error, bincode, delete_bucket};
use ringplane_core::rng::Rng;
use ringplane_servers::nats::NatsServer;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWriteExt as _, ReadBuf};

use crate::facade::child::{command, role};
use crate::facade::queue::{ask, connect, with_server};
use crate::facade::support::runtime;

const PIECE: usize = 128 << 10;

async fn open(connection: &Connection, name: &str) -> Bucket {
    Bucket::open(connection, name, Config::default()).await.unwrap()
}

/// Bytes that no compression shortens.
fn bytes(length: usize) -> Vec<u8> {
    let mut rng = Rng::new(7);
    (0..length.div_ceil(8)).flat_map(|_| rng.next_u64().to_le_bytes()).take(length).collect()
}

/// The names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn bytes_of_every_length_come_back_and_the_last_put_counts() {
    with_server(async |server| {
        let bucket = open(&connect(server.address()).await, "lengths").await;
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 40 * PIECE + 7] {
            let put = bytes(length);
            let info = bucket.put("the same name: ä/*.>", &put).await.unwrap();
            assert_eq!((info.size, info.pieces), (length, length.div_ceil(PIECE)));
            assert_eq!(bucket.info("the same name: ä/*.>").await.unwrap(), info);
            assert!(bucket.get("the same name: ä/*.>").await.unwrap() == put, "{length}");
        }
        // The pieces of those before are gone.
        let client = async_nats::connect(server.address()).await.unwrap();
        let seen = ask(&client, "$JS.API.STREAM.INFO.OBJ_lengths", "{}").await;
        assert_eq!(seen["state"]["messages"], 42, "{seen}");
    });
}

#[test]
fn what_is_not_there_is_named_and_leaves_no_file() {
    with_server(async |server| {
        let (connection, folder) = (connect(server.address()).await, TempDir::new().unwrap());
        let missing = Bucket::existing(&connection, "none", Config::default()).await.unwrap_err();
        assert_eq!(missing.to_string(), "there is no bucket `none`");
        let bucket = open(&connection, "some").await;
        let target = folder.path().join("file");
        std::fs::write(&target, "as before").unwrap();
        let missing = bucket.get_file("thing", &target).await.unwrap_err();
        assert_eq!(missing.to_string(), "there is no object `thing` in the bucket `some`");
        assert!(matches!(bucket.get("thing").await, Err(Error::NoObject { .. })));
        assert!(matches!(bucket.delete("thing").await, Err(Error::NoObject { .. })));
        assert!(matches!(bucket.put("", "x").await, Err(Error::Name(_))));
        assert!(matches!(bucket.put_file("thing", &folder.path().join("no")).await, Err(Error::File { .. })));

        bucket.put("thing", "x").await.unwrap();
        bucket.put("another", "yy").await.unwrap();
        let listed: Vec<_> = bucket.list().await.unwrap().into_iter().map(|info| (info.name, info.size)).collect();
        assert_eq!(listed, [("another".to_owned(), 2), ("thing".to_owned(), 1)]);
        bucket.delete("thing").await.unwrap();
        assert!(matches!(bucket.get_file("thing", &target).await, Err(Error::NoObject { .. })));
        assert_eq!(bucket.list().await.unwrap().len(), 1);
        let limited = Config { max_value: 1, ..Config::default() };
        let limited = Bucket::existing(&connection, "some", limited).await.unwrap();
        assert!(matches!(limited.get("another").await, Err(Error::TooLarge { size: 2, limit: 1 })));

        for there in [true, false] {
            assert_eq!(delete_bucket(&connection, "some", Config::default().answer).await.unwrap(), there);
        }
        for gone in [bucket.get("another").await.map(drop), bucket.list().await.map(drop)] {
            assert!(matches!(&gone, Err(Error::NoBucket(name)) if name == "some"), "{gone:?}");
        }
        assert_eq!(names(folder.path()), ["file"]);
        assert_eq!(std::fs::read(&target).unwrap(), b"as before");
    });
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Item {
    id: u32,
    name: String,
    values: Vec<f64>,
}

#[test]
fn an_object_that_another_client_put_is_read_and_ours_by_it() {
    with_server(async |server| {
        let item = Item { id: 42, name: "test_item".to_owned(), values: vec![1.0, 2.5] };
        let client = async_nats::connect(server.address()).await.unwrap();
        let jetstream = async_nats::jetstream::new(client);
        let bucket = "test-bucket".to_owned();
        let theirs = async_nats::jetstream::object_store::Config { bucket: bucket.clone(), ..Default::default() };
        let theirs = jetstream.create_object_store(theirs).await.unwrap();
        // The captured bytes of Dynamo's.
        let captured =
            b"\x2a\0\0\0\x09\0\0\0\0\0\0\0test_item\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\xf0\x3f\0\0\0\0\0\0\x04\x40";
        theirs.put("test-data.bin", &mut captured.as_slice()).await.unwrap();
        let ours = open(&connect(server.address()).await, &bucket).await;
        assert_eq!(ours.get_value::<Item>("test-data.bin").await.unwrap(), item);
        let digest = ours.info("test-data.bin").await.unwrap().digest.unwrap();
        assert_eq!(digest, "SHA-256=8BSfHMqbQWJfyL7nJnAO56aooKrjs97DeR7sW00AkjM=");

        assert_eq!(ours.put_value("ours", &item).await.unwrap().digest.unwrap(), digest);
        ours.put("long", bytes(3 * PIECE + 5)).await.unwrap();
        for (name, expected) in [("ours", captured.to_vec()), ("long", bytes(3 * PIECE + 5))] {
            let mut object = theirs.get(name).await.unwrap();
            let mut read = Vec::new();
            tokio::io::AsyncReadExt::read_to_end(&mut object, &mut read).await.unwrap();
            assert!(read == expected, "{name}");
        }
        let wrong = ours.get_value::<(u32, u32)>("ours").await.unwrap_err();
        assert!(matches!(wrong, Error::Value(bincode::Error::Long { at: 8 })), "{wrong:?}");
    });
}

/// The description of an object, changed by `change` and published in its place.
async fn redescribe(client: &async_nats::Client, bucket: &str, subject: &str, change: impl Fn(&mut Value)) {
    let question = json!({ "last_by_subj": subject }).to_string();
    let stream = async_nats::jetstream::new(client.clone()).get_stream(format!("OBJ_{bucket}")).await.unwrap();
    let stored = stream.get_last_raw_message_by_subject(subject).await.expect(&question);
    let mut described: Value = serde_json::from_slice(&stored.payload).unwrap();
    change(&mut described);
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Nats-Rollup", "sub");
    let text = described.to_string();
    client.request_with_headers(subject.to_owned(), headers, text.into()).await.unwrap();
}

#[test]
fn an_object_that_is_not_what_was_put_leaves_no_file() {
    with_server(async |server| {
        let folder = TempDir::new().unwrap();
        let bucket = open(&connect(server.address()).await, "damaged").await;
        let client = async_nats::connect(server.address()).await.unwrap();
        let subject = "$O.damaged.M.dGhpbmc=";
        let size = 5 * PIECE;
        for (what, change) in [
            ("another digest", (|text| text["digest"] = json!("SHA-256=AAAA")) as fn(&mut Value)),
            ("its description has no digest", |text| drop(text.as_object_mut().unwrap().remove("digest"))),
            ("fewer bytes than its description says", |text| text["size"] = json!(6 * PIECE)),
            ("more bytes than its description says", |text| text["size"] = json!(4 * PIECE)),
            ("another number of pieces than its description says", |text| text["chunks"] = json!(6)),
        ] {
            bucket.put("thing", bytes(size)).await.unwrap();
            redescribe(&client, "damaged", subject, change).await;
            let refused = bucket.get_file("thing", &folder.path().join("file")).await.unwrap_err();
            assert_eq!(refused.to_string(), format!("the object `thing` is damaged: {what}"));
            assert_eq!(names(folder.path()), [""; 0], "{what}");
            assert!(matches!(bucket.get("thing").await, Err(Error::Damaged { .. })));
        }
        // A name that points elsewhere is told as such.
        redescribe(&client, "damaged", subject, |text| text["options"]["link"] = json!({"bucket": "b", "name": "n"}))
            .await;
        assert!(matches!(bucket.get("thing").await, Err(Error::Link(name)) if name == "thing"));
    });
}

/// Takes so many bytes and then the server away.
struct Cut<'a> {
    left: usize,
    server: &'a mut NatsServer,
}

impl tokio::io::AsyncWrite for Cut<'_> {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        if self.left > 0 {
            self.left = self.left.saturating_sub(bytes.len());
            if self.left == 0 {
                self.server.stop();
                self.server.resume().unwrap();
            }
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn a_download_goes_on_when_a_lost_server_is_back() {
    with_server(async |server| {
        let config = Config { answer: std::time::Duration::from_secs(3), ..Config::default() };
        let bucket = Bucket::open(&connect(server.address()).await, "cut", config).await.unwrap();
        bucket.put("thing", bytes(64 * PIECE)).await.unwrap();
        // Of 16 pieces asked for at once two are read: the others of them are lost with the connection or have come.
        let cut = Cut { left: 2 * PIECE, server };
        assert_eq!(bucket.get_to("thing", cut).await.unwrap().size, 64 * PIECE);
    });
}

/// Reads so many bytes, and then fails.
struct Broken(usize);

impl AsyncRead for Broken {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let some = self.0.min(into.remaining());
        if some == 0 {
            return Poll::Ready(Err(std::io::ErrorKind::ConnectionReset.into()));
        }
        into.put_slice(&vec![7; some]);
        self.0 -= some;
        Poll::Ready(Ok(()))
    }
}

/// The messages of a bucket: its pieces and descriptions.
async fn messages(client: &async_nats::Client, bucket: &str) -> u64 {
    let seen = ask(client, &format!("$JS.API.STREAM.INFO.OBJ_{bucket}"), "{}").await;
    seen["state"]["messages"].as_u64().unwrap_or_else(|| panic!("{seen}"))
}

#[test]
fn an_upload_that_fails_or_is_left_takes_its_pieces_back_and_leaves_what_was_there() {
    with_server(async |server| {
        let connection = connect(server.address()).await;
        let bucket = open(&connection, "failed").await;
        let client = async_nats::connect(server.address()).await.unwrap();
        bucket.put("thing", "as before").await.unwrap();
        let failed = bucket.put_from("thing", Broken(20 * PIECE)).await.unwrap_err();
        assert!(matches!(failed, Error::Read(_)), "{failed:?}");
        connection.flush().await;
        assert_eq!(messages(&client, "failed").await, 2);
        // One that never ends, and is dropped once pieces of it are there.
        let (mut feed, from) = tokio::io::duplex(PIECE);
        tokio::select! {
            put = bucket.put_from("thing", from) => panic!("{put:?}"),
            fed = async { while feed.write_all(&[7; PIECE]).await.is_ok() {} } => panic!("{fed:?}"),
            () = async { while messages(&client, "failed").await < 10 {} } => {}
        }
        connection.flush().await;
        assert_eq!(messages(&client, "failed").await, 2);
        assert_eq!(bucket.get("thing").await.unwrap(), "as before");
    });
}

#[test]
fn of_many_that_put_one_name_at_once_one_is_there_and_no_piece_of_the_others() {
    with_server(async |server| {
        let client = async_nats::connect(server.address()).await.unwrap();
        let bucket = open(&connect(server.address()).await, "contended").await;
        let puts = (0..12_u8).map(|n| {
            let bucket = bucket.clone();
            tokio::spawn(async move { bucket.put("thing", vec![n; 2 * PIECE]).await.map(drop) })
        });
        for put in puts.collect::<Vec<_>>() {
            put.await.unwrap().unwrap();
        }
        let winner = bucket.get("thing").await.unwrap();
        assert!(winner.len() == 2 * PIECE && winner.iter().all(|byte| *byte == winner[0]));
        assert_eq!(messages(&client, "contended").await, 3);
        // Of those that delete it at once, one does.
        let (one, other) = tokio::join!(bucket.delete("thing"), bucket.delete("thing"));
        let gone = |deleted: &Result<(), Error>| matches!(deleted, Err(Error::NoObject { .. }));
        assert!(one.is_ok() && gone(&other) || other.is_ok() && gone(&one), "{one:?} {other:?}");
        assert_eq!(messages(&client, "contended").await, 1);
    });
}

#[test]
fn a_malformed_description_is_named_and_stands_in_the_way_of_nobody() {
    with_server(async |server| {
        let client = async_nats::connect(server.address()).await.unwrap();
        let bucket = open(&connect(server.address()).await, "bad").await;
        bucket.put("other", "kept").await.unwrap();
        // One that is none, and one whose pieces would be those of all.
        for text in ["{", r#"{"name":"thing","bucket":"bad","nuid":">","size":0,"chunks":0,"digest":"x"}"#] {
            for delete in [true, false] {
                ask(&client, "$O.bad.M.dGhpbmc=", text).await;
                let named =
                    |what: Result<(), Error>| matches!(what, Err(Error::Malformed { name, .. }) if name == "thing");
                assert!(named(bucket.info("thing").await.map(drop)) && named(bucket.get("thing").await.map(drop)));
                assert!(named(bucket.list().await.map(drop)));
                if delete {
                    bucket.delete("thing").await.unwrap();
                    assert!(matches!(bucket.info("thing").await, Err(Error::NoObject { .. })));
                } else {
                    bucket.put("thing", "anew").await.unwrap();
                    assert_eq!(bucket.get("thing").await.unwrap(), "anew");
                }
                assert_eq!(bucket.get("other").await.unwrap(), "kept");
            }
        }
        assert_eq!(bucket.list().await.unwrap().len(), 2);
    });
}

/// The most memory that this process has had, in bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

/// Puts the file of this path and gets it again, in a process whose memory is its own.
fn transfer_in_child(role: &str) {
    let (address, path) = role.split_once(' ').unwrap();
    runtime().block_on(async {
        let bucket = open(&connect(address).await, "large").await;
        let (path, begun) = (Path::new(path), std::time::Instant::now());
        let put = bucket.put_file("file", path).await.unwrap();
        let up = begun.elapsed();
        let got = bucket.get_file("file", &path.with_extension("back")).await.unwrap();
        assert_eq!(put, got);
        println!("measured: {} bytes, up {up:?}, down {:?}, peak {} bytes", got.size, begun.elapsed() - up, peak());
        assert!(peak() < 64 << 20, "{} bytes of memory", peak());
    });
}

/// A file of so many bytes there and back, below 64 MiB of memory.
fn transferred(length: usize) {
    if let Some(role) = role() {
        return transfer_in_child(&role);
    }
    let (server, folder) = (NatsServer::with_jetstream().unwrap(), TempDir::new().unwrap());
    let path = folder.path().join("file");
    let (some, mut file) = (bytes(1 << 20), std::fs::File::create(&path).unwrap());
    for _ in 0..length >> 20 {
        file.write_all(&some).unwrap();
    }
    let name = std::thread::current().name().expect("tests run on threads named after them").to_owned();
    let role = format!("{} {}", server.address(), path.display());
    let mut child = command(&[], &name, &role);
    let output = child.arg("--include-ignored").stdin(Stdio::null()).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{out}");
    assert!(output.status.success() && out.contains("1 passed"), "{out}\n{err}");
    let mut names = names(folder.path());
    names.sort_unstable();
    assert_eq!(names, ["file", "file.back"]);
    assert_eq!(std::fs::metadata(path.with_extension("back")).unwrap().len(), length as u64);
}

#[test]
fn a_file_larger_than_the_memory_it_may_take_goes_up_and_comes_down() {
    transferred(128 << 20);
}

#[test]
#[ignore = "5 GiB of temporary files, a minute"]
fn two_gibibytes_go_up_and_come_down() {
    transferred(2 << 30);
}
