//! (being written)
mod cli;
mod gateway;
