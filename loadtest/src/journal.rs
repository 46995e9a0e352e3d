//! The least that durability can cost: one thread that appends what requests stand for and syncs
//! it, and requests that wait for it.
//!
//! Nothing is looked up, encoded or kept for later. The file has its size from the start and is
//! overwritten from its beginning on, so that a sync has data to write and nothing else.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use hdrhistogram::Histogram;
use tokio::sync::{Notify, oneshot};

use crate::tally::latency_histogram;

/// As long as a file of the product's log.
const FILE_BYTES: usize = 64 << 20;
const FILLER_BYTES: usize = 1 << 20;
/// As much as a conversion's row in the product's log.
const RECORD: [u8; 200] = [0x5a; 200];

/// The file and what is to be written to it. One for all workers.
pub struct Journal {
    gathered: Mutex<Gathered>,
    something: Condvar,
    workers: Mutex<Vec<Arc<Worker>>>,
}

#[derive(Default)]
struct Gathered {
    bytes: Vec<u8>,
    /// How many records there have been.
    records: u64,
    asleep: bool,
}

/// What the thread that syncs and one worker share.
struct Worker {
    durable: AtomicU64,
    more: Notify,
    /// From a request's coming to its record's being durable.
    latency: Mutex<Histogram<u64>>,
}

impl Journal {
    /// Makes the file and starts the thread, which ends with the process.
    pub fn start(path: &Path) -> io::Result<Arc<Self>> {
        let file = File::create(path)?;
        let filler = vec![0; FILLER_BYTES];
        for at in (0..FILE_BYTES).step_by(FILLER_BYTES) {
            file.write_all_at(&filler, at as u64)?;
        }
        file.sync_all()?;
        let journal = Arc::new(Self {
            gathered: Mutex::default(),
            something: Condvar::new(),
            workers: Mutex::default(),
        });
        let own = Arc::clone(&journal);
        thread::Builder::new().name("journal".into()).spawn(move || {
            let error = own.write(&file).expect_err("it has no other end");
            eprintln!("the journal cannot be written: {error}");
            std::process::abort();
        })?;
        Ok(journal)
    }

    fn write(&self, file: &File) -> io::Result<()> {
        let mut at = 0;
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            let mut gathered = lock(&self.gathered);
            while gathered.bytes.is_empty() {
                gathered.asleep = true;
                gathered = self.something.wait(gathered).unwrap_or_else(PoisonError::into_inner);
            }
            gathered.asleep = false;
            std::mem::swap(&mut gathered.bytes, &mut bytes);
            let records = gathered.records;
            drop(gathered);
            if at + bytes.len() > FILE_BYTES {
                at = 0;
            }
            file.write_all_at(&bytes, at as u64)?;
            file.sync_data()?;
            at += bytes.len();
            for worker in &*lock(&self.workers) {
                worker.durable.store(records, Ordering::Release);
                worker.more.notify_one();
            }
        }
    }

    /// Latencies since this was asked last, of all workers.
    pub fn latency(&self) -> Histogram<u64> {
        let mut all = latency_histogram();
        for worker in &*lock(&self.workers) {
            let mut latency = lock(&worker.latency);
            all.add(&*latency).expect("all latency histograms have the same range");
            latency.reset();
        }
        all
    }

    fn append(&self) -> u64 {
        let mut gathered = lock(&self.gathered);
        gathered.bytes.extend_from_slice(&RECORD);
        gathered.records += 1;
        if gathered.asleep {
            gathered.asleep = false;
            self.something.notify_one();
        }
        gathered.records
    }
}

/// One worker's requests that wait, oldest first.
pub struct Waiting {
    journal: Arc<Journal>,
    worker: Arc<Worker>,
    requests: RefCell<VecDeque<(u64, oneshot::Sender<()>)>>,
}

impl Waiting {
    /// Of a worker that has none yet.
    pub fn new(journal: Arc<Journal>) -> Self {
        let worker = Arc::new(Worker {
            durable: AtomicU64::new(0),
            more: Notify::new(),
            latency: Mutex::new(latency_histogram()),
        });
        lock(&journal.workers).push(Arc::clone(&worker));
        Self { journal, worker, requests: RefCell::default() }
    }

    /// Whose these are.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Tells requests when they are durable, for as long as the worker lives.
    pub async fn attend(&self) {
        loop {
            self.worker.more.notified().await;
            let durable = self.worker.durable.load(Ordering::Acquire);
            let mut requests = self.requests.borrow_mut();
            while let Some((_, request)) = requests.pop_front_if(|(record, _)| *record <= durable) {
                // It may have gone away meanwhile.
                let _ = request.send(());
            }
        }
    }

    /// Returns when a record that is written now is durable.
    pub async fn durable(&self) {
        let begin = Instant::now();
        let (done, durable) = oneshot::channel();
        self.requests.borrow_mut().push_back((self.journal.append(), done));
        let _ = durable.await;
        lock(&self.worker.latency).saturating_record(begin.elapsed().as_nanos() as u64);
    }
}

/// Nothing under these locks is left half done by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::rc::Rc;

    use super::*;

    #[test]
    fn whoever_waits_goes_on_when_its_record_is_in_the_file() -> io::Result<()> {
        const REQUESTS: usize = 100;
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("journal");
        let journal = Journal::start(&path)?;
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let tasks = tokio::task::LocalSet::new();
        let waiting = Rc::new(Waiting::new(Arc::clone(&journal)));
        let attend = Rc::clone(&waiting);
        tasks.spawn_local(async move { attend.attend().await });
        let requests: Vec<_> = (0..REQUESTS)
            .map(|_| Rc::clone(&waiting))
            .map(|waiting| tasks.spawn_local(async move { waiting.durable().await }))
            .collect();
        tasks.block_on(&runtime, async {
            for request in requests {
                request.await.expect("no panic");
            }
        });
        let written = fs::read(&path)?.iter().filter(|byte| **byte == RECORD[0]).count();
        assert_eq!(written, REQUESTS * RECORD.len());
        assert_eq!(journal.latency().len(), REQUESTS as u64);
        assert_eq!(journal.latency().len(), 0, "told once");
        Ok(())
    }
}
