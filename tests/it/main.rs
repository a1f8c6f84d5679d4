//! (being written)

mod nginx;
