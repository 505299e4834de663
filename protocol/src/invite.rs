//! Links people pass on: how to find a relay, how to reach a person.
//! Both are self-certifying: the fingerprint inside decides, not a name server (PROTOCOL §2).
//! Rules: docs/protocol/invite.md.

use std::fmt;
use std::str::FromStr;

use minicbor::{Decode, Encode};

use crate::id::{AccountId, Address, DeviceIndex, Domain, InviteToken, RelayId, Signature, ThreadId, TokenHash};
use crate::time::Wall;
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

/// A person's invite: `whimbrel:NAME@DOMAIN?at=HOST:PORT#RELAY,ACCOUNT,TOKEN`. One that leads into a group goes on with
/// `,GROUP,DEVICE,UNTIL,SIGNATURE`.
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
    /// The group it leads into.
    pub pass: Option<Pass>,
}

/// What makes a link of an invite that leads into a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pass {
    /// The group.
    pub group: ThreadId,
    /// The device that made the link, and takes in whoever comes by it.
    pub device: DeviceIndex,
    /// Until when.
    pub until: Wall,
    /// By that device, over [`PassWords`], in the context [`PASS_CONTEXT`].
    pub signature: Signature,
}

/// In which the device signs.
pub const PASS_CONTEXT: &str = "whimbrel group link 1";

/// What is signed of a link into a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct PassWords {
    /// The group.
    #[n(0)]
    pub group: ThreadId,
    /// The link's token.
    #[n(1)]
    pub token: TokenHash,
    /// Until when it holds.
    #[n(2)]
    pub until: Wall,
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

    /// What the pass has to be a signature of.
    pub fn pass_words(&self) -> Option<PassWords> {
        let Pass { group, until, .. } = self.pass.as_ref()?;
        Some(PassWords { group: *group, token: self.token.hash(), until: *until })
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
        write!(f, "whimbrel:{}?at={}#{},{},{}", self.address, self.endpoint, self.relay, self.account, self.token)?;
        match &self.pass {
            Some(Pass { group, device, until, signature }) => {
                write!(f, ",{group},{},{},{signature}", device.get(), until.as_millis())
            }
            None => Ok(()),
        }
    }
}

impl FromStr for Invite {
    type Err = LinkError;

    fn from_str(text: &str) -> Result<Self, LinkError> {
        let (address, endpoint, fragment) = split(text, "whimbrel:")?;
        let mut parts = fragment.split(',');
        let mut part = |what| parts.next().ok_or(LinkError::Part(what));
        let (relay, account, token) = (part("fingerprint")?, part("account")?, part("token")?);
        let pass = match part("group") {
            Err(_) => None,
            Ok(group) => Some(Pass {
                group: group.parse().map_err(|_| LinkError::Part("group"))?,
                device: part("device")?.parse().map(DeviceIndex::new).map_err(|_| LinkError::Part("device"))?,
                until: part("time")?.parse().map(Wall::from_millis).map_err(|_| LinkError::Part("time"))?,
                signature: part("signature")?.parse().map_err(|_| LinkError::Part("signature"))?,
            }),
        };
        if parts.next().is_some() {
            return Err(LinkError::Part("end"));
        }
        Ok(Self {
            address: address.parse().map_err(|_| LinkError::Part("address"))?,
            endpoint: endpoint.to_owned(),
            relay: relay.parse().map_err(|_| LinkError::Part("fingerprint"))?,
            account: account.parse().map_err(|_| LinkError::Part("account"))?,
            token: token.parse().map_err(|_| LinkError::Part("token"))?,
            pass,
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
            pass: None,
        }
    }

    fn into_group() -> Invite {
        let (group, device, until) = (ThreadId::from_bytes([4; 32]), DeviceIndex::new(2), Wall::from_millis(5));
        let pass = Pass { group, device, until, signature: Signature::from_bytes([6; 64]) };
        Invite { pass: Some(pass), ..invite() }
    }

    #[test]
    fn links_read_back_from_their_text() {
        assert_eq!(invite().to_string().parse(), Ok(invite()));
        assert_eq!(into_group().to_string().parse(), Ok(into_group()));
        let relay = invite().relay_link();
        assert_eq!(relay.to_string().parse(), Ok(relay));
    }

    #[test]
    fn a_line_end_from_a_paste_does_no_harm() {
        assert_eq!(format!("  {}\n", invite()).parse(), Ok(invite()));
    }

    #[test]
    fn every_cut_of_a_link_is_refused() {
        let (plain, whole) = (invite().to_string(), into_group().to_string());
        for end in (0..whole.len()).filter(|end| *end != plain.len()) {
            assert!(whole.get(..end).unwrap().parse::<Invite>().is_err(), "taken: {end} bytes");
        }
        assert_eq!(format!("{whole},").parse::<Invite>(), Err(LinkError::Part("end")));
    }

    #[test]
    fn an_endpoint_without_a_port_is_refused() {
        for endpoint in ["host", "host:0", "host:70000", ":1", "a b:1", "ho#st:1"] {
            let text = Invite { endpoint: endpoint.to_owned(), ..invite() }.to_string();
            assert!(text.parse::<Invite>().is_err(), "{endpoint} was taken");
        }
    }
}
