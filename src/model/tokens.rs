//! What Dynamo's frontend sends a worker of a model, and what it reads back.

use serde::{Deserialize, Serialize};

/// A prompt in tokens, and how far to go on from it: Dynamo's `PreprocessedRequest`. What it says beyond that is passed over;
/// a worker that wants more of it reads a type of its own.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[non_exhaustive]
pub struct Prompt {
    /// The model's name, as its caller gave it.
    #[serde(default)]
    pub model: String,
    /// The prompt.
    pub token_ids: Vec<u32>,
    /// When to stop.
    #[serde(default)]
    pub stop_conditions: Stopping,
    /// The tokens that mean the end of a text.
    #[serde(default)]
    pub eos_token_ids: Vec<u32>,
}

/// When an answer is over.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[non_exhaustive]
pub struct Stopping {
    /// The most tokens of an answer; [`Finish::Length`] says that it had so many.
    #[serde(default)]
    pub max_tokens: Option<u32>,
    /// The least.
    #[serde(default)]
    pub min_tokens: Option<u32>,
    /// Whether to go on behind the end of a text.
    #[serde(default)]
    pub ignore_eos: Option<bool>,
}

/// The next tokens of an answer, or its end, or both: Dynamo's `LLMEngineOutput`. The frontend makes text of them.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Delta {
    /// Only those that are new.
    pub token_ids: Vec<u32>,
    /// Why the answer is over, with its last item. An answer without one has broken off, as the frontend sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<Finish>,
}

/// Why an answer is over.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Finish {
    /// The model ended its text.
    Eos,
    /// Something that the request named came up.
    Stop,
    /// It is as long as the request allows.
    Length,
    /// The caller did not want more.
    Cancelled,
}

impl Delta {
    /// More of an answer.
    pub fn tokens(token_ids: impl Into<Vec<u32>>) -> Self {
        Self { token_ids: token_ids.into(), finish_reason: None }
    }

    /// The end of an answer.
    pub const fn end(why: Finish) -> Self {
        Self { token_ids: Vec::new(), finish_reason: Some(why) }
    }

    /// The same, and the answer is over with it.
    #[must_use]
    pub const fn ending(mut self, why: Finish) -> Self {
        self.finish_reason = Some(why);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_of_the_frontend_is_read_whatever_else_it_says() {
        // Seen at a Dynamo 1.6.1 worker.
        let seen = r#"{"model":"tiny","token_ids":[104,105],"stop_conditions":{"max_tokens":40,"stop":null,
            "stop_token_ids_hidden":[257],"min_tokens":null,"ignore_eos":null},"sampling_options":{"n":null},
            "output_options":{"logprobs":null},"eos_token_ids":[257],"mdc_sum":"35c7","annotations":[],"routing":{}}"#;
        let stop_conditions = Stopping { max_tokens: Some(40), ..Stopping::default() };
        let (model, token_ids, eos_token_ids) = ("tiny".to_owned(), vec![104, 105], vec![257]);
        let expected = Prompt { model, token_ids, stop_conditions, eos_token_ids };
        assert_eq!(serde_json::from_str::<Prompt>(seen).unwrap(), expected);
        assert!(serde_json::from_str::<Prompt>("{}").is_err(), "a prompt has tokens");
    }

    #[test]
    fn a_delta_is_written_as_the_frontend_reads_it() {
        for (delta, text) in [
            (Delta::tokens([1, 2]), r#"{"token_ids":[1,2]}"#),
            (Delta::tokens([3]).ending(Finish::Length), r#"{"token_ids":[3],"finish_reason":"length"}"#),
            (Delta::end(Finish::Eos), r#"{"token_ids":[],"finish_reason":"eos"}"#),
        ] {
            assert_eq!(serde_json::to_string(&delta).unwrap(), text);
        }
    }
}
