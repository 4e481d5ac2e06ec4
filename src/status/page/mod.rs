//! The page for people.

mod html;
pub(super) mod render;
