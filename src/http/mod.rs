//! The public listener: sockets, HTTP, routes, and the one place that turns outcomes into bytes.

mod by_source;
mod client_ip;
mod connection;
mod entrance;
mod listener;
mod load;
pub mod proxy_protocol;
pub mod reply;
mod router;

pub use client_ip::TrustedProxies;
pub use entrance::Entrance;
pub use listener::{Admission, bind, bind_group, serve};
pub use load::Load;
pub use reply::{RefusedBodies, Reply};
pub use router::{Router, respond};
