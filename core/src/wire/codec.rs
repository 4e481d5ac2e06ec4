//! The two encodings a payload may have.

/// How requests and items are encoded. The worker's discovery record names it; a record that does not means JSON.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "alloc", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "alloc", serde(rename_all = "lowercase"))]
pub enum Codec {
    /// One JSON value.
    #[default]
    Json,
    /// MessagePack, maps keyed by field name.
    Msgpack,
}

impl Codec {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Json, Self::Msgpack];

    /// The name in control messages and discovery records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Msgpack => "msgpack",
        }
    }

    /// The codec with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_codec_and_no_name_means_json() {
        for codec in Codec::ALL {
            assert_eq!(Codec::from_name(codec.name()), Some(codec));
        }
        assert_eq!(Codec::from_name("cbor"), None);
        assert_eq!(Codec::default(), Codec::Json);
    }
}
