//! Addresses of the direct path: `/ip4|ip6/…/udp/…/quic-v1` and nothing else.
//! Owns: which addresses are dialled, which are told to others, and the two forms of a transport key.
//! Never: resolves a name or follows a circuit: an address that would make us ask a third party is no address here.
//! Rules: docs/protocol/direct.md, "Addresses".

use std::net::{IpAddr, SocketAddr};

use libp2p::identity::{self, PeerId};
use libp2p::multiaddr::{Multiaddr, Protocol};
use whimbrel_protocol::id::PublicKey;

/// The peer id of a transport key; `None` when the bytes are no key.
pub(super) fn peer_id(transport: &PublicKey) -> Option<PeerId> {
    let key = identity::ed25519::PublicKey::try_from_bytes(transport.as_bytes()).ok()?;
    Some(identity::PublicKey::from(key).to_peer_id())
}

/// The transport key of a peer id; `None` when it is not of an ed25519 key.
pub(super) fn transport_key(peer: &PeerId) -> Option<PublicKey> {
    let multihash = peer.as_ref();
    // 0 is the identity "hash": the digest is the key itself (libp2p peer-ids specification).
    let key = (multihash.code() == 0).then(|| identity::PublicKey::try_decode_protobuf(multihash.digest()))?.ok()?;
    Some(PublicKey::from_bytes(key.try_into_ed25519().ok()?.to_bytes()))
}

/// The address of a socket.
pub(super) fn of_socket(socket: SocketAddr) -> Multiaddr {
    Multiaddr::from(socket.ip()).with(Protocol::Udp(socket.port())).with(Protocol::QuicV1)
}

/// The socket an address names; `None` unless it is exactly IP, UDP port and QUIC version 1.
pub(super) fn socket(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip: IpAddr = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    match (parts.next()?, parts.next()?, parts.next()) {
        (Protocol::Udp(port), Protocol::QuicV1, None) => Some(SocketAddr::new(ip, port)),
        _ => None,
    }
}

/// The address in a candidate's text, if it may be dialled.
pub(super) fn dialable(text: &str, allow_loopback: bool) -> Option<Multiaddr> {
    let address: Multiaddr = text.parse().ok()?;
    let socket = socket(&address)?;
    (socket.port() != 0 && is_reachable(socket.ip(), allow_loopback)).then_some(address)
}

/// Whether a node elsewhere may be told of this address of ours, or we may dial it.
pub(super) fn is_reachable(ip: IpAddr, allow_loopback: bool) -> bool {
    // `::ffff:127.0.0.1` is the loopback in disguise.
    let ip = ip.to_canonical();
    let special = match ip {
        IpAddr::V4(ip) => ip.is_broadcast() || ip.is_link_local(),
        // Link-local addresses mean nothing without an interface, which this form of address cannot name.
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !ip.is_unspecified() && !ip.is_multicast() && !special && (allow_loopback || !ip.is_loopback())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use whimbrel_crypto::KeyPair;

    use super::*;

    #[test]
    fn a_transport_key_is_its_peer_id() {
        let key = KeyPair::from_seed_bytes([7; 32]).public();
        assert_eq!(transport_key(&peer_id(&key).unwrap()), Some(key));
        assert_eq!(transport_key(&PeerId::random()), None);
    }

    #[test]
    fn only_plain_quic_addresses_are_dialled() {
        assert!(dialable("/ip4/192.0.2.1/udp/4001/quic-v1", false).is_some());
        assert!(dialable("/ip6/2001:db8::1/udp/4001/quic-v1", false).is_some());
        let peer = peer_id(&KeyPair::from_seed_bytes([7; 32]).public()).unwrap();
        for wrong in [
            "",
            "192.0.2.1:4001",
            "/ip4/192.0.2.1/tcp/4001",
            "/ip4/192.0.2.1/udp/4001",
            "/ip4/192.0.2.1/udp/4001/quic",
            "/ip4/192.0.2.1/udp/0/quic-v1",
            "/ip4/0.0.0.0/udp/4001/quic-v1",
            "/ip4/255.255.255.255/udp/4001/quic-v1",
            "/ip4/224.0.0.1/udp/4001/quic-v1",
            "/ip4/127.0.0.1/udp/4001/quic-v1",
            "/ip6/::ffff:127.0.0.1/udp/4001/quic-v1",
            "/ip6/::1/udp/4001/quic-v1",
            "/ip6/fe80::1/udp/4001/quic-v1",
            "/dns/a.example/udp/4001/quic-v1",
            "/dns4/a.example/udp/4001/quic-v1",
            "/ip4/192.0.2.1/udp/4001/quic-v1/webtransport",
            &format!("/ip4/192.0.2.1/udp/4001/quic-v1/p2p/{peer}"),
            &format!("/ip4/192.0.2.1/udp/4001/quic-v1/p2p/{peer}/p2p-circuit"),
        ] {
            assert!(dialable(wrong, false).is_none(), "{wrong} would be dialled");
        }
        assert!(dialable("/ip4/127.0.0.1/udp/4001/quic-v1", true).is_some());
    }

    #[test]
    fn a_socket_reads_back_from_its_address() {
        for text in ["192.0.2.1:4001", "[2001:db8::1]:4001"] {
            let at: SocketAddr = text.parse().unwrap();
            assert_eq!(socket(&of_socket(at)), Some(at));
        }
    }
}
