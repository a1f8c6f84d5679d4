//! (being written)
mod cli;
