//! Whether io_uring works here: not by version but by trying.

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use ringplane_core::buf::slab::Key;

use crate::error::Refusal;
use crate::kernel::op::Op;
use crate::kernel::ring::{Completion, Ring, Wait, What};
use crate::kernel::setup::{Flavor, Sizes, kernel, memlock, refusal};

/// Longest wait for one answer of the self-test.
const PATIENCE: Duration = Duration::from_secs(2);

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Features {
    /// The kernel's release.
    pub kernel: String,
    /// How completions are run.
    pub flavor: Flavor,
    /// Entries of the submission queue that the limits allow for a default driver.
    pub submission_entries: u32,
    /// Entries of the completion queue, likewise.
    pub completion_entries: u32,
    /// Receive buffers, likewise.
    pub recv_buffers: u16,
    /// Whether waiting can be kept out of the iowait statistics (Linux 6.15). Where it cannot, an idle driver makes its
    /// CPU look busy with iowait; it is not.
    pub no_iowait: bool,
    /// The soft limit on locked memory in bytes; `None`: unlimited.
    pub memlock: Option<u64>,
}

/// Tries what a driver needs on a ring of these sizes: a NOP and a multishot receive over the loopback.
pub(crate) fn examine(sizes: Sizes) -> Result<Features, Refusal> {
    let mut ring = Ring::open(sizes).map_err(refusal)?;
    self_test(&mut ring)?;
    let (submission_entries, completion_entries, recv_buffers) = ring.sizes();
    Ok(Features {
        kernel: kernel(),
        flavor: ring.flavor(),
        submission_entries,
        completion_entries,
        recv_buffers,
        no_iowait: ring.has_no_iowait(),
        memlock: memlock(),
    })
}

/// Known questions with known answers; leaves the ring as it found it.
pub(crate) fn self_test(ring: &mut Ring) -> Result<(), Refusal> {
    let key = ring.push(Op::Nop);
    if answer(ring, "nop", key)? != (None, Ok(0), false) {
        return Err(failed("nop", None));
    }
    let step = "loopback sockets";
    let (near, far) = pair().map_err(|error| failed(step, error.raw_os_error()))?;
    let conn = Key::from_u64(0);
    let key = ring.push(Op::Receive { conn, socket: Rc::new(near) });
    for text in [b"one".as_slice(), b"and two", b"and then three"] {
        far.send(text).map_err(|error| failed(step, error.raw_os_error()))?;
        expect(ring, key, text)?;
    }
    drop(far);
    if answer(ring, "end of a receive", key)? != (None, Ok(0), false) {
        return Err(failed("end of a receive", None));
    }
    if ring.in_flight() > 0 || ring.buffers_out() > 0 {
        return Err(failed("leaving no trace", None));
    }
    Ok(())
}

/// The next portions of a receive make up `text`, and the receive goes on.
fn expect(ring: &mut Ring, key: Key, text: &[u8]) -> Result<(), Refusal> {
    let step = "multishot receive";
    let mut received = Vec::new();
    while received.len() < text.len() {
        let (bytes, result, more) = answer(ring, step, key)?;
        match (bytes, result) {
            (Some(bytes), Ok(_)) if more => received.extend(bytes),
            (_, Err(libc::EINVAL)) => {
                return Err(Refusal::TooOld { missing: "multishot receive (Linux 6.0)", kernel: kernel() });
            }
            (_, result) => return Err(failed(step, result.err())),
        }
    }
    if received == text { Ok(()) } else { Err(failed(step, None)) }
}

type Answer = (Option<Vec<u8>>, Result<u32, i32>, bool);

/// The next completion of `key`: received bytes, result, whether it goes on.
fn answer(ring: &mut Ring, step: &'static str, key: Key) -> Result<Answer, Refusal> {
    let start = Instant::now();
    let mut completions: Vec<Completion> = Vec::new();
    while completions.is_empty() {
        if start.elapsed() > PATIENCE {
            return Err(failed(step, Some(libc::ETIMEDOUT)));
        }
        ring.enter(Wait::For(PATIENCE)).map_err(|error| match error.raw_os_error() {
            Some(errno @ (libc::EPERM | libc::ENOSYS)) => Refusal::Seccomp { errno },
            errno => failed(step, errno),
        })?;
        ring.reap(&mut completions);
    }
    let (Some(completion), None) = (completions.pop(), completions.pop()) else { return Err(failed(step, None)) };
    if completion.key != key {
        return Err(failed(step, None));
    }
    let bytes = match completion.what {
        What::Received { buffer: Some(buffer), .. } => {
            let bytes = ring.bytes(&buffer).to_vec();
            ring.recycle(buffer);
            Some(bytes).filter(|bytes| !bytes.is_empty())
        }
        _ => None,
    };
    Ok((bytes, completion.result, completion.more))
}

/// Two connected sockets: over TCP as in earnest, or a local pair where the loopback device is down.
fn pair() -> io::Result<(Socket, Socket)> {
    tcp_pair().or_else(|_| Socket::pair(Domain::UNIX, Type::STREAM, None))
}

fn tcp_pair() -> io::Result<(Socket, Socket)> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let far = std::net::TcpStream::connect(listener.local_addr()?)?;
    far.set_nodelay(true)?;
    let (near, peer) = listener.accept()?;
    if peer != far.local_addr()? {
        return Err(io::Error::other("somebody else came first"));
    }
    Ok((near.into(), far.into()))
}

fn failed(step: &'static str, errno: Option<i32>) -> Refusal {
    Refusal::SelfTest { step, errno: errno.unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flavor_passes_the_self_test() {
        for flavor in Flavor::ALL {
            let mut ring = Ring::open(Sizes { entries: 32, completions: 64, buffers: 4, buffer: 64, flavor }).unwrap();
            assert_eq!(ring.flavor(), flavor);
            assert_eq!(self_test(&mut ring), Ok(()));
        }
    }
}
