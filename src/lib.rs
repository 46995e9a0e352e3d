//! postbackd: a self-hosted tracking server for performance-marketing networks.
//!
//! # The way of a click
//!
//! [`http`] accepts the connection on one worker's runtime and routes `GET /click` to
//! [`click`]: the parameters are read ([`query`]), offer and affiliate chosen from the [`catalog`],
//! a [`click_id`] minted and signed, the landing template filled, and the record handed to the
//! [`store`]'s writer. The redirect waits for the fsync, but not longer than the deadline.
//!
//! # The way of a postback
//!
//! [`http`] routes `/postback` to [`postback`]: names become meanings (mapping), the sender
//! shows who it is if its advertiser asks for that ([`auth`]), meanings become a verdict
//! (decide, pure), the offer's [`fraud`] rules may flag or reject it, its keys are claimed in
//! [`dedup`], a place under the offer's [`caps`] is taken where it has any, and the conversion, which
//! says what it claims, goes to the [`store`] as one commit. Only when the writer has settled it as
//! durable is it answered. Rows of claims and indexes are made of it later, in bulk.
//!
//! Modules are listed from the top of the house to its ground; each knows only those below it.

#![warn(missing_docs)]

pub mod app;
pub mod cli;

pub mod admin;
pub mod http;

pub mod click;
pub mod postback;
pub mod report;

pub mod backup;
pub mod verify;

pub mod audit;
pub mod auth;
pub mod caps;
pub mod catalog;
pub mod dedup;
pub mod fraud;
pub mod ledger;
pub mod rates;
pub mod throttle;

pub mod checked_toml;
pub mod config;
pub mod files;
pub mod http2;
pub mod metrics;
pub mod readiness;
pub mod shutdown;
pub mod space;
pub mod store;
pub mod telemetry;
pub mod tls;

pub mod click_id;
pub mod query;

pub mod limits;
pub mod model;
pub mod time;
