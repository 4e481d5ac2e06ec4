//! Rows of whole mux connections: everything a call costs both sides but the network.

use ringplane_core::mux::Config;

use crate::cases::case::{Case, Work};
use crate::inputs::body;
use crate::pair::Pair;

/// A small call, token streams, large bodies, and answers that need credit again and again.
pub(super) fn cases() -> Vec<Case> {
    let narrow = || Config { stream_window: 66 << 10, ..Config::default() };
    vec![
        call("unary/256", Config::default, 1, 256),
        call("100 tokens/128", Config::default, 100, 128),
        call("200 items through a narrow window/1024", narrow, 200, 1024),
        call("large item/65536", Config::default, 1, 64 << 10).counted_if(false),
        call("large item/1048576", Config::default, 1, 1 << 20).counted_if(false),
    ]
}

fn call(what: &str, config: fn() -> Config, answers: usize, len: usize) -> Case {
    let prepare = move |crc| {
        let item = body(len);
        let mut pair = Pair::new(Config { crc, ..config() });
        assert_eq!(pair.call(&item, answers), answers * len, "the pair carries every byte");
        move || pair.call(&item, answers)
    };
    Case::new(format!("connection/{what}"), prepare).of(Work::Items(answers as u64 + 1))
}
