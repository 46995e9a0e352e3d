//! Every metric of the server: described in one table, held as ready handles in typed structs.

mod descriptions;
mod handles;

pub use descriptions::{DESCRIPTIONS, Description, Kind};
pub use handles::{
    CATALOG_LOADS, ClickMetrics, ConnectionMetrics, Metrics, PostbackMetrics, RATES_LOADS,
    StoreMetrics, TOKENS_LOADS,
};
