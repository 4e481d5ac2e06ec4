//! Checks of the house rules, as functions over source text: each can be shown to fail on a line of its own.

pub mod files;
pub mod floors;
pub mod manners;
pub mod paths;
