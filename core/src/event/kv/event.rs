//! What an engine says of its blocks: stored, removed, all cleared.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

/// One event of a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(clippy::large_enum_variant, reason = "most events are stores")]
pub enum Event {
    /// Blocks are held from now on.
    Stored(Stored),
    /// A copy of each of these blocks is held no more.
    Removed(Removed),
    /// No block is held any more, in any tier and group of this publisher and rank.
    Cleared,
}

/// Blocks that are held: `BlockStored`. Field names are the wire's. Hashes are names inside one publisher; those of two
/// publishers compare only if algorithm and seed agree.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Stored {
    /// Hashes in the order of the prefix, as 64 bits whatever they were on the wire. Empty in a sparse store.
    pub block_hashes: Vec<u64>,
    /// The hash before the first token; `None` at the start of a sequence.
    pub parent_block_hash: Option<u64>,
    /// The tokens of these blocks.
    pub token_ids: Tokens,
    /// Tokens per hash.
    pub block_size: u32,
    /// The adapter by number, which engines are giving up.
    pub lora_id: Option<i64>,
    /// The tier as the engine names it; see [`Stored::tier`].
    pub medium: Option<String>,
    /// The adapter.
    pub lora_name: Option<String>,
    /// MessagePack of one list or nil per hash: what went into the hash besides the tokens. Adapter, `[id, offset]` of pictures,
    /// salt, digests, in the engine's order.
    pub extra_keys: Option<Vec<u8>>,
    /// The KV-cache group of a hybrid model.
    pub group_idx: Option<u32>,
    /// What kind of attention the group is for, for example `full_attention`.
    pub kv_cache_spec_kind: Option<String>,
    /// The window of that attention, in tokens.
    pub kv_cache_spec_sliding_window: Option<u32>,
    /// `LOCAL` or `REMOTE`, seen from the publisher.
    pub locality: Option<String>,
    /// The offload tier that owns the copy.
    pub ownership: Option<String>,
    /// The salt of SGLang.
    pub cache_salt: Option<String>,
    /// The session that caused the store; it owns nothing.
    pub session_id: Option<String>,
    /// MessagePack of one list of tokens per hash: those after the block that went into its hash.
    pub lookahead_token_ids: Option<Vec<u8>>,
    /// MessagePack of TensorRT-LLM's keys of pictures.
    pub mm_keys: Option<Vec<u8>>,
}

/// Copies that are gone: `BlockRemoved`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Removed {
    /// One copy of each of these is gone.
    pub block_hashes: Vec<u64>,
    /// The tier as the engine names it.
    pub medium: Option<String>,
    /// The KV-cache group of a hybrid model.
    pub group_idx: Option<u32>,
    /// `LOCAL` or `REMOTE`, seen from the publisher.
    pub locality: Option<String>,
    /// The offload tier that owned the copy.
    pub ownership: Option<String>,
}

/// The tokens of a store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Tokens {
    /// A token each.
    Plain(Vec<u32>),
    /// SGLang with EAGLE: a token and the one after it.
    Pairs(Vec<[u32; 2]>),
    /// Anything else, as TensorRT-LLM's texts: how many, and the MessagePack of the list.
    Other {
        /// Items of the list.
        len: usize,
        /// The list as it came.
        raw: Vec<u8>,
    },
}

/// Where a copy lies. As a value of serde it has the name that Dynamo's routers know.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub enum Tier {
    /// In the memory of the device. Absent and empty names mean this one.
    #[default]
    #[serde(rename = "device")]
    Gpu,
    /// In the memory of the host: `CPU`, `CPU_PINNED`.
    #[serde(rename = "host_pinned")]
    Host,
    /// On storage of the host or near it: `DISK`, `FS`, `STORAGE`.
    #[serde(rename = "disk")]
    Disk,
    /// Elsewhere: `EXTERNAL`, `OBJ`.
    #[serde(rename = "external")]
    External,
}

/// A store that engines may send and a publisher of ours does not: readers could not tell which tokens belong to which hash.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Unsound {
    /// There are not `block_size` tokens per hash.
    Sparse {
        /// Tokens given.
        tokens: usize,
        /// Hashes given.
        hashes: usize,
        /// Tokens per hash.
        block_size: u32,
    },
    /// A hash stands twice.
    Repeated(u64),
    /// A hash is its own parent.
    OwnParent(u64),
}

impl fmt::Display for Unsound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sparse { tokens, hashes, block_size } => {
                write!(f, "{tokens} tokens for {hashes} hashes of {block_size} tokens each")
            }
            Self::Repeated(hash) => write!(f, "hash {hash} stands twice in one store"),
            Self::OwnParent(hash) => write!(f, "hash {hash} is named as its own parent"),
        }
    }
}

impl core::error::Error for Unsound {}

impl Default for Tokens {
    fn default() -> Self {
        Self::Plain(Vec::new())
    }
}

impl Tokens {
    /// How many items the list has.
    pub const fn len(&self) -> usize {
        match self {
            Self::Plain(tokens) => tokens.len(),
            Self::Pairs(pairs) => pairs.len(),
            Self::Other { len, .. } => *len,
        }
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Tier {
    /// The tier that an engine calls so, without regard to case. `None` for a name nobody has given a meaning: such an event says
    /// nothing of the device's memory and is to be ignored.
    pub fn of(medium: Option<&str>) -> Option<Self> {
        const NAMES: [(&str, Tier); 9] = [
            ("", Tier::Gpu),
            ("GPU", Tier::Gpu),
            ("CPU", Tier::Host),
            ("CPU_PINNED", Tier::Host),
            ("DISK", Tier::Disk),
            ("FS", Tier::Disk),
            ("STORAGE", Tier::Disk),
            ("EXTERNAL", Tier::External),
            ("OBJ", Tier::External),
        ];
        let medium = medium.unwrap_or_default();
        NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(medium)).map(|(_, tier)| *tier)
    }
}

impl Stored {
    /// Where the blocks lie; `None` if the medium has no meaning here.
    pub fn tier(&self) -> Option<Tier> {
        Tier::of(self.medium.as_deref())
    }

    /// Whether each hash has its tokens. A store that is not dense adds copies of hashes that are known already, and tells
    /// nothing of tokens.
    pub fn is_dense(&self) -> bool {
        let expected = self.block_hashes.len().checked_mul(self.block_size as usize);
        !self.block_hashes.is_empty() && expected == Some(self.token_ids.len()) && !self.token_ids.is_empty()
    }

    /// Checks what a publisher owes its readers.
    ///
    /// # Errors
    /// [`Unsound`] if it is not dense, or names a hash twice or as its own parent.
    pub fn check(&self) -> Result<(), Unsound> {
        if !self.is_dense() {
            return Err(Unsound::Sparse {
                tokens: self.token_ids.len(),
                hashes: self.block_hashes.len(),
                block_size: self.block_size,
            });
        }
        if let Some(parent) = self.parent_block_hash.filter(|parent| self.block_hashes.contains(parent)) {
            return Err(Unsound::OwnParent(parent));
        }
        let mut sorted = self.block_hashes.clone();
        sorted.sort_unstable();
        let twice = sorted.iter().zip(sorted.iter().skip(1)).find(|(a, b)| a == b);
        twice.map_or(Ok(()), |(hash, _)| Err(Unsound::Repeated(*hash)))
    }
}

impl Removed {
    /// Where the copies lay; `None` if the medium has no meaning here.
    pub fn tier(&self) -> Option<Tier> {
        Tier::of(self.medium.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;

    #[test]
    fn a_medium_is_read_without_case_and_an_unknown_one_is_no_tier() {
        for (name, tier) in [(None, Some(Tier::Gpu)), (Some(""), Some(Tier::Gpu)), (Some("cpu"), Some(Tier::Host))] {
            assert_eq!(Tier::of(name), tier);
        }
        assert_eq!(Tier::of(Some("CPU_PINNED")), Some(Tier::Host));
        assert_eq!(Tier::of(Some("STORAGE")), Some(Tier::Disk));
        assert_eq!(Tier::of(Some("EXTERNAL")), Some(Tier::External));
        assert_eq!(Tier::of(Some("HBM5")), None);
    }

    #[test]
    fn a_store_is_sound_if_each_hash_has_its_tokens_and_stands_once() {
        let good = Stored {
            block_hashes: vec![1, 2],
            parent_block_hash: Some(7),
            token_ids: Tokens::Plain(vec![0; 8]),
            block_size: 4,
            ..Stored::default()
        };
        assert_eq!(good.check(), Ok(()));
        let sparse = Stored { block_size: 5, ..good.clone() };
        assert_eq!(sparse.check(), Err(Unsound::Sparse { tokens: 8, hashes: 2, block_size: 5 }));
        assert_eq!(Stored { block_hashes: vec![2, 2], ..good.clone() }.check(), Err(Unsound::Repeated(2)));
        assert_eq!(Stored { parent_block_hash: Some(2), ..good }.check(), Err(Unsound::OwnParent(2)));
        assert!(!Stored::default().is_dense(), "no hash says nothing");
    }
}
