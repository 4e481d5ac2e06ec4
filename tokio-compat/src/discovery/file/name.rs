//! File names: keys with every byte escaped that is no ASCII letter or digit.

use ringplane_core::discovery::key::Key;

/// What unfinished files begin with.
pub(super) const TEMPORARY: &str = ".tmp_";

/// Bytes of a file name Linux takes.
pub(super) const MAX: usize = 255;

/// The file name of an instance.
pub(super) fn encode(key: &Key) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut name = String::new();
    for byte in key.relative().bytes() {
        if byte.is_ascii_alphanumeric() {
            name.push(char::from(byte));
        } else {
            name.push('%');
            name.extend([byte >> 4, byte & 15].map(|digit| char::from(HEX[usize::from(digit)])));
        }
    }
    name
}

/// The key a file name stands for; `None` for files that are none of our business.
pub(super) fn decode(name: &str) -> Option<Key> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                bytes.push(digit(high)? << 4 | digit(low)?);
                tail
            }
            (b'%', _) => return None,
            _ => {
                bytes.push(*first);
                tail
            }
        };
    }
    Key::parse(&String::from_utf8(bytes).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use ringplane_core::id::{EndpointId, InstanceId};

    use super::*;

    #[test]
    fn a_name_seen_live_reads_and_writes() {
        let tree = include_str!("../../../../tests/vectors/discovery/file-tree-endpoint-registered.txt");
        let line = tree.lines().find(|line| line.starts_with("FILE")).unwrap();
        let name = line.rsplit('/').next().unwrap();
        let key = decode(name).unwrap();
        assert_eq!(key.endpoint, EndpointId::new("w-ns", "wcomp", "wep"));
        assert_eq!(key.id, InstanceId(0xaaff_5a6e_69b3_9505));
        assert_eq!(encode(&key), name);
    }

    #[test]
    fn names_of_any_language_survive_and_broken_escapes_do_not() {
        let key = Key { endpoint: EndpointId::new("ä_ö", "b.c", "50%"), id: InstanceId(1) };
        assert_eq!(decode(&encode(&key)), Some(key));
        for broken in ["a%2", "a%", "a%2Fb%2Fc%2Fzz", "a%FF%2Fb%2Fc%2F1", "%GG", ".tmp_0123456789abcdef"] {
            assert_eq!(decode(broken), None, "{broken}");
        }
    }
}
