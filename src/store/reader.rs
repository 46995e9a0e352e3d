//! A few threads that may block on the disk, so that workers never do.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::engine::Engine;
use crate::limits;

/// The readers' queue is full, or they are gone: ask again later; answered as `store_busy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store's readers are busy")]
pub struct Busy;

type Job = Box<dyn FnOnce(&dyn Engine) + Send>;

/// The reader threads and their bounded queue; threads end when the pool is dropped.
pub struct ReaderPool {
    queue: Option<SyncSender<Job>>,
    /// Only without threads: for whoever runs the jobs instead.
    jobs: Option<Mutex<Receiver<Job>>>,
    threads: Vec<JoinHandle<()>>,
    /// Jobs that no thread has begun.
    queued: Arc<AtomicUsize>,
}

impl ReaderPool {
    /// Starts `threads` readers of `engine`; with none, [`ReaderPool::run_once`] is the reader.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn spawn(engine: &Arc<dyn Engine>, threads: usize) -> std::io::Result<Self> {
        let (queue, jobs) = sync_channel::<Job>(limits::READ_QUEUE_MAX);
        let (jobs, queued) = (Mutex::new(jobs), Arc::default());
        if threads == 0 {
            return Ok(Self { queue: Some(queue), jobs: Some(jobs), threads: Vec::new(), queued });
        }
        let jobs = Arc::new(jobs);
        let threads = (0..threads)
            .map(|n| {
                let (engine, jobs) = (Arc::clone(engine), Arc::clone(&jobs));
                let name = format!("store-read-{n}");
                std::thread::Builder::new().name(name).spawn(move || work(&*engine, &jobs))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { queue: Some(queue), jobs: None, threads, queued })
    }

    /// Runs one waiting job on the caller's thread, in a pool without threads; false if there
    /// is none.
    pub fn run_once(&self, engine: &dyn Engine) -> bool {
        let Some(jobs) = &self.jobs else { return false };
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).try_recv();
        job.map(|job| job(engine)).is_ok()
    }

    /// Runs `read` on a reader thread and waits for its answer.
    ///
    /// # Errors
    /// [`Busy`] when the queue is full.
    pub async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Engine) -> T + Send + 'static,
    ) -> Result<T, Busy> {
        let (answer, answered) = oneshot::channel();
        let queued = Arc::clone(&self.queued);
        let job: Job = Box::new(move |engine| {
            queued.fetch_sub(1, Ordering::Relaxed);
            // The asker may have gone; then nobody needs the answer.
            let _ = answer.send(read(engine));
        });
        self.queued.fetch_add(1, Ordering::Relaxed);
        match self.queue.as_ref().map(|queue| queue.try_send(job)) {
            Some(Ok(())) => answered.await.map_err(|_| Busy),
            Some(Err(TrySendError::Full(_) | TrySendError::Disconnected(_))) | None => {
                self.queued.fetch_sub(1, Ordering::Relaxed);
                Err(Busy)
            }
        }
    }

    /// Reads that wait for a thread, about.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }
}

impl Drop for ReaderPool {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            // A reader that panicked has already reported it.
            let _ = thread.join();
        }
    }
}

fn work(engine: &dyn Engine, jobs: &Mutex<Receiver<Job>>) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => job(engine),
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::store::{Store, Unobserved};

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn reads_beyond_the_queue_are_turned_away_and_those_in_it_answered() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path(), 8 << 20, 1, [7; 32], Arc::new(Unobserved));
        let (store, _) = store.expect("opens");
        let (begin, begun) = sync_channel(1);
        let (free, held) = sync_channel::<()>(1);
        let mut holding = pin!(store.readers.run(move |_| {
            begin.send(()).expect("somebody waits");
            held.recv()
        }));
        assert_eq!(poll(holding.as_mut()), Poll::Pending);
        begun.recv().expect("the thread is held");
        let reads = (0..limits::READ_QUEUE_MAX).map(|n| Box::pin(store.readers.run(move |_| n)));
        let mut waiting: Vec<_> = reads.collect();
        for (before, read) in waiting.iter_mut().enumerate() {
            // Half is for the admin API.
            assert_eq!(store.is_overloaded(), before >= 512, "{before}");
            assert_eq!(poll(read.as_mut()), Poll::Pending);
        }
        assert_eq!(store.readers.queued(), 1024);
        for _ in 0..2 {
            assert_eq!(poll(pin!(store.readers.run(|_| 0))), Poll::Ready(Err(Busy)));
        }
        assert_eq!(store.readers.queued(), 1024, "who was turned away does not wait");
        free.send(()).expect("the thread waits");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        assert_eq!(runtime.block_on(holding), Ok(Ok(())));
        for (n, read) in waiting.into_iter().enumerate() {
            assert_eq!(runtime.block_on(read), Ok(n));
        }
        assert!(!store.is_overloaded());
        assert_eq!(runtime.block_on(store.readers.run(|_| 7)), Ok(7));
    }
}
