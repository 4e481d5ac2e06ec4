//! What routers are to be told of an engine's events.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::event::kv::copies::{self, Copies, Place};
use crate::event::kv::event::{Event, Removed, Stored, Tier, Tokens, Unsound};
use crate::event::kv::router::{Block, CacheEvent, Change, MAX_BLOCKS, RemovedBlocks, Residency, RouterEvent};
use crate::event::kv::router::{StoredBlocks, tokens_hash};
use crate::stats::counters;
use crate::wire::msgpack::{self, Token};
use crate::wire::parse::Reader;

/// Attention whose blocks stand for the whole prefix before them. Those of other kinds can be gone while later ones are held.
const WHOLE_PREFIX: [&str; 3] = ["full_attention", "mla_attention", "sink_full_attention"];

/// Whose blocks they are.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The instance that routers send requests to.
    pub worker_id: u64,
    /// The data-parallel rank. Default 0.
    pub rank: u32,
    /// Tokens of a block, as in the worker's model card. Routers cut prompts into blocks of this size.
    pub block_size: u32,
    /// Bounds on what is remembered of the worker's blocks.
    pub copies: copies::Config,
}

impl Config {
    /// Those of this worker's rank 0, with the default bounds.
    pub fn new(worker_id: u64, block_size: u32) -> Self {
        Self { worker_id, rank: 0, block_size, copies: copies::Config::default() }
    }
}

counters! {
    /// What routers were told of an engine's events.
    pub struct KvAnnouncerStats {
        /// Events that routers are to hear of.
        pub told,
        /// Events that say nothing to routers: a copy went and others are left, or nobody was told of the block.
        pub silent,
        /// Stores that routers could not make sense of.
        pub untold,
    }
}

/// A store that routers are not told of, because they could not find its blocks by a prompt, or would take them for what they
/// are not.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Untold {
    /// It breaks what readers rely on.
    Unsound(Unsound),
    /// Its blocks have so many tokens, and routers cut prompts otherwise.
    BlockSize(u32),
    /// Its tier has no meaning here.
    Medium(String),
    /// Its blocks are of a kind of attention that does not need all of the prefix.
    Attention(String),
    /// Its blocks lie at another worker, or belong to a tier that owns them.
    Elsewhere,
    /// More than tokens, adapter and salt is in its hashes.
    Keys,
    /// As many blocks are remembered as may be.
    Full,
}

impl fmt::Display for Untold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsound(_) => f.write_str("the store is not sound"),
            Self::BlockSize(size) => write!(f, "blocks of {size} tokens, which routers do not look for"),
            Self::Medium(name) => write!(f, "a tier called {name:?}, which has no meaning to routers"),
            Self::Attention(kind) => write!(f, "blocks of {kind}, which do not need the whole prefix"),
            Self::Elsewhere => f.write_str("blocks that are not this worker's own"),
            Self::Keys => f.write_str("blocks of more than tokens, an adapter and a salt"),
            Self::Full => f.write_str("no more blocks can be remembered"),
        }
    }
}

impl core::error::Error for Untold {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        if let Self::Unsound(why) = self { Some(why) } else { None }
    }
}

/// Turns what an engine says of its blocks into what Dynamo's routers read. Stores are told each time: a router that has lost
/// some takes them again. A block is told to be gone when its last copy in its place is; routers know no copies.
#[derive(Clone, Debug)]
pub struct Announcer {
    config: Config,
    copies: Copies,
    stats: KvAnnouncerStats,
}

impl Announcer {
    /// One that knows of no block.
    pub fn new(config: Config) -> Self {
        Self { config, copies: Copies::new(config.copies), stats: KvAnnouncerStats::default() }
    }

    /// What routers are to hear of an event, in order, without numbers yet: nothing, one event, or several for a store of very many
    /// blocks.
    ///
    /// # Errors
    /// [`Untold`] for a store that is not for routers; nothing of it is remembered.
    pub fn announce(&mut self, event: &Event) -> Result<Vec<RouterEvent>, Untold> {
        let told = match event {
            Event::Stored(stored) => self.stored(stored).inspect_err(|_| self.stats.untold += 1)?,
            Event::Removed(removed) => self.removed(removed),
            Event::Cleared => {
                self.copies.clear();
                Vec::from([self.cleared()])
            }
        };
        let counter = if told.is_empty() { &mut self.stats.silent } else { &mut self.stats.told };
        *counter += 1;
        Ok(told)
    }

    /// The event that lets routers forget all of this rank, whatever they know.
    pub const fn cleared(&self) -> RouterEvent {
        self.event(Tier::Gpu, Change::Cleared)
    }

    /// Hashes that are remembered, each once per place it lies in.
    pub fn held(&self) -> usize {
        self.copies.len()
    }

    /// What was told.
    pub const fn stats(&self) -> KvAnnouncerStats {
        self.stats
    }

    const fn event(&self, storage_tier: Tier, data: Change) -> RouterEvent {
        let Config { worker_id, rank: dp_rank, .. } = self.config;
        let event = CacheEvent { event_id: 0, data, dp_rank };
        RouterEvent { worker_id, storage_tier, residency_domain: Residency::Worker, event, session_id: None }
    }

    fn stored(&mut self, stored: &Stored) -> Result<Vec<RouterEvent>, Untold> {
        let (tier, tokens) = self.checked(stored)?;
        let hashes = &stored.block_hashes;
        let place = Place::of_stored(self.config.rank, tier, stored);
        if !self.copies.have_room(&place, hashes) {
            return Err(Untold::Full);
        }
        let (_, all) = self.copies.add(place, hashes, true);
        all.map_err(|_| Untold::Full)?;
        let (lora, salt) = (stored.lora_name.as_deref(), stored.cache_salt.as_deref());
        let block = |(hash, tokens): (&u64, &[u32])| Block {
            block_hash: *hash,
            tokens_hash: tokens_hash(tokens, lora, salt),
            mm_extra_info: None,
        };
        let size = stored.block_size.max(1) as usize;
        let mut blocks = hashes.iter().zip(tokens.chunks(size)).map(block);
        let (mut told, mut parent_hash) = (Vec::new(), stored.parent_block_hash);
        loop {
            let blocks: Vec<Block> = blocks.by_ref().take(MAX_BLOCKS).collect();
            let Some(last) = blocks.last().map(|block| block.block_hash) else { return Ok(told) };
            let part = StoredBlocks { parent_hash, start_position: None, blocks };
            let event = self.event(tier, Change::Stored(part));
            told.push(RouterEvent { session_id: stored.session_id.clone(), ..event });
            parent_hash = Some(last);
        }
    }

    /// The tier and the tokens of a store that routers can make sense of.
    fn checked<'a>(&self, stored: &'a Stored) -> Result<(Tier, &'a [u32]), Untold> {
        stored.check().map_err(Untold::Unsound)?;
        let Some(tier) = stored.tier() else {
            return Err(Untold::Medium(stored.medium.clone().unwrap_or_default()));
        };
        if stored.block_size != self.config.block_size {
            return Err(Untold::BlockSize(stored.block_size));
        }
        let whole = |kind: &&String| !WHOLE_PREFIX.contains(&kind.as_str());
        if let Some(kind) = stored.kv_cache_spec_kind.as_ref().filter(whole) {
            return Err(Untold::Attention(kind.clone()));
        }
        let remote = stored.locality.as_deref().is_some_and(|locality| locality.eq_ignore_ascii_case("REMOTE"));
        if remote || stored.ownership.is_some() {
            return Err(Untold::Elsewhere);
        }
        let lora = stored.lora_name.as_deref();
        let plain = stored.extra_keys.as_deref().is_none_or(|keys| are_the_adapters(keys, lora));
        match &stored.token_ids {
            Tokens::Plain(tokens) if plain && stored.lookahead_token_ids.is_none() && stored.mm_keys.is_none() => {
                Ok((tier, tokens))
            }
            _ => Err(Untold::Keys),
        }
    }

    fn removed(&mut self, removed: &Removed) -> Vec<RouterEvent> {
        let Some(tier) = removed.tier() else { return Vec::new() };
        let gone = self.copies.remove(&Place::of_removed(self.config.rank, tier, removed), &removed.block_hashes);
        let parts = gone.chunks(MAX_BLOCKS).map(|part| RemovedBlocks { block_hashes: part.to_vec() });
        parts.map(|part| self.event(tier, Change::Removed(part))).collect()
    }
}

/// Whether extra keys, MessagePack of a list or nil per block, hold nothing but the adapter's name.
fn are_the_adapters(keys: &[u8], lora_name: Option<&str>) -> bool {
    let mut reader = Reader::new(keys);
    let lists = match msgpack::token(&mut reader) {
        Ok(Token::Array(lists)) => lists,
        other => return other == Ok(Token::Nil),
    };
    (0..lists).all(|_| match msgpack::token(&mut reader) {
        Ok(Token::Nil) => true,
        Ok(Token::Array(items)) => (0..items).all(|_| {
            let name = lora_name.map(|name| Token::Str(name.as_bytes()));
            msgpack::token(&mut reader).ok().is_some_and(|item| Some(item) == name)
        }),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;

    fn stored(hashes: &[u64], parent: Option<u64>) -> Stored {
        let tokens = hashes.iter().flat_map(|hash| [*hash as u32, 1]).collect();
        Stored {
            block_hashes: hashes.to_vec(),
            parent_block_hash: parent,
            token_ids: Tokens::Plain(tokens),
            block_size: 2,
            ..Stored::default()
        }
    }

    fn removed(hash: u64) -> Event {
        Event::Removed(Removed { block_hashes: vec![hash], ..Removed::default() })
    }

    fn gone(told: &[RouterEvent]) -> Vec<u64> {
        let hashes = |event: &RouterEvent| match &event.event.data {
            Change::Removed(removed) => removed.block_hashes.clone(),
            other => panic!("{other:?}"),
        };
        told.iter().flat_map(hashes).collect()
    }

    #[test]
    fn a_block_is_gone_with_its_last_copy_and_stores_are_told_each_time() {
        let mut announcer = Announcer::new(Config { rank: 3, ..Config::new(9, 2) });
        for _ in 0..2 {
            let told = announcer.announce(&Event::Stored(stored(&[1, 2], Some(7)))).unwrap();
            let [RouterEvent { worker_id: 9, event: CacheEvent { data, dp_rank: 3, .. }, .. }] = &told[..] else {
                panic!("{told:?}")
            };
            let block = |hash: u64| Block {
                block_hash: hash,
                tokens_hash: tokens_hash(&[hash as u32, 1], None, None),
                mm_extra_info: None,
            };
            let all = StoredBlocks { parent_hash: Some(7), start_position: None, blocks: vec![block(1), block(2)] };
            assert_eq!(*data, Change::Stored(all));
        }
        assert!(announcer.announce(&removed(1)).unwrap().is_empty(), "a copy is left");
        assert_eq!(gone(&announcer.announce(&removed(1)).unwrap()), [1]);
        assert!(announcer.announce(&removed(1)).unwrap().is_empty(), "nothing is left");
        assert_eq!(announcer.announce(&Event::Cleared).unwrap(), [announcer.cleared()]);
        assert_eq!(announcer.held(), 0);
        assert_eq!(announcer.stats(), KvAnnouncerStats { told: 4, silent: 2, untold: 0 });
    }

    #[test]
    fn a_store_of_very_many_blocks_is_told_in_parts_that_follow_one_another() {
        let mut announcer = Announcer::new(Config::new(9, 2));
        let hashes: Vec<u64> = (1..=MAX_BLOCKS as u64 + 1).collect();
        let told = announcer.announce(&Event::Stored(stored(&hashes, None))).unwrap();
        let parts = told.iter().map(|event| match &event.event.data {
            Change::Stored(part) => (part.parent_hash, part.blocks.len()),
            other => panic!("{other:?}"),
        });
        assert!(parts.eq([(None, MAX_BLOCKS), (Some(MAX_BLOCKS as u64), 1)]));
    }

    #[test]
    fn what_routers_could_not_find_or_would_take_for_something_else_is_not_told() {
        let mut announcer = Announcer::new(Config {
            copies: copies::Config { max_hashes: 2, ..copies::Config::default() },
            ..Config::new(9, 2)
        });
        let good = || stored(&[1, 2], None);
        let text = |text: &str| Some(String::from(text));
        for (bad, why) in [
            (Stored { block_size: 4, block_hashes: vec![1], ..good() }, Untold::BlockSize(4)),
            (Stored { medium: text("HBM5"), ..good() }, Untold::Medium("HBM5".into())),
            (Stored { kv_cache_spec_kind: text("mamba"), ..good() }, Untold::Attention("mamba".into())),
            (Stored { locality: text("remote"), ..good() }, Untold::Elsewhere),
            (Stored { ownership: text("kvcr"), ..good() }, Untold::Elsewhere),
            (Stored { extra_keys: Some(b"\x92\xc0\x91\xa1x".to_vec()), ..good() }, Untold::Keys),
            (
                Stored { extra_keys: Some(b"\x91\x91\x92\xa1x\x07".to_vec()), lora_name: text("x"), ..good() },
                Untold::Keys,
            ),
            (Stored { token_ids: Tokens::Pairs(vec![[1, 2]; 4]), ..good() }, Untold::Keys),
            (stored(&[1, 2, 3], None), Untold::Full),
            (stored(&[1, 1], None), Untold::Unsound(Unsound::Repeated(1))),
        ] {
            assert_eq!(announcer.announce(&Event::Stored(bad)), Err(why));
        }
        assert_eq!((announcer.held(), announcer.stats().untold), (0, 10));
        let named = Stored { extra_keys: Some(b"\x92\xc0\x91\xa1x".to_vec()), lora_name: text("x"), ..good() };
        assert_eq!(announcer.announce(&Event::Stored(named)).unwrap().len(), 1, "the adapter is in the seed");
        assert!(announcer.announce(&removed(9)).unwrap().is_empty());
        assert!(announcer.announce(&Event::Stored(good())).is_ok(), "both are remembered: no room is needed");
        let half = announcer.announce(&Event::Stored(stored(&[2, 3], None)));
        assert_eq!((half, announcer.held()), (Err(Untold::Full), 2));
        let elsewhere = announcer.announce(&Event::Stored(Stored { medium: text("CPU"), ..good() }));
        assert_eq!(elsewhere, Err(Untold::Full), "in another place they are others");
    }
}
