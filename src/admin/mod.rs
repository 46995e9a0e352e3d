//! The admin listener: health, metrics, and the API for people and programs of the network; and a
//! client of that API for the command line.

mod affiliates;
mod audit;
mod auth;
mod catalog;
mod client;
mod conversions;
mod customers;
mod erase;
mod error;
mod fraud;
mod held;
mod inbound;
mod jobs;
mod ledger;
mod lookup;
mod openapi;
mod question;
mod rates;
mod report_shapes;
mod reports;
mod server;
mod shapes;
mod statements;
pub mod status_lines;
mod summing;
mod system;
mod totals;
mod upload;

pub use auth::AdminTokens;
pub use client::{AdminClient, Answer, Call, ClientError};
pub use erase::resume_erasures;
pub use jobs::{Jobs, back_up};
pub use server::{AdminState, description, serve};
