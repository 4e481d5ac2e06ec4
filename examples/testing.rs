//! A handler under test: no socket, no thread, no port, and the time of the test.
use ringplane::testing::Stage;
use ringplane::{CallError, CallRequest, Class, Failure, Request, Responder, Worker};

async fn greet(mut request: Request, out: Responder) -> Result<(), Failure> {
    let name = request.body().await?;
    if name.is_empty() {
        return Err(Failure::invalid("a greeting needs a name"));
    }
    out.send([b"hello ", &name[..]].concat()).await?;
    Ok(())
}

// In a test: #[tokio::test]
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let stage = Stage::new(Worker::builder().endpoint("example.testing.greet", greet))?;

    let call = stage.call(CallRequest::new("example.testing.greet", "world"))?;
    assert_eq!(call.collect().await?, ["hello world"]);

    let call = stage.call(CallRequest::new("example.testing.greet", ""))?;
    let Err(CallError::Failed { class, message, .. }) = call.collect().await else {
        return Err("it greets nobody".into());
    };
    assert_eq!((class, &*message), (Class::InvalidRequest, "a greeting needs a name"));
    Ok(())
}
