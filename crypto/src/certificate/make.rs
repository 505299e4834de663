//! Make: certificates as we issue them, by the kept encoder without its cryptography.
//! Owns: names, serial numbers, dates. Source: RFC 5280 §4, RFC 8410 §§3-5.

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyUsagePurpose,
    SanType, SerialNumber, date_time_ymd,
};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use whimbrel_protocol::id::Domain;
use whimbrel_protocol::limits;
use whimbrel_protocol::time::Wall;

use super::CertificateError;
use crate::keys::KeyPair;

const ONLINE: &str = "whimbrel relay";

/// The form the encoder wants a key in. It holds the public bytes because the encoder borrows them.
struct Key<'a> {
    pair: &'a KeyPair,
    public: [u8; 32],
}

impl<'a> Key<'a> {
    fn new(pair: &'a KeyPair) -> Self {
        Self { pair, public: *pair.public().as_bytes() }
    }
}

impl rcgen::PublicKeyData for Key<'_> {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ED25519
    }
}

impl rcgen::SigningKey for Key<'_> {
    fn sign(&self, msg: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.pair.sign_bare(msg).as_bytes().to_vec())
    }
}

pub(super) fn node(transport: &KeyPair) -> Result<Vec<u8>, CertificateError> {
    let mut params = params("whimbrel node", "node", &transport.public().as_bytes()[..]);
    params.is_ca = IsCa::ExplicitNoCa;
    self_signed(&params, transport)
}

pub(super) fn offline(key: &KeyPair, domain: &Domain) -> Result<Vec<u8>, CertificateError> {
    self_signed(&offline_params(key, domain)?, key)
}

pub(super) fn online(
    offline: &KeyPair,
    key: &KeyPair,
    domain: &Domain,
    now: Wall,
) -> Result<Vec<u8>, CertificateError> {
    let mut params = dated(ONLINE, key, domain, now)?;
    // It may sign the session certificates of a chain of three.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign];
    let issuer = Issuer::new(offline_params(offline, domain)?, Key::new(offline));
    params.signed_by(&Key::new(key), &issuer).map(der).map_err(made)
}

/// A session certificate, below an online one. No relay of ours shows one yet; verification takes it.
#[cfg(test)]
pub(super) fn session(
    online: &KeyPair,
    key: &KeyPair,
    domain: &Domain,
    now: Wall,
) -> Result<Vec<u8>, CertificateError> {
    let mut params = dated("whimbrel relay session", key, domain, now)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let issuer = Issuer::new(dated(ONLINE, online, domain, now)?, Key::new(online));
    params.signed_by(&Key::new(key), &issuer).map(der).map_err(made)
}

fn dated(common_name: &str, key: &KeyPair, domain: &Domain, now: Wall) -> Result<CertificateParams, CertificateError> {
    let from = now.as_secs();
    let mut what = key.public().as_bytes().to_vec();
    // A certificate renewed for the same key must not repeat its serial number (RFC 5280 §4.1.2.2).
    what.extend_from_slice(&from.to_be_bytes());
    let mut params = params(common_name, common_name, &what);
    params.not_before = date(from)?;
    params.not_after = date(from.saturating_add(limits::CERTIFICATE_ONLINE_AGE.as_secs()))?;
    params.subject_alt_names = vec![name(domain)?];
    Ok(params)
}

fn offline_params(key: &KeyPair, domain: &Domain) -> Result<CertificateParams, CertificateError> {
    let mut params = params("whimbrel relay offline", "offline", &key.public().as_bytes()[..]);
    params.subject_alt_names = vec![name(domain)?];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    Ok(params)
}

/// Dates that mean "always" (RFC 5280 §4.1.2.5) and a serial number that follows from what is certified.
fn params(common_name: &str, role: &str, what: &[u8]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(9999, 12, 31);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let digest = Sha256::new().chain_update(role).chain_update([0]).chain_update(what).finalize();
    // 16 of at most 20 octets. The first is between 64 and 127: positive, and never shortened by encoding.
    let serial: Vec<u8> =
        digest.iter().take(16).enumerate().map(|(i, b)| if i == 0 { b & 0x3f | 0x40 } else { *b }).collect();
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.key_identifier_method = rcgen::KeyIdMethod::PreSpecified(digest.iter().skip(12).copied().collect());
    params
}

fn name(domain: &Domain) -> Result<SanType, CertificateError> {
    Ia5String::try_from(domain.as_str()).map(SanType::DnsName).map_err(made)
}

fn date(secs: u64) -> Result<OffsetDateTime, CertificateError> {
    i64::try_from(secs)
        .ok()
        .and_then(|secs| OffsetDateTime::from_unix_timestamp(secs).ok())
        .ok_or(CertificateError::Dates)
}

fn self_signed(params: &CertificateParams, key: &KeyPair) -> Result<Vec<u8>, CertificateError> {
    params.self_signed(&Key::new(key)).map(der).map_err(made)
}

fn der(certificate: Certificate) -> Vec<u8> {
    certificate.der().to_vec()
}

fn made(error: rcgen::Error) -> CertificateError {
    CertificateError::Make(error.to_string())
}
