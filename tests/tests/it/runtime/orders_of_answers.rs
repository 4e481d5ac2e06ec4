//! Requests that cross to a runtime and their answers, in every order. A wake that is lost shows as a deadlock.

use std::future::poll_fn;
use std::sync::Arc;

use bytes::Bytes;
use loom::future::block_on;
use loom::model;
use loom::thread::spawn;
use ringplane_core::local::{Failure, SendItemError};
use ringplane_core::worker::job::Cause;

use crate::runtime::answering::{Crossing, Outcome};
use crate::runtime::lane::Hand;

fn item(number: u8) -> Bytes {
    vec![number].into()
}

fn read(crossing: &Crossing) -> (Vec<u8>, Outcome) {
    let (mut hand, mut items) = (Hand::default(), Vec::new());
    loop {
        items.extend(std::iter::from_fn(|| hand.pop()).map(|item| item[0]));
        if let Some(end) = block_on(poll_fn(|cx| crossing.poll_read(&mut hand, cx))) {
            return (items, end);
        }
    }
}

#[test]
fn a_handler_reads_every_item_in_order_and_then_the_end() {
    for depth in [1, 2] {
        model(move || {
            let crossing = Arc::new(Crossing::new(depth));
            let giving = crossing.clone();
            let core = spawn(move || {
                block_on(async {
                    for number in 0..2 {
                        assert!(giving.give(item(number)).await);
                    }
                    giving.end(Ok(()));
                });
            });
            assert_eq!(read(&crossing), (vec![0, 1], Ok(())));
            core.join().unwrap();
        });
    }
}

#[test]
fn a_core_that_waits_for_room_learns_that_nobody_reads() {
    model(|| {
        let crossing = Arc::new(Crossing::new(1));
        let giving = crossing.clone();
        let core = spawn(move || block_on(async { giving.give(item(0)).await && giving.give(item(1)).await }));
        crossing.leave();
        assert!(!core.join().unwrap());
    });
}

#[test]
fn a_core_gets_every_answer_in_order_and_the_outcome_after_the_last_way_back_is_gone() {
    for outcome_first in [false, true] {
        model(move || {
            let crossing = Arc::new(Crossing::new(1));
            let answering = crossing.clone();
            let handler = spawn(move || {
                if outcome_first {
                    answering.conclude(Ok(Ok(())));
                }
                let mut items = vec![item(0)];
                block_on(poll_fn(|cx| answering.poll_send(&mut items, cx))).unwrap();
                answering.drop_out();
                answering.conclude(Ok(Ok(())));
            });
            let (mut hand, mut answers) = (Hand::default(), Vec::new());
            let outcome = block_on(async {
                loop {
                    answers.extend(std::iter::from_fn(|| hand.pop()).map(|item| item[0]));
                    if let Some(outcome) = crossing.next(&mut hand).await {
                        return outcome.unwrap();
                    }
                }
            });
            assert_eq!((answers, outcome), (vec![0], Ok(())));
            handler.join().unwrap();
        });
    }
}

#[test]
fn a_handler_that_waits_for_room_goes_on_when_its_core_has_read() {
    model(|| {
        let crossing = Arc::new(Crossing::new(1));
        let answering = crossing.clone();
        let handler = spawn(move || {
            let mut items = vec![item(0), item(1)];
            block_on(poll_fn(|cx| answering.poll_send(&mut items, cx))).unwrap();
        });
        let (mut hand, mut answers) = (Hand::default(), Vec::new());
        while answers.len() < 2 {
            assert!(block_on(crossing.next(&mut hand)).is_none());
            answers.extend(std::iter::from_fn(|| hand.pop()).map(|item| item[0]));
        }
        assert_eq!(answers, [0, 1]);
        handler.join().unwrap();
    });
}

#[test]
fn a_handler_learns_of_a_cancel_and_of_the_end_of_its_call_wherever_it_waits() {
    model(|| {
        let crossing = Arc::new(Crossing::new(1));
        let closing = crossing.clone();
        let core = spawn(move || {
            closing.tell(Cause::Stop);
            closing.close();
        });
        let gone: Failure = SendItemError::Gone.into();
        assert_eq!(block_on(poll_fn(|cx| crossing.poll_cause(cx))), Cause::Stop);
        assert_eq!(read(&crossing), (vec![], Err(gone)));
        core.join().unwrap();
    });
    model(|| {
        let crossing = Arc::new(Crossing::new(1));
        let closing = crossing.clone();
        let core = spawn(move || closing.close());
        let mut items = vec![item(0), item(1)];
        assert_eq!(block_on(poll_fn(|cx| crossing.poll_send(&mut items, cx))), Err(SendItemError::Gone));
        assert_eq!(block_on(poll_fn(|cx| crossing.poll_cause(cx))), Cause::Kill);
        core.join().unwrap();
    });
}

#[test]
fn the_task_of_a_handler_learns_that_it_is_not_wanted_any_more() {
    model(|| {
        let crossing = Arc::new(Crossing::new(1));
        let closing = crossing.clone();
        let core = spawn(move || closing.close());
        block_on(poll_fn(|cx| {
            crossing.begin(cx);
            if crossing.is_over() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        }));
        assert_eq!(crossing.cause(), Some(Cause::Kill));
        core.join().unwrap();
    });
}
