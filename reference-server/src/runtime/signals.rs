//! SIGTERM, SIGINT and SIGHUP.

use std::io;

use tokio::signal::unix::{self, SignalKind, signal};

/// The signals that the server takes over.
#[derive(Debug)]
pub struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
    hang_up: unix::Signal,
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// To end, by the signal of this name.
    End(&'static str),
    /// To read the certificates again.
    Reload,
}

impl Signals {
    /// Takes over SIGTERM, SIGINT and SIGHUP for this process; needs a runtime.
    ///
    /// # Errors
    ///
    /// If the system refuses the handlers.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::End("SIGTERM"),
            _ = self.interrupt.recv() => Signal::End("SIGINT"),
            _ = self.hang_up.recv() => Signal::Reload,
        }
    }
}
