//! Errors of a handler: what class they are of, a reason of its own, and what the caller makes of them.
use ringplane::{CallError, CallErrorKind, CallRequest, Class, Client, Failure, TypedResponder, Worker};

async fn withdraw(amount: u64, out: TypedResponder<u64>) -> Result<(), Failure> {
    const BALANCE: u64 = 100;
    let left = BALANCE
        .checked_sub(amount)
        .ok_or_else(|| Failure::new(Class::Conflict, "balance.exceeded", format_args!("there are {BALANCE}")))?;
    out.send(&left).await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let worker = Worker::builder().typed_endpoint("example.errors.withdraw", withdraw).serve().await?;
    let client = Client::builder().connect()?;

    let call = client.call(CallRequest::typed("example.errors.withdraw", &500)?)?;
    let error = call.collect().await.unwrap_err();
    assert_eq!((error.class(), error.reason()), (Class::Conflict, "balance.exceeded"));
    assert_eq!((error.kind(), error.is_retryable()), (CallErrorKind::Handler, false));
    let CallError::Failed { message, .. } = &error else { return Err(error.into()) };
    assert_eq!(&**message, "there are 100");

    // What is no number at all never reaches the handler.
    let call = client.call(CallRequest::typed("example.errors.withdraw", "much")?)?;
    let error = call.collect().await.unwrap_err();
    assert_eq!((error.class(), error.reason()), (Class::InvalidRequest, "backend.invalid_argument"));
    println!("{error}");

    client.shutdown().await;
    worker.shutdown().await;
    Ok(())
}
