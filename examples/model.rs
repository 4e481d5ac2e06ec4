//! A worker behind Dynamo's frontend that answers with the prompt's own tokens. Arguments: the model's directory, and where
//! discovery is: `cargo run --features model --example model -- DIRECTORY file:target/demo`.
use std::time::Duration;

use ringplane::model::{Delta, Finish, ModelFiles, Prompt};
use ringplane::ringplane_core::discovery::model::Model;
use ringplane::{EndpointId, Failure, TypedResponder, Worker, discovery};

const ENDPOINT: &str = "demo.backend.generate";

async fn answer(prompt: Prompt, out: TypedResponder<Delta>) -> Result<(), Failure> {
    let most = prompt.stop_conditions.max_tokens.map_or(usize::MAX, |most| most as usize);
    for token in prompt.token_ids.iter().take(most) {
        // An engine would think. When the client goes away, this future is dropped where it waits.
        out.sleep(Duration::from_millis(5)).await;
        out.send(&Delta::tokens([*token])).await?;
    }
    let cut = prompt.token_ids.len() > most;
    out.send(&Delta::end(if cut { Finish::Length } else { Finish::Stop })).await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(directory), Some(place)) = (arguments.next(), arguments.next()) else {
        return Err("the model's directory, and where discovery is, such as file:target/demo".into());
    };
    let card = ModelFiles::new(directory).card()?;
    let backend = discovery::open(&place)?;
    // The frontend reads items as Dynamo's Python workers write them: annotated.
    let builder = Worker::builder().typed_endpoint(ENDPOINT, answer).annotated();
    let worker = builder.discovery_backend(backend.clone()).serve().await?;
    // The model comes behind its endpoint, and leaves before it.
    let model = Model { endpoint: EndpointId::parse(ENDPOINT)?, id: worker.instance_id(), suffix: None, card };
    let model = backend.models().register(model).await?;
    println!("serving on {} with {}", worker.addr(), worker.driver());

    tokio::signal::ctrl_c().await?;
    model.unregister().await?;
    worker.shutdown().await;
    Ok(())
}
