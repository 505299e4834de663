//! Certificate: X.509 as nodes and relays show it in TLS.
//! Owns: making and strictly reading ed25519 certificates (RFC 5280, RFC 8410); the relay's offline and online pair.
//! Never: trusts a certificate authority, reads a clock, opens a connection.
//! Limits: `limits::CERTIFICATE_TOLERANCE`. Rules: docs/protocol/links.md.

mod make;
mod read;

use whimbrel_protocol::id::{Domain, PublicKey, RelayId};
use whimbrel_protocol::time::Wall;
use zeroize::Zeroizing;

use crate::keys::KeyPair;

/// Why a certificate is refused. Final, except [`CertificateError::Dates`], which a clock set right may settle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// Not a certificate of the one form we speak.
    #[error("certificate malformed: {0}")]
    Malformed(&'static str),
    /// Keys and signatures are ed25519 only.
    #[error("certificate is not ed25519")]
    Algorithm,
    /// The signature is not its issuer's.
    #[error("certificate signature not valid")]
    Signature,
    /// The chain does not have two or three certificates.
    #[error("relay chain of {found} certificates")]
    Length {
        /// How many there are.
        found: usize,
    },
    /// Not valid yet, or no longer, by more than the tolerance.
    #[error("certificate outside its dates")]
    Dates,
    /// The certificates of a chain do not name one and the same domain.
    #[error("certificate names the wrong domain")]
    Domain,
    /// A certificate that may not sign others did, or the other way round.
    #[error("certificate used for what it is not for")]
    Role,
    /// The certificate could not be made.
    #[error("certificate could not be made: {0}")]
    Make(String),
}

/// A relay's chain that was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedRelay {
    /// Which relay: the hash of its offline certificate.
    pub id: RelayId,
    /// The domain it speaks for, by its own word; whoever needs proof pins the id or resolves the domain.
    pub domain: Domain,
    /// The key of this connection, of the first certificate.
    pub key: PublicKey,
}

/// A node's certificate: self-signed, and only its key means anything. Always the same bytes for a key.
///
/// # Errors
/// The encoder refused; not expected.
pub fn node_certificate(transport: &KeyPair) -> Result<Vec<u8>, CertificateError> {
    make::node(transport)
}

/// The key of a node's certificate. Its dates are ignored: the account log decides, and clocks lie.
///
/// # Errors
/// Not a certificate, not ed25519, or not signed by its own key.
pub fn node_key(der: &[u8]) -> Result<PublicKey, CertificateError> {
    let certificate = read::Certificate::parse(der)?;
    certificate.verify(&certificate.key)?;
    Ok(certificate.key)
}

/// A key pair in PKCS#8 (RFC 8410 §7), as TLS libraries take it.
pub fn pkcs8(key: &KeyPair) -> Zeroizing<Vec<u8>> {
    // OneAsymmetricKey, version 0, id-Ed25519, an octet string in an octet string: always these 16 bytes.
    const HEAD: [u8; 16] =
        [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    let mut bytes = Zeroizing::new(Vec::with_capacity(HEAD.len() + 32));
    bytes.extend_from_slice(&HEAD);
    bytes.extend_from_slice(&key.secret_bytes()[..]);
    bytes
}

/// What a relay process holds: its offline certificate, and the online key and certificate it works with.
#[derive(Clone, Debug)]
pub struct RelayIdentity {
    domain: Domain,
    offline: Vec<u8>,
    online: Vec<u8>,
    online_key: KeyPair,
}

impl RelayIdentity {
    /// Makes a relay's identity. The offline key is needed here and to renew, and is kept apart from the relay.
    /// The offline certificate is the same bytes for the same key and domain, so the relay's id can be made again.
    ///
    /// # Errors
    /// The encoder refused; not expected.
    pub fn create(offline: &KeyPair, online: &KeyPair, domain: &Domain, now: Wall) -> Result<Self, CertificateError> {
        let offline_certificate = make::offline(offline, domain)?;
        let online_certificate = make::online(offline, online, domain, now)?;
        Ok(Self {
            domain: domain.clone(),
            offline: offline_certificate,
            online: online_certificate,
            online_key: online.clone(),
        })
    }

    /// Puts a stored identity together again. Dates are not judged: a relay whose certificate ran out must still
    /// start, to say so.
    ///
    /// # Errors
    /// The certificates are no chain, or the online key is not the online certificate's.
    pub fn from_parts(offline: Vec<u8>, online: Vec<u8>, online_key: &KeyPair) -> Result<Self, CertificateError> {
        let verified = read::chain(&[&online, &offline], None)?;
        if verified.key != online_key.public() {
            return Err(CertificateError::Role);
        }
        Ok(Self { domain: verified.domain, offline, online, online_key: online_key.clone() })
    }

    /// Which relay this is.
    pub fn id(&self) -> RelayId {
        read::relay_id(&self.offline)
    }

    /// The domain it serves.
    pub const fn domain(&self) -> &Domain {
        &self.domain
    }

    /// The key it works with.
    pub const fn online_key(&self) -> &KeyPair {
        &self.online_key
    }

    /// The chain it shows, online certificate first (DER).
    pub fn chain(&self) -> [Vec<u8>; 2] {
        [self.online.clone(), self.offline.clone()]
    }

    /// When the online certificate ends.
    ///
    /// # Errors
    /// Not expected: the certificate was made or checked here.
    pub fn online_until(&self) -> Result<Wall, CertificateError> {
        Ok(Wall::from_millis(read::Certificate::parse(&self.online)?.not_after_secs.saturating_mul(1_000)))
    }

    /// Replaces online key and certificate; the id stays. Nothing changes on error.
    ///
    /// # Errors
    /// `offline` is not this relay's offline key.
    pub fn reissue_online(&mut self, offline: &KeyPair, online: &KeyPair, now: Wall) -> Result<(), CertificateError> {
        if read::Certificate::parse(&self.offline)?.key != offline.public() {
            return Err(CertificateError::Role);
        }
        self.online = make::online(offline, online, &self.domain, now)?;
        self.online_key = online.clone();
        Ok(())
    }
}

/// Verifies the chain a relay showed: two certificates (online, offline) or three (session, online, offline), each
/// signed by the next, the last by itself, all for one domain and within their dates, give or take
/// `limits::CERTIFICATE_TOLERANCE`.
///
/// # Errors
/// The first thing that is wrong.
pub fn verify_relay_chain(chain: &[&[u8]], now: Wall) -> Result<VerifiedRelay, CertificateError> {
    read::chain(chain, Some(now)).inspect_err(|error| tracing::debug!(%error, "a relay's certificates are refused"))
}

/// The same of two certificates (online, offline), without their dates: for evidence whose time is its signer's to choose.
///
/// # Errors
/// The first thing that is wrong.
pub fn verify_undated_chain(chain: &[&[u8]]) -> Result<VerifiedRelay, CertificateError> {
    match chain.len() {
        2 => read::chain(chain, None),
        found => Err(CertificateError::Length { found }),
    }
}

#[cfg(test)]
mod tests;
