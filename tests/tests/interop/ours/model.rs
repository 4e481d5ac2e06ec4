//! Our worker of a model: answers with the prompt's own tokens, one by one, with a pause before each.

use std::time::Duration;

use ringplane::model::{Delta, Finish, ModelFiles, Prompt};
use ringplane::{Failure, Leftovers, Remote, Request, Responder, Worker};
use ringplane_core::discovery::Model;
use ringplane_core::id::EndpointId;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::ours::shared::{codec, config, discovery, say, telemetry};
use crate::ours::worker::{Told, trace};

/// Before each token, as an engine would think.
const PAUSE: Duration = Duration::from_millis(5);

/// Serves the model of a directory under a name until SIGTERM, then drains.
pub(crate) async fn run(endpoint: &str, arguments: &[String]) {
    let [directory, name] = arguments else { panic!("the directory of a model and its name: {arguments:?}") };
    let mut term = signal(SignalKind::terminate()).unwrap();
    let card = ModelFiles::new(directory).with_name(name).card().unwrap();
    let backend = discovery();
    let here = tokio::runtime::Handle::current();
    let builder = Worker::builder().endpoint_on(here, endpoint, generate).config(config()).codec(codec()).annotated();
    let telemetry = telemetry();
    let builder = telemetry.iter().fold(builder, |builder, telemetry| builder.telemetry(telemetry));
    let serving = builder.discovery_backend(backend.clone()).serve().await.unwrap();
    let (endpoint, id) = (EndpointId::parse(endpoint).unwrap(), serving.instance_id());
    let model = backend.models().register(Model { endpoint, id, suffix: None, card }).await.unwrap();
    say(&json!({"event": "serving", "instance": id.to_string(), "card": model.record().card.json().as_str()}));
    term.recv().await;
    model.unregister().await.unwrap();
    let left = serving.shutdown().await;
    say(&json!({"event": "out", "clean": left == Leftovers::default()}));
}

async fn generate(mut request: Request<Remote>, out: Responder<Remote>) -> Result<(), Failure> {
    let prompt: Prompt = request.read().await?;
    say(&json!({"event": "request", "id": request.id(), "tokens": prompt.token_ids.len(), "trace": trace(&request)}));
    let mut told = Told { id: request.id().to_owned(), out, done: false };
    let answered = answer(&prompt, &told.out).await;
    told.done = true;
    answered
}

async fn answer(prompt: &Prompt, out: &Responder<Remote>) -> Result<(), Failure> {
    let most = prompt.stop_conditions.max_tokens.map_or(usize::MAX, |most| most as usize);
    for token in prompt.token_ids.iter().take(most) {
        tokio::time::sleep(PAUSE).await;
        if out.cause().is_some() {
            return out.send_as(&Delta::end(Finish::Cancelled)).await;
        }
        out.send_as(&Delta::tokens([*token])).await?;
    }
    let why = if prompt.token_ids.len() > most { Finish::Length } else { Finish::Stop };
    out.send_as(&Delta::end(why)).await
}
