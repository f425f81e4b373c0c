//! Listening sockets.

use std::{io, net::SocketAddr, num::NonZeroUsize};

use socket2::{Domain, Protocol, Socket, Type};

use crate::http::tls::Tls;

/// A bound address with one socket per worker.
///
/// With `SO_REUSEPORT` the kernel distributes connections among workers, which share nothing.
#[derive(Debug)]
pub struct Listener {
    address: SocketAddr,
    sockets: Vec<std::net::TcpListener>,
    tls: Option<Tls>,
}

impl Listener {
    /// Checks that `address` can be bound and is not in use, not even with a shared port.
    ///
    /// # Errors
    /// If the address is in use or does not belong to this machine.
    pub fn probe(address: SocketAddr) -> io::Result<()> {
        bound(address, false).map(drop)
    }

    /// Binds `address` for `workers` workers, each with an accept queue of `backlog` connections.
    ///
    /// Port 0 selects a free port, the same for all workers; see [`Listener::address`].
    ///
    /// # Errors
    /// If the address is in use or does not belong to this machine.
    pub fn bind(address: SocketAddr, workers: NonZeroUsize, backlog: u16) -> io::Result<Self> {
        let several = workers.get() > 1;
        let first = listen(address, several, backlog)?;
        let address = first.local_addr()?;
        let rest = (1..workers.get()).map(|_| listen(address, several, backlog));
        let sockets = std::iter::once(Ok(first)).chain(rest).collect::<io::Result<_>>()?;
        Ok(Self { address, sockets, tls: None })
    }

    /// Sets TLS; `None` means plain HTTP.
    #[must_use]
    pub fn with_tls(self, tls: Option<Tls>) -> Self {
        Self { tls, ..self }
    }

    /// Returns the bound address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn into_parts(self) -> (Vec<std::net::TcpListener>, Option<Tls>) {
        (self.sockets, self.tls)
    }
}

fn listen(address: SocketAddr, reuse_port: bool, backlog: u16) -> io::Result<std::net::TcpListener> {
    let socket = bound(address, reuse_port)?;
    socket.listen(i32::from(backlog.min(i16::MAX as u16)))?;
    Ok(socket.into())
}

fn bound(address: SocketAddr, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for old connections in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}
