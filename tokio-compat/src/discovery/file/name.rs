//! File names: keys with every byte escaped that is no ASCII letter or digit, whatever is escaped in them already.

use ringplane_core::discovery::escape;

/// What unfinished files begin with.
pub(super) const TEMPORARY: &str = ".tmp_";

/// Bytes of a file name Linux takes.
pub(super) const MAX: usize = 255;

/// The file name of a key within its bucket.
pub(super) fn encode(path: &str) -> String {
    escape::encode(path, |byte| byte.is_ascii_alphanumeric())
}

/// The key within its bucket that a file name stands for; `None` for files that are none of our business.
pub(super) fn decode(name: &str) -> Option<String> {
    escape::decode(name).filter(|_| !name.starts_with(TEMPORARY))
}

#[cfg(test)]
mod tests {
    use ringplane_core::discovery::channel::EventChannel;
    use ringplane_core::discovery::instance::Instance;
    use ringplane_core::discovery::kind::{Kind, serves};
    use ringplane_core::discovery::source::EventSource;

    use super::*;

    const TREE: &str = include_str!("../../../tests/vectors/file-tree-event-plane.txt");

    /// Whether `name` with `content` is a file of this kind, and ours would be the same.
    fn is_ours<R: Kind>(bucket: &str, name: &str, content: &str) -> bool {
        let Some(key) = decode(name).as_deref().and_then(R::parse) else { return false };
        bucket.ends_with(R::BUCKET)
            && encode(&R::path(&key)) == name
            && serves::<R>(&R::full(&key), content.as_bytes(), content.as_bytes())
            && R::read(&key, content.as_bytes()).unwrap().write().unwrap() == content
    }

    #[test]
    fn files_seen_live_read_and_write() {
        let files = TREE.lines().skip_while(|line| !line.starts_with("FILE")).filter(|line| !line.starts_with("DIR"));
        let lines: Vec<&str> = files.collect();
        for file in lines.chunks(2) {
            let (path, content) = (file[0].rsplit(' ').next().unwrap(), file[1].trim());
            let (bucket, name) = path.rsplit_once('/').unwrap();
            let kinds = [
                is_ours::<EventChannel>(bucket, name, content),
                is_ours::<EventSource>(bucket, name, content),
                is_ours::<Instance>(bucket, name, content),
            ];
            assert_eq!(kinds.iter().filter(|is| **is).count(), 1, "{path}");
        }
        assert_eq!(lines.len(), 10, "three channels, a source and an endpoint");
    }

    #[test]
    fn unfinished_files_and_broken_escapes_are_no_keys() {
        for other in ["a%2", "%GG", ".tmp_0123456789abcdef", "a%FF%2Fb%2Fc%2F1"] {
            assert_eq!(decode(other), None, "{other}");
        }
        assert_eq!(decode(&encode("ä_ö/b.c/50%/1")).as_deref(), Some("ä_ö/b.c/50%/1"));
    }
}
