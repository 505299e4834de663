//! Transparency: heads that relays sign of their trees, and what follows from two of them.
//! Owns: making and reading a head, what a leaf says, whether one head goes on from another or gives the relay away.
//! Never: keeps a head, asks for one, reads a clock. Certificates are held to the moment the head was signed: it is evidence, and
//! has to hold when they have run out.
//! Rules: docs/protocol/transparency.md.

use minicbor::{Decode, Encode};
use sha2::{Digest, Sha256};
use whimbrel_protocol::canonical;
use whimbrel_protocol::frame::decode_words;
use whimbrel_protocol::id::{AccountId, Domain, LogHash, RelayId, TreeHash, TreeSalt};
use whimbrel_protocol::time::Wall;
use whimbrel_protocol::transparency::{HEAD_CONTEXT, Head, Inclusion, SignedHead, Step};

use crate::certificate::{self, CertificateError, RelayIdentity};
use crate::keys;
use crate::tree::{self, ProofError};

const SALT_CONTEXT: &[u8] = b"whimbrel tree salt 1\0";
const ACCOUNT_CONTEXT: &[u8] = b"whimbrel tree account 1\0";

/// Why a head is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeadError {
    /// It says nothing that a head says.
    #[error("malformed tree head")]
    Malformed,
    /// The certificates are no relay's.
    #[error("tree head: {0}")]
    Certificate(#[from] CertificateError),
    /// The signature is not that relay's.
    #[error("tree head signature not valid")]
    Signature,
}

/// A head that its relay signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifiedHead {
    relay: RelayId,
    domain: Domain,
    head: Head,
    signed: SignedHead,
}

/// How a head stands to an earlier one of the same relay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Succession {
    /// The earlier tree is the beginning of the later one.
    Grown,
    /// The relay signed two trees of which neither is the beginning of the other.
    TwoFaces,
}

/// Two heads of one relay that cannot both be of one tree, and what shows it: for anybody to check.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Evidence {
    /// The head of the smaller tree.
    #[n(0)]
    pub earlier: SignedHead,
    /// The head of the larger one.
    #[n(1)]
    pub later: SignedHead,
    /// What the larger tree has in the smaller one's place, by the relay's own proof.
    #[n(2)]
    pub step: Step,
}

/// Signs a head as a relay.
pub fn sign(identity: &RelayIdentity, head: &Head) -> SignedHead {
    let head = canonical::encode(head);
    let signature = identity.online_key().sign(HEAD_CONTEXT, &head);
    SignedHead { head, signature, chain: identity.chain().into_iter().map(Into::into).collect() }
}

/// Checks a head against the certificates it brings; whether they are the relay meant is the caller's to ask.
///
/// # Errors
/// It is malformed, not signed by the relay its certificates name, or signed when they did not hold.
pub fn verify(signed: &SignedHead) -> Result<VerifiedHead, HeadError> {
    let head: Head = decode_words(&signed.head).map_err(|_| HeadError::Malformed)?;
    let chain: Vec<&[u8]> = signed.chain.iter().map(|der| der.as_slice()).collect();
    let relay = certificate::verify_relay_chain(&chain, head.at)?;
    keys::verify(&relay.key, HEAD_CONTEXT, &signed.head, &signed.signature).map_err(|_| HeadError::Signature)?;
    Ok(VerifiedHead { relay: relay.id, domain: relay.domain, head, signed: signed.clone() })
}

/// A head that was verified before it was kept, as of a relay and a domain: its signature is not looked at again.
///
/// # Errors
/// What was kept says nothing that a head says.
pub fn kept(signed: &SignedHead, relay: RelayId, domain: &Domain) -> Result<VerifiedHead, HeadError> {
    let head: Head = decode_words(&signed.head).map_err(|_| HeadError::Malformed)?;
    Ok(VerifiedHead { relay, domain: domain.clone(), head, signed: signed.clone() })
}

/// The salt of an account in a relay's tree, from 16 random bytes that the relay keeps to itself.
pub fn salt(secret: &[u8; 16]) -> TreeSalt {
    let hash: [u8; 32] = Sha256::new().chain_update(SALT_CONTEXT).chain_update(secret).finalize().into();
    let mut salt = [0; TreeSalt::LEN];
    salt.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    TreeSalt::from_bytes(salt)
}

/// The leaf of one entry of an account's log. Without the salt nobody can tell whose it is.
pub fn leaf(salt: &TreeSalt, account: &AccountId, seq: u64, hash: &LogHash) -> TreeHash {
    let hidden = Sha256::new().chain_update(ACCOUNT_CONTEXT).chain_update(salt.as_bytes());
    let hidden: [u8; 32] = hidden.chain_update(account.as_bytes()).finalize().into();
    tree::leaf(&[hidden.as_slice(), &seq.to_be_bytes(), hash.as_bytes()].concat())
}

impl VerifiedHead {
    /// Which relay signed it.
    pub const fn relay(&self) -> RelayId {
        self.relay
    }

    /// The domain its certificates name.
    pub const fn domain(&self) -> &Domain {
        &self.domain
    }

    /// How many leaves the tree has.
    pub const fn size(&self) -> u64 {
        self.head.size
    }

    /// Their root.
    pub const fn root(&self) -> TreeHash {
        self.head.root
    }

    /// When it was signed, by the relay's clock.
    pub const fn at(&self) -> Wall {
        self.head.at
    }

    /// As it was signed.
    pub const fn signed(&self) -> &SignedHead {
        &self.signed
    }

    /// Checks that an entry of an account's log is in the tree.
    ///
    /// # Errors
    /// It is not, by this path.
    pub fn holds(&self, account: &AccountId, entry: &Inclusion) -> Result<(), ProofError> {
        let leaf = leaf(&entry.salt, account, entry.seq, &entry.hash);
        let root = tree::included(leaf, entry.index, self.head.size, &entry.path)?;
        if root == self.head.root { Ok(()) } else { Err(ProofError::Root) }
    }

    /// How this head stands to an earlier one of the same relay. The step is needed where the sizes differ.
    ///
    /// # Errors
    /// The step proves nothing about these two, or the earlier tree is the larger one.
    pub fn after(&self, earlier: &Self, step: Option<&Step>) -> Result<Succession, ProofError> {
        if earlier.relay != self.relay || earlier.head.size > self.head.size {
            return Err(ProofError::Place);
        }
        let before = if earlier.head.size == self.head.size {
            self.head.root
        } else if earlier.head.size == 0 {
            tree::empty()
        } else {
            let step = step.ok_or(ProofError::Length)?;
            let sizes = (earlier.head.size, self.head.size);
            if tree::consistent(step.root, sizes.0, sizes.1, &step.proof)? != (step.root, self.head.root) {
                return Err(ProofError::Root);
            }
            step.root
        };
        Ok(if before == earlier.head.root { Succession::Grown } else { Succession::TwoFaces })
    }
}

impl Evidence {
    /// Checks that the two heads give their relay away, and which one.
    ///
    /// # Errors
    /// They do not: one is no head, or they may be of one tree.
    pub fn verify(&self) -> Result<(RelayId, Domain), HeadError> {
        let (earlier, later) = (verify(&self.earlier)?, verify(&self.later)?);
        match later.after(&earlier, Some(&self.step)) {
            Ok(Succession::TwoFaces) => Ok((later.relay, later.domain)),
            Ok(Succession::Grown) | Err(_) => Err(HeadError::Malformed),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;
    use std::time::Duration;

    use super::*;
    use crate::keys::KeyPair;

    #[derive(Default)]
    struct Tree(BTreeMap<(u8, u64), TreeHash>, u64);

    impl tree::Nodes for Tree {
        type Error = Infallible;

        fn node(&self, level: u8, index: u64) -> Result<TreeHash, Infallible> {
            Ok(*self.0.get(&(level, index)).unwrap())
        }
    }

    impl Tree {
        fn of(leaves: &[TreeHash]) -> Self {
            let mut tree = Self::default();
            for leaf in leaves {
                for (level, index, hash) in tree::grown(&tree, tree.1, *leaf).unwrap() {
                    tree.0.insert((level, index), hash);
                }
                tree.1 += 1;
            }
            tree
        }

        fn head(&self, relay: u8, size: u64) -> VerifiedHead {
            let root = tree::root(self, size).unwrap();
            let at = Wall::from_millis(1_700_000_000_000 + size);
            verify(&sign(&identity(relay), &Head { size, root, at })).unwrap()
        }

        fn step(&self, old: u64, size: u64) -> Step {
            Step { root: tree::root(self, old).unwrap(), proof: tree::consistency(self, old, size).unwrap() }
        }
    }

    fn identity(relay: u8) -> RelayIdentity {
        let key = |n| KeyPair::from_seed_bytes([n; 32]);
        let domain = format!("r{relay}.example").parse().unwrap();
        RelayIdentity::create(&key(relay), &key(relay + 100), &domain, Wall::from_millis(1_700_000_000_000)).unwrap()
    }

    fn account(n: u8) -> AccountId {
        AccountId::from_bytes([n; 32])
    }

    fn leaves(count: u8, hash: u8) -> Vec<TreeHash> {
        let hash = |n| LogHash::from_bytes([if n == 2 { hash } else { n }; 32]);
        (0..count).map(|n| leaf(&salt(&[n; 16]), &account(n), 1, &hash(n))).collect()
    }

    #[test]
    fn a_head_is_its_relays_and_says_what_was_signed() {
        let tree = Tree::of(&leaves(5, 0));
        let head = tree.head(1, 5);
        assert_eq!((head.relay(), head.domain().as_str(), head.size()), (identity(1).id(), "r1.example", 5));
        let mut changed = head.signed().clone();
        *changed.head.last_mut().unwrap() ^= 1;
        assert_eq!(verify(&changed), Err(HeadError::Signature));
        let other = SignedHead { chain: tree.head(2, 5).signed().chain.clone(), ..head.signed().clone() };
        assert_eq!(verify(&other), Err(HeadError::Signature));
        let cut = SignedHead { chain: other.chain.into_iter().take(1).collect(), ..head.signed().clone() };
        assert_eq!(verify(&cut), Err(HeadError::Certificate(CertificateError::Length { found: 1 })));
        let head = SignedHead { head: vec![0xa0], ..head.signed().clone() };
        assert_eq!(verify(&head), Err(HeadError::Malformed));
    }

    #[test]
    fn an_entry_is_found_under_its_account_place_and_hash_alone() {
        let tree = Tree::of(&leaves(5, 0));
        let head = tree.head(1, 5);
        let path = tree::inclusion(&tree, 3, 5).unwrap().unwrap();
        let entry = Inclusion { index: 3, salt: salt(&[3; 16]), seq: 1, hash: LogHash::from_bytes([3; 32]), path };
        assert_eq!(head.holds(&account(3), &entry), Ok(()));
        assert_eq!(head.holds(&account(4), &entry), Err(ProofError::Root));
        for wrong in [
            Inclusion { seq: 2, ..entry.clone() },
            Inclusion { hash: LogHash::from_bytes([4; 32]), ..entry.clone() },
            Inclusion { salt: salt(&[4; 16]), ..entry.clone() },
            Inclusion { index: 2, ..entry.clone() },
        ] {
            assert_eq!(head.holds(&account(3), &wrong), Err(ProofError::Root), "{wrong:?}");
        }
    }

    #[test]
    fn two_trees_of_one_relay_give_it_away_whichever_is_larger() {
        let (tree, other) = (Tree::of(&leaves(9, 0)), Tree::of(&leaves(9, 99)));
        for old in 1..=9 {
            let earlier = tree.head(1, old);
            let step = tree.step(old, 9);
            assert_eq!(tree.head(1, 9).after(&earlier, Some(&step)), Ok(Succession::Grown), "{old}");
            let (step, later) = (other.step(old, 9), other.head(1, 9));
            // What differs is the third leaf.
            let expected = if old < 3 { Succession::Grown } else { Succession::TwoFaces };
            assert_eq!(later.after(&earlier, Some(&step)), Ok(expected), "{old}");
            let evidence = Evidence { earlier: earlier.signed().clone(), later: later.signed().clone(), step };
            let proved = evidence.verify();
            assert_eq!(proved.is_ok(), old >= 3, "{old}: {proved:?}");
            if let Ok((relay, domain)) = proved {
                assert_eq!((relay, domain.as_str()), (identity(1).id(), "r1.example"));
            }
        }
    }

    #[test]
    fn nobody_is_given_away_by_another_relays_head_or_by_a_step_that_proves_nothing() {
        let tree = Tree::of(&leaves(9, 0));
        let (earlier, later) = (tree.head(1, 6), tree.head(1, 9));
        let lie = Step { root: TreeHash::from_bytes([7; 32]), ..tree.step(6, 9) };
        assert_eq!(later.after(&earlier, Some(&lie)), Err(ProofError::Root));
        assert_eq!(later.after(&earlier, None), Err(ProofError::Length));
        assert_eq!(earlier.after(&later, None), Err(ProofError::Place));
        assert_eq!(tree.head(2, 9).after(&earlier, Some(&tree.step(6, 9))), Err(ProofError::Place));
        let evidence = Evidence { earlier: earlier.signed().clone(), later: later.signed().clone(), step: lie };
        evidence.verify().unwrap_err();
        let at = later.at();
        let nothing = verify(&sign(&identity(1), &Head { size: 0, root: tree::empty(), at })).unwrap();
        assert_eq!(later.after(&nothing, None), Ok(Succession::Grown));
    }

    #[test]
    fn a_head_that_says_it_was_signed_when_its_certificates_did_not_hold_is_none() {
        let head = Head { size: 0, root: tree::empty(), at: identity(1).online_until().unwrap() };
        verify(&sign(&identity(1), &head)).unwrap();
        for away in [Duration::from_secs(30 * 86_400), Duration::from_secs(365 * 86_400)] {
            let at = Wall::from_millis(head.at.as_millis() + u64::try_from(away.as_millis()).unwrap());
            let dates = Err(HeadError::Certificate(CertificateError::Dates));
            assert_eq!(verify(&sign(&identity(1), &Head { at, ..head })), dates, "{away:?}");
        }
        let dates = verify(&sign(&identity(1), &Head { at: Wall::default(), ..head }));
        assert_eq!(dates, Err(HeadError::Certificate(CertificateError::Dates)));
    }
}
