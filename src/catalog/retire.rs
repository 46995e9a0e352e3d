//! The end of a catalog that is no longer in force.

use std::sync::Arc;
use std::time::Duration;

/// How often it is looked whether anybody still reads it.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Keeps what was in force until nobody reads it any more, and frees it on a thread that may take
/// its time: a million entries are more work than a worker can do between two requests, so none
/// must be the last to let go.
pub async fn outlive<T: Send + Sync + 'static>(old: Arc<T>) {
    // Taken out of its swap, it cannot gain readers: once this is the only hold, it stays so.
    while Arc::strong_count(&old) > 1 {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    // An error means that the runtime is ending, and all of its threads with it.
    let _ = tokio::task::spawn_blocking(move || drop(old)).await;
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;
    use std::thread::ThreadId;

    use arc_swap::ArcSwap;

    use super::*;

    /// Tells on which thread it is dropped.
    struct Tells(std::sync::mpsc::SyncSender<ThreadId>);

    impl Drop for Tells {
        fn drop(&mut self) {
            // The test may have failed already.
            let _ = self.0.send(std::thread::current().id());
        }
    }

    #[test]
    fn whoever_reads_the_old_catalog_longest_does_not_have_to_free_it() {
        let (tell, told) = sync_channel(1);
        let in_force = Arc::new(ArcSwap::from_pointee(Some(Tells(tell))));
        let (read, has_read) = sync_channel(0);
        let (go, goes) = sync_channel::<()>(0);
        let reader = std::thread::spawn({
            let in_force = Arc::clone(&in_force);
            move || {
                let guard = in_force.load();
                read.send(()).expect("the test waits");
                goes.recv().expect("the test says when");
                drop(guard);
                std::thread::current().id()
            }
        });
        has_read.recv().expect("it reads");
        let old = in_force.swap(Arc::new(None));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let retired = runtime.spawn(outlive(old));
        std::thread::sleep(3 * LOOK_EVERY);
        assert!(told.try_recv().is_err(), "freed while it is read");
        go.send(()).expect("the reader waits");
        let reader = reader.join().expect("ends");
        runtime.block_on(retired).expect("ends");
        assert_ne!(told.recv().expect("freed"), reader, "the reader had to free it");
    }
}
