//! What Dynamo's KV routers read of a worker: its blocks by their tokens, its load, and its forward passes.
//!
//! The payloads of three topics, as Dynamo 1.6.1 has them: MessagePack, structs as maps by field name in this order.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::event::kv::event::Tier;

/// The topic of [`RouterEvent`]s. Its payload is an array of them.
pub const BLOCKS: &str = "kv-events";
/// The topic of [`Load`].
pub const LOAD: &str = "kv_metrics";
/// The topic of [`ForwardPass`].
pub const FORWARD: &str = "forward-pass-metrics";

/// The most events of one payload, as Dynamo's publishers have it.
pub const MAX_EVENTS: usize = 128;
/// The most blocks of one payload, as Dynamo's publishers have it.
pub const MAX_BLOCKS: usize = 8192;

/// What happened to blocks of one worker.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RouterEvent {
    /// The instance that routers send requests to.
    pub worker_id: u64,
    /// Where the blocks lie.
    #[serde(default)]
    pub storage_tier: Tier,
    /// Whose memory that is.
    #[serde(default)]
    pub residency_domain: Residency,
    /// What happened.
    pub event: CacheEvent,
    /// The session that caused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
}

/// Whose memory blocks lie in.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Residency {
    /// The worker's.
    #[default]
    Worker,
    /// That of a cache which several workers use.
    CacheOwner,
}

/// What happened, and of which rank.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CacheEvent {
    /// Numbered by the publisher, from 1.
    pub event_id: u64,
    /// What happened.
    pub data: Change,
    /// The data-parallel rank.
    #[serde(default)]
    pub dp_rank: u32,
}

/// What happened to blocks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// They are held from now on.
    Stored(StoredBlocks),
    /// They are held no more.
    Removed(RemovedBlocks),
    /// Nothing is held any more.
    Cleared,
}

/// Blocks that follow one another.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct StoredBlocks {
    /// The engine's hash of the block before; `None` at the start of a sequence.
    #[serde(default)]
    pub parent_hash: Option<u64>,
    /// How many blocks come before, where a publisher says so.
    #[serde(default)]
    pub start_position: Option<u32>,
    /// The blocks, in the order of the prefix.
    pub blocks: Vec<Block>,
}

/// Blocks that are gone.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RemovedBlocks {
    /// The engine's hashes.
    pub block_hashes: Vec<u64>,
}

/// One block.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Block {
    /// The engine's hash, by which it is removed.
    pub block_hash: u64,
    /// [`tokens_hash`] of what is in it, by which routers find it.
    pub tokens_hash: u64,
    /// What is in it besides tokens.
    #[serde(default)]
    pub mm_extra_info: Option<Extra>,
}

/// What is in a block besides tokens.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Extra {
    /// Pictures and the like.
    pub mm_objects: Vec<MmObject>,
}

/// A picture or the like, and where its placeholders are.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MmObject {
    /// What it is.
    pub mm_hash: u64,
    /// From which token to which.
    #[serde(default)]
    pub offsets: Vec<(u64, u64)>,
}

/// How much a worker has to do. Routers compare it with what the worker's model card says it can hold.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Load {
    /// The instance that routers send requests to.
    pub worker_id: u64,
    /// The data-parallel rank.
    #[serde(default)]
    pub dp_rank: u32,
    /// Blocks of requests that are being answered.
    #[serde(default)]
    pub active_decode_blocks: Option<u64>,
    /// Tokens of prompts that are being read.
    #[serde(default)]
    pub active_prefill_tokens: Option<u64>,
    /// Blocks in use, whatever for.
    #[serde(default)]
    pub kv_used_blocks: Option<u64>,
}

/// One forward pass of an engine, for planners. An engine without work tells of an empty one each second.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ForwardPass {
    /// Of this form: 1.
    pub version: u32,
    /// A name of the worker.
    pub worker_id: String,
    /// The data-parallel rank.
    pub dp_rank: u32,
    /// Numbered by the publisher, from 1.
    pub counter_id: u64,
    /// How long it took, in seconds.
    pub wall_time: f64,
    /// What it worked on.
    pub scheduled_requests: Scheduled,
    /// What had to wait.
    pub queued_requests: Queued,
}

/// What a forward pass worked on.
#[derive(Copy, Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Scheduled {
    /// Requests whose prompt was read.
    pub num_prefill_requests: u64,
    /// Tokens of these prompts.
    pub sum_prefill_tokens: u64,
    /// Variance of their lengths.
    pub var_prefill_length: f64,
    /// Tokens of them that were in the cache.
    pub sum_prefill_kv_tokens: u64,
    /// Requests that were answered.
    pub num_decode_requests: u64,
    /// Tokens that these have in the cache.
    pub sum_decode_kv_tokens: u64,
    /// Variance of these numbers.
    pub var_decode_kv_tokens: f64,
}

/// What waited during a forward pass.
#[derive(Copy, Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Queued {
    /// Requests whose prompt is to be read.
    pub num_prefill_requests: u64,
    /// Tokens of these prompts.
    pub sum_prefill_tokens: u64,
    /// Variance of their lengths.
    pub var_prefill_length: f64,
    /// Requests that were taken out of work.
    pub num_decode_requests: u64,
    /// Tokens that these have in the cache.
    pub sum_decode_kv_tokens: u64,
    /// Variance of these numbers.
    pub var_decode_kv_tokens: f64,
}

/// The hash by which routers find a block of these tokens, under this adapter and with this salt: XXH3-64 of the tokens, little
/// end first. Empty names count as none.
pub fn tokens_hash(tokens: &[u32], lora_name: Option<&str>, cache_salt: Option<&str>) -> u64 {
    let part = |name: Option<&str>, seed| match name {
        Some(name) if !name.is_empty() => xxh3_64_with_seed(name.as_bytes(), seed),
        _ => 0,
    };
    let seed = 1337_u64.wrapping_add(part(lora_name, 0)).wrapping_add(part(cache_salt, 1));
    let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
    xxh3_64_with_seed(&bytes, seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `compute_block_hash_for_seq` of the wheel 1.6.1 answers.
    #[test]
    fn hashes_of_tokens_are_dynamos() {
        let (first, second) = (&[1, 2, 3, 4][..], &[5, 6, 7, 8][..]);
        assert_eq!(tokens_hash(first, None, None), 0xcb38_e4d7_fb2d_ca5c);
        assert_eq!(tokens_hash(second, Some(""), Some("")), 0xe8d3_ec39_b907_b74c);
        assert_eq!(tokens_hash(&[300, 70_000, 5, 6], None, None), 0x496f_6cf1_36e8_464f);
        assert_eq!(tokens_hash(first, Some("lora-a"), None), 0xebe4_99ac_3e80_56dc);
        assert_eq!(tokens_hash(first, None, Some("salt")), 0xd479_2f51_2213_711c);
        assert_eq!(tokens_hash(second, Some("lora-a"), Some("salt")), 0x13e3_d9b6_49da_2b6a);
    }
}
