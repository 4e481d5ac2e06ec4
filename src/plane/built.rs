//! The request planes of this build, by name and by environment.

use std::str::FromStr;

use crate::plane::carriers::Carriers;
#[cfg(feature = "http")]
use crate::plane::http;
use crate::plane::name::{PlaneError, PlaneName};
#[cfg(feature = "nats")]
use crate::plane::nats;
use crate::plane::plane::{Built, RequestPlane};
use crate::plane::tcp;

/// All of them.
const BUILT: &[Built] = &[
    tcp::BUILT,
    #[cfg(feature = "nats")]
    nats::BUILT,
    #[cfg(feature = "http")]
    http::BUILT,
];

fn built(name: PlaneName) -> Result<&'static Built, PlaneError> {
    BUILT.iter().find(|built| built.name == name).ok_or(PlaneError::NotBuilt(name.as_str()))
}

/// The carriers of a group of threads for which nothing has been configured.
pub(crate) fn carriers() -> Carriers {
    let mut carriers = Carriers::default();
    BUILT.iter().for_each(|built| (built.carrier)(&mut carriers));
    carriers
}

impl RequestPlane {
    /// The plane of that name, else the one that `DYN_REQUEST_PLANE` names, else TCP, with what Dynamo's variables say about
    /// it. `get` reads a variable.
    ///
    /// # Errors
    /// See [`PlaneError`]. An empty `DYN_REQUEST_PLANE` is one, as for Dynamo.
    pub fn from_vars(name: Option<PlaneName>, get: impl Fn(&str) -> Option<String>) -> Result<Self, PlaneError> {
        let name = match name {
            Some(name) => name,
            None => get("DYN_REQUEST_PLANE").map_or(Ok(PlaneName::Tcp), |text| text.parse())?,
        };
        (built(name)?.from_vars)(&get).map_err(PlaneError::Variable)
    }
}

impl FromStr for PlaneName {
    type Err = PlaneError;

    /// As Dynamo reads `DYN_REQUEST_PLANE`: in any case, and nothing else than a name.
    fn from_str(text: &str) -> Result<Self, PlaneError> {
        let found = Self::ALL.into_iter().find(|name| text.eq_ignore_ascii_case(name.as_str()));
        let name = found.ok_or_else(|| PlaneError::Unknown(text.to_owned()))?;
        built(name).map(|built| built.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_are_known_by_name_in_any_case_and_unknown_ones_are_refused() {
        assert_eq!("TCP".parse(), Ok(PlaneName::Tcp));
        let nats = if cfg!(feature = "nats") { Ok(PlaneName::Nats) } else { Err(PlaneError::NotBuilt("nats")) };
        assert_eq!("Nats".parse::<PlaneName>(), nats);
        let http = if cfg!(feature = "http") { Ok(PlaneName::Http) } else { Err(PlaneError::NotBuilt("http")) };
        assert_eq!("HTTP".parse::<PlaneName>(), http);
        for text in ["", "quic"] {
            assert_eq!(text.parse::<PlaneName>(), Err(PlaneError::Unknown(text.to_owned())));
        }
    }

    #[test]
    fn every_plane_answers_to_the_name_that_it_is_found_by() {
        for built in BUILT {
            assert_eq!(RequestPlane::from_vars(Some(built.name), |_| None).map(|plane| plane.name()), Ok(built.name));
        }
    }
}
