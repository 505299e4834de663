//! Path: the public keys that a commit puts into the inner nodes of the tree (RFC 9420 §7.6), and what a key must be.
//! Owns: where they stand in a commit's bytes, for the library shows the leaf alone of the path it has read; and the
//! confirmation tag, which it does not show either.
//! Never: judges a message; what comes here the library has taken.

use openmls::prelude::LeafNode;
use openmls::prelude::tls_codec::{Deserialize, Serialize, Size, VLBytes};
use x_wing::TryKeyInit;

use super::errors::malformed;
use crate::engine::EngineError;

/// Whether others can seal to a key: one of the suite's KEM, ML-KEM-768 with X25519 (draft-connolly-cfrg-xwing-kem §5.4), of
/// its length and with every coefficient in range (FIPS 203 §7.2).
pub(super) fn is_key(key: &[u8]) -> bool {
    x_wing::EncapsulationKey::new_from_slice(key).is_ok()
}

/// Whether others can seal to a node of the tree, a leaf or an inner one: its key is the first thing in it (RFC 9420 §7.1,
/// §7.2).
pub(super) fn is_sealable(node: &impl Serialize) -> bool {
    let Ok(bytes) = node.tls_serialize_detached() else { return false };
    vector(&mut bytes.as_slice()).is_ok_and(|key| is_key(key.as_slice()))
}

/// What a commit's bytes say that the library does not show.
pub(super) struct Shown {
    /// The keys of the inner nodes in its path.
    pub(super) keys: Vec<VLBytes>,
    /// Its confirmation tag.
    pub(super) tag: Vec<u8>,
}

/// Reads on in a commit, of which the library shows this leaf: of a member, or of somebody who comes from without.
///
/// # Errors
/// [`EngineError::Malformed`]: it is not laid out as RFC 9420 §6 and §12.4 have it.
pub(super) fn shown(commit: &[u8], leaf: Option<&LeafNode>, of_member: bool) -> Result<Shown, EngineError> {
    let rest = &mut &*commit;
    // Version and wire format; the group; epoch, kind and place of the sender; what is authenticated beside; content type.
    skip(rest, 2 + 2)?;
    vector(rest)?;
    skip(rest, 8 + 1 + if of_member { 4 } else { 0 })?;
    vector(rest)?;
    skip(rest, 1)?;
    // Proposals; that there is a path; its leaf; its nodes.
    vector(rest)?;
    skip(rest, 1)?;
    let mut keys = Vec::new();
    if let Some(leaf) = leaf {
        skip(rest, leaf.tls_serialized_len())?;
        let nodes = vector(rest)?;
        let rest = &mut nodes.as_slice();
        while !rest.is_empty() {
            keys.push(vector(rest)?);
            // What is sealed to those below.
            vector(rest)?;
        }
    }
    // The signature; the tag.
    vector(rest)?;
    Ok(Shown { keys, tag: vector(rest)?.into() })
}

fn skip(rest: &mut &[u8], count: usize) -> Result<(), EngineError> {
    *rest = rest.get(count..).ok_or(EngineError::Malformed)?;
    Ok(())
}

fn vector(rest: &mut &[u8]) -> Result<VLBytes, EngineError> {
    VLBytes::tls_deserialize(rest).map_err(malformed)
}
