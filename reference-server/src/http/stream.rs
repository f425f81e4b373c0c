//! The socket of a connection, watched: who makes progress, and what hyper answers by itself.

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
    /// For the first byte of a request.
    Idle,
    /// For the rest of a head.
    Head,
    /// For the handler, which has limits of its own.
    Working,
    /// For the client to take what was written.
    Writing,
}

const PHASES: [Phase; 4] = [Phase::Idle, Phase::Head, Phase::Working, Phase::Writing];

/// The phase of a connection and how often it has changed; shared by socket, service and watchdog.
///
/// All of them run in the connection's one task, so plain loads and stores suffice: no step here costs more than
/// a few instructions, where a timer per head would cost an allocation per request.
#[derive(Debug, Default)]
pub(super) struct Progress {
    phase: AtomicU8,
    changes: AtomicU32,
}

impl Progress {
    /// Enters a phase, or makes progress in it.
    pub(super) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
        self.changes.store(self.changes.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// The phase, and a number that stays the same as long as nothing happens.
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

/// Writes from this size on go to the socket directly instead of being collected.
const LARGE_WRITE: usize = 16 * 1024;

/// The socket of a connection as hyper sees it: what is read is noted, what is written goes to [`Outgoing`].
///
/// `R` and `W` are the halves of the socket, or of TLS over it.
#[derive(Debug)]
pub(super) struct Watched<R, W> {
    reader: R,
    outgoing: Arc<Mutex<Outgoing<W>>>,
    progress: Arc<Progress>,
    ended: bool,
}

/// The answers of a connection on their way to the client.
///
/// **Collecting.** A flush only collects; the connection's task calls [`Outgoing::poll_send`] when hyper has nothing
/// more to do, so the answers to pipelined requests leave in one write. hyper's own `pipeline_flush` (1.12,
/// "experimental") decides by its read buffer instead: it loses the answers before a malformed head, and holds them
/// back while the next head is incomplete.
///
/// **Keeping back.** hyper answers a head that it cannot read (400, 431, 414) without body and request id, and closes.
/// Such an answer is the last thing it writes, and is kept back so that a whole problem document can be sent instead.
#[derive(Debug)]
pub(super) struct Outgoing<W> {
    writer: W,
    collected: BytesMut,
    /// Something was written that the writer may not have passed on; a socket passes on at once, TLS what it can.
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

    /// Whether the client has closed its side, or the connection broke.
    pub(super) fn has_ended(&self) -> bool {
        self.ended || lock(&self.outgoing).broken
    }

    pub(super) fn into_reader(self) -> R {
        self.reader
    }
}

impl<W: AsyncWrite + Unpin> Outgoing<W> {
    /// The status of a bare answer that was kept back.
    pub(super) fn bare(&self) -> Option<u16> {
        self.bare
    }

    /// Sends what is collected.
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

    /// Collects more.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.collected.extend_from_slice(bytes);
    }

    /// The socket, and what has still to be written to it.
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

/// Locks the outgoing side; only the connection's own task does so, never across an await.
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

/// Where an answer of hyper's own making begins in what it writes, and its status.
///
/// It ends the buffer, has no body, is a client error, and lacks the request id that every answer of ours has.
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
    fn only_answers_of_hypers_own_making_are_kept_back() {
        let ours = "HTTP/1.1 404 Not Found\r\nx-request-id: 1\r\ncontent-length: 9\r\n\r\n";
        assert_eq!(bare_answer(BARE.as_bytes()), Some((0, 431)));
        assert_eq!(bare_answer(format!("{ours}{BARE}").as_bytes()), Some((ours.len(), 431)));
        assert_eq!(bare_answer(ours.as_bytes()), None);
        assert_eq!(bare_answer(b"HTTP/1.1 304 Not Modified\r\n\r\n"), None);
        assert_eq!(bare_answer(b"{\"now\":1}"), None);
    }
}
