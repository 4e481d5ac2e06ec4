//! What a record says of an instance, for policies that tell instances apart.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Names with their values, in order of names; clones share them. As large as a pointer, for the sake of `Candidate`.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Labels(Option<Arc<Box<[Label]>>>);

/// A name and its value.
type Label = (Box<str>, Box<str>);

impl Labels {
    /// The name of the label that says what an instance computes on.
    pub const DEVICE: &'static str = "device";

    /// The name of the label that says an instance's share beside the others, 0 to 65,535.
    pub const WEIGHT: &'static str = "weight";

    /// The name of the label that says how many calls an instance takes at once.
    pub const CAPACITY: &'static str = "capacity";

    /// Nothing is known.
    pub const NONE: Self = Self(None);

    /// Whatever `labels` has; of two values of one name the first.
    pub fn new<N: Into<Box<str>>, V: Into<Box<str>>>(labels: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut known: Vec<(Box<str>, Box<str>)> = Vec::new();
        for (name, value) in labels {
            let name = name.into();
            if let Err(at) = known.binary_search_by(|(known, _)| known.cmp(&name)) {
                known.insert(at, (name, value.into()));
            }
        }
        Self((!known.is_empty()).then(|| Arc::new(known.into())))
    }

    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// How many calls the instance takes at once, if a label says so.
    pub fn capacity(&self) -> Option<u32> {
        self.get(Self::CAPACITY)?.parse().ok().filter(|capacity| *capacity > 0)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().flat_map(|labels| labels.iter()).map(|(name, value)| (&**name, &**value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_found_by_name_and_the_first_of_a_name_counts() {
        let labels = Labels::new([("zone", "b"), (Labels::DEVICE, "cuda"), ("zone", "a")]);
        assert_eq!((labels.get("device"), labels.get("zone"), labels.get("rack")), (Some("cuda"), Some("b"), None));
        assert!(labels.iter().eq([("device", "cuda"), ("zone", "b")]));
        assert_eq!(Labels::new([("", ""); 0]), Labels::NONE);
    }
}
