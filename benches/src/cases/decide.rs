//! Rows of decisions: whom to call, when to try again, and the randomness behind both.

use std::hint::black_box;

use ringplane_core::id::InstanceId;
use ringplane_core::retry::{Backoff, Budget, backoff, budget};
use ringplane_core::rng::Rng;
use ringplane_core::route::eligible::{Ask, Slate};
use ringplane_core::route::policy::any::{ALL, AnyPolicy};
use ringplane_core::route::policy::pick::Pick;
use ringplane_core::time::Instant;

use crate::cases::case::Case;
use crate::inputs::candidates;

/// Every policy over few and many candidates, the retry rules, the generator.
pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = ALL
        .into_iter()
        .flat_map(|row| {
            let text = if row.argument.is_some() { format!("{}:1", row.name) } else { row.name.to_owned() };
            let sizes =
                [4, 10, 64, 1000, 1024, 100_000].map(|count| pick(&format!("{}/{count}", row.name), &text, count, &[]));
            let retried = pick(&format!("{} after a failed try/64", row.name), &text, 64, &[InstanceId(9)]);
            sizes.into_iter().chain([retried])
        })
        .collect();
    cases.extend(retry());
    cases
}

fn pick(name: &str, policy: &str, count: u64, avoid: &'static [InstanceId]) -> Case {
    let policy = AnyPolicy::from_name(policy).expect("a name of the table");
    Case::new(format!("selection/{name}"), move |_| {
        let (mut policy, mut rng) = (policy.clone(), Rng::new(1));
        let candidates = candidates(count);
        // What ring hash and sticky go by; the others do not look.
        let ask = Ask { affinity: Some(7), ..Ask::default() };
        move || {
            let slate = Slate { ask, candidates: &candidates, allow: &[], avoid, now: Instant::ZERO };
            policy.pick(black_box(&slate), &mut rng).expect("somebody is picked")
        }
    })
}

fn retry() -> Vec<Case> {
    vec![
        Case::new("retry/backoff pause", |_| {
            let mut rng = Rng::new(1);
            move || Backoff::new(black_box(backoff::Config::default())).pause(&mut rng)
        }),
        Case::new("retry/budget failed and succeeded", |_| {
            let mut budget = Budget::new(budget::Config::default());
            move || {
                let allowed = budget.failed();
                (0..10).for_each(|_| black_box(&mut budget).succeeded());
                allowed
            }
        }),
        Case::new("rng/next", |_| {
            let mut rng = Rng::new(1);
            move || rng.next_u64()
        }),
        Case::new("rng/below", |_| {
            let mut rng = Rng::new(1);
            move || rng.below(black_box(1000))
        }),
    ]
}
