//! Target: the caller's end of a request connection.

use bytes::Bytes;
use ringplane_core::buf::SendQueue;
use ringplane_core::dynamo::request::client::{Answer, Client, Config};
use ringplane_core::protocol::{Closing, Fault};
use ringplane_core::time::Instant;

const LIMIT: usize = 2048;

/// The first byte says how the rest, which comes from the worker, is cut, and the second how many requests there are.
/// Answers and the fault do not depend on the cut; answers come in the order of the requests, one for each at most; a
/// fault or a request without an answer ends the connection, once.
pub fn request_client(data: &[u8]) {
    let Some(([cut, mode], bytes)) = data.split_first_chunk() else { return };
    let requests = u64::from(*mode % 8);
    let whole = run(bytes, bytes.len().max(1), requests);
    let pieces = run(bytes, usize::from(*cut) + 1, requests);
    assert_eq!(whole, pieces);
    let (answers, fault) = whole;
    assert!(answers.iter().map(|answer| answer.tag).eq(0..answers.len() as u64));
    assert!(answers.len() as u64 <= requests);
    assert!(fault != Some(Fault::State) || answers.len() as u64 == requests, "an ack too many, and no sooner");
}

fn run(bytes: &[u8], step: usize, requests: u64) -> (Vec<Answer>, Option<Fault>) {
    let mut client = Client::new(Config { max_ack: LIMIT, ..Config::default() }, Instant::ZERO);
    let mut queue = SendQueue::new(1 << 20);
    for tag in 0..requests {
        client.submit(tag, vec![0; 9], Bytes::from_static(b"body"));
    }
    client.poll_transmit(&mut queue, Instant::ZERO);
    client.handle_sent(queue.len(), Instant::ZERO);
    let (mut answers, mut fault) = (Vec::new(), None);
    for mut piece in bytes.chunks(step) {
        loop {
            match client.next(&mut piece) {
                Ok(None) => break,
                Ok(Some(answer)) => answers.push(answer),
                Err(error) => {
                    assert_eq!(fault, None, "one fault ends it");
                    fault = Some(error);
                }
            }
        }
        assert!(piece.is_empty(), "everything is taken");
    }
    let open = answers.len() as u64 != requests;
    let late = client.poll_timeout().map(|deadline| client.handle_timeout(deadline.at));
    assert_eq!(late, (open && fault.is_none()).then_some(Err(Fault::Silent)));
    client.leave();
    assert_eq!((client.poll_close(), client.poll_close()), (Some(Closing::Abort), None));
    (answers, fault)
}
