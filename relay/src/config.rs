//! Configuration of a relay core: a plain value, checked once when the relay is opened.
//! Owns: what an operator can choose. Never: a file, an environment variable or a flag; the binary reads those.

use std::time::Duration;

use whimbrel_protocol::id::{Domain, RelayId};
use whimbrel_protocol::invite::is_endpoint;
use whimbrel_protocol::limits;

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
    /// How long what nobody fetches is held: `limits::HOLD_AGE_MIN` to `limits::HOLD_AGE_MAX`.
    pub hold_age: Duration,
    /// How much of what one may ask for.
    pub rates: Rates,
    /// The push addresses of this domain, each a `host:port` that devices dial; [`crate::LinkPeer::Node`] says at which a
    /// node came in. Empty: every device is served where it comes in.
    pub push: Vec<String>,
}

impl Config {
    /// A relay that takes anybody, knows no peer and keeps the usual bounds.
    pub fn new(domain: Domain, relay: RelayId) -> Self {
        let (registration, log_bounds) = (Registration::Open, LogBounds::default());
        let (peers, rates, push) = (Vec::new(), Rates::default(), Vec::new());
        let hold_age = limits::HOLD_AGE_MAX;
        Self { domain, relay, endpoint: None, registration, peers, log_bounds, hold_age, rates, push }
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
        for (at, address) in self.push.iter().enumerate() {
            if !is_endpoint(address) || address.len() > limits::PUSH_ADDRESS_BYTES_MAX {
                return Err(ConfigError::PushAddress(address.clone()));
            }
            if self.push.iter().take(at).any(|other| other == address) {
                return Err(ConfigError::PushTwice(address.clone()));
            }
        }
        if !(limits::HOLD_AGE_MIN..=limits::HOLD_AGE_MAX).contains(&self.hold_age) {
            return Err(ConfigError::HoldAge(self.hold_age));
        }
        match self.push.len() {
            count if count > limits::PUSH_ADDRESSES_MAX => Err(ConfigError::PushCount(count)),
            _ => Ok(()),
        }
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
    /// What nobody fetches would be held for too short or too long a time.
    #[error("held for {0:?}, expected {min:?} to {max:?}", min = limits::HOLD_AGE_MIN, max = limits::HOLD_AGE_MAX)]
    HoldAge(Duration),
    /// A push address is no `host:port`.
    #[error("the push address {0} is no host and port")]
    PushAddress(String),
    /// A push address is named twice.
    #[error("the push address {0} is named twice")]
    PushTwice(String),
    /// There are too many push addresses.
    #[error("{0} push addresses, {max} are allowed", max = limits::PUSH_ADDRESSES_MAX)]
    PushCount(usize),
}
