//! Target: headers of a request.

use ringplane_core::wire::dynamo::headers::{Headers, MAX_HEADERS};

/// Headers that can be read are written so that they read the same, and written again are the same bytes.
pub fn headers(data: &[u8]) {
    let lenient = Headers::read(data);
    let Ok(strict) = Headers::try_read(data) else {
        assert_eq!(lenient, Headers::new());
        return;
    };
    assert_eq!(lenient, strict);
    let _ = (strict.request_id(), strict.send_time_ns(), strict.traceparent(), strict.tracestate());
    match strict.write() {
        Ok(bytes) => {
            let again = Headers::try_read(&bytes).expect("what was written is read");
            assert_eq!(again, strict);
            assert_eq!(again.write().as_ref(), Ok(&bytes));
        }
        Err(_) => assert!(data.len() > MAX_HEADERS / 2, "{} bytes of headers do not fit", data.len()),
    }
}
