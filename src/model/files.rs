//! A model's directory as Hugging Face has them, and the card that Dynamo's frontend reads of it.

use std::error::Error;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use ringplane_core::discovery::card::Card;
use ringplane_core::discovery::error;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

/// Tokens in a block of the key-value cache unless said otherwise, as at Dynamo's workers.
const BLOCK: u32 = 16;

/// The files of a model that a frontend needs to turn text into tokens and back. The card names them by their paths: the
/// frontend opens them itself, so it needs the same directory at the same place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ModelFiles {
    directory: PathBuf,
    name: Option<String>,
    block: u32,
}

/// Why there is no card of a directory.
#[derive(Debug)]
#[non_exhaustive]
pub enum ModelError {
    /// A file that is needed cannot be read.
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is no JSON.
    Json {
        /// Which one.
        path: PathBuf,
        /// Where, and what was expected there.
        source: serde_json::Error,
    },
    /// A path is not UTF-8, which a card has to be.
    Path(PathBuf),
    /// The directory has no name that the model could have, such as `/`.
    Unnamed(PathBuf),
    /// The card cannot be made.
    Card(error::Error),
}

impl fmt::Display for ModelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, .. } => write!(f, "cannot read `{}` of a model", path.display()),
            Self::Json { path, .. } => write!(f, "`{}` is no JSON", path.display()),
            Self::Path(path) => write!(f, "the path `{}` is not UTF-8", path.display()),
            Self::Unnamed(path) => write!(f, "`{}` names no model; give the model a name", path.display()),
            Self::Card(_) => f.write_str("no card can be made"),
        }
    }
}

impl Error for ModelError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::File { source, .. } => Some(source),
            Self::Json { source, .. } => Some(source),
            Self::Card(source) => Some(source),
            Self::Path(_) | Self::Unnamed(_) => None,
        }
    }
}

impl ModelFiles {
    /// The model in this directory. It needs `config.json` and `tokenizer.json`; `tokenizer_config.json`,
    /// `chat_template.jinja` or `chat_template.json`, and `generation_config.json` are named if they are there.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), name: None, block: BLOCK }
    }

    /// What callers call it. Default: the last part of the directory's path.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Tokens in a block of the worker's key-value cache, which routers count in. Default 16.
    #[must_use]
    pub const fn with_block_size(mut self, tokens: u32) -> Self {
        self.block = tokens;
        self
    }

    /// The card of a worker that takes [`Prompt`](crate::model::Prompt)s for chats and completions, field by field as Dynamo
    /// 1.6.1 makes it of the same directory: workers of both may serve one model. It reads every file once.
    ///
    /// # Errors
    /// [`ModelError`] if a file is missing or no JSON, or a path is not UTF-8.
    pub fn card(&self) -> Result<Card, ModelError> {
        let directory = self.directory.canonicalize().map_err(at(&self.directory))?;
        let source_path = text(&directory)?;
        let last = directory.file_name().and_then(|name| name.to_str());
        let name = self.name.as_deref().or(last).filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| ModelError::Unnamed(self.directory.clone()))?;
        let length = context_length(&directory)?;
        let written = Written {
            display_name: name,
            slug: &slug(name),
            source_path,
            model_info: One("hf_config_json", Named::file(&directory, "config.json")?),
            tokenizer: One("hf_tokenizer_json", Named::file(&directory, "tokenizer.json")?),
            prompt_formatter: optional(&directory, "hf_tokenizer_config_json", "tokenizer_config.json")?,
            chat_template_file: chat_template(&directory)?,
            gen_config: optional(&directory, "hf_generation_config_json", "generation_config.json")?,
            architectural_max_context_length: length,
            context_length: length.unwrap_or(0),
            kv_cache_block_size: self.block,
            migration_limit: 0,
            model_type: "Chat | Completions",
            model_input: "Tokens",
            worker_type: "aggregated",
            needs: [],
            runtime_config: Runtime::default(),
            media_decoder: (),
            media_fetcher: (),
        };
        let json = serde_json::to_string(&written).map_err(|error| error::Error::Json(error.to_string()));
        json.and_then(|json| Card::new(&json)).map_err(ModelError::Card)
    }
}

/// A name in the letters that keys may have, as Dynamo spells it: others are underscores, and none begins it.
fn slug(name: &str) -> String {
    let plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || "-_".contains(letter);
    let lower = name.to_lowercase();
    let all: String = lower.chars().map(|letter| if plain(letter) { letter } else { '_' }).collect();
    all.trim_start_matches('_').to_owned()
}

/// The most tokens that a prompt and its answer may have together: what the model's configuration says, for models of several
/// kinds in its part about text; else what the tokenizer's does, if it is a number at all.
fn context_length(directory: &Path) -> Result<Option<u32>, ModelError> {
    let config = json(directory, "config.json")?;
    let said = |value: Option<&Value>| value.and_then(Value::as_u64).and_then(|length| u32::try_from(length).ok());
    let positions = |config: &Value| said(config.get("max_position_embeddings"));
    if let Some(length) = positions(&config).or_else(|| config.get("text_config").and_then(positions)) {
        return Ok(Some(length));
    }
    if !directory.join("tokenizer_config.json").exists() {
        return Ok(None);
    }
    Ok(said(json(directory, "tokenizer_config.json")?.get("model_max_length")))
}

fn json(directory: &Path, file: &str) -> Result<Value, ModelError> {
    let path = directory.join(file);
    let bytes = fs::read(&path).map_err(at(&path))?;
    serde_json::from_slice(&bytes).map_err(|source| ModelError::Json { path, source })
}

fn chat_template(directory: &Path) -> Result<Option<One<Template>>, ModelError> {
    for (kind, file) in [("hf_chat_template", "chat_template.jinja"), ("hf_chat_template_json", "chat_template.json")] {
        if directory.join(file).exists() {
            let template = Template { is_custom: false, file: Named::file(directory, file)? };
            return Ok(Some(One(kind, template)));
        }
    }
    Ok(None)
}

fn optional(directory: &Path, kind: &'static str, file: &str) -> Result<Option<One<Named>>, ModelError> {
    let there = directory.join(file).exists();
    there.then(|| Named::file(directory, file).map(|file| One(kind, file))).transpose()
}

fn text(path: &Path) -> Result<&str, ModelError> {
    path.to_str().ok_or_else(|| ModelError::Path(path.to_owned()))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> ModelError {
    let path = path.to_owned();
    move |source| ModelError::File { path, source }
}

/// A card's fields in Dynamo's order.
#[derive(serde::Serialize)]
struct Written<'a> {
    display_name: &'a str,
    slug: &'a str,
    source_path: &'a str,
    model_info: One<Named>,
    tokenizer: One<Named>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_formatter: Option<One<Named>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chat_template_file: Option<One<Template>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gen_config: Option<One<Named>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    architectural_max_context_length: Option<u32>,
    context_length: u32,
    kv_cache_block_size: u32,
    migration_limit: u32,
    model_type: &'a str,
    model_input: &'a str,
    worker_type: &'a str,
    needs: [&'a str; 0],
    runtime_config: Runtime,
    media_decoder: (),
    media_fetcher: (),
}

/// One field, whose name says what kind of file its value is.
struct One<T>(&'static str, T);

impl<T: Serialize> Serialize for One<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(self.0, &self.1)?;
        map.end()
    }
}

#[derive(serde::Serialize)]
struct Template {
    is_custom: bool,
    file: Named,
}

/// A file by its path, with the digest that tells two versions apart.
#[derive(serde::Serialize)]
struct Named {
    path: String,
    checksum: String,
    size: u64,
}

impl Named {
    fn file(directory: &Path, file: &str) -> Result<Self, ModelError> {
        let path = directory.join(file);
        let mut hasher = blake3::Hasher::new();
        let read = File::open(&path).and_then(|mut file| io::copy(&mut file, &mut hasher));
        let size = read.map_err(at(&path))?;
        Ok(Self { path: text(&path)?.to_owned(), checksum: format!("blake3:{}", hasher.finalize()), size })
    }
}

/// What a worker says of its engine. Nothing yet: the defaults of Dynamo's workers.
#[derive(serde::Serialize)]
struct Runtime {
    total_kv_blocks: Option<u64>,
    max_num_seqs: Option<u64>,
    max_num_batched_tokens: Option<u64>,
    tool_call_parser: Option<String>,
    reasoning_parser: Option<String>,
    tool_call_arguments_format: &'static str,
    structural_tag_mode: &'static str,
    structural_tag_scope: &'static str,
    structural_tag_schema: &'static str,
    exclude_tools_when_tool_choice_none: bool,
    data_parallel_start_rank: u32,
    data_parallel_size: u32,
    enable_local_indexer: bool,
    enable_eagle: bool,
}

impl Default for Runtime {
    fn default() -> Self {
        Self {
            total_kv_blocks: None,
            max_num_seqs: None,
            max_num_batched_tokens: None,
            tool_call_parser: None,
            reasoning_parser: None,
            tool_call_arguments_format: "json_string",
            structural_tag_mode: "off",
            structural_tag_scope: "auto",
            structural_tag_schema: "auto",
            exclude_tools_when_tool_choice_none: true,
            data_parallel_start_rank: 0,
            data_parallel_size: 1,
            enable_local_indexer: true,
            enable_eagle: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str, files: &[(&str, &str)]) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("ringplane-model-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        for (file, text) in files {
            fs::write(directory.join(file), text).unwrap();
        }
        directory
    }

    fn card(files: &[(&str, &str)], name: &str) -> Value {
        let directory = directory(name, files);
        let card = ModelFiles::new(&directory).card().unwrap().json().value();
        fs::remove_dir_all(directory).unwrap();
        card
    }

    #[test]
    fn a_slug_is_dynamos() {
        for (name, expected) in [
            ("Org/My-Model.1_x", "org_my-model_1_x"),
            ("\u{DC}n\u{EF}_--_Co/DE:2", "n__--_co_de_2"),
            ("tiny", "tiny"),
            ("___", ""),
        ] {
            assert_eq!(slug(name), expected);
        }
    }

    #[test]
    fn the_length_of_the_context_is_the_models_or_else_the_tokenizers_if_that_is_a_number() {
        let tokenizer = ("tokenizer.json", "{}");
        let said = |config, other| {
            let files = [("config.json", config), tokenizer, ("tokenizer_config.json", other)];
            let card = card(&files, "length");
            (card["context_length"].as_u64().unwrap(), card["architectural_max_context_length"].as_u64())
        };
        let other = r#"{"model_max_length":4096}"#;
        assert_eq!(said(r#"{"max_position_embeddings":100}"#, other), (100, Some(100)));
        assert_eq!(said(r#"{"text_config":{"max_position_embeddings":7}}"#, other), (7, Some(7)));
        assert_eq!(said("{}", other), (4096, Some(4096)));
        assert_eq!(said("{}", r#"{"model_max_length":1000000000000000019884624838656}"#), (0, None));
    }

    #[test]
    fn files_are_named_with_digest_and_size_and_those_that_are_missing_are_left_out() {
        let needed = [("config.json", "{}"), ("tokenizer.json", "abc")];
        let card = card(&needed, "some");
        let file = &card["tokenizer"]["hf_tokenizer_json"];
        // The test vector of BLAKE3 for these three bytes.
        let digest = "blake3:6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85";
        assert_eq!((file["checksum"].as_str(), file["size"].as_u64()), (Some(digest), Some(3)));
        assert!(card.get("prompt_formatter").is_none() && card.get("gen_config").is_none());
        let template = [("chat_template.json", "{}"), ("generation_config.json", "{}")];
        let more = self::card(&[&needed[..], &template].concat(), "more");
        assert_eq!(more["chat_template_file"]["hf_chat_template_json"]["is_custom"], false);
        assert!(more["gen_config"]["hf_generation_config_json"]["path"].is_string());
        let both = [("chat_template.json", "{}"), ("chat_template.jinja", "")];
        let both = self::card(&[&needed[..], &both].concat(), "both");
        assert!(both["chat_template_file"]["hf_chat_template"].is_object());
    }

    #[test]
    fn what_is_missing_or_malformed_is_named() {
        let missing = directory("missing", &[("config.json", "{}")]);
        let error = ModelFiles::new(&missing).card().unwrap_err();
        assert!(matches!(&error, ModelError::File { path, .. } if path.ends_with("tokenizer.json")), "{error}");
        fs::write(missing.join("config.json"), "{").unwrap();
        let error = ModelFiles::new(&missing).card().unwrap_err();
        assert!(matches!(&error, ModelError::Json { path, .. } if path.ends_with("config.json")), "{error}");
        fs::remove_dir_all(&missing).unwrap();
        let error = ModelFiles::new(&missing).with_name("x").card().unwrap_err();
        assert!(matches!(&error, ModelError::File { path, .. } if *path == missing), "{error}");
    }
}
