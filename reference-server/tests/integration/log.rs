//! The log of this process, including background tasks and tests that run in parallel.

use std::{
    io,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use reference_server::{
    config::{LogConfig, LogFormat},
    runtime::logging,
};

static LOG: LazyLock<Log> = LazyLock::new(|| {
    let log = Log::default();
    let writer = log.clone();
    let config = LogConfig {
        filter: "off,reference_server=trace,flashsale_core=trace".to_owned(),
        format: LogFormat::Text,
        lines_per_second: 0,
    };
    let subscriber = logging::subscriber(&config, move || writer.clone(), false);
    tracing::subscriber::set_global_default(subscriber).unwrap();
    log
});

/// The captured log.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Starts capturing, unless another test already has.
    pub(crate) fn start() -> Self {
        LOG.clone()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
