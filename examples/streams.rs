//! Items both ways: a request of several items, answered item by item while the next one is on its way.
use ringplane::{CallRequest, Client, Request, Responder, Worker};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let double = |mut request: Request, out: Responder| async move {
        while let Some(item) = request.next().await? {
            out.send([&item[..], &item[..]].concat()).await?;
        }
        Ok(())
    };
    let worker = Worker::builder().endpoint("example.streams.double", double).serve().await?;

    let client = Client::builder().connect()?;
    let mut call = client.endpoint("example.streams.double")?.call(CallRequest::items())?;
    for word in ["ha", "ho", "he"] {
        call.send(word).await?;
        let answer = call.next().await.ok_or("the answer has ended")??;
        assert_eq!(answer, word.repeat(2));
    }
    call.finish();
    assert!(call.next().await.is_none());

    client.shutdown().await;
    worker.shutdown().await;
    Ok(())
}
