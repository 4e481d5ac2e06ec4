//! What a node speaks, and what that makes of a payload.

use bytes::Bytes;
use ringplane_core::caller::config as caller;
use ringplane_core::caller::target::Target;
use ringplane_core::wire::codec::Codec;

use crate::engine::Result;
use crate::scenario::Scenario;

/// The protocol between caller and worker.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Dialect {
    /// Ours: payloads as they are.
    Mux,
    /// Dynamo's: payloads are MessagePack, plain bytes as Dynamo's own engine has them here.
    CallHome,
}

/// MessagePack's mark of bytes with a length of 32 bits.
const BIN_32: u8 = 0xc6;

impl Dialect {
    pub(crate) const fn caller(self) -> caller::Dialect {
        match self {
            Self::Mux => caller::Dialect::Mux,
            Self::CallHome => caller::Dialect::CallHome,
        }
    }

    pub(crate) fn target(self, addr: std::net::SocketAddr, path: &str) -> Target {
        match self {
            Self::Mux => Target::mux(addr, path),
            Self::CallHome => Target::call_home(addr, path, Codec::Msgpack),
        }
    }

    /// Why it cannot run this scenario, if it cannot.
    pub(crate) fn unsupported(self, scenario: &Scenario) -> Option<&'static str> {
        let wrong = [
            (scenario.idle > 0, "keeps no connections for answers: there are no idle ones to hold"),
            (scenario.churn, "dials for each answer in every scenario"),
            (scenario.slow_readers > 0, "fails an answer that lies unread, and holds nobody back"),
        ];
        wrong.into_iter().find_map(|(is_wrong, why)| (is_wrong && self == Self::CallHome).then_some(why))
    }

    /// A payload as it travels.
    pub(crate) fn wrap(self, payload: Bytes) -> Bytes {
        if self == Self::Mux {
            return payload;
        }
        let mut bytes = Vec::with_capacity(payload.len() + 5);
        bytes.push(BIN_32);
        bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes());
        bytes.extend_from_slice(&payload);
        bytes.into()
    }

    /// And back.
    pub(crate) fn unwrap(self, mut bytes: Bytes) -> Result<Bytes> {
        if self == Self::Mux {
            return Ok(bytes);
        }
        let Some(([BIN_32, length @ ..], rest)) = bytes.split_first_chunk::<5>() else {
            return Err("a payload that is no bytes".into());
        };
        if rest.len() != u32::from_be_bytes(*length) as usize {
            return Err("a payload of another length than it says".into());
        }
        Ok(bytes.split_off(5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_comes_back_as_it_went_and_one_cut_short_is_noticed() {
        for dialect in [Dialect::Mux, Dialect::CallHome] {
            let payload = Bytes::from_static(b"abc");
            assert_eq!(dialect.unwrap(dialect.wrap(payload.clone())).unwrap(), payload);
        }
        let bytes = Dialect::CallHome.wrap(Bytes::from_static(b"abc"));
        assert!(Dialect::CallHome.unwrap(bytes.slice(..7)).is_err());
        assert!(Dialect::CallHome.unwrap(Bytes::new()).is_err());
    }
}
