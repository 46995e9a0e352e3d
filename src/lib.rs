//! postbackd.

pub mod click_id;
pub mod dedup;
pub mod limits;
pub mod model;
pub mod store;
