//! Links people pass on: how to find a relay, how to reach a person.
//! Both are self-certifying: the fingerprint inside decides, not a name server (PROTOCOL §2).
//! Rules: docs/protocol/invite.md.

use std::fmt;
use std::str::FromStr;

use crate::id::{AccountId, Address, Domain, InviteToken, RelayId};
use crate::user::RelayHint;

/// Where a relay is and who it must be: `whimbrel-relay:DOMAIN?at=HOST:PORT#RELAY`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RelayLink {
    /// The domain it serves.
    pub domain: Domain,
    /// `host:port` of its QUIC socket.
    pub endpoint: String,
    /// The identity it must show.
    pub relay: RelayId,
}

/// A person's invite: `whimbrel:NAME@DOMAIN?at=HOST:PORT#RELAY,ACCOUNT,TOKEN`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Invite {
    /// Who invites.
    pub address: Address,
    /// The inviter's home relay.
    pub endpoint: String,
    /// The identity that relay must show.
    pub relay: RelayId,
    /// The account behind the address.
    pub account: AccountId,
    /// Proof of the invitation.
    pub token: InviteToken,
}

/// Why a text is no link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// It does not start as expected.
    #[error("the link does not start with {0}")]
    Scheme(&'static str),
    /// A part is missing or malformed.
    #[error("the link's {0} is missing or malformed")]
    Part(&'static str),
}

impl Invite {
    /// The inviter's home relay, as a link.
    pub fn relay_link(&self) -> RelayLink {
        RelayLink { domain: self.address.domain.clone(), endpoint: self.endpoint.clone(), relay: self.relay }
    }

    /// The inviter's home relay, as a hint for one's own relay, which can introduce itself there.
    pub fn hint(&self) -> RelayHint {
        RelayHint { token: Some(self.token), ..self.relay_link().hint() }
    }
}

impl RelayLink {
    /// The same, as a hint for one's own relay.
    pub fn hint(&self) -> RelayHint {
        RelayHint { domain: self.domain.clone(), endpoint: self.endpoint.clone(), relay: self.relay, token: None }
    }
}

/// Whether the text can be a `host:port`: printable ASCII without what delimits a link, and a port.
pub fn is_endpoint(text: &str) -> bool {
    let host_fits = |host: &str| {
        !host.is_empty()
            && host.len() <= 260
            && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_[]:%".contains(&b))
    };
    text.rsplit_once(':').is_some_and(|(host, port)| host_fits(host) && port.parse::<u16>().is_ok_and(|port| port > 0))
}

fn split<'t>(text: &'t str, scheme: &'static str) -> Result<(&'t str, &'t str, &'t str), LinkError> {
    let rest = text.trim().strip_prefix(scheme).ok_or(LinkError::Scheme(scheme))?;
    let (rest, fragment) = rest.split_once('#').ok_or(LinkError::Part("fingerprint"))?;
    let (who, query) = rest.split_once('?').ok_or(LinkError::Part("endpoint"))?;
    let endpoint = query.strip_prefix("at=").ok_or(LinkError::Part("endpoint"))?;
    if is_endpoint(endpoint) { Ok((who, endpoint, fragment)) } else { Err(LinkError::Part("endpoint")) }
}

impl fmt::Display for RelayLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "whimbrel-relay:{}?at={}#{}", self.domain, self.endpoint, self.relay)
    }
}

impl FromStr for RelayLink {
    type Err = LinkError;

    fn from_str(text: &str) -> Result<Self, LinkError> {
        let (domain, endpoint, relay) = split(text, "whimbrel-relay:")?;
        Ok(Self {
            domain: domain.parse().map_err(|_| LinkError::Part("domain"))?,
            endpoint: endpoint.to_owned(),
            relay: relay.parse().map_err(|_| LinkError::Part("fingerprint"))?,
        })
    }
}

impl fmt::Display for Invite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "whimbrel:{}?at={}#{},{},{}", self.address, self.endpoint, self.relay, self.account, self.token)
    }
}

impl FromStr for Invite {
    type Err = LinkError;

    fn from_str(text: &str) -> Result<Self, LinkError> {
        let (address, endpoint, fragment) = split(text, "whimbrel:")?;
        let mut parts = fragment.split(',');
        let mut part = |what| parts.next().ok_or(LinkError::Part(what));
        let (relay, account, token) = (part("fingerprint")?, part("account")?, part("token")?);
        if parts.next().is_some() {
            return Err(LinkError::Part("end"));
        }
        Ok(Self {
            address: address.parse().map_err(|_| LinkError::Part("address"))?,
            endpoint: endpoint.to_owned(),
            relay: relay.parse().map_err(|_| LinkError::Part("fingerprint"))?,
            account: account.parse().map_err(|_| LinkError::Part("account"))?,
            token: token.parse().map_err(|_| LinkError::Part("token"))?,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn invite() -> Invite {
        Invite {
            address: "alice@a.example".parse().unwrap(),
            endpoint: "127.0.0.1:4433".to_owned(),
            relay: RelayId::from_bytes([1; 32]),
            account: AccountId::from_bytes([2; 32]),
            token: InviteToken::from_bytes([3; 16]),
        }
    }

    #[test]
    fn links_read_back_from_their_text() {
        assert_eq!(invite().to_string().parse(), Ok(invite()));
        let relay = invite().relay_link();
        assert_eq!(relay.to_string().parse(), Ok(relay));
    }

    #[test]
    fn a_line_end_from_a_paste_does_no_harm() {
        assert_eq!(format!("  {}\n", invite()).parse(), Ok(invite()));
    }

    #[test]
    fn every_cut_of_a_link_is_refused() {
        let text = invite().to_string();
        for end in 0..text.len() {
            assert!(text.get(..end).unwrap().parse::<Invite>().is_err(), "taken: {end} bytes");
        }
    }

    #[test]
    fn an_endpoint_without_a_port_is_refused() {
        for endpoint in ["host", "host:0", "host:70000", ":1", "a b:1", "ho#st:1"] {
            let text = Invite { endpoint: endpoint.to_owned(), ..invite() }.to_string();
            assert!(text.parse::<Invite>().is_err(), "{endpoint} was taken");
        }
    }
}
