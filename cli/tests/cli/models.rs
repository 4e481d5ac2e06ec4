//! `serve --model`: the card that discovery has of a directory, and prompts of tokens.

use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::Place;

/// A directory with the files that a card needs.
fn model(place: &Place) -> PathBuf {
    let directory = place.path().join("tiny");
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("config.json"), r#"{"max_position_embeddings":64}"#).unwrap();
    std::fs::write(directory.join("tokenizer.json"), "{}").unwrap();
    directory
}

#[test]
fn a_models_card_is_there_while_it_is_served_and_its_prompts_are_answered() {
    let place = Place::new();
    let directory = model(&place);
    let directory = directory.to_str().unwrap();
    let server = place.serve(&["a.b.generate", "--model", directory]);
    let listed = place.run(&["discover", "models", "--json"]);
    let line: Value = serde_json::from_str(&listed.out[0]).unwrap();
    let card = &line["card"];
    assert_eq!((&card["display_name"], card["context_length"].as_u64()), (&"tiny".into(), Some(64)), "{line}");
    assert_eq!((&card["model_input"], &card["model_type"]), (&"Tokens".into(), &"Chat | Completions".into()), "{line}");

    let call = |prompt: &str| place.run(&["call", "a.b.generate", prompt, "--annotated"]);
    call(r#"{"token_ids":[7,9],"stop_conditions":{"max_tokens":null}}"#).expect_lines(&[
        r#"{"token_ids":[7]}"#,
        r#"{"token_ids":[9]}"#,
        r#"{"token_ids":[],"finish_reason":"stop"}"#,
    ]);
    call(r#"{"token_ids":[7,9],"stop_conditions":{"max_tokens":1}}"#)
        .expect_lines(&[r#"{"token_ids":[7]}"#, r#"{"token_ids":[],"finish_reason":"length"}"#]);
    call(r#"{"prompt":"x"}"#).expect(8, "no prompt of tokens");

    server.signal(Signal::TERM);
    assert_eq!(server.end().code, Some(0));
    assert_eq!(place.run(&["discover", "models", "--json"]).out, [""; 0]);
}

#[test]
fn a_command_answers_for_a_model_with_deltas() {
    let place = Place::new();
    let directory = model(&place);
    let script = r#"echo '{"token_ids":[1]}'; echo '{"token_ids":[],"finish_reason":"eos"}'"#;
    let words = ["a.b.generate", "--model", directory.to_str().unwrap(), "--model-name", "other", "--exec"];
    let _server = place.serve(&[&words[..], &["sh", "-c", script]].concat());
    let listed = place.run(&["discover", "models"]);
    assert!(listed.out[0].contains("other"), "{listed:?}");
    place
        .run(&["call", "a.b.generate", r#"{"token_ids":[5]}"#])
        .expect_lines(&[r#"{"data":{"token_ids":[1]}}"#, r#"{"data":{"token_ids":[],"finish_reason":"eos"}}"#]);
}

#[test]
fn a_directory_without_a_model_is_refused_by_the_file_that_is_missing() {
    let place = Place::new();
    let directory = model(&place);
    std::fs::remove_file(directory.join("tokenizer.json")).unwrap();
    let ended = place.run(&["serve", "a.b.generate", "--model", directory.to_str().unwrap()]);
    ended.expect(1, "tokenizer.json");
    assert_eq!(place.run(&["serve", "a.b.generate", "--model-name", "x"]).code, Some(2));
}
