//! Policy: where a group's policy lies in MLS, as an extension of the group context (RFC 9420 §8.1, §13.4).
//! Owns: its form there, and who must know of it. Never: judges who may change it.
//!
//! A context has none, or exactly two extensions: ours, and the RequiredCapabilities (§11.1) without which it is not allowed.

use openmls::group::MlsGroup;
use openmls::prelude::{
    Extension, ExtensionType, Extensions, GroupContext, KeyPackage, Proposal, RequiredCapabilitiesExtension,
    UnknownExtension,
};
use whimbrel_protocol::canonical;
use whimbrel_protocol::frame::{self, Words as _};
use whimbrel_protocol::policy::Policy;

use super::errors::library;
use super::leaf;
use crate::engine::{Change, EngineError};

/// The extension's type; of the private-use range (RFC 9420 §17.3).
pub(super) const POLICY: u16 = 0xf7a2;

fn required() -> RequiredCapabilitiesExtension {
    RequiredCapabilitiesExtension::new(&[ExtensionType::Unknown(POLICY)], &[], &[])
}

/// A policy as the extensions of a group context.
pub(super) fn extensions(policy: &Policy) -> Result<Extensions<GroupContext>, EngineError> {
    let words = UnknownExtension(canonical::encode(policy));
    Extensions::from_vec(vec![Extension::RequiredCapabilities(required()), Extension::Unknown(POLICY, words)])
        .map_err(library)
}

/// The policy in the extensions of a group context, if there is one.
///
/// # Errors
/// [`EngineError::Untrusted`]: there is something else.
pub(super) fn read(extensions: &Extensions<GroupContext>) -> Result<Option<Policy>, EngineError> {
    let all: Vec<_> = extensions.iter().collect();
    match all[..] {
        [] => Ok(None),
        [Extension::RequiredCapabilities(capabilities), Extension::Unknown(POLICY, UnknownExtension(words))]
            if *capabilities == required() =>
        {
            frame::decode_words(words).map(Some).map_err(|_| EngineError::Untrusted)
        }
        _ => Err(EngineError::Untrusted),
    }
}

/// The policy that a commit of these proposals sets, if it sets one.
///
/// # Errors
/// As [`read`]; [`EngineError::Untrusted`]: it takes the policy away.
pub(super) fn set<'p>(proposals: impl Iterator<Item = &'p Proposal>) -> Result<Option<Policy>, EngineError> {
    let mut found = None;
    for proposal in proposals {
        if let Proposal::GroupContextExtensions(new) = proposal {
            found = Some(read(new.extensions())?.ok_or(EngineError::Untrusted)?);
        }
    }
    Ok(found)
}

/// Whether everybody who is in the group after a change of ours knows of policies, if it has one then: the library says of it
/// only that it cannot be. It asks the leaves of the epoch that ends, our own and those that go among them.
///
/// # Errors
/// [`EngineError::Outdated`]; [`EngineError::Untrusted`]: the policy to be is none.
pub(super) fn check(group: &MlsGroup, change: &Change<'_>, adds: &[KeyPackage]) -> Result<(), EngineError> {
    if change.policy.is_some_and(|policy| policy.check().is_err()) {
        return Err(EngineError::Untrusted);
    }
    let has = read(group.extensions())?.is_some();
    if !has && change.policy.is_none() {
        return Ok(());
    }
    let newcomers = adds.iter().map(KeyPackage::leaf_node);
    let present = group.treesync().full_leaves().map(|(_, leaf)| leaf).filter(|_| !has);
    let ignorant = newcomers.chain(present).filter(|leaf| !leaf::knows_policy(leaf));
    match ignorant.filter_map(|leaf| leaf::device(leaf.credential())).next() {
        Some(device) => Err(EngineError::Outdated(device)),
        None => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use whimbrel_protocol::id::AccountId;
    use whimbrel_protocol::policy::Who;

    use super::*;

    fn unknown(kind: u16, words: &[u8]) -> Extension {
        Extension::Unknown(kind, UnknownExtension(words.to_vec()))
    }

    #[test]
    fn t37_only_a_policy_in_its_one_form_is_read() {
        let account = AccountId::from_bytes([1; 32]);
        let policy = Policy { admins: vec![account], adds: Who::Admins, renames: Who::Members };
        assert_eq!(read(&extensions(&policy).unwrap()).unwrap(), Some(policy.clone()));
        let words = canonical::encode(&policy);
        let twice = canonical::encode(&Policy { admins: vec![account; 2], ..policy.clone() });
        let more = [&words[..], &[0]].concat();
        let required = || Extension::RequiredCapabilities(required());
        let other = RequiredCapabilitiesExtension::new(&[], &[], &[]);
        let bad = [
            vec![unknown(POLICY, &words)],
            vec![required()],
            vec![unknown(POLICY, &words), required()],
            vec![Extension::RequiredCapabilities(other), unknown(POLICY, &words)],
            vec![required(), unknown(POLICY + 1, &words)],
            vec![required(), unknown(POLICY, &words), unknown(POLICY + 1, &words)],
            vec![required(), unknown(POLICY, &twice)],
            vec![required(), unknown(POLICY, &more)],
            vec![required(), unknown(POLICY, &[])],
        ];
        for (number, one) in bad.into_iter().enumerate() {
            let read = read(&Extensions::from_vec(one).unwrap());
            assert!(matches!(read, Err(EngineError::Untrusted)), "{number}: {read:?}");
        }
    }
}
