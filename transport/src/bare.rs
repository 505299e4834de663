//! Bare: the library's own endpoints with the same sockets, TLS and windows as ours, and nothing of ours on top.
//! Owns: what a measurement of the house is compared with (`simulations/load`).
//! Never: serves anybody; a program of the house talks through [`Endpoint`](crate::Endpoint).

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use quinn::TokioRuntime;
use whimbrel_protocol::invite::RelayLink;

use crate::endpoint::socket;
use crate::verify::Pinned;
use crate::{BindError, Clock, Identity, config, provider, reset};

pub use quinn::{
    Connecting, Connection, ConnectionError, Endpoint, Incoming, ReadError, ReadExactError, RecvStream, SendStream,
    WriteError,
};

/// A dialler and what it dials with.
#[derive(Clone, Debug)]
pub struct Dialler {
    endpoint: Endpoint,
    config: quinn::ClientConfig,
}

/// An endpoint that accepts as a relay of this identity would.
///
/// # Errors
/// As [`BindError`] says.
pub fn acceptor(address: SocketAddr, identity: &Identity, clock: Clock) -> Result<Endpoint, BindError> {
    open(address, Some(config::accept(identity, &provider(), clock)?), identity)
}

fn open(address: SocketAddr, server: Option<quinn::ServerConfig>, identity: &Identity) -> Result<Endpoint, BindError> {
    socket(address)
        .and_then(|socket| quinn::Endpoint::new(reset::endpoint(identity), server, socket, Arc::new(TokioRuntime)))
        .map_err(|source| BindError::Socket { address, source })
}

impl Dialler {
    /// An endpoint on any port of IPv4's loopback, to reach the relay of `to`, which is pinned.
    ///
    /// # Errors
    /// As [`BindError`] says.
    pub fn bind(identity: &Identity, clock: Clock, to: &RelayLink) -> Result<Self, BindError> {
        let provider = provider();
        let pinned = Pinned::new(to.relay, to.domain.clone(), clock, provider.signature_verification_algorithms);
        let config = config::dial(identity, &provider, clock, pinned)?;
        Ok(Self { endpoint: open((Ipv4Addr::LOCALHOST, 0).into(), None, identity)?, config })
    }

    /// A full mutual handshake.
    ///
    /// # Errors
    /// The address is none, or the endpoint is closed.
    pub fn connect(&self, address: SocketAddr) -> Result<Connecting, quinn::ConnectError> {
        self.endpoint.connect_with(self.config.clone(), address, crate::endpoint::NO_NAME)
    }
}
