//! Behind Dynamo's frontend: the card of a model, made of its directory, and the tokens that go to a worker and come back.
//!
//! The frontend finds a worker by its card, turns a chat into a prompt of tokens, sends that as a [`Prompt`], and reads
//! [`Delta`]s, each in an [`Annotated`](ringplane_core::wire::dynamo::annotated::Annotated) item.
//!
//! ```no_run
#![doc = include_str!("../../examples/model.rs")]
//! ```

mod extend;
mod files;
mod tokens;

pub use extend::ExtendTokens;
pub use files::{ModelError, ModelFiles};
pub use tokens::{Delta, Finish, Prompt, Stopping};
