//! Values in and out, in the codec that a call names, in both dialects.

use std::collections::BTreeMap;

use ringplane::{CallError, CallRequest, Class, Client, Codec, Failure, Payload};
use ringplane::{Remote, Request, Responder, TypedCallError, TypedResponder, Worker};
use serde::{Deserialize, Serialize};

use crate::facade::support::{all, both, clients, connect, end, end_client, end_worker, on, place, serve};

const SPLIT: &str = "test.typed.split";
const THERE: &str = "test.typed.there";
const SUM: &str = "test.typed.sum";
const FAIL: &str = "test.typed.fail";

#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
struct Question {
    text: String,
    most: Option<usize>,
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Word {
    place: usize,
    word: String,
}

fn question() -> Question {
    Question { text: "how do you do".to_owned(), most: Some(2) }
}

fn words() -> Vec<Word> {
    vec![Word { place: 0, word: "how".to_owned() }, Word { place: 1, word: "do".to_owned() }]
}

fn split(question: Question) -> impl Iterator<Item = Word> {
    let words: Vec<_> = question.text.split(' ').map(str::to_owned).collect();
    let most = question.most.unwrap_or(usize::MAX);
    words.into_iter().take(most).enumerate().map(|(place, word)| Word { place, word })
}

/// Adds up the items of a request, and says how far it has got after each.
async fn sum(mut request: Request, out: Responder) -> Result<(), Failure> {
    let mut sum = 0;
    while let Some(number) = request.next_as::<i64>().await? {
        sum += number;
        out.send_as(&sum).await?;
    }
    Ok(())
}

fn worker() -> ringplane::WorkerBuilder {
    let here = |question: Question, out: TypedResponder<Word>| async move {
        for word in split(question) {
            out.send(&word).await?;
        }
        Ok(())
    };
    let there = |question: Question, out: TypedResponder<Word, Remote>| async move {
        for word in split(question) {
            out.send(&word).await?;
        }
        Ok(())
    };
    let fail = |class: String, out: TypedResponder<()>| async move {
        out.send(&()).await?;
        Err(Failure::new(Class::RateLimited, "backend.unknown", class))
    };
    Worker::builder()
        .typed_endpoint(SPLIT, here)
        .typed_endpoint_on(tokio::runtime::Handle::current(), THERE, there)
        .typed_endpoint(FAIL, fail)
        .endpoint(SUM, sum)
}

#[test]
fn a_typed_endpoint_is_called_in_either_codec_and_dialect_wherever_it_runs_and_whatever_its_record_names() {
    all(async |driver| {
        for record in Codec::ALL {
            let place = place();
            let worker = serve(worker().codec(record), &place, on(driver)).await;
            let clients = clients(&place, driver);
            for client in &clients {
                for (endpoint, codec) in
                    [SPLIT, THERE].into_iter().flat_map(|name| Codec::ALL.map(|codec| (name, codec)))
                {
                    let request = CallRequest::typed_in(codec, endpoint, &question()).unwrap();
                    let answer = client.call(request).unwrap().typed::<Word>().collect().await;
                    assert_eq!(answer.unwrap(), words(), "{endpoint} in {codec:?}, record {record:?}");
                }
                // A call that names no codec is taken in the endpoint's.
                let bytes = record.write(&question()).unwrap();
                let items = client.call(CallRequest::new(SPLIT, bytes)).unwrap().collect().await.unwrap();
                let read: Vec<Word> = items.iter().map(|item| record.read(item).unwrap()).collect();
                assert_eq!(read, words());
            }
            for client in clients {
                end_client(client).await;
            }
            end_worker(worker).await;
        }
    });
}

#[test]
fn values_stream_both_ways() {
    both(async |driver| {
        let place = place();
        let worker = serve(worker(), &place, on(driver)).await;
        let clients = clients(&place, driver);
        for (client, codec) in clients.iter().flat_map(|client| Codec::ALL.map(|codec| (client, codec))) {
            let call = client.call(CallRequest::streaming(SUM).with_codec(codec)).unwrap();
            let mut call = call.typed::<i64>();
            for (number, sum) in [(1, 1), (-3, -2), (1_i64 << 40, (1 << 40) - 2)] {
                call.call().send_as(&number).await.unwrap();
                assert_eq!(call.next().await.unwrap().unwrap(), sum, "{codec:?}");
            }
            call.call().finish();
            assert!(call.next().await.is_none());
        }
        for client in clients {
            end_client(client).await;
        }
        end_worker(worker).await;
    });
}

/// What a call ends with.
async fn ended(client: &Client, request: CallRequest) -> (Class, String, String) {
    match client.call(request).unwrap().collect().await {
        Err(CallError::Failed { class, reason, message }) => (class, reason.into(), message.into()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_body_that_cannot_be_read_is_an_invalid_argument_with_its_place_and_a_failure_keeps_its_class() {
    both(async |driver| {
        let place = place();
        let worker = serve(worker(), &place, on(driver)).await;
        let client = connect(&place, on(driver));
        for endpoint in [SPLIT, THERE] {
            let json = CallRequest::new(endpoint, "{\n \"txt\": 1}").with_codec(Codec::Json);
            let (class, reason, message) = ended(&client, json).await;
            assert_eq!((class, &*reason), (Class::InvalidRequest, "backend.invalid_argument"));
            assert!(message.ends_with("missing field `text` at line 2 column 10"), "{message}");
            // JSON where the endpoint's MessagePack is expected: the call does not say that it is JSON.
            let (class, _, message) = ended(&client, CallRequest::new(endpoint, r#"{"text":""}"#)).await;
            assert_eq!(class, Class::InvalidRequest);
            assert!(message.contains("not the MessagePack that is asked for, at byte 1"), "{message}");
        }
        let request = CallRequest::typed(FAIL, "slowly").unwrap();
        assert_eq!(ended(&client, request).await, (Class::RateLimited, "backend.unknown".into(), "slowly".into()));
        // What the caller asks for is not what comes: the call ends there.
        let request = CallRequest::typed(SPLIT, &question()).unwrap();
        let mut call = client.call(request).unwrap().typed::<u8>();
        let error = call.next().await.unwrap().unwrap_err();
        assert!(matches!(error, TypedCallError::Payload(_)), "{error:?}");
        assert_eq!(Failure::from(error).class, Class::BackendProtocol, "the worker's fault, not the caller's");
        assert!(call.next().await.is_none());
        drop(call);
        end(worker, client).await;
    });
}

#[test]
fn an_annotated_endpoint_wraps_values_and_a_typed_call_unwraps_them() {
    both(async |driver| {
        let place = place();
        let worker = serve(worker().annotated(), &place, on(driver)).await;
        let clients = clients(&place, driver);
        for (client, codec) in clients.iter().flat_map(|client| Codec::ALL.map(|codec| (client, codec))) {
            for endpoint in [SPLIT, THERE] {
                let request = CallRequest::typed_in(codec, endpoint, &question()).unwrap();
                let items = client.call(request.clone()).unwrap().typed::<BTreeMap<String, Word>>();
                let wrapped = items.collect().await.unwrap().pop().unwrap();
                assert_eq!(wrapped, BTreeMap::from([("data".to_owned(), words().pop().unwrap())]));
                let items = client.call(request).unwrap().typed::<Word>().annotated();
                assert_eq!(items.collect().await.unwrap(), words(), "{codec:?}");
            }
        }
        for client in clients {
            end_client(client).await;
        }
        end_worker(worker).await;
    });
}

#[test]
fn an_annotated_item_that_reports_an_error_ends_a_typed_call_with_it_and_one_without_data_is_passed_over() {
    both(async |driver| {
        let place = place();
        let notes = async |_: Request, out: Responder| {
            let error = r#"{"event":"error","comment":["no","way"]}"#;
            for item in [r#"{"event":"ping","comment":["1"]}"#, r#"{"data":5}"#, error, r#"{"data":6}"#] {
                out.send(item).await?;
            }
            Ok(())
        };
        let worker = serve(Worker::builder().endpoint(SPLIT, notes), &place, on(driver)).await;
        let client = connect(&place, on(driver));
        let mut call = client.call(CallRequest::typed(SPLIT, &()).unwrap()).unwrap().typed::<u8>().annotated();
        assert_eq!(call.next().await.unwrap().unwrap(), 5);
        let error = call.next().await.unwrap().unwrap_err();
        let TypedCallError::Call(CallError::Failed { class, message, .. }) = error else { panic!("{error:?}") };
        assert_eq!((class, &*message), (Class::Internal, "no, way"));
        assert!(call.next().await.is_none());
        drop(call);
        end(worker, client).await;
    });
}
