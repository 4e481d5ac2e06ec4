//! How much of one batch is believed before memory is given to it.

/// Bounds on one batch, checked before anything is allocated for it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of a batch. Default 32 MiB.
    pub payload: usize,
    /// Events of a batch. Default 65,536.
    pub events: usize,
    /// Hashes of an event. Default 65,536.
    pub hashes: usize,
    /// Tokens of an event. Default 4,194,304.
    pub tokens: usize,
    /// Bytes of a name: a medium, an adapter, a session. Default 4 KiB.
    pub text: usize,
    /// Bytes of a value that is kept as it came, as extra keys are. Default 1 MiB.
    pub raw: usize,
}

impl Limits {
    /// The defaults.
    pub const DEFAULT: Self =
        Self { payload: 32 << 20, events: 65_536, hashes: 65_536, tokens: 4 << 20, text: 4 << 10, raw: 1 << 20 };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
