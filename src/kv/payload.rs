//! Payloads of the topics of KV routers.

use ringplane_core::event::kv::router::RouterEvent;
use ringplane_core::event::message::Message;
use ringplane_core::wire::codec::Codec;

use crate::payload::error::PayloadError;
use crate::payload::value::Payload as _;

/// The events of a message of the topic [`BLOCKS`](ringplane_core::event::kv::router::BLOCKS): an array of them, or one of Dynamo up
/// to 1.3.
///
/// # Errors
/// See [`PayloadError`]: what it is instead, and where.
pub fn router_events(message: &Message) -> Result<Vec<RouterEvent>, PayloadError> {
    read(&message.payload)
}

fn read(payload: &[u8]) -> Result<Vec<RouterEvent>, PayloadError> {
    match payload.first() {
        Some(0x80..=0x8F | 0xDE | 0xDF) => Ok(vec![Codec::Msgpack.read(payload)?]),
        _ => Codec::Msgpack.read(payload),
    }
}

#[cfg(test)]
mod tests {
    use ringplane_core::event::kv::Tier;
    use ringplane_core::event::kv::router::{Block, Change, ForwardPass, Load, RemovedBlocks, StoredBlocks};
    use serde::Serialize;
    use serde::de::DeserializeOwned;

    use super::*;

    /// Captured from Dynamo 1.6.1.
    const STORED: &str = "9184a9776f726b65725f6964cf390da20902badc2aac73746f726167655f74696572a6646576696365b07265736964656e63\
        795f646f6d61696ea6776f726b6572a56576656e7483a86576656e745f696401a46461746181a673746f72656483ab706172656e745f68617368c0ae\
        73746172745f706f736974696f6ec0a6626c6f636b739283aa626c6f636b5f68617368cd03e8ab746f6b656e735f68617368cf7ee2cbedc694ab46ad\
        6d6d5f65787472615f696e666fc083aa626c6f636b5f68617368cd03e9ab746f6b656e735f68617368cfa8416cfd935bdb13ad6d6d5f65787472615f\
        696e666fc0a764705f72616e6b00";
    const REMOVED: &str = "9184a9776f726b65725f6964cf390da20902badc2aac73746f726167655f74696572a6646576696365b07265736964656e6\
        3795f646f6d61696ea6776f726b6572a56576656e7483a86576656e745f696402a46461746181a772656d6f76656481ac626c6f636b5f686173686573\
        91cd03e8a764705f72616e6b00";
    const METRICS: &str = "85a9776f726b65725f6964cf390da20902badc2aa764705f72616e6b00b46163746976655f6465636f64655f626c6f636b73\
        07b56163746976655f70726566696c6c5f746f6b656e73c0ae6b765f757365645f626c6f636b730c";
    const PASS: &str = "87a776657273696f6e01a9776f726b65725f6964a8776f726b65722d37a764705f72616e6b00aa636f756e7465725f6964\
        01a977616c6c5f74696d65cb0000000000000000b27363686564756c65645f726571756573747387b46e756d5f70726566696c6c5f72657175657374\
        7300b273756d5f70726566696c6c5f746f6b656e7300b27661725f70726566696c6c5f6c656e677468cb0000000000000000b573756d5f7072656669\
        6c6c5f6b765f746f6b656e7300b36e756d5f6465636f64655f726571756573747300b473756d5f6465636f64655f6b765f746f6b656e7300b4766172\
        5f6465636f64655f6b765f746f6b656e73cb0000000000000000af7175657565645f726571756573747386b46e756d5f70726566696c6c5f72657175\
        6573747300b273756d5f70726566696c6c5f746f6b656e7300b27661725f70726566696c6c5f6c656e677468cb0000000000000000b36e756d5f6465\
        636f64655f726571756573747300b473756d5f6465636f64655f6b765f746f6b656e7300b47661725f6465636f64655f6b765f746f6b656e73cb0000\
        000000000000";

    fn bytes(hex: &str) -> Vec<u8> {
        let digit = |digit: &u8| char::from(*digit).to_digit(16).unwrap() as u8;
        hex.as_bytes().as_chunks::<2>().0.iter().map(|[high, low]| digit(high) << 4 | digit(low)).collect()
    }

    fn again<T: Serialize + DeserializeOwned>(hex: &str) -> T {
        let value: T = Codec::Msgpack.read(&bytes(hex)).unwrap();
        assert_eq!(Codec::Msgpack.write(&value).unwrap(), bytes(hex));
        value
    }

    #[test]
    fn what_dynamo_publishes_is_read_and_written_again_byte_by_byte() {
        let stored: Vec<RouterEvent> = again(STORED);
        let [RouterEvent { storage_tier: Tier::Gpu, event, .. }] = &stored[..] else { panic!("{stored:?}") };
        let Change::Stored(StoredBlocks { parent_hash: None, blocks, .. }) = &event.data else { panic!("{event:?}") };
        let [first, second] = &blocks[..] else { panic!("{blocks:?}") };
        assert_eq!((event.event_id, first.block_hash, second.block_hash), (1, 1000, 1001));
        let first = Block { block_hash: 1000, tokens_hash: 0x7ee2_cbed_c694_ab46, mm_extra_info: None };
        assert_eq!(blocks[0], first);
        let removed: Vec<RouterEvent> = again(REMOVED);
        assert_eq!(removed[0].event.data, Change::Removed(RemovedBlocks { block_hashes: vec![1000] }));
        let load: Load = again(METRICS);
        assert_eq!(
            (load.active_decode_blocks, load.active_prefill_tokens, load.kv_used_blocks),
            (Some(7), None, Some(12))
        );
        let pass: ForwardPass = again(PASS);
        assert_eq!((pass.version, &*pass.worker_id, pass.counter_id), (1, "worker-7", 1));
    }

    #[test]
    fn one_event_without_a_list_and_one_without_a_tier_are_read_too() {
        let cleared = b"\x82\xa9worker_id\x07\xa5event\x83\xa8event_id\x03\xa4data\xa7cleared\xa7dp_rank\x01";
        let events = read(cleared).unwrap();
        assert_eq!((events[0].worker_id, &events[0].event.data, events[0].event.dp_rank), (7, &Change::Cleared, 1));
        assert_eq!(read(&[&[0x91], &cleared[..]].concat()).unwrap(), events);
        let error = read(b"\x91\x81\xa9worker_id\x07").unwrap_err().to_string();
        assert!(error.contains("at byte"), "{error}");
        assert!(read(b"").is_err());
    }
}
