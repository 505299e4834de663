//! Link: proofs that hold for one connection.
//! Owns: the device key's signature over the connection's TLS exporter (RFC 9266, "tls-exporter" channel binding), by
//! which the device itself stands behind it; the keyed hash (HMAC, RFC 2104, with SHA-256) by which a relay shows that
//! a live invite led it there.
//! Never: looks a device or an invite up; the caller takes the key from a verified account log, or its own store.

use hmac::{Hmac, KeyInit, Mac};
use minicbor::Encode;
use sha2::{Digest, Sha256};
use whimbrel_protocol::canonical;
use whimbrel_protocol::id::{AccountId, Domain, PublicKey, RelayId, Signature, TokenHash};

use crate::keys::{self, KeyPair, SignatureError};

const CONTEXT: &str = "whimbrel link proof 1";
const RECOVERY_CONTEXT: &str = "whimbrel recovery proof 1";
const POLL_CONTEXT: &str = "whimbrel poll transport 1";

/// Proves that `device` stands behind the connection that `exporter` was derived from.
pub fn prove(device: &KeyPair, exporter: &[u8; 32]) -> Signature {
    device.sign(CONTEXT, exporter)
}

/// Checks a proof; one made for another connection does not pass, so a certificate cannot be forwarded.
///
/// # Errors
/// The proof is not this device's, or not for this connection.
pub fn verify_proof(device_key: &PublicKey, exporter: &[u8; 32], proof: &Signature) -> Result<(), SignatureError> {
    keys::verify(device_key, CONTEXT, exporter, proof)
}

/// Proves that whoever opened the connection holds an account's recovery key.
pub fn prove_recovery(recovery: &KeyPair, exporter: &[u8; 32]) -> Signature {
    recovery.sign(RECOVERY_CONTEXT, exporter)
}

/// Checks it.
///
/// # Errors
/// The proof is not this key's, or not for this connection.
pub fn verify_recovery(key: &PublicKey, exporter: &[u8; 32], proof: &Signature) -> Result<(), SignatureError> {
    keys::verify(key, RECOVERY_CONTEXT, exporter, proof)
}

/// Proves that whoever opens a polled link has the transport key, as a certificate does on other links.
pub fn prove_transport(transport: &KeyPair, exporter: &[u8; 32]) -> Signature {
    transport.sign(POLL_CONTEXT, exporter)
}

/// Checks it.
///
/// # Errors
/// The proof is not this key's, or not for this link.
pub fn verify_transport(key: &PublicKey, exporter: &[u8; 32], proof: &Signature) -> Result<(), SignatureError> {
    keys::verify(key, POLL_CONTEXT, exporter, proof)
}

/// What takes the exporter's place on a polled link: it holds for this relay, this transport key and this challenge
/// alone, so that a relay that hands on another's challenge gets a proof that is worth nothing there.
pub fn poll_exporter(relay: &RelayId, transport: &PublicKey, challenge: &[u8]) -> [u8; 32] {
    let digest = Sha256::new().chain_update(b"whimbrel poll link 1\0").chain_update(relay.as_bytes());
    digest.chain_update(transport.as_bytes()).chain_update(challenge).finalize().into()
}

/// What an introduction says: it holds for these two relays, this endpoint and this connection alone.
#[derive(Clone, Copy, Debug, Encode)]
#[cbor(map)]
pub struct Introducing<'i> {
    /// Who made the invite.
    #[n(0)]
    pub owner: AccountId,
    /// Where the introduced relay is reached.
    #[n(1)]
    pub endpoint: &'i str,
    /// The introduced relay, as TLS proved it.
    #[n(2)]
    pub from: (&'i Domain, RelayId),
    /// The relay it introduces itself to.
    #[n(3)]
    pub to: (&'i Domain, RelayId),
    /// 32 bytes of the connection's TLS exporter.
    #[n(4)]
    #[cbor(with = "minicbor::bytes")]
    pub exporter: [u8; 32],
}

/// Shows knowledge of an invite's token without handing it over, and uses nothing of it up.
pub fn introduce(token: &TokenHash, what: &Introducing<'_>) -> [u8; 32] {
    introduction(token, what).finalize().into_bytes().into()
}

/// Whether a proof was made with this token, for exactly this.
pub fn verify_introduction(token: &TokenHash, what: &Introducing<'_>, proof: &[u8; 32]) -> bool {
    introduction(token, what).verify_slice(proof).is_ok()
}

fn introduction(token: &TokenHash, what: &Introducing<'_>) -> Hmac<Sha256> {
    #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(token.as_bytes()).expect("any length is a key");
    mac.update(b"whimbrel introduction 1\0");
    mac.update(&canonical::encode(what));
    mac
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_proof_holds_for_its_device_and_connection_only() {
        let device = KeyPair::from_seed_bytes([1; 32]);
        let other = KeyPair::from_seed_bytes([2; 32]);
        let proof = prove(&device, &[9; 32]);
        verify_proof(&device.public(), &[9; 32], &proof).unwrap();
        assert_eq!(verify_proof(&device.public(), &[8; 32], &proof), Err(SignatureError));
        assert_eq!(verify_proof(&other.public(), &[9; 32], &proof), Err(SignatureError));
    }

    #[test]
    fn a_polled_links_proofs_hold_for_one_relay_key_and_challenge() {
        let (relay, key) = (RelayId::from_bytes([1; 32]), KeyPair::from_seed_bytes([1; 32]));
        let exporter = poll_exporter(&relay, &key.public(), &[3; 56]);
        let proof = prove_transport(&key, &exporter);
        verify_transport(&key.public(), &exporter, &proof).unwrap();
        // A device's proof is none of a transport key, even were they the same key.
        assert!(verify_transport(&key.public(), &exporter, &prove(&key, &exporter)).is_err());
        let other = KeyPair::from_seed_bytes([2; 32]).public();
        for exporter in [
            poll_exporter(&RelayId::from_bytes([2; 32]), &key.public(), &[3; 56]),
            poll_exporter(&relay, &other, &[3; 56]),
            poll_exporter(&relay, &key.public(), &[4; 56]),
        ] {
            assert!(verify_transport(&key.public(), &exporter, &proof).is_err());
        }
    }

    #[test]
    fn an_introduction_holds_for_its_token_relays_endpoint_and_connection_only() {
        let (a, b): (Domain, Domain) = ("a.example".parse().unwrap(), "b.example".parse().unwrap());
        let (relay_a, relay_b) = (RelayId::from_bytes([1; 32]), RelayId::from_bytes([2; 32]));
        let owner = AccountId::from_bytes([3; 32]);
        let token = TokenHash::from_bytes([4; 32]);
        let (from, to) = ((&b, relay_b), (&a, relay_a));
        let what = Introducing { owner, endpoint: "b.example:4433", from, to, exporter: [9; 32] };
        let proof = introduce(&token, &what);
        assert!(verify_introduction(&token, &what, &proof));
        assert!(!verify_introduction(&TokenHash::from_bytes([5; 32]), &what, &proof));
        for other in [
            Introducing { owner: AccountId::from_bytes([5; 32]), ..what },
            Introducing { endpoint: "b.example:4434", ..what },
            Introducing { from: (&a, relay_b), ..what },
            Introducing { from: (&b, relay_a), ..what },
            Introducing { to: (&b, relay_a), ..what },
            Introducing { to: (&a, relay_b), ..what },
            Introducing { exporter: [8; 32], ..what },
        ] {
            assert!(!verify_introduction(&token, &other, &proof), "{other:?}");
        }
    }
}
