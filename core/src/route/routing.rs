//! What a call asks of its policy, as the call keeps it.

use alloc::boxed::Box;

use crate::route::attributes::Attributes;
use crate::route::eligible::{Ask, Room};

/// What a call asks of its policy: lent with each decision.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Routing {
    /// Calls with the same value fare better at the same instance: a hash of a session or of a prefix.
    pub affinity: Option<u64>,
    /// How much work the call is, in the application's unit, such as tokens; 0: unknown.
    pub cost: u64,
    /// What policies of the application's own look at.
    pub attributes: Option<Box<Attributes>>,
}

impl Routing {
    /// What a policy is shown.
    pub fn ask(&self) -> Ask<'_> {
        let attributes = self.attributes.as_deref();
        Ask { affinity: self.affinity, cost: self.cost, room: Room::Any, second: false, attributes }
    }

    /// Whether its attributes are within their bounds.
    pub fn fits(&self) -> bool {
        self.attributes.as_ref().is_none_or(|attributes| attributes.fits())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::attributes::MAX_BYTES;

    #[test]
    fn what_the_call_keeps_is_lent_and_within_bounds() {
        let mut attributes = Attributes::new();
        attributes.set("lora", "x");
        let mut routing = Routing { cost: 7, attributes: Some(Box::new(attributes)), ..Routing::default() };
        let ask = routing.ask();
        assert_eq!((ask.cost, ask.attributes.and_then(|attributes| attributes.get("lora"))), (7, Some("x")));
        assert!(routing.fits() && Routing::default().fits());
        routing.attributes.get_or_insert_default().set_bytes(alloc::vec![0; MAX_BYTES]);
        assert!(!routing.fits());
    }
}
