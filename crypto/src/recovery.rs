//! Recovery: the 24 words that bring an account back when every device is lost.
//! Owns: the phrase, the key it stands for, and the hash the account log commits to.
//! Never: stored by a node; it is shown once and typed in again.
//! Source: BIP-39, English list, 256 bits of entropy; the words are the key's 32 bytes, no password stretching (their
//! entropy needs none).

use std::fmt;

use bip39::{Language, Mnemonic};
use sha2::{Digest, Sha256};
use whimbrel_protocol::id::PublicKey;
use zeroize::Zeroizing;

use crate::chance::Chance;
use crate::keys::KeyPair;

/// How many words a phrase has.
pub const WORDS: usize = 24;

/// SHA-256 of the recovery key's public half: what the account log commits to before the key is ever shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecoveryHash([u8; 32]);

impl RecoveryHash {
    /// Wraps a hash read from an account log.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// What a recovery key hashes to.
    pub fn of(key: &PublicKey) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }

    /// The hash's bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Why a text is no recovery phrase. Never repeats what was typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecoveryError {
    /// Not 24 words.
    #[error("a recovery phrase has {WORDS} words, this has {found}")]
    WordCount {
        /// How many there are.
        found: usize,
    },
    /// A word that is not in the list.
    #[error("word {position} is not in the list")]
    UnknownWord {
        /// Which word, from 1.
        position: usize,
    },
    /// Every word is known, but together they are no phrase: two are swapped, or one is another word.
    #[error("the words do not fit together; check their order and spelling")]
    Checksum,
}

/// 24 words that stand for the recovery key. Wiped when dropped.
#[derive(Clone)]
pub struct RecoveryPhrase(Mnemonic);

impl RecoveryPhrase {
    /// A fresh phrase.
    pub fn generate(chance: &mut Chance) -> Self {
        let entropy = Zeroizing::new(chance.bytes::<32>());
        let phrase = Mnemonic::from_entropy_in(Language::English, &entropy[..]);
        // 256 bits are one of the lengths BIP-39 knows.
        #[expect(clippy::expect_used, reason = "a fixed, valid length")]
        Self(phrase.expect("32 bytes of entropy make a phrase"))
    }

    /// Reads a phrase as typed: any white space between words, upper or lower case.
    ///
    /// # Errors
    /// Wrong number of words, a word outside the list, or words that do not fit together.
    pub fn parse(text: &str) -> Result<Self, RecoveryError> {
        let found = text.split_whitespace().count();
        if found != WORDS {
            return Err(RecoveryError::WordCount { found });
        }
        let text = Zeroizing::new(text.to_lowercase());
        match Mnemonic::parse_in_normalized(Language::English, &text) {
            Ok(phrase) => Ok(Self(phrase)),
            Err(bip39::Error::UnknownWord(index)) => Err(RecoveryError::UnknownWord { position: index + 1 }),
            Err(_) => Err(RecoveryError::Checksum),
        }
    }

    /// The words, to be written down.
    pub fn words(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.0.words()
    }

    /// The recovery key.
    pub fn key_pair(&self) -> KeyPair {
        let entropy = Zeroizing::new(self.0.to_entropy());
        let secret = Sha256::new().chain_update(b"whimbrel recovery key 1\0").chain_update(&entropy[..]).finalize();
        KeyPair::from_seed_bytes(secret.into())
    }

    /// What the account log commits to.
    pub fn recovery_hash(&self) -> RecoveryHash {
        RecoveryHash::of(&self.key_pair().public())
    }
}

impl fmt::Debug for RecoveryPhrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoveryPhrase(…)")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use crate::chance::Seed;

    fn phrase() -> RecoveryPhrase {
        RecoveryPhrase::generate(&mut Chance::from_seed(Seed::from_bytes([4; 32])))
    }

    #[test]
    fn a_phrase_typed_in_again_gives_the_same_key() {
        let words: Vec<_> = phrase().words().collect();
        assert_eq!(words.len(), WORDS);
        let typed = RecoveryPhrase::parse(&words.join(" \n ").to_uppercase()).unwrap();
        assert_eq!(typed.key_pair().public(), phrase().key_pair().public());
        assert_eq!(typed.recovery_hash(), phrase().recovery_hash());
    }

    #[test]
    fn a_mistyped_phrase_says_what_is_wrong_without_repeating_it() {
        let words: Vec<_> = phrase().words().collect();
        assert_eq!(RecoveryPhrase::parse(&words[..23].join(" ")).unwrap_err(), RecoveryError::WordCount { found: 23 });
        let mut wrong = words.clone();
        wrong[2] = "whimbrel";
        assert_eq!(RecoveryPhrase::parse(&wrong.join(" ")).unwrap_err(), RecoveryError::UnknownWord { position: 3 });
        let mut swapped = words;
        swapped.swap(0, 1);
        assert_eq!(RecoveryPhrase::parse(&swapped.join(" ")).unwrap_err(), RecoveryError::Checksum);
        assert_eq!(format!("{:?}", phrase()), "RecoveryPhrase(…)");
    }

    #[test]
    fn the_first_phrase_of_the_standard_is_read() {
        // BIP-39 test vector: 256 zero bits.
        let text = format!("{} art", ["abandon"; 23].join(" "));
        assert_eq!(RecoveryPhrase::parse(&text).unwrap().words().last(), Some("art"));
    }
}
