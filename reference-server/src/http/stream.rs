//! Wraps a connection's stream: tracks progress, batches writes, intercepts hyper's own errors.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, AtomicU32, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a connection is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The first byte of a request.
    Idle,
    /// The rest of a head.
    Head,
    /// The handler, which has its own time limit.
    Working,
    /// The client to receive what was written.
    Writing,
}

const PHASES: [Phase; 4] = [Phase::Idle, Phase::Head, Phase::Working, Phase::Writing];

/// The phase of a connection and a change counter, shared by stream, service and watchdog.
///
/// All of them run in the connection's task, so relaxed loads and stores suffice. This costs a few
/// instructions; a timer per head would cost an allocation per request.
#[derive(Debug, Default)]
pub(super) struct Progress {
    phase: AtomicU8,
    changes: AtomicU32,
}

impl Progress {
    /// Enters a phase, or records progress in the current one.
    pub(super) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
        self.changes.store(self.changes.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// Returns the phase and the change counter.
    pub(super) fn look(&self) -> (Phase, u32) {
        let phase = PHASES[usize::from(self.phase.load(Ordering::Relaxed)) % PHASES.len()];
        (phase, self.changes.load(Ordering::Relaxed))
    }

    fn leave(&self, from: Phase, to: Phase) {
        if self.look().0 == from {
            self.enter(to);
        }
    }
}

/// Output that reaches this size is written directly instead of being buffered.
const LARGE_WRITE: usize = 16 * 1024;

/// The stream as hyper sees it: records reads in [`Progress`], passes writes to [`Outgoing`].
///
/// `R` and `W` are the halves of the socket or of the TLS stream.
#[derive(Debug)]
pub(super) struct Watched<R, W> {
    reader: R,
    outgoing: Arc<Mutex<Outgoing<W>>>,
    progress: Arc<Progress>,
    ended: bool,
}

/// The outgoing bytes of a connection.
///
/// **Batching.** A flush does not write; the connection's task calls [`Outgoing::poll_send`] when
/// hyper is idle, so the answers to pipelined requests leave in one write. hyper's own
/// `pipeline_flush` (1.12, experimental) depends on its read buffer instead: it loses answers
/// before a malformed head and delays them while the next head is incomplete.
///
/// **Interception.** hyper answers an invalid head (400, 414, 431) without body and request id, and
/// closes. This last answer is withheld, and a problem document is sent instead.
#[derive(Debug)]
pub(super) struct Outgoing<W> {
    writer: W,
    collected: BytesMut,
    /// Whether the writer may hold unsent bytes. A socket sends at once; TLS may buffer.
    unflushed: bool,
    progress: Arc<Progress>,
    bare: Option<u16>,
    broken: bool,
}

impl<R, W> Watched<R, W> {
    pub(super) fn new(reader: R, writer: W, progress: Arc<Progress>) -> (Self, Arc<Mutex<Outgoing<W>>>) {
        let outgoing = Arc::new(Mutex::new(Outgoing {
            writer,
            collected: BytesMut::new(),
            unflushed: false,
            progress: Arc::clone(&progress),
            bare: None,
            broken: false,
        }));
        (Self { reader, outgoing: Arc::clone(&outgoing), progress, ended: false }, outgoing)
    }

    /// Returns whether the client closed its side or the connection failed.
    pub(super) fn has_ended(&self) -> bool {
        self.ended || lock(&self.outgoing).broken
    }

    pub(super) fn into_reader(self) -> R {
        self.reader
    }
}

impl<W: AsyncWrite + Unpin> Outgoing<W> {
    /// Returns the status of the response of hyper's own that was withheld.
    pub(super) fn bare(&self) -> Option<u16> {
        self.bare
    }

    /// Writes the collected bytes.
    pub(super) fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.collected.is_empty() {
            match Pin::new(&mut self.writer).poll_write(context, &self.collected) {
                Poll::Ready(Ok(count)) => {
                    self.collected.advance(count);
                    self.unflushed = true;
                    self.progress.leave(Phase::Writing, Phase::Idle);
                }
                Poll::Ready(Err(error)) => {
                    self.broken = true;
                    self.collected.clear();
                    return Poll::Ready(Err(error));
                }
                Poll::Pending => return self.blocked(),
            }
        }
        if !self.unflushed {
            return Poll::Ready(Ok(()));
        }
        match Pin::new(&mut self.writer).poll_flush(context) {
            Poll::Pending => self.blocked(),
            Poll::Ready(result) => {
                self.unflushed = false;
                self.broken |= result.is_err();
                self.progress.leave(Phase::Writing, Phase::Idle);
                Poll::Ready(result)
            }
        }
    }

    /// Appends bytes to the collected ones.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.collected.extend_from_slice(bytes);
    }

    /// Returns the writer and the unwritten bytes.
    pub(super) fn into_parts(self) -> (W, BytesMut) {
        (self.writer, self.collected)
    }

    fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let bytes = match bare_answer(bytes) {
            Some((0, status)) => {
                self.bare = Some(status);
                return Poll::Ready(Ok(bytes.len()));
            }
            Some((start, _)) => &bytes[..start],
            None => bytes,
        };
        if self.collected.len() + bytes.len() < LARGE_WRITE {
            self.append(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        ready!(self.poll_send(context))?;
        match Pin::new(&mut self.writer).poll_write(context, bytes) {
            Poll::Pending => self.blocked(),
            Poll::Ready(result) => {
                self.unflushed = true;
                self.broken |= result.is_err();
                self.progress.leave(Phase::Writing, Phase::Idle);
                Poll::Ready(result)
            }
        }
    }

    pub(super) fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(context))?;
        if self.bare.is_some() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.writer).poll_shutdown(context)
    }

    fn blocked<T>(&self) -> Poll<io::Result<T>> {
        self.progress.leave(Phase::Idle, Phase::Writing);
        self.progress.leave(Phase::Head, Phase::Writing);
        Poll::Pending
    }
}

/// Locks the outgoing side. Only the connection's own task does so, and never across an await.
pub(super) fn lock<W>(outgoing: &Mutex<Outgoing<W>>) -> MutexGuard<'_, Outgoing<W>> {
    outgoing.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<R: AsyncRead + Unpin, W: Unpin> AsyncRead for Watched<R, W> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = ready!(Pin::new(&mut self.reader).poll_read(context, buffer));
        if result.is_err() || buffer.filled().len() == before {
            self.ended = true;
        } else {
            self.progress.leave(Phase::Idle, Phase::Head);
        }
        Poll::Ready(result)
    }
}

impl<R: Unpin, W: AsyncWrite + Unpin> AsyncWrite for Watched<R, W> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        lock(&self.outgoing).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.outgoing).poll_shutdown(context)
    }
}

/// Finds an error response of hyper's own in what it writes: its start and its status.
///
/// It is at the end of the buffer, has no body, is a client error, and lacks our request id.
fn bare_answer(bytes: &[u8]) -> Option<(usize, u16)> {
    if !bytes.ends_with(b"\r\n\r\n") {
        return None;
    }
    let start = bytes.windows(7).rposition(|window| window == b"HTTP/1.")?;
    let answer = &bytes[start..];
    let status: u16 = std::str::from_utf8(answer.get(9..12)?).ok()?.parse().ok()?;
    let ours = answer.windows(12).any(|window| window == b"x-request-id");
    ((400..500).contains(&status) && !ours).then_some((start, status))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BARE: &str =
        "HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

    #[test]
    fn only_hypers_own_error_responses_are_withheld() {
        let ours = "HTTP/1.1 404 Not Found\r\nx-request-id: 1\r\ncontent-length: 9\r\n\r\n";
        assert_eq!(bare_answer(BARE.as_bytes()), Some((0, 431)));
        assert_eq!(bare_answer(format!("{ours}{BARE}").as_bytes()), Some((ours.len(), 431)));
        assert_eq!(bare_answer(ours.as_bytes()), None);
        assert_eq!(bare_answer(b"HTTP/1.1 304 Not Modified\r\n\r\n"), None);
        assert_eq!(bare_answer(b"{\"now\":1}"), None);
    }
}
