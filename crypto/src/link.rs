//! Link: the proof that the device itself stands behind a connection.
//! Owns: the device key's signature over the connection's TLS exporter (RFC 9266, "tls-exporter" channel binding).
//! Never: looks a device up; the caller takes the key from a verified account log.

use whimbrel_protocol::id::{PublicKey, Signature};

use crate::keys::{self, KeyPair, SignatureError};

const CONTEXT: &str = "whimbrel link proof 1";

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
}
