//! A reader or a writer that tells how many bytes have passed.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What passes through it is counted.
pub(crate) struct Told<T, F> {
    inner: T,
    tell: F,
    passed: usize,
}

impl<T, F: FnMut(usize)> Told<T, F> {
    /// Calls `tell` with the number of bytes so far whenever some have passed.
    pub(crate) fn new(inner: T, tell: F) -> Self {
        Self { inner, tell, passed: 0 }
    }

    fn pass(&mut self, bytes: usize) {
        self.passed += bytes;
        (self.tell)(self.passed);
    }
}

impl<T: AsyncRead + Unpin, F: FnMut(usize) + Unpin> AsyncRead for Told<T, F> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, into))?;
        self.pass(into.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin, F: FnMut(usize) + Unpin> AsyncWrite for Told<T, F> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, bytes))?;
        self.pass(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
