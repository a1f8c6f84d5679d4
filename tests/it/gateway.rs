//! The gateway as a whole: the real `run()` on a real socket, a daemon that is played, and requests as nginx makes them.

mod bounds;
mod daemon;
mod pages;
mod rig;
mod sessions;
mod sites;
