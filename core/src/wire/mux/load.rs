//! What a worker says of its load in a frame that older peers skip.

use crate::wire::parse::{Error, ErrorKind, Reader};

/// The most gauges a report has; one with more is no report.
pub const MAX_GAUGES: u8 = 8;

/// A worker's load. Written as three fixed fields, the number of gauges, and the gauges: length of the name u8, name, value u64.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Load<'a> {
    /// Calls that run.
    pub running: u32,
    /// Calls that wait.
    pub queued: u32,
    /// How many may run; 0: not said.
    pub capacity: u32,
    /// How many gauges there are.
    count: u8,
    /// Their bytes, looked through.
    gauges: &'a [u8],
}

impl<'a> Load<'a> {
    /// A load without gauges: calls that run and wait, and how many may run.
    pub const fn new(running: u32, queued: u32, capacity: u32) -> Self {
        Self { running, queued, capacity, count: 0, gauges: &[] }
    }

    /// Reads the header of a load frame.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for too many gauges, others for a header that is cut short or names that are no text; the offset
    /// counts from the start of the header.
    pub fn parse(header: &'a [u8]) -> Result<Self, Error> {
        Self::read(&mut Reader::new(header))
    }

    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, Error> {
        let (running, queued, capacity) = (reader.u32()?, reader.u32()?, reader.u32()?);
        let at = reader.offset();
        let count = reader.u8()?;
        if count > MAX_GAUGES {
            return Err(Error::new(ErrorKind::Invalid, at));
        }
        let mut rest = reader.clone();
        let before = reader.remaining();
        for _ in 0..count {
            let len = reader.u8()?.into();
            reader.text(len)?;
            reader.u64()?;
        }
        let gauges = rest.bytes(before - reader.remaining())?;
        Ok(Self { running, queued, capacity, count, gauges })
    }

    /// The application's own gauges in the order they stand.
    pub fn gauges(&self) -> impl Iterator<Item = (&'a str, u64)> + Clone + use<'a> {
        let mut reader = Reader::new(self.gauges);
        core::iter::from_fn(move || {
            let len = reader.u8().ok()?.into();
            Some((reader.text(len).ok()?, reader.u64().ok()?))
        })
    }

    /// Writes the header through `put`: these fields, and of `gauges` the first [`MAX_GAUGES`] whose names have at most 255 bytes.
    pub fn write<'g>(&self, gauges: impl Iterator<Item = (&'g str, u64)> + Clone, mut put: impl FnMut(&[u8])) {
        let sized = |(name, value): (&'g str, u64)| Some((u8::try_from(name.len()).ok()?, name, value));
        let gauges = gauges.filter_map(sized).take(MAX_GAUGES.into());
        [self.running, self.queued, self.capacity].into_iter().for_each(|count| put(&count.to_be_bytes()));
        put(&[gauges.clone().fold(0, |count, _| count + 1)]);
        for (len, name, value) in gauges {
            put(&[len]);
            put(name.as_bytes());
            put(&value.to_be_bytes());
        }
    }
}
