//! Read: certificates as others show them; nothing in them is believed before it is verified.
//! Owns: the one form we take (X.509 v3, ed25519, nothing critical that we do not know), the chain rule.

use sha2::{Digest, Sha256};
use whimbrel_protocol::id::{Domain, PublicKey, RelayId, Signature};
use whimbrel_protocol::limits;
use whimbrel_protocol::time::Wall;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::OID_SIG_ED25519;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Version;

use super::{CertificateError, VerifiedRelay};
use crate::keys;

/// What a certificate says.
pub(super) struct Certificate<'a> {
    pub(super) key: PublicKey,
    pub(super) not_after_secs: u64,
    not_before_secs: u64,
    domains: Vec<Domain>,
    /// How many certificates may stand between it and the last it vouches for; none if it may sign no certificate.
    signs: Option<u32>,
    signed: &'a [u8],
    signature: Signature,
    issuer: Vec<u8>,
    subject: Vec<u8>,
}

impl<'a> Certificate<'a> {
    pub(super) fn parse(der: &'a [u8]) -> Result<Self, CertificateError> {
        if der.len() > limits::CERTIFICATE_BYTES_MAX {
            return Err(CertificateError::Malformed("too long"));
        }
        let (rest, parsed) = X509Certificate::from_der(der).map_err(|_| CertificateError::Malformed("not X.509"))?;
        if !rest.is_empty() {
            return Err(CertificateError::Malformed("bytes after it"));
        }
        if parsed.version() != X509Version::V3 {
            return Err(CertificateError::Malformed("not version 3"));
        }
        // RFC 8410 §3: no parameters, and the algorithm is named twice alike (RFC 5280 §4.1.1.2).
        let key_info = parsed.public_key();
        for algorithm in [&parsed.signature_algorithm, &parsed.tbs_certificate.signature, &key_info.algorithm] {
            if algorithm.algorithm != OID_SIG_ED25519 || algorithm.parameters.is_some() {
                return Err(CertificateError::Algorithm);
            }
        }
        let unused = key_info.subject_public_key.unused_bits | parsed.signature_value.unused_bits;
        let key =
            PublicKey::try_from(&key_info.subject_public_key.data[..]).map_err(|_| CertificateError::Algorithm)?;
        let signature =
            Signature::try_from(&parsed.signature_value.data[..]).map_err(|_| CertificateError::Signature)?;
        if unused != 0 || !keys::is_acceptable(&key) {
            return Err(CertificateError::Algorithm);
        }
        let (domains, signs) = extensions(&parsed)?;
        let secs = |time: i64| u64::try_from(time).map_err(|_| CertificateError::Dates);
        Ok(Self {
            key,
            not_before_secs: secs(parsed.validity().not_before.timestamp())?,
            not_after_secs: secs(parsed.validity().not_after.timestamp())?,
            domains,
            signs,
            issuer: parsed.issuer().as_raw().to_vec(),
            subject: parsed.subject().as_raw().to_vec(),
            signed: tbs(der, &signature)?,
            signature,
        })
    }

    /// Checks that `issuer` signed this certificate.
    pub(super) fn verify(&self, issuer: &PublicKey) -> Result<(), CertificateError> {
        keys::verify_bare(issuer, self.signed, &self.signature).map_err(|_| CertificateError::Signature)
    }

    fn check_dates(&self, now: Wall) -> Result<(), CertificateError> {
        let tolerance = limits::CERTIFICATE_TOLERANCE.as_secs();
        let now = now.as_secs();
        let begun = now.saturating_add(tolerance) >= self.not_before_secs;
        let ended = now > self.not_after_secs.saturating_add(tolerance);
        if begun && !ended { Ok(()) } else { Err(CertificateError::Dates) }
    }
}

/// The bytes that are signed: what stands between the outer header and the fixed-size end.
///
/// Header and end are outside the signature but inside the hash that names a relay. So they are compared with the one
/// encoding they have (X.690 §10.1), not parsed: the parser takes more than one.
fn tbs<'a>(der: &'a [u8], signature: &Signature) -> Result<&'a [u8], CertificateError> {
    // The algorithm (RFC 8410 §3), then a bit string of 64 bytes without unused bits.
    const END: [u8; 10] = [0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x41, 0x00];
    let wrong = CertificateError::Malformed("not DER");
    let (header, len) = match *der {
        [0x30, len, ..] if len < 0x80 => (2, usize::from(len)),
        [0x30, 0x81, len, ..] if len >= 0x80 => (3, usize::from(len)),
        [0x30, 0x82, high, low, ..] if high > 0 => (4, usize::from(high) << 8 | usize::from(low)),
        _ => return Err(wrong),
    };
    let content = der.get(header..).filter(|content| content.len() == len).ok_or(wrong.clone())?;
    let rest = content.strip_suffix(signature.as_bytes()).ok_or(wrong.clone())?;
    rest.strip_suffix(&END).ok_or(wrong)
}

fn extensions(parsed: &X509Certificate<'_>) -> Result<(Vec<Domain>, Option<u32>), CertificateError> {
    let mut domains = Vec::new();
    let mut authority = None;
    let mut may_sign = false;
    let unique = parsed.tbs_certificate.extensions_map().map_err(|_| CertificateError::Malformed("extension twice"))?;
    for extension in unique.values() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => {
                for name in &names.general_names {
                    let GeneralName::DNSName(name) = name else {
                        return Err(CertificateError::Domain);
                    };
                    domains.push(name.parse().map_err(|_| CertificateError::Domain)?);
                }
            }
            // Without a path length it would vouch for any; ours always name one.
            ParsedExtension::BasicConstraints(basic) if basic.ca => authority = basic.path_len_constraint,
            ParsedExtension::BasicConstraints(_) => {}
            ParsedExtension::KeyUsage(usage) => may_sign = usage.key_cert_sign(),
            _ if extension.critical => return Err(CertificateError::Malformed("unknown critical extension")),
            _ => {}
        }
    }
    Ok((domains, authority.filter(|_| may_sign)))
}

pub(super) fn relay_id(offline: &[u8]) -> RelayId {
    RelayId::from_bytes(Sha256::digest(offline).into())
}

/// Verifies a chain; without `now` the dates are not judged.
pub(super) fn chain(chain: &[&[u8]], now: Option<Wall>) -> Result<VerifiedRelay, CertificateError> {
    if !(2..=3).contains(&chain.len()) {
        return Err(CertificateError::Length { found: chain.len() });
    }
    let certificates = chain.iter().map(|der| Certificate::parse(der)).collect::<Result<Vec<_>, _>>()?;
    let (Some(first), Some(last), Some(offline)) = (certificates.first(), certificates.last(), chain.last()) else {
        return Err(CertificateError::Length { found: 0 });
    };
    let [domain] = last.domains.as_slice() else {
        return Err(CertificateError::Domain);
    };
    let issuers = certificates.iter().skip(1).chain([last]);
    for (place, (certificate, issuer)) in certificates.iter().zip(issuers).enumerate() {
        certificate.verify(&issuer.key)?;
        if certificate.issuer != issuer.subject {
            return Err(CertificateError::Malformed("names another issuer"));
        }
        // All but the first must be allowed to sign a chain this deep.
        if place > 0 && certificate.signs.is_none_or(|depth| (depth as usize) < place - 1) {
            return Err(CertificateError::Role);
        }
        if certificate.domains.as_slice() != [domain.clone()] {
            return Err(CertificateError::Domain);
        }
        if let Some(now) = now {
            certificate.check_dates(now)?;
        }
    }
    // One key in two places would put the offline key on the online machine.
    let keys: std::collections::BTreeSet<_> = certificates.iter().map(|certificate| certificate.key).collect();
    if keys.len() != certificates.len() {
        return Err(CertificateError::Role);
    }
    Ok(VerifiedRelay { id: relay_id(offline), domain: domain.clone(), key: first.key })
}
