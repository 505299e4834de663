//! Configuration of a relay core: a plain value, checked once when the relay is opened.
//! Owns: what an operator can choose. Never: a file, an environment variable or a flag; the binary reads those.

use whimbrel_protocol::id::{Domain, RelayId};

use crate::ports::PeerAddress;
use crate::rate::Rates;
use crate::store::command::LogBounds;

/// Who may come in as a new account.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Registration {
    /// Anybody.
    Open,
    /// Whoever has an invitation of the operator.
    Invite,
    /// Nobody; accounts that are here stay.
    Closed,
}

/// What an operator chooses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The domain served: the only one this relay speaks for.
    pub domain: Domain,
    /// Its own identity.
    pub relay: RelayId,
    /// `host:port` where other relays reach it; without one it cannot introduce itself to those that do not know it.
    pub endpoint: Option<String>,
    /// Who may come in.
    pub registration: Registration,
    /// Peers known beforehand: their pins come before any other.
    pub peers: Vec<PeerAddress>,
    /// How much one log may hold.
    pub log_bounds: LogBounds,
    /// How much of what one may ask for.
    pub rates: Rates,
    /// The live push processes of this domain, each a `host:port`, this one's own among them; empty: there is but this
    /// one.
    pub push: Vec<String>,
}

impl Config {
    /// A relay that takes anybody, knows no peer and keeps the usual bounds.
    pub fn new(domain: Domain, relay: RelayId) -> Self {
        let (registration, log_bounds) = (Registration::Open, LogBounds::default());
        let (peers, rates, push) = (Vec::new(), Rates::default(), Vec::new());
        Self { domain, relay, endpoint: None, registration, peers, log_bounds, rates, push }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        for (at, peer) in self.peers.iter().enumerate() {
            if peer.domain == self.domain {
                return Err(ConfigError::OwnDomain(peer.domain.clone()));
            }
            if peer.relay == self.relay {
                return Err(ConfigError::OwnIdentity(peer.domain.clone()));
            }
            if self.peers.iter().take(at).any(|other| other.domain == peer.domain) {
                return Err(ConfigError::PeerTwice(peer.domain.clone()));
            }
        }
        Ok(())
    }
}

/// Why a configuration cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A peer has this relay's own domain.
    #[error("the peer {0} has this relay's own domain")]
    OwnDomain(Domain),
    /// A peer has this relay's own identity.
    #[error("the peer {0} has this relay's own identity")]
    OwnIdentity(Domain),
    /// A peer is named twice.
    #[error("the peer {0} is named twice")]
    PeerTwice(Domain),
}
