//! Logs: structured JSON, or text on a terminal.
//!
//! Whoever logs leaves its line in a buffer; one thread writes them. So a worker never waits for
//! whoever reads the log. Where that is too slow, lines are left out and counted, and the log says
//! so when it goes on.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tracing::Dispatch;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::LogFormat;
use crate::limits::{LOG_BYTES_WAITING_MAX, LOG_END_MAX};

/// Starts logging to standard error at `level` (a word, such as `info`), of this program alone: what
/// libraries log is brought about by whoever sends something, as often as it likes, and holds what
/// was sent.
///
/// # Errors
/// When the thread that writes cannot be started.
pub fn init(format: LogFormat, level: &str) -> io::Result<Log> {
    let json = match format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !io::stderr().is_terminal(),
    };
    let lines = Arc::new(Lines::default());
    let says_gap = dispatch(json, level, io::stderr);
    let written = Arc::clone(&lines);
    std::thread::Builder::new().name("log".into()).spawn(move || {
        written.write_to(&mut io::stderr(), |left_out| {
            tracing::dispatcher::with_default(&says_gap, || {
                tracing::warn!(
                    left_out,
                    "lines were left out: nobody read the log, or the disk did not take them"
                );
            });
        });
    })?;
    let kept = Arc::clone(&lines);
    // An error means that logging is on already, as in tests.
    let _ =
        tracing::dispatcher::set_global_default(dispatch(json, level, move || Line(kept.clone())));
    Ok(Log(lines))
}

fn dispatch<W>(json: bool, level: &str, writer: W) -> Dispatch
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::new(format!("off,postbackd={level}"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        // A line that cannot be written is lost. To say so on standard error, where it cannot be
        // written either, would panic: in the writer's thread, when the disk is full.
        .log_internal_errors(false);
    if json { builder.json().into() } else { builder.into() }
}

/// The log that was started. When it is dropped, what waits is written, if it is taken in time.
pub struct Log(Arc<Lines>);

impl Log {
    /// How many lines were left out since the start.
    #[must_use]
    pub fn left_out(&self) -> LeftOut {
        LeftOut(Arc::clone(&self.0))
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.ends = true;
        self.0.comes.notify_one();
        let waited = self.0.ended.wait_timeout_while(state, LOG_END_MAX, |it| !it.has_ended);
        drop(waited);
    }
}

/// Counts lines that were left out.
#[derive(Clone)]
pub struct LeftOut(Arc<Lines>);

impl LeftOut {
    /// How many since the start.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.left_out.load(Ordering::Relaxed)
    }
}

/// Lines that wait to be written.
#[derive(Default)]
struct Lines {
    state: Mutex<State>,
    comes: Condvar,
    ended: Condvar,
    left_out: AtomicU64,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    ends: bool,
    has_ended: bool,
}

impl Lines {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.bytes.len() + line.len() > LOG_BYTES_WAITING_MAX {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.bytes.extend_from_slice(line);
        drop(state);
        self.comes.notify_one();
    }

    /// Writes what comes until the end. `say` is told how many lines were left out behind those
    /// that were written.
    fn write_to(&self, out: &mut impl Write, say: impl Fn(u64)) {
        let (mut taken, mut said) = (Vec::new(), 0);
        loop {
            let state = self.lock();
            let waits = |state: &mut State| state.bytes.is_empty() && !state.ends;
            let mut state =
                self.comes.wait_while(state, waits).unwrap_or_else(PoisonError::into_inner);
            if state.bytes.is_empty() {
                state.has_ended = true;
                self.ended.notify_all();
                return;
            }
            std::mem::swap(&mut state.bytes, &mut taken);
            // Under the lock: those left out by now came behind what was taken.
            let left_out = self.left_out.load(Ordering::Relaxed);
            drop(state);
            if out.write_all(&taken).is_err() {
                let lost = taken.iter().filter(|byte| **byte == b'\n').count();
                self.left_out.fetch_add(lost as u64, Ordering::Relaxed);
            } else if left_out > said {
                say(left_out - said);
                said = left_out;
            }
            taken.clear();
        }
    }
}

/// Takes one line.
struct Line(Arc<Lines>);

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.add(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    /// Takes each write when told to, and passes it on.
    struct Slow {
        may: Receiver<io::Result<()>>,
        wrote: SyncSender<String>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.may.recv().expect("told")?;
            let text = String::from_utf8(bytes.to_vec()).expect("text");
            self.wrote.send(text).expect("heard");
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_said_and_the_end_waits_for_the_rest() {
        let lines = Arc::new(Lines::default());
        let (let_write, may) = sync_channel(10);
        let (wrote, written) = sync_channel(10);
        let say = wrote.clone();
        let of_thread = Arc::clone(&lines);
        let thread = std::thread::spawn(move || {
            of_thread.write_to(&mut Slow { may, wrote }, |count| {
                say.send(format!("{count} left out")).expect("heard");
            });
        });
        let next = || written.recv().expect("written");
        lines.add(b"first\n");
        let_write.send(Ok(())).expect("heard");
        assert_eq!(next(), "first\n");
        // While this one hangs, a buffer is filled.
        lines.add(b"hangs\n");
        while !lines.lock().bytes.is_empty() {
            std::thread::yield_now();
        }
        let mut long = vec![b'x'; LOG_BYTES_WAITING_MAX - 1];
        long.push(b'\n');
        lines.add(&long);
        for _ in 0..3 {
            lines.add(b"too much\n");
        }
        for _ in 0..2 {
            let_write.send(Ok(())).expect("heard");
        }
        assert_eq!(next(), "hangs\n");
        assert_eq!(next().len(), long.len());
        assert_eq!(next(), "3 left out");
        // What is not taken is left out, too.
        let_write.send(Err(io::ErrorKind::StorageFull.into())).expect("heard");
        lines.add(b"lost\n");
        let left_out = LeftOut(Arc::clone(&lines));
        while left_out.count() < 4 {
            std::thread::yield_now();
        }
        let_write.send(Ok(())).expect("heard");
        lines.add(b"last\n");
        drop(Log(lines));
        thread.join().expect("ended");
        assert_eq!([next(), next()], ["last\n", "1 left out"]);
        assert_eq!(left_out.count(), 4);
    }
}
