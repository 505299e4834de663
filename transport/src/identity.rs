//! Identity: what this process shows in a handshake.
//! Owns: the certificate chain and key as TLS takes them. Never: makes keys.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use whimbrel_crypto::certificate::{node_certificate, pkcs8};
use whimbrel_crypto::{CertificateError, KeyPair, RelayIdentity};
use zeroize::Zeroizing;

use crate::provider;

/// Why an identity cannot be shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The certificate could not be made.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// TLS does not take the key or the chain.
    #[error("TLS refuses the key: {0}")]
    Tls(#[from] rustls::Error),
}

/// Whom an endpoint stands for.
#[derive(Clone)]
pub struct Identity {
    pub(crate) certified: Arc<CertifiedKey>,
    pub(crate) kind: Kind,
    /// The same after every restart, known to nobody else.
    pub(crate) endpoint_secret: Arc<Zeroizing<[u8; 64]>>,
}

/// Which of the two ALPNs a dial uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Node,
    Relay,
}

impl Identity {
    /// A node, by its transport key.
    ///
    /// # Errors
    /// As [`IdentityError`] says; not expected.
    pub fn node(transport: &KeyPair) -> Result<Self, IdentityError> {
        Self::new(Kind::Node, vec![node_certificate(transport)?], transport)
    }

    /// A relay, by its online key and chain.
    ///
    /// # Errors
    /// As [`IdentityError`] says; not expected.
    pub fn relay(relay: &RelayIdentity) -> Result<Self, IdentityError> {
        Self::new(Kind::Relay, relay.chain().into(), relay.online_key())
    }

    fn new(kind: Kind, chain: Vec<Vec<u8>>, key: &KeyPair) -> Result<Self, IdentityError> {
        let chain = chain.into_iter().map(CertificateDer::from).collect();
        let pkcs8 = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8(key).to_vec()));
        // ed25519 signatures are deterministic (RFC 8032 §5.1.6), and this one is never sent.
        let endpoint_secret = Arc::new(Zeroizing::new(*key.sign("whimbrel quic endpoint 1", b"").as_bytes()));
        let certified = Arc::new(CertifiedKey::from_der(chain, pkcs8, &provider())?);
        Ok(Self { certified, kind, endpoint_secret })
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("kind", &self.kind).finish_non_exhaustive()
    }
}
