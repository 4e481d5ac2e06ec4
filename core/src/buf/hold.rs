//! Memory for what a peer sends, asked for and not taken for granted: one peer's large item must not end the process.

use alloc::vec::Vec;

use bytes::Bytes;

/// There is no memory for it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct NoMemory;

/// An empty buffer for `len` bytes.
///
/// # Errors
/// [`NoMemory`].
pub(crate) fn room_for(len: usize) -> Result<Vec<u8>, NoMemory> {
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(len).map_err(|_| NoMemory)?;
    Ok(buffer)
}

/// Appends `bytes`, of a frame whose end has not come; the buffer grows by doubling.
///
/// # Errors
/// [`NoMemory`]; then nothing is appended.
pub(crate) fn append(buffer: &mut Vec<u8>, bytes: &[u8]) -> Result<(), NoMemory> {
    buffer.try_reserve(bytes.len()).map_err(|_| NoMemory)?;
    buffer.extend_from_slice(bytes);
    Ok(())
}

/// A copy of `bytes`.
///
/// # Errors
/// [`NoMemory`].
pub(crate) fn copy(bytes: &[u8]) -> Result<Bytes, NoMemory> {
    let mut buffer = room_for(bytes.len())?;
    buffer.extend_from_slice(bytes);
    Ok(buffer.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_held_is_an_answer_and_no_end() {
        assert_eq!(room_for(isize::MAX as usize), Err(NoMemory));
        let mut buffer = room_for(2).unwrap();
        assert_eq!((append(&mut buffer, b"abc"), &buffer[..]), (Ok(()), &b"abc"[..]));
        assert_eq!(copy(b"abc").unwrap(), "abc");
    }
}
