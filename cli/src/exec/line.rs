//! The lines between the tool and a command that stays: requests and cancels in, items and ends out. `docs/exec.md` is
//! their definition.

use ringplane::Failure;
use ringplane_core::wire::class::Class;
use ringplane_core::wire::line::Line;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::exec::outcome::failed;

/// How much of a line that is not understood is told, in bytes.
const TOLD: usize = 100;

/// A request as the command reads it.
#[derive(Debug, Serialize)]
struct Call<'a> {
    id: &'a str,
    request: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracestate: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<u64>,
}

/// What a command is told of a call that is not wanted any more.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Cancel {
    /// The caller has enough: what is still sent is read.
    Stop,
    /// Nobody reads any more.
    Kill,
}

#[derive(Debug, Serialize)]
struct Cancelled<'a> {
    id: &'a str,
    cancel: Cancel,
}

/// What a line of the command says.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Said {
    /// An item of the answer, as JSON.
    Item(Vec<u8>),
    /// The end of the answer, or why it failed.
    End(Result<(), Failure>),
    /// Nothing of the call: what a program prints besides.
    Aside,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Read<'a> {
    #[serde(borrow)]
    Item(&'a RawValue),
    End(IgnoredAny),
    Error(Reported),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Reported {
    Text(String),
    Full {
        message: String,
        #[serde(default)]
        class: Option<String>,
        #[serde(default)]
        reason: Option<String>,
    },
}

/// The line that begins a call. The request is JSON, or nothing, which is `null`.
///
/// # Errors
/// If the request is no JSON.
pub(super) fn call(
    id: &str,
    request: &[u8],
    [traceparent, tracestate]: [Option<&str>; 2],
    timeout_ms: Option<u64>,
) -> Result<Vec<u8>, Failure> {
    let request = if request.trim_ascii().is_empty() { b"null" } else { request };
    // Line breaks may stand between the parts of JSON only, where a blank is as good.
    let one_line: Vec<u8> = request.iter().map(|byte| if b"\r\n".contains(byte) { b' ' } else { *byte }).collect();
    let request = serde_json::from_slice(&one_line)
        .map_err(|error| Failure::invalid(format_args!("the request is no JSON: {error}")))?;
    written(&Call { id, request, traceparent, tracestate, timeout_ms })
}

/// The line that cancels one.
pub(super) fn cancel(id: &str, cancel: Cancel) -> Result<Vec<u8>, Failure> {
    written(&Cancelled { id, cancel })
}

fn written(line: &impl Serialize) -> Result<Vec<u8>, Failure> {
    let mut line = serde_json::to_vec(line).map_err(Failure::internal)?;
    line.push(b'\n');
    Ok(line)
}

/// Reads a line of the command.
///
/// # Errors
/// If it begins as an object and is none of those that are known.
pub(super) fn read(line: &[u8]) -> Result<Said, Failure> {
    if !line.trim_ascii_start().starts_with(b"{") {
        return Ok(Said::Aside);
    }
    match serde_json::from_slice(line) {
        Ok(Read::Item(item)) => Ok(Said::Item(item.get().as_bytes().to_owned())),
        Ok(Read::End(IgnoredAny)) => Ok(Said::End(Ok(()))),
        Ok(Read::Error(reported)) => Ok(Said::End(Err(reported.failure()))),
        Err(error) => Err(failed(format_args!("the command wrote `{}`: {error}", beginning(line)))),
    }
}

impl Reported {
    fn failure(self) -> Failure {
        let (message, class, reason) = match self {
            Self::Text(message) => (message, None, None),
            Self::Full { message, class, reason } => (message, class, reason),
        };
        let class = class.as_deref().and_then(Class::from_name).unwrap_or(Class::Internal);
        let unnamed = if class == Class::InvalidRequest { "backend.invalid_argument" } else { "backend.unknown" };
        Failure { class, reason: reason.unwrap_or_else(|| unnamed.to_owned()), message }
    }
}

fn beginning(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let cut = text.get(..text.floor_char_boundary(TOLD)).unwrap_or_default();
    format!("{}{}", Line(cut), if cut.len() < text.len() { "…" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(line: Result<Vec<u8>, Failure>) -> String {
        String::from_utf8(line.unwrap()).unwrap()
    }

    #[test]
    fn a_call_is_one_line_whatever_its_request_looks_like() {
        assert_eq!(text(call("a", b"", [None; 2], None)), "{\"id\":\"a\",\"request\":null}\n");
        let pretty = b"{\r\n  \"x\": 1.50,\n  \"y\": \"a\\nb\" }";
        let expected = r#"{"id":"\"","request":{    "x": 1.50,   "y": "a\nb" },"traceparent":"00-1","tracestate":"a=1","timeout_ms":7}"#;
        assert_eq!(text(call("\"", pretty, [Some("00-1"), Some("a=1")], Some(7))).trim_end(), expected);
        for wrong in [&b"two words"[..], b"{", b"1 2", b"\xFF", b"\"a\nb"] {
            assert_eq!(call("a", wrong, [None; 2], None).unwrap_err().class, Class::InvalidRequest, "{wrong:?}");
        }
        assert_eq!(text(cancel("a", Cancel::Stop)), "{\"id\":\"a\",\"cancel\":\"stop\"}\n");
        assert_eq!(text(cancel("a", Cancel::Kill)), "{\"id\":\"a\",\"cancel\":\"kill\"}\n");
    }

    #[test]
    fn items_are_passed_on_as_they_stand() {
        for item in ["null", "5", "\"a\\u0000\"", "{\"z\":1.0,\"a\":[ ]}"] {
            let line = format!(" {{\"item\": {item} }}\r");
            assert_eq!(read(line.as_bytes()), Ok(Said::Item(item.as_bytes().to_owned())));
        }
    }

    #[test]
    fn an_end_is_a_good_one_or_says_why_not() {
        let failure = |class, reason: &str, message: &str| {
            Ok(Said::End(Err(Failure { class, reason: reason.into(), message: message.into() })))
        };
        assert_eq!(read(b"{\"end\":true}"), Ok(Said::End(Ok(()))));
        assert_eq!(read(b"{\"end\":{\"any\":1}}"), Ok(Said::End(Ok(()))));
        assert_eq!(read(b"{\"error\":\"boom\"}"), failure(Class::Internal, "backend.unknown", "boom"));
        let line = br#"{"error":{"message":"no","class":"InvalidRequest"}}"#;
        assert_eq!(read(line), failure(Class::InvalidRequest, "backend.invalid_argument", "no"));
        let line = br#"{"error":{"message":"no","class":"Odd","reason":"mine.own"}}"#;
        assert_eq!(read(line), failure(Class::Internal, "mine.own", "no"));
    }

    #[test]
    fn what_is_no_object_is_an_aside_and_an_object_that_is_not_known_is_a_mistake() {
        for line in [&b"loading"[..], b"", b"[1]", b"42", b"\xFF"] {
            assert_eq!(read(line), Ok(Said::Aside));
        }
        for line in [r#"{"itm":1}"#, "{}", "{", r#"{"item":1,"end":true}"#, r#"{"item":"#, r#"{"error":5}"#] {
            let failure = read(line.as_bytes()).unwrap_err();
            assert!(failure.message.starts_with(&format!("the command wrote `{line}`: ")), "{}", failure.message);
        }
        let failure = read(&[&b"{"[..], &[0x1B; 200]].concat()).unwrap_err();
        assert!(!failure.message.contains('\u{1B}') && failure.message.contains('…'), "{}", failure.message);
    }
}
