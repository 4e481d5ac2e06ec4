//! W3C trace context: `traceparent` as fields, `tracestate` verbatim.

use core::fmt;

use crate::wire::parse::{Error, ErrorKind, Reader, within};

/// Bytes of a version 00 `traceparent`.
pub const TRACEPARENT: usize = 55;
/// Bytes of `tracestate` carried; the standard asks for at least 512.
pub const MAX_STATE: usize = 1024;
/// Bytes of a member's value, as the standard says.
pub const MAX_VALUE: usize = 256;
/// List members of `tracestate` carried, as the standard says.
pub const MAX_MEMBERS: usize = 32;

/// The fields of a `traceparent`.
///
/// ```text
/// 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01      version, trace id, parent id, flags; lower-case hex
/// ```
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct TraceParent {
    version: u8,
    trace_id: [u8; 16],
    parent_id: [u8; 8],
    flags: u8,
}

impl TraceParent {
    /// The flag that says the trace is recorded.
    pub const SAMPLED: u8 = 1;
    /// The flag of level 2 that says the trace's id is random in its last seven bytes.
    pub const RANDOM: u8 = 2;

    /// The context of span `parent_id` in trace `trace_id`, version 00.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if either id is all zeros.
    pub fn new(trace_id: [u8; 16], parent_id: [u8; 8], flags: u8) -> Result<Self, Error> {
        if trace_id == [0; 16] {
            return Err(Error::new(ErrorKind::Invalid, 3));
        }
        if parent_id == [0; 8] {
            return Err(Error::new(ErrorKind::Invalid, 36));
        }
        Ok(Self { version: 0, trace_id, parent_id, flags })
    }

    /// Reads a `traceparent`, blanks around it allowed. Of a version above 00 the known fields are read and any that
    /// follow are left alone.
    ///
    /// # Errors
    /// [`ErrorKind::Truncated`] if it is too short, [`ErrorKind::Invalid`] if it is not lower-case hex or an id is all
    /// zeros, [`ErrorKind::BadVersion`] for version ff, [`ErrorKind::Trailing`] if more follows in version 00.
    pub fn read(text: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(text.trim_ascii());
        let [version] = hex(&mut reader)?;
        if version == 0xFF {
            return Err(Error::new(ErrorKind::BadVersion, 0));
        }
        dash(&mut reader)?;
        let trace_id = hex(&mut reader)?;
        dash(&mut reader)?;
        let parent_id = hex(&mut reader)?;
        dash(&mut reader)?;
        let [flags] = hex(&mut reader)?;
        if reader.remaining() > 0 {
            if version == 0 {
                return Err(Error::new(ErrorKind::Trailing, reader.offset()));
            }
            dash(&mut reader)?;
        }
        Ok(Self { version, ..Self::new(trace_id, parent_id, flags)? })
    }

    /// The context to pass on from span `span_id`: same trace, version 00, and of the flags those that are known, as the standard
    /// says: sampled stays sampled and unsampled unsampled.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if `span_id` is all zeros.
    pub fn child(&self, span_id: [u8; 8]) -> Result<Self, Error> {
        Self::new(self.trace_id, span_id, self.flags & (Self::SAMPLED | Self::RANDOM))
    }

    /// The text, lower-case, 55 bytes. Equal to the one read unless that was of a later version with more fields.
    pub fn to_bytes(&self) -> [u8; TRACEPARENT] {
        let mut text = [b'-'; TRACEPARENT];
        let digits = |place: Option<&mut [u8]>, bytes: &[u8]| {
            for (pair, byte) in place.into_iter().flat_map(|place| place.chunks_exact_mut(2)).zip(bytes) {
                pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
            }
        };
        digits(text.get_mut(..2), &[self.version]);
        digits(text.get_mut(3..35), &self.trace_id);
        digits(text.get_mut(36..52), &self.parent_id);
        digits(text.get_mut(53..), &[self.flags]);
        text
    }

    /// The version, 0 in practice.
    pub const fn version(&self) -> u8 {
        self.version
    }

    /// The trace, never all zeros.
    pub const fn trace_id(&self) -> [u8; 16] {
        self.trace_id
    }

    /// The span that is the parent of what comes next, never all zeros.
    pub const fn parent_id(&self) -> [u8; 8] {
        self.parent_id
    }

    /// All flags, unknown ones included.
    pub const fn flags(&self) -> u8 {
        self.flags
    }

    /// Whether the trace's id is random in its last seven bytes, which its maker says from level 2 on.
    pub const fn is_random(&self) -> bool {
        self.flags & Self::RANDOM != 0
    }

    /// Whether the trace is recorded.
    pub const fn is_sampled(&self) -> bool {
        self.flags & Self::SAMPLED != 0
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(core::str::from_utf8(&self.to_bytes()).unwrap_or_default())
    }
}

/// A `tracestate`, carried as it stands.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct TraceState<'a>(&'a str);

impl<'a> TraceState<'a> {
    /// Checks a `tracestate`. On an error the standard drops it and keeps the `traceparent`.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] beyond [`MAX_STATE`] bytes or [`MAX_MEMBERS`] members, [`ErrorKind::Invalid`] if a member
    /// is not `key=value` in printable ASCII, or its value longer than [`MAX_VALUE`], [`ErrorKind::Unexpected`] if a key stands twice.
    pub fn read(text: &'a [u8]) -> Result<Self, Error> {
        within(text.len() as u64, MAX_STATE, 0)?;
        let invalid = |offset| Error::new(ErrorKind::Invalid, offset);
        if let Some(at) = text.iter().position(|byte| !matches!(byte, b' '..=b'~' | b'\t')) {
            return Err(invalid(at));
        }
        let state = Self(core::str::from_utf8(text).map_err(|_| invalid(0))?);
        within(state.members().count() as u64, MAX_MEMBERS, 0)?;
        for (nth, member) in state.members().enumerate() {
            let at = member.as_ptr().addr().saturating_sub(text.as_ptr().addr());
            let (key, value) = member.split_once('=').ok_or(invalid(at))?;
            if !is_key(key) || value.is_empty() || value.len() > MAX_VALUE || value.contains(['=', '\t']) {
                return Err(invalid(at));
            }
            if state.members().take(nth).any(|earlier| earlier.split_once('=').is_some_and(|(other, _)| other == key)) {
                return Err(Error::new(ErrorKind::Unexpected, at));
            }
        }
        Ok(state)
    }

    /// The text as it was read.
    pub const fn as_str(&self) -> &'a str {
        self.0
    }

    /// The members `key=value`, without the empty ones the standard allows.
    pub fn members(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.0.split(',').map(|member| member.trim_matches([' ', '\t'])).filter(|member| !member.is_empty())
    }
}

fn is_key(key: &str) -> bool {
    let legal = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/' | b'@');
    let first = key.as_bytes().first();
    key.len() <= 256 && first.is_some_and(|first| first.is_ascii_alphanumeric()) && key.bytes().all(legal)
}

fn dash(reader: &mut Reader<'_>) -> Result<(), Error> {
    let at = reader.offset();
    if reader.u8()? == b'-' { Ok(()) } else { Err(Error::new(ErrorKind::Invalid, at)) }
}

fn hex<const N: usize>(reader: &mut Reader<'_>) -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    for byte in &mut bytes {
        *byte = nibble(reader)? << 4 | nibble(reader)?;
    }
    Ok(bytes)
}

fn nibble(reader: &mut Reader<'_>) -> Result<u8, Error> {
    let at = reader.offset();
    match reader.u8()? {
        digit @ b'0'..=b'9' => Ok(digit - b'0'),
        letter @ b'a'..=b'f' => Ok(letter - b'a' + 10),
        _ => Err(Error::new(ErrorKind::Invalid, at)),
    }
}

const fn digit(nibble: u8) -> u8 {
    match nibble {
        0..=9 => b'0' + nibble,
        _ => b'a' + (nibble - 10),
    }
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::string::{String, ToString};
    use std::vec::Vec;

    use super::*;

    const T: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const S: &str = "00f067aa0ba902b7";

    fn read(text: &str) -> Result<TraceParent, ErrorKind> {
        TraceParent::read(text.as_bytes()).map_err(|error| error.kind)
    }

    #[test]
    fn a_traceparent_comes_apart_into_its_fields() {
        let parent = read(&format!(" 00-{T}-{S}-01\t")).unwrap();
        assert_eq!((parent.version(), parent.flags(), parent.is_sampled()), (0, 1, true));
        assert_eq!(parent.trace_id()[..3], [0x4b, 0xf9, 0x2f]);
        assert_eq!(parent.parent_id()[..3], [0, 0xf0, 0x67]);
    }

    #[test]
    fn a_traceparent_is_built_from_its_fields() {
        let text = format!("00-{T}-{S}-03");
        assert_eq!(read(&text).unwrap().to_string(), text);
        let child = read(&text).unwrap().child([1; 8]).unwrap();
        assert_eq!(child.to_string(), format!("00-{T}-0101010101010101-03"));
        assert!(read(&text).unwrap().child([0; 8]).is_err());
        assert!(TraceParent::new([0; 16], [1; 8], 0).is_err());
    }

    #[test]
    fn unknown_flags_and_later_versions_are_accepted() {
        for tail in ["00", "02", "09", "ff"] {
            assert!(read(&format!("00-{T}-{S}-{tail}")).is_ok(), "{tail}");
        }
        assert!(!read(&format!("00-{T}-{S}-02")).unwrap().is_sampled());
        for text in [format!("01-{T}-{S}-03"), format!("cc-{T}-{S}-01-what"), format!("fe-{T}-{S}-01-")] {
            let parent = read(&text).unwrap();
            assert_eq!(parent.to_string(), text[..55]);
            assert_eq!(parent.child([1; 8]).unwrap().version(), 0);
        }
    }

    #[test]
    fn what_the_standard_forbids_is_refused() {
        let zero_trace = "0".repeat(32);
        for (text, kind) in [
            (format!("ff-{T}-{S}-01"), ErrorKind::BadVersion),
            (format!("00-{zero_trace}-{S}-01"), ErrorKind::Invalid),
            (format!("00-{T}-0000000000000000-01"), ErrorKind::Invalid),
            (format!("00-{}-{S}-01", T.to_uppercase()), ErrorKind::Invalid),
            (format!("00-{T}-{S}-0A"), ErrorKind::Invalid),
            (format!("00-{T}-{S}-+1"), ErrorKind::Invalid),
            (format!("00_{T}-{S}-01"), ErrorKind::Invalid),
            (format!("0-{T}-{S}-01"), ErrorKind::Invalid),
            (format!("00-{T}-{S}-01-extra"), ErrorKind::Trailing),
            (format!("00-{T}-{S}-01-"), ErrorKind::Trailing),
            (format!("01-{T}-{S}-01extra"), ErrorKind::Invalid),
            (format!("00-{T}-{S}-1"), ErrorKind::Truncated),
            (String::new(), ErrorKind::Truncated),
        ] {
            assert_eq!(read(&text), Err(kind), "{text}");
        }
    }

    /// Inputs, what we make of them and what Dynamo 1.6.1 does (measured): whether the trace is taken, and sampled then.
    #[test]
    fn each_kind_of_traceparent_has_its_verdict() {
        let (yes, not_sampled, no) = (Some(true), Some(false), None);
        let (zero_t, zero_s) = ("0".repeat(32), "0".repeat(16));
        let (upper_t, upper_s) = (T.to_uppercase(), S.to_uppercase());
        for (text, ours, dynamo, why) in [
            (format!(" 00-{T}-{S}-01\t"), yes, yes, "blanks around a header are no part of it"),
            (format!("00-{T}-{S}-00"), not_sampled, not_sampled, "not recorded is a decision too"),
            (format!("00-{T}-{S}-02"), not_sampled, not_sampled, "the random flag says nothing of recording"),
            (format!("00-{T}-{S}-03"), yes, no, "level 2; flags that are unknown are not an error"),
            (format!("00-{T}-{S}-09"), yes, no, "flags that are unknown are not an error"),
            (format!("00-{T}-{S}-ff"), yes, no, "flags that are unknown are not an error"),
            (format!("00-{T}-{S}-0A"), no, no, "hex is lower-case"),
            (format!("00-{T}-{S}-0g"), no, no, "no hex"),
            (format!("00-{T}-{S}-1"), no, no, "two digits are missing one"),
            (format!("00-{T}-{S}-+1"), no, yes, "a sign is no hex digit"),
            (format!("+0-{T}-{S}-01"), no, yes, "a sign is no hex digit"),
            (format!("00-{upper_t}-{S}-01"), no, no, "hex is lower-case"),
            (format!("00-{T}-{upper_s}-01"), no, no, "hex is lower-case"),
            (format!("00-{zero_t}-{S}-01"), no, no, "all zeros is no trace"),
            (format!("00-{T}-{zero_s}-01"), no, no, "all zeros is no span"),
            (format!("00-{T}-{S}-01-extra"), no, no, "version 00 has four fields"),
            (format!("00-{T}-{S}-01-"), no, no, "version 00 has four fields"),
            (format!("01-{T}-{S}-03"), yes, yes, "of a later version what we know is read"),
            (format!("cc-{T}-{S}-01-what"), yes, yes, "a later version may have more fields"),
            (format!("cc-{T}-{S}-ff"), yes, yes, "and more flags"),
            (format!("fe-{T}-{S}-01"), yes, yes, "the last version that there may be"),
            (format!("FE-{T}-{S}-01"), no, yes, "hex is lower-case"),
            (format!("ff-{T}-{S}-01"), no, no, "the version that is forbidden"),
            (format!("0-{T}-{S}-01"), no, no, "a version has two digits"),
            (String::new(), no, no, "nothing"),
            (format!("00_{T}_{S}_01"), no, no, "fields are parted by hyphens"),
        ] {
            assert_eq!(read(&text).ok().map(|parent| parent.is_sampled()), ours, "{text}: {why}");
            assert!(
                ours == dynamo || text.contains(['+', 'F']) || ours == yes,
                "{text}: stricter only by the standard"
            );
        }
        let state = |text: &str| TraceState::read(text.as_bytes()).is_ok();
        // The parent stays in each case. Dynamo keeps the last one.
        assert!(!state("BAD KEY=1") && !state("a=1,a=2") && state(""));
    }

    #[test]
    fn a_child_passes_on_the_flags_that_are_known() {
        for (flags, passed) in [("00", 0), ("01", 1), ("02", 2), ("03", 3), ("ff", 3), ("0c", 0)] {
            let child = read(&format!("00-{T}-{S}-{flags}")).unwrap().child([1; 8]).unwrap();
            assert_eq!((child.flags(), child.is_random()), (passed, passed & 2 != 0));
        }
    }

    #[test]
    fn a_tracestate_is_carried_verbatim() {
        let text = "rojo=00f067aa0ba902b7,, congo=t61 rcWkgMzE\t";
        let state = TraceState::read(text.as_bytes()).unwrap();
        assert_eq!(state.as_str(), text);
        assert_eq!(state.members().collect::<Vec<_>>(), ["rojo=00f067aa0ba902b7", "congo=t61 rcWkgMzE"]);
        assert_eq!(TraceState::read(b"").unwrap().members().count(), 0);
    }

    #[test]
    fn a_tracestate_beyond_its_bounds_is_refused() {
        let kind = |text: &str| TraceState::read(text.as_bytes()).map(|_| ()).map_err(|error| error.kind);
        let members = |count: usize| (0..count).map(|nth| format!("k{nth}=v")).collect::<Vec<_>>().join(",");
        assert!(kind(&members(32)).is_ok());
        assert_eq!(kind(&members(33)), Err(ErrorKind::TooLarge { declared: 33, limit: 32 }));
        let member = |key: &str, len: usize| format!("{key}={}", "v".repeat(len));
        assert!(kind(&member("k", 256)).is_ok());
        assert_eq!(kind(&member("k", 257)), Err(ErrorKind::Invalid));
        let long = |last: usize| [member("a", 256), member("b", 256), member("c", 256), member("d", last)].join(",");
        assert!(kind(&long(245)).is_ok());
        assert!(matches!(kind(&long(246)), Err(ErrorKind::TooLarge { declared: 1025, limit: 1024 })));
        for bad in ["BAD KEY=1", "a", "=1", "a=", "a=b=c", "a=b\tc", "a=\u{7f}", "ä=1"] {
            assert_eq!(kind(bad), Err(ErrorKind::Invalid), "{bad}");
        }
        assert_eq!(TraceState::read(b"a=1,b=2,a=3"), Err(Error::new(ErrorKind::Unexpected, 8)));
    }
}
