//! Requests and answers as values, in the codec that the call names.
use ringplane::{CallRequest, Client, TypedResponder, Worker};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Question {
    text: String,
}

#[derive(Serialize, Deserialize)]
struct Word {
    place: usize,
    word: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let split = |question: Question, out: TypedResponder<Word>| async move {
        for (place, word) in question.text.split(' ').enumerate() {
            out.send(&Word { place, word: word.to_owned() }).await?;
        }
        Ok(())
    };
    let worker = Worker::builder().typed_endpoint("example.typed.split", split).serve().await?;

    let client = Client::builder().connect()?;
    let question = Question { text: "how do you do".to_owned() };
    let mut call = client.call(CallRequest::typed("example.typed.split", &question)?)?.typed::<Word>();
    while let Some(item) = call.next().await {
        let Word { place, word } = item?;
        println!("{place}: {word}");
    }

    client.shutdown().await;
    worker.shutdown().await;
    Ok(())
}
