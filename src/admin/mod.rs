//! The admin listener: health, metrics, and the API for people and programs of the network.

mod auth;
mod conversions;
mod error;
mod lookup;
mod rates;
mod server;
mod shapes;
mod system;
mod totals;

pub use auth::AdminToken;
pub use server::{AdminState, serve};
