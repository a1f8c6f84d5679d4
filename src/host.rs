//! (being written)

pub mod accounts;
