//! A prompt in tokens that goes on behind those that have been produced.

use bytes::Bytes;
use ringplane_core::wire::codec::Codec;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::client::migrate::{Onward, Resume};
use crate::client::request::CallRequest;
use crate::model::tokens::{Delta, Finish};
use crate::payload::value::Payload;

/// Goes on with Dynamo's `PreprocessedRequest` at another worker: the tokens that came are put behind the prompt, and taken off
/// `max_tokens` and `min_tokens`; all else stays as it is. Items may be [`Delta`]s or Annotated ones. The
/// request and the items are read in the codec that the request names, or else in JSON.
///
/// A request that asks for several answers (`n`) or for guided decoding does not go on once it has tokens, nor does one that
/// holds raw bytes, or an answer whose items are something else. An answer that said why it is over is complete, and so is one
/// that has all its tokens, which is given the reason that is missing.
///
/// ```no_run
/// # #[derive(serde::Deserialize)]
/// # struct Tokens { token_ids: Vec<u32> }
/// # async fn ask(client: ringplane::Client, prompt: &serde_json::Value) -> Result<(), Box<dyn std::error::Error>> {
/// use ringplane::model::ExtendTokens;
/// use ringplane::{CallRequest, Codec, MigrationConfig};
///
/// let request = CallRequest::typed_in(Codec::Msgpack, "dynamo.backend.generate", prompt)?;
/// let call = client.call_migrating(request, MigrationConfig::default(), ExtendTokens::default())?;
/// let mut answer = call.typed::<Tokens>().annotated();
/// while let Some(delta) = answer.next().await {
///     println!("{:?}", delta?.token_ids);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ExtendTokens {
    codec: Codec,
    tokens: Vec<u32>,
    /// Whether items are annotated, as the last one was.
    annotated: bool,
    state: State,
}

/// ```text
///  Open ──a finish reason──▶ Complete
///   └──an item that is something else──▶ Unknown
/// ```
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
enum State {
    #[default]
    Open,
    Complete,
    Unknown,
}

/// An item, annotated or not.
#[derive(Deserialize)]
struct Item {
    data: Option<Tokens>,
    token_ids: Option<Vec<u32>>,
    finish_reason: Option<IgnoredAny>,
    event: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Tokens {
    token_ids: Vec<u32>,
    finish_reason: Option<IgnoredAny>,
}

impl ExtendTokens {
    /// For requests that name this codec.
    pub fn new(codec: Codec) -> Self {
        Self { codec, ..Self::default() }
    }

    /// The tokens that have come.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The last item of an answer that has all its tokens.
    fn ending(&self) -> Option<Bytes> {
        let delta = Delta::end(Finish::Length);
        let item = if self.annotated { self.codec.write(&json!({ "data": delta })) } else { self.codec.write(&delta) };
        item.ok()
    }
}

impl Resume for ExtendTokens {
    fn keep(&mut self, item: &Bytes) {
        match self.codec.read(item) {
            Ok(Item { data: Some(Tokens { token_ids, finish_reason }), .. }) => {
                self.annotated = true;
                self.tokens.extend(token_ids);
                if finish_reason.is_some() {
                    self.state = State::Complete;
                }
            }
            Ok(Item { token_ids: Some(token_ids), finish_reason, .. }) => {
                self.tokens.extend(token_ids);
                if finish_reason.is_some() {
                    self.state = State::Complete;
                }
            }
            // One of Dynamo's that reports something beside the answer.
            Ok(Item { event: Some(_), .. }) => {}
            _ => self.state = State::Unknown,
        }
    }

    fn kept(&self) -> usize {
        self.tokens.len() * size_of::<u32>()
    }

    fn resume(&mut self, request: &CallRequest) -> Onward {
        match self.state {
            State::Open if self.tokens.is_empty() => return Onward::Request(request.clone()),
            State::Open => {}
            State::Complete => return Onward::Complete(None),
            State::Unknown => return Onward::Impossible,
        }
        let Some(mut prompt) = request.body().and_then(|body| self.codec.read::<Value>(body).ok()) else {
            return Onward::Impossible;
        };
        if is_bound_to_its_worker(&prompt) {
            return Onward::Impossible;
        }
        let Some(Value::Array(tokens)) = prompt.get_mut("token_ids") else { return Onward::Impossible };
        tokens.extend(self.tokens.iter().map(|token| json!(token)));
        let many = self.tokens.len() as u64;
        for (bound, may_be_reached) in [("max_tokens", false), ("min_tokens", true)] {
            let Some(value) = prompt.get_mut("stop_conditions").and_then(|all| all.get_mut(bound)) else { continue };
            let Some(before) = value.as_u64() else { continue };
            let left = before.saturating_sub(many);
            if left == 0 && !may_be_reached {
                return Onward::Complete(self.ending());
            }
            *value = json!(left);
        }
        self.codec.write(&prompt).map_or(Onward::Impossible, |body| Onward::Request(request.clone().with_body(body)))
    }
}

/// Whether what the worker has of the answer is more than its tokens, as Dynamo's migration has it.
fn is_bound_to_its_worker(prompt: &Value) -> bool {
    let Some(sampling) = prompt.get("sampling_options") else { return false };
    let several = sampling.get("n").and_then(Value::as_u64).is_some_and(|n| n > 1);
    several || sampling.get("guided_decoding").is_some_and(|guided| !guided.is_null())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(codec: Codec, more: &Value) -> CallRequest {
        let mut prompt = json!({
            "token_ids": [1, 2], "stop_conditions": {"max_tokens": 5, "min_tokens": 2}, "eos_token_ids": [9],
        });
        prompt.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        CallRequest::typed_in(codec, "a.b.c", &prompt).unwrap()
    }

    fn after(codec: Codec, items: &[Value]) -> ExtendTokens {
        let mut resume = ExtendTokens::new(codec);
        items.iter().for_each(|item| resume.keep(&codec.write(item).unwrap()));
        resume
    }

    #[test]
    fn tokens_move_behind_the_prompt_and_off_its_bounds_and_all_else_stays() {
        for codec in Codec::ALL {
            let items = [
                json!({"token_ids": [7]}),
                json!({"event": "note"}),
                json!({"data": {"token_ids": [8, 9], "finish_reason": null}, "id": "x"}),
            ];
            let (mut resume, original) = (after(codec, &items), request(codec, &json!({"model": "m"})));
            assert_eq!((resume.tokens(), resume.kept()), (&[7, 8, 9][..], 12));
            // As often as it is asked.
            for _ in 0..2 {
                let Onward::Request(next) = resume.resume(&original) else { panic!("{codec:?}") };
                let body: Value = codec.read(next.body().unwrap()).unwrap();
                let stop = json!({"max_tokens": 2, "min_tokens": 0});
                let expected = json!({
                    "token_ids": [1, 2, 7, 8, 9], "stop_conditions": stop, "eos_token_ids": [9], "model": "m",
                });
                assert_eq!(body, expected);
                assert_eq!(next.clone().with_body(original.body().unwrap().clone()), original, "nothing else changes");
            }
        }
    }

    #[test]
    fn an_answer_that_is_over_is_complete_and_one_with_all_its_tokens_is_told_why() {
        let original = request(Codec::Json, &json!({}));
        let over = json!({"data": {"token_ids": [], "finish_reason": "eos"}});
        assert_eq!(after(Codec::Json, &[over]).resume(&original), Onward::Complete(None));
        let five = json!([3, 4, 5, 6, 7]);
        for (item, last) in [
            (json!({"token_ids": five}), r#"{"token_ids":[],"finish_reason":"length"}"#),
            (json!({"data": {"token_ids": five}}), r#"{"data":{"token_ids":[],"finish_reason":"length"}}"#),
        ] {
            let Onward::Complete(Some(item)) = after(Codec::Json, &[item]).resume(&original) else { panic!("{last}") };
            let (item, last): (Value, Value) =
                (Codec::Json.read(&item).unwrap(), Codec::Json.read(last.as_bytes()).unwrap());
            assert_eq!(item, last);
        }
    }

    #[test]
    fn what_cannot_go_on_by_its_tokens_alone_does_so_only_before_the_first() {
        let token = json!({"token_ids": [3]});
        for more in [
            json!({"sampling_options": {"n": 2}}),
            json!({"sampling_options": {"guided_decoding": {"regex": "a"}}}),
            json!({"token_ids": "text"}),
        ] {
            let original = request(Codec::Json, &more);
            assert_eq!(after(Codec::Json, &[]).resume(&original), Onward::Request(original.clone()));
            assert_eq!(after(Codec::Json, std::slice::from_ref(&token)).resume(&original), Onward::Impossible);
        }
        let original = request(Codec::Json, &json!({"sampling_options": {"n": 1, "guided_decoding": null}}));
        assert!(matches!(after(Codec::Json, std::slice::from_ref(&token)).resume(&original), Onward::Request(_)));
        assert_eq!(after(Codec::Json, &[token, json!("text")]).resume(&original), Onward::Impossible);
    }
}
