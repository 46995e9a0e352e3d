//! What is looked at before a server serves: the store's folder, the log, the clock, the limit of
//! open files.

use std::sync::Arc;

use super::{ServerError, random};
use crate::backup::{remove_copies, unfinished_restore};
use crate::config;
use crate::files::{create_folder, open_to_others};
use crate::limits::{
    ADMIN_CONNECTIONS_MAX, FILES_OPEN_BESIDE, FILES_OPEN_PER_WORKER, LOG_FILE_BYTES,
    TABLE_FILES_OPEN_MAX,
};
use crate::metrics::Metrics;
use crate::space::free_bytes;
use crate::store::{Identity, Store, database_folder, is_database};

/// Opens the store, or makes it where that is wanted.
pub(super) fn open_store(
    config: &config::Store,
    metrics: &Metrics,
    now_ms: u64,
) -> Result<(Arc<Store>, Identity), ServerError> {
    let (path, database) = (&config.path, database_folder(&config.path));
    if let Some(part) = unfinished_restore(path) {
        return Err(ServerError::UnfinishedRestore(part));
    }
    let is_new = !is_database(&database);
    if is_new && !config.create {
        return Err(ServerError::NoStore(path.clone()));
    }
    create_folder(&database)
        .map_err(|error| ServerError::File { path: database.clone(), error })?;
    if let Ok(Some(mode)) = open_to_others(path) {
        tracing::warn!(
            path = %path.display(),
            mode = %format_args!("{mode:04o}"),
            "others than its owner may look into the store's folder: click ID key and personal \
             data are in it; chmod 0700"
        );
    }
    let (store, identity) = Store::open(
        &database,
        usize::try_from(config.block_cache_bytes).unwrap_or(usize::MAX),
        config.reader_threads as usize,
        random()?,
        Arc::new(metrics.store()),
    )?;
    if is_new {
        tracing::warn!(
            path = %path.display(),
            "there was no store, so a new one was created, with a click ID key of its own: IDs \
             signed by another store's key are refused as forged. If this network has a store, \
             look for it: a disk that is not mounted, a mistake in store.path"
        );
    }
    if let Err(error) = remove_copies(path) {
        tracing::warn!(%error, "a copy of the store that was left is still there");
    }
    prepare_log(&store, config)?;
    warn_if_ahead(identity.newest_ms, now_ms);
    Ok((Arc::new(store), identity))
}

/// Makes log files ready, where the disk has room for them beside the reserve.
fn prepare_log(store: &Store, config: &config::Store) -> Result<(), ServerError> {
    let files = config.log_files_ready;
    if files == 0 {
        return Ok(());
    }
    let wanted = config.free_space_reserve_bytes + 2 * u64::from(files) * LOG_FILE_BYTES;
    if free_bytes(&config.path).is_ok_and(|free| free >= wanted) {
        store.prepare_log(files as usize)?;
    } else {
        tracing::warn!(files, "too little room on the disk to make log files ready");
    }
    Ok(())
}

/// IDs continue after the newest record; if the clock is behind it, they borrow from the future.
fn warn_if_ahead(newest_ms: u64, now_ms: u64) {
    let ahead_ms = newest_ms.saturating_sub(now_ms);
    if ahead_ms > 1000 {
        tracing::warn!(
            ahead_ms,
            "the clock is behind the newest record; IDs run ahead of it until it has caught up"
        );
    }
}

/// Where connections take the descriptors that the store needs, a table cannot be opened, and the
/// store is poisoned by no fault of its disk.
pub(super) fn warn_if_few_files(server: &config::Server, workers: usize, allowed: Option<u64>) {
    let needed = files_needed(server.connections_max, workers);
    if let Some(allowed) = allowed.filter(|allowed| *allowed < needed) {
        tracing::warn!(
            allowed,
            needed,
            connections_max = server.connections_max,
            "fewer files may be open than connections and store can need: raise the limit \
             (LimitNOFILE=, ulimit -n), or lower server.connections_max"
        );
    }
}

/// The files that may be open at once: a descriptor for each connection, the tables of the store
/// and those of the copy that is verified.
fn files_needed(connections_max: u32, workers: usize) -> u64 {
    u64::from(connections_max)
        + ADMIN_CONNECTIONS_MAX as u64
        + 2 * u64::from(TABLE_FILES_OPEN_MAX)
        + u64::from(FILES_OPEN_PER_WORKER) * workers as u64
        + u64::from(FILES_OPEN_BESIDE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_need_less_than_the_unit_gives() {
        let unit = include_str!("../../deploy/postbackd.service");
        let given = unit.lines().find_map(|line| line.strip_prefix("LimitNOFILE="));
        let given: u64 = given.and_then(|number| number.parse().ok()).expect("a number");
        let needed = files_needed(10_000, 64);
        assert!((11_000..given / 2).contains(&needed), "{needed} of {given}");
    }
}
