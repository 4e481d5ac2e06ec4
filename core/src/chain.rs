//! An error with everything that led to it, in one line.

use core::error::Error;
use core::fmt;

/// Shows an error and then each of its sources, with `: ` between them. Errors of this workspace do not repeat their source
/// in their own text.
#[derive(Copy, Clone, Debug)]
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(error) = next {
            write!(f, ": {error}")?;
            next = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[derive(Debug)]
    struct Step(&'static str, Option<&'static Self>);

    impl fmt::Display for Step {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Step {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.map(|source| source as _)
        }
    }

    #[test]
    fn every_source_is_shown_in_order_and_an_error_without_one_stands_alone() {
        static ROOT: Step = Step("no room", None);
        static MIDDLE: Step = Step("the queue is closed", Some(&ROOT));
        assert_eq!(Chain(&ROOT).to_string(), "no room");
        assert_eq!(
            Chain(&Step("the call fails", Some(&MIDDLE))).to_string(),
            "the call fails: the queue is closed: no room"
        );
    }
}
