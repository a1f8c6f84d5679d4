//! (being written)

pub mod nginx;
