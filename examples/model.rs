//! A worker behind Dynamo's frontend that answers with the prompt's own tokens. Arguments: the model's directory, and where
//! discovery is: `cargo run --features model --example model -- DIRECTORY file:target/demo`.
use std::time::Duration;

use ringplane::model::{Delta, Finish, ModelFiles, Prompt};
use ringplane::ringplane_core::discovery::model::Model;
use ringplane::ringplane_core::wire::dynamo::annotated::Annotated;
use ringplane::{Codec, EndpointId, Failure, Request, Responder, Worker, discovery};

const ENDPOINT: &str = "demo.backend.generate";

async fn answer(mut request: Request, out: Responder) -> Result<(), Failure> {
    let prompt: Prompt = serde_json::from_slice(&request.body().await?).map_err(Failure::invalid)?;
    let most = prompt.stop_conditions.max_tokens.map_or(usize::MAX, |most| most as usize);
    for token in prompt.token_ids.iter().take(most) {
        // An engine would think. When the client goes away, this future is dropped where it waits.
        out.sleep(Duration::from_millis(5)).await;
        out.send(item(&Delta::tokens([*token]))?).await?;
    }
    let cut = prompt.token_ids.len() > most;
    out.send(item(&Delta::end(if cut { Finish::Length } else { Finish::Stop }))?).await?;
    Ok(())
}

/// The frontend reads items as Dynamo's Python workers write them.
fn item(delta: &Delta) -> Result<Vec<u8>, Failure> {
    let delta = serde_json::to_vec(delta).map_err(Failure::internal)?;
    Annotated::of(&delta).write(Codec::Json).map_err(Failure::internal)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(directory), Some(place)) = (arguments.next(), arguments.next()) else {
        return Err("the model's directory, and where discovery is, such as file:target/demo".into());
    };
    let card = ModelFiles::new(directory).card()?;
    let backend = discovery::open(&place)?;
    let builder = Worker::builder().endpoint(ENDPOINT, answer).codec(Codec::Json).discovery_backend(backend.clone());
    let worker = builder.serve().await?;
    // The model comes behind its endpoint, and leaves before it.
    let model = Model { endpoint: EndpointId::parse(ENDPOINT)?, id: worker.instance_id(), suffix: None, card };
    let model = backend.models().register(model).await?;
    println!("serving on {} with {}", worker.addr(), worker.driver());

    tokio::signal::ctrl_c().await?;
    model.unregister().await?;
    worker.shutdown().await;
    Ok(())
}
