//! The handlers that come with `serve`.

use std::pin::pin;
use std::time::Duration;

use ringplane::model::{Delta, Finish, Prompt};
use ringplane::{Failure, Request, Responder};
use serde_json::Value;

use crate::payload::Form;

/// The largest text an item of `count` may carry, in bytes.
const MAX_SIZE: u64 = 16 << 20;
/// The longest pause between items of `count`, in milliseconds.
const MAX_DELAY: u64 = 3_600_000;

/// Sends every item of the request back.
pub(crate) async fn echo(mut request: Request, out: Responder, annotated: bool) -> Result<(), Failure> {
    let form = Form::of(request.open().codec, annotated);
    while let Some(item) = request.next().await? {
        let item = if annotated { form.wrap(&item)?.into() } else { item };
        out.send(item).await?;
    }
    Ok(())
}

/// Counts: `{"n":3,"delay_ms":10,"size":4}` is answered with `{"i":0,"text":"xxxx"}` and so on.
pub(crate) async fn count(mut request: Request, out: Responder, annotated: bool) -> Result<(), Failure> {
    let form = Form::of(request.open().codec, annotated);
    let Count { n, delay, size } = Count::read(&form.read(&request.body().await?)?)?;
    let text = if size == 0 { String::new() } else { format!(r#","text":"{}""#, "x".repeat(size)) };
    for i in 0..n {
        if !delay.is_zero() {
            tokio::select! {
                biased;
                _ = pin!(out.cancelled()) => {}
                () = out.node().env().sleep(delay) => {}
            }
        }
        if out.cause().is_some() {
            return Ok(());
        }
        out.send(form.item(format!(r#"{{"i":{i}{text}}}"#).into_bytes())?).await?;
    }
    Ok(())
}

/// Answers a prompt of Dynamo's frontend with the prompt's own tokens, one by one.
pub(crate) async fn tokens(mut request: Request, out: Responder, annotated: bool) -> Result<(), Failure> {
    let form = Form::of(request.open().codec, annotated);
    let prompt = read_prompt(&form.read(&request.body().await?)?)?;
    let item = |delta: Delta| form.item(serde_json::to_vec(&delta).map_err(Failure::internal)?);
    let most = prompt.stop_conditions.max_tokens.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
    for token in prompt.token_ids.iter().take(most) {
        if out.cause().is_some() {
            return Ok(out.send(item(Delta::end(Finish::Cancelled))?).await?);
        }
        out.send(item(Delta::tokens([*token]))?).await?;
    }
    let why = if prompt.token_ids.len() > most { Finish::Length } else { Finish::Stop };
    Ok(out.send(item(Delta::end(why))?).await?)
}

fn read_prompt(body: &[u8]) -> Result<Prompt, Failure> {
    serde_json::from_slice(body)
        .map_err(|error| Failure::invalid(format_args!("the request is no prompt of tokens: {error}")))
}

/// What `count` is asked for.
#[derive(PartialEq, Eq, Debug)]
struct Count {
    n: u64,
    delay: Duration,
    size: usize,
}

impl Count {
    /// Reads a request. What is missing has its default, what is unknown is ignored.
    fn read(body: &[u8]) -> Result<Self, Failure> {
        let mut wishes = Value::Null;
        if !body.trim_ascii().is_empty() && body.trim_ascii() != b"null" {
            wishes = serde_json::from_slice(body)
                .map_err(|error| Failure::invalid(format_args!("the request is no JSON: {error}")))?;
            if !wishes.is_object() {
                return Err(Failure::invalid("the request is no JSON object"));
            }
        }
        let field = |name, default, most| match wishes.get(name) {
            None => Ok(default),
            Some(value) => value.as_u64().filter(|value| *value <= most).ok_or_else(|| {
                Failure::invalid(format_args!("`{name}` is a whole number from 0 to {most}, not {value}"))
            }),
        };
        let size = field("size", 0, MAX_SIZE)?;
        Ok(Self {
            n: field("n", 5, u64::MAX)?,
            delay: Duration::from_millis(field("delay_ms", 0, MAX_DELAY)?),
            size: usize::try_from(size).map_err(Failure::invalid)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use ringplane_core::wire::class::Class;

    use super::*;

    #[test]
    fn what_is_missing_has_its_default_and_what_is_unknown_is_ignored() {
        let default = Count { n: 5, delay: Duration::ZERO, size: 0 };
        for body in ["", " \n", "{}", r#"{"model":"m","stream":[true]}"#] {
            assert_eq!(Count::read(body.as_bytes()).as_ref(), Ok(&default), "{body}");
        }
        let all = Count { n: 0, delay: Duration::from_millis(20), size: 7 };
        assert_eq!(Count::read(br#"{"size":7,"delay_ms":20,"n":0,"x":1}"#), Ok(all));
    }

    #[test]
    fn malformed_requests_are_the_callers_fault() {
        for body in ["{", "[]", "5", r#"{"n":-1}"#, r#"{"n":"5"}"#, r#"{"delay_ms":0.5}"#, r#"{"size":1000000000000}"#]
        {
            assert_eq!(Count::read(body.as_bytes()).unwrap_err().class, Class::InvalidRequest, "{body}");
        }
    }
}
