//! `erase`: a running server erases what it knows of a person.

use serde_json::json;

use super::out::{Ended, failed, say};
use super::serve::load_config;
use super::server::{Access, Server};
use super::{ConfigFile, EXIT_FAILED, EXIT_OK};

/// What `erase` is told.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("whose").args(["click", "customer"]).required(true))]
pub struct EraseArguments {
    /// A click: its visitor's data and its conversions'.
    #[arg(long, value_name = "CLICK_ID")]
    click: Option<String>,
    /// A customer: the data of all its conversions and of their clicks.
    #[arg(long, num_args = 2, value_names = ["ADVERTISER", "CUSTOMER_ID"])]
    customer: Option<Vec<String>>,
    /// Only count what would be erased.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    config: ConfigFile,
    /// The admin listener of a running server, http://HOST:PORT, where no configuration is at hand.
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    #[command(flatten)]
    access: Access,
}

/// Has the data erased, waits for the end, and prints how much it was.
pub fn run(arguments: &EraseArguments) -> Result<u8, Ended> {
    let server = match &arguments.admin {
        Some(address) => arguments.access.server(address)?,
        None => {
            arguments.access.refuse_without_address()?;
            Server::configured(&load_config(arguments.config.config.as_deref())?)?
                .ok_or_else(|| failed("no server runs: it erases, so start it"))?
        }
    };
    let dry_run = arguments.dry_run;
    let body = match arguments.customer.as_deref() {
        Some([advertiser, customer_id]) => {
            json!({"advertiser": advertiser, "customer_id": customer_id, "dry_run": dry_run})
        }
        _ => json!({"click_id": arguments.click, "dry_run": dry_run}),
    };
    let done = server.work("erase", Some(&body.to_string()))?;
    let said = if dry_run { "would be erased" } else { "erased" };
    say!("{said}: {} clicks, {} conversions", done["clicks"], done["conversions"]);
    let damaged = done["damaged"].as_array().map_or(&[][..], Vec::as_slice);
    for record in damaged {
        eprintln!("damaged, and left as it is: {} {}", record["table"], record["key"]);
    }
    Ok(if damaged.is_empty() { EXIT_OK } else { EXIT_FAILED })
}
