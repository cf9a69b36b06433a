//! One way to operate on runs, whoever holds the store: this process, or another one behind its socket.
//!
//! A [`Request`] is answered by a `Desk`. Who holds the store asks the desk; everybody else sends the request to the
//! holder, whose desk answers it in the same words.

mod client;
#[cfg(feature = "restate")]
mod cluster;
mod desk;
mod place;
mod request;
mod server;
mod session;

pub(super) use desk::folder_of;
#[cfg(feature = "restate")]
pub(super) use desk::world_of;
pub(super) use place::holder_of;
pub(super) use request::{Answer, Happened, Notice, Request, Rested, Stay, Task};
pub(super) use session::{Need, Session};
