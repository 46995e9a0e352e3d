//! What the system tells the process, heard from the first moment on. A signal that nobody hears
//! ends the process, and is lost where it is the first of a container.

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot::{self, error::TryRecvError};

use super::ServerError;
use super::stop::Stop;

/// The signals, and the runtime that hears them.
pub struct Signals {
    pub(super) background: Runtime,
    /// What came before anybody asks is remembered, however often it came as one.
    pub(super) hangup: Signal,
    ends: [Signal; 2],
}

impl Signals {
    /// Hears all signals that mean something, from now on.
    ///
    /// # Errors
    /// When the system gives no thread or handler.
    pub fn hear() -> std::io::Result<Self> {
        let background = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("background")
            .enable_all()
            .build()?;
        let entered = background.enter();
        let ends = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];
        let hangup = signal(SignalKind::hangup())?;
        drop(entered);
        Ok(Self { background, hangup, ends })
    }

    /// Begins a stop at the first signal to end, whatever the start is at then; `overdue` as for
    /// [`Stop::begin`].
    pub(super) fn obey(self, deadline: Duration, overdue: fn()) -> (Runtime, Signal, ToldToStop) {
        let Self { background, hangup, ends: [mut terminate, mut interrupt] } = self;
        let (tell, told) = oneshot::channel();
        background.spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            let _ = tell.send(Stop::begin(deadline, overdue));
            tracing::info!("told to stop");
        });
        (background, hangup, ToldToStop(told))
    }
}

/// Hears of a stop that was begun by a signal.
pub(super) struct ToldToStop(oneshot::Receiver<Stop>);

impl ToldToStop {
    /// Ends a start that was told to.
    pub(super) fn unless_told(&mut self) -> Result<(), ServerError> {
        match self.0.try_recv() {
            Err(TryRecvError::Empty) => Ok(()),
            _ => Err(ServerError::ToldToStop),
        }
    }

    /// Waits for it.
    pub(super) async fn told(self) -> Stop {
        match self.0.await {
            Ok(stop) => stop,
            // Nobody can tell any more.
            Err(_) => std::future::pending().await,
        }
    }
}
