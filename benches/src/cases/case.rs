//! One row: a function under measurement, with its inputs.

use std::fmt;
use std::hint::black_box;

use ringplane_core::wire::checksum::Crc32c;

/// A function whose inputs are ready. Each call runs it once.
pub type Run = Box<dyn FnMut()>;

/// What one run handles, for throughput.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Work {
    /// One thing.
    One,
    /// So many bytes.
    Bytes(u64),
    /// So many items.
    Items(u64),
}

/// A function under measurement.
pub struct Case {
    /// `group/function` or `group/function/size`; unique.
    pub name: String,
    /// What one run handles.
    pub work: Work,
    /// Whether its instructions are counted. They are not where most of them move or sum bytes: that is time, which
    /// criterion measures, and depends on the processor.
    pub counted: bool,
    prepare: Box<dyn Fn(Crc32c) -> Run>,
}

impl Case {
    /// A row that is timed and counted. `prepare` makes the inputs, with the checksum to use, and returns the function;
    /// every run of it does the same work.
    pub fn new<O, F>(name: impl Into<String>, prepare: impl Fn(Crc32c) -> F + 'static) -> Self
    where
        F: FnMut() -> O + 'static,
    {
        let boxed = move |crc| -> Run {
            let mut function = prepare(crc);
            Box::new(move || {
                black_box(function());
            })
        };
        Self { name: name.into(), work: Work::One, counted: true, prepare: Box::new(boxed) }
    }

    /// The same row with what one run handles.
    #[must_use]
    pub fn of(self, work: Work) -> Self {
        Self { work, ..self }
    }

    /// The same row, its instructions not counted unless `counted`.
    #[must_use]
    pub fn counted_if(self, counted: bool) -> Self {
        Self { counted, ..self }
    }

    /// The function with its inputs, run a few times: memory it keeps between runs is there.
    pub fn warm(&self, crc: Crc32c) -> Run {
        let mut run = (self.prepare)(crc);
        (0..3).for_each(|_| run());
        run
    }

    /// The name's part before the first slash, and the rest.
    pub fn group_and_function(&self) -> (&str, &str) {
        self.name.split_once('/').unwrap_or(("", &self.name))
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("name", &self.name).field("counted", &self.counted).finish_non_exhaustive()
    }
}
