//! What JetStream says of a message that it delivers: its place, and how often it was delivered.

/// One delivery of a message, as the subject for its acknowledgement tells it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Delivery {
    /// Its place in the stream.
    pub(crate) sequence: u64,
    /// How often it was handed out, this time included.
    pub(crate) tries: u64,
}

impl Delivery {
    /// Reads `$JS.ACK.STREAM.CONSUMER.TRIES.SEQUENCE.…`, or the newer form with a domain and an account's hash before the
    /// stream (NATS ADR-15).
    pub(crate) fn read(reply: &str) -> Option<Self> {
        let words: Vec<&str> = reply.strip_prefix("$JS.ACK.")?.split('.').collect();
        let at = match words.len() {
            7 => 2,
            9.. => 4,
            _ => return None,
        };
        let number = |at: usize| words.get(at)?.parse().ok();
        Some(Self { tries: number(at)?, sequence: number(at + 1)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_is_read_in_both_forms() {
        let old = "$JS.ACK.my_ns_prefill_queue.worker-group.2.17.5.1795449374265937349.4";
        let new = "$JS.ACK._.hash.my_ns_prefill_queue.worker-group.2.17.5.1795449374265937349.4";
        for reply in [old, new, &format!("{new}.token.more")] {
            assert_eq!(Delivery::read(reply), Some(Delivery { sequence: 17, tries: 2 }), "{reply}");
        }
        for reply in ["", "$JS.ACK", "$JS.ACK.s.c.1", "$JS.ACK.s.c.x.17.5.0.4", "_INBOX.s.c.2.17.5.0.4"] {
            assert_eq!(Delivery::read(reply), None, "{reply}");
        }
    }
}
