//! `serve --model`: the card of a model's directory, registered beside the endpoint for Dynamo's frontend.

use std::path::PathBuf;

use ringplane::discovery::{Backend, Registration};
use ringplane::model::ModelFiles;
use ringplane_core::chain::Chain;
use ringplane_core::discovery::card::Card;
use ringplane_core::discovery::model::Model;
use ringplane_core::id::{EndpointId, InstanceId};

use crate::exit::Failed;
use crate::stderr::say;

/// Which model an endpoint serves.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Wish {
    /// Serve the model in this directory to Dynamo's frontend: its card is registered, and items are wrapped as with
    /// --annotated. It needs config.json and tokenizer.json; the frontend reads them at the same place
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// What callers call the model [default: the last part of the directory's path]
    #[arg(long, value_name = "NAME", requires = "model")]
    model_name: Option<String>,
}

impl Wish {
    /// Whether there is one.
    pub(crate) const fn is_there(&self) -> bool {
        self.model.is_some()
    }

    /// The model's card.
    pub(crate) fn card(&self) -> Result<Option<Card>, Failed> {
        let Some(directory) = &self.model else { return Ok(None) };
        let mut files = ModelFiles::new(directory);
        if let Some(name) = &self.model_name {
            files = files.with_name(name);
        }
        files.card().map(Some).map_err(|error| Failed::local("--model", error))
    }
}

/// Registers the model that this instance serves, if there is one. The registration's end takes it back.
pub(crate) async fn register(
    backend: &dyn Backend,
    endpoint: &EndpointId,
    id: InstanceId,
    card: Option<Card>,
) -> Result<Option<Registration<Model>>, Failed> {
    let Some(card) = card else { return Ok(None) };
    let model = Model { endpoint: endpoint.clone(), id, suffix: None, card };
    let registered = backend.models().register(model).await;
    registered.map(Some).map_err(|error| Failed::local("the model cannot be registered", error))
}

/// Takes a model back, before its endpoint: callers of the model learn first that it is going away. A registry that does not
/// answer is no reason to end calls.
pub(crate) async fn leave(model: Option<Registration<Model>>) {
    let Some(model) = model else { return };
    if let Err(error) = model.unregister().await {
        say(format_args!("ringplane: the model stays in discovery until its time runs out: {}", Chain(&error)));
    }
}
