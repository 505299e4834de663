//! Reset: how a restarted relay tells its old links at once that they are gone (RFC 9000 §10.3, stateless reset).
//! Owns: what must be the same after a restart for that: the key of reset tokens, and the key by which an endpoint
//! knows its own connection ids. Both come from the identity's endpoint secret, so that nobody else can end a link.

use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use quinn::EndpointConfig;
use quinn::crypto::{CryptoError, HmacKey};
use quinn_proto::HashedConnectionIdGenerator;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::Identity;

/// HMAC-SHA256 as QUIC asks for it.
struct ResetKey(Arc<Zeroizing<[u8; 64]>>);

impl ResetKey {
    fn mac(&self, data: &[u8]) -> Hmac<Sha256> {
        // The key fills one block of SHA-256 exactly; every other length would be taken too.
        let mut mac = <Hmac<Sha256> as KeyInit>::new((&**self.0).into());
        mac.update(data);
        mac
    }
}

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        let signature = self.mac(data).finalize().into_bytes();
        for (out, byte) in signature_out.iter_mut().zip(signature) {
            *out = byte;
        }
    }

    fn signature_len(&self) -> usize {
        32
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        self.mac(data).verify_slice(signature).map_err(|_| CryptoError)
    }
}

/// The endpoint's own set-up.
pub(crate) fn endpoint(identity: &Identity) -> EndpointConfig {
    let key = ResetKey(Arc::clone(&identity.endpoint_secret));
    let mut ids = [0; 32];
    key.sign(b"connection ids", &mut ids);
    let ids = ids.first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
    let mut config = EndpointConfig::new(Arc::new(key));
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)));
    config
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn reset_tokens_are_one_identity_s_alone_and_survive_a_restart() {
        let token = |secret: u8| {
            let mut token = [0; 32];
            ResetKey(Arc::new(Zeroizing::new([secret; 64]))).sign(b"an id", &mut token);
            token
        };
        assert_eq!(token(1), token(1));
        assert_ne!(token(1), token(2));
        assert!(ResetKey(Arc::new(Zeroizing::new([1; 64]))).verify(b"an id", &token(1)).is_ok());
        assert!(ResetKey(Arc::new(Zeroizing::new([1; 64]))).verify(b"an id", &token(2)).is_err());
    }
}
