//! Leaf: what a device shows of itself in MLS, and how a key package is judged.
//! Owns: the credential's form, capabilities, the lifetime extension.
//! Never: asks whether the account log knows the key; the caller names the key it wants.
//! Limits: `limits::KEY_PACKAGE_AGE_MAX`, `limits::CERTIFICATE_TOLERANCE`.
//!
//! RFC 9420 §7.2 puts dates into the leaf. The library judges those against the system clock, unasked, wherever a key
//! package is read or added. So the leaf's own dates say "always", and the real ones stand in an extension of the key
//! package (§16.4 requires no more than that both sides know it), under the same signature, judged against the time
//! that is handed in.

use openmls::prelude::tls_codec::{Deserialize, Serialize};
use openmls::prelude::{
    BasicCredential, Capabilities, Credential, CredentialType, CredentialWithKey, Extension, ExtensionType, Extensions,
    KeyPackage, KeyPackageIn, LeafNode, Lifetime, Member, ProtocolVersion, UnknownExtension,
};
use openmls_traits::types::Ciphersuite;
use whimbrel_protocol::id::{DeviceId, PublicKey};
use whimbrel_protocol::limits;
use whimbrel_protocol::time::Wall;

use super::chance::{Crypto, DeviceSigner};
use super::errors::{library, malformed};
use super::policy::POLICY;
use super::{Provider, SUITE, path};
use crate::engine::{EngineError, Invitee, KeyPackageFault, Own};

/// The extension with a key package's dates; of the private-use range (RFC 9420 §17.3).
pub(super) const LIFETIME: u16 = 0xf7a1;

pub(super) fn credential(own: &Own<'_>) -> Result<CredentialWithKey, EngineError> {
    let id = minicbor::to_vec(own.id).map_err(library)?;
    Ok(CredentialWithKey {
        credential: BasicCredential::new(id).into(),
        signature_key: own.device.public().as_bytes().as_slice().into(),
    })
}

/// Whose leaf it is; a credential that names no device, or not in its one form, is none of ours.
pub(super) fn device(credential: &Credential) -> Option<DeviceId> {
    let basic = BasicCredential::try_from(credential.clone()).ok()?;
    let id: DeviceId = minicbor::decode(basic.identity()).ok()?;
    (minicbor::to_vec(id).ok()?.as_slice() == basic.identity()).then_some(id)
}

pub(super) fn member(member: &Member) -> Option<(DeviceId, PublicKey)> {
    let key = PublicKey::try_from(member.signature_key.as_slice()).ok()?;
    device(&member.credential).map(|id| (id, key))
}

pub(super) fn capabilities(suite: Ciphersuite) -> Capabilities {
    of_extensions(suite, &[ExtensionType::Unknown(LIFETIME), ExtensionType::LastResort, ExtensionType::Unknown(POLICY)])
}

fn of_extensions(suite: Ciphersuite, extensions: &[ExtensionType]) -> Capabilities {
    Capabilities::new(
        Some(&[ProtocolVersion::Mls10]),
        Some(&[suite]),
        Some(extensions),
        None,
        Some(&[CredentialType::Basic]),
    )
}

/// Whether these are the capabilities of a leaf of ours, or of one from before groups had a policy: each commit of such a
/// device gives its leaf those of now, and until then its groups get no policy.
pub(super) fn is_capable(capabilities: &Capabilities, suite: Ciphersuite) -> bool {
    *capabilities == self::capabilities(suite) || *capabilities == former_capabilities(suite)
}

fn former_capabilities(suite: Ciphersuite) -> Capabilities {
    of_extensions(suite, &[ExtensionType::Unknown(LIFETIME), ExtensionType::LastResort])
}

/// Whether a leaf can be in a group with a policy.
pub(super) fn knows_policy(leaf: &LeafNode) -> bool {
    leaf.capabilities().extensions().contains(&ExtensionType::Unknown(POLICY))
}

/// Dates the library cannot find fault with, whatever the system clock says. Other dates are refused everywhere: a
/// leaf on which two members' clocks disagree would split the thread.
pub(super) fn always() -> Lifetime {
    Lifetime::init(0, u64::MAX)
}

/// Makes a key package; its secrets go to the provider's rows.
pub(super) fn make_key_package(
    provider: &Provider<'_>,
    own: &Own<'_>,
    last_resort: bool,
    now: Wall,
) -> Result<Vec<u8>, EngineError> {
    make(provider, own, (last_resort, capabilities(provider.crypto.suite())), now)
}

fn make(
    provider: &Provider<'_>,
    own: &Own<'_>,
    (last_resort, capabilities): (bool, Capabilities),
    now: Wall,
) -> Result<Vec<u8>, EngineError> {
    let from = now.as_secs();
    let until = from.saturating_add(limits::KEY_PACKAGE_AGE_MAX.as_secs());
    let dates = [from.to_be_bytes(), until.to_be_bytes()].concat();
    let extensions = Extensions::single(Extension::Unknown(LIFETIME, UnknownExtension(dates))).map_err(library)?;
    let mut builder = KeyPackage::builder()
        .key_package_lifetime(always())
        .key_package_extensions(extensions)
        .leaf_node_capabilities(capabilities);
    if last_resort {
        builder = builder.mark_as_last_resort();
    }
    let bundle = builder
        .build(provider.crypto.suite(), provider, &DeviceSigner(own.device), credential(own)?)
        .map_err(|error| provider.failed(error))?;
    let package = bundle.key_package();
    let reference = package.hash_ref(&provider.crypto).map_err(library)?;
    // A welcome may come as late as others still took the package.
    let kept = until.saturating_add(2 * limits::CERTIFICATE_TOLERANCE.as_secs());
    provider.rows(provider.store.expire_key_packages(&reference, kept, from))?;
    package.tls_serialize_detached().map_err(library)
}

/// Judges a key package: of our suite, well signed, for this very device and key, within its dates.
pub(super) fn check_key_package(crypto: &Crypto<'_>, invitee: &Invitee, now: Wall) -> Result<KeyPackage, EngineError> {
    let refused = |fault| EngineError::KeyPackage { device: invitee.id, fault };
    if invitee.key_package.len() > limits::KEY_PACKAGE_BYTES_MAX {
        return Err(refused(KeyPackageFault::Malformed));
    }
    let package =
        KeyPackageIn::tls_deserialize_exact(&invitee.key_package).map_err(|_| refused(KeyPackageFault::Malformed))?;
    let shown = package.unverified_credential();
    if device(&shown.credential) != Some(invitee.id) {
        return Err(refused(KeyPackageFault::Credential));
    }
    if shown.signature_key.as_slice() != invitee.device_key.as_bytes() {
        return Err(refused(KeyPackageFault::DeviceKey));
    }
    let package = package.validate(crypto, ProtocolVersion::Mls10).map_err(|_| refused(KeyPackageFault::Malformed))?;
    if package.ciphersuite() != crypto.suite() || !is_capable(package.leaf_node().capabilities(), crypto.suite()) {
        return Err(refused(KeyPackageFault::Suite));
    }
    // Whoever takes it in seals to its keys, and its hub takes no other leaf (docs/protocol/hub.md 25).
    let leaf = package.leaf_node();
    if crypto.suite() == SUITE && !(path::is_sealable(leaf) && path::is_key(package.hpke_init_key().as_slice())) {
        return Err(refused(KeyPackageFault::Suite));
    }
    if leaf.extensions().iter().next().is_some() {
        return Err(refused(KeyPackageFault::Suite));
    }
    if package.life_time() != &always() {
        return Err(refused(KeyPackageFault::Lifetime));
    }
    let (from, until) = dates(&package).map_err(|_| refused(KeyPackageFault::Lifetime))?;
    let tolerance = limits::CERTIFICATE_TOLERANCE.as_secs();
    let now = now.as_secs();
    let begun = now.saturating_add(tolerance) >= from;
    let ended = now > until.saturating_add(tolerance);
    let too_long = until.saturating_sub(from) > limits::KEY_PACKAGE_AGE_MAX.as_secs();
    if !begun || ended || too_long {
        return Err(refused(KeyPackageFault::Lifetime));
    }
    Ok(package)
}

fn dates(package: &KeyPackage) -> Result<(u64, u64), EngineError> {
    let found = package.extensions().iter().find_map(|extension| match extension {
        Extension::Unknown(LIFETIME, UnknownExtension(dates)) => Some(dates.as_slice()),
        _ => None,
    });
    let dates: &[u8; 16] = found.and_then(|dates| dates.try_into().ok()).ok_or_else(|| malformed(()))?;
    let (from, until) = dates.split_at(8);
    let secs = |bytes: &[u8]| bytes.iter().fold(0, |secs: u64, byte| secs << 8 | u64::from(*byte));
    Ok((secs(from), secs(until)))
}

/// A key package as devices made them before groups had a policy, for tests.
#[cfg(test)]
pub(crate) fn of_before(cx: &mut crate::Context<'_, '_>, own: &Own<'_>) -> Result<Vec<u8>, EngineError> {
    let engine = super::MlsEngine::new();
    let chance = cx.chance.fork("mls");
    let provider = engine.provider(&*cx.rows, None, chance);
    let package = make(&provider, own, (false, former_capabilities(SUITE)), cx.now.wall)?;
    let changes = provider.store.into_changes();
    cx.rows.absorb(changes);
    Ok(package)
}
