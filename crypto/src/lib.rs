//! Keys and ciphertext: identity, account log, relay identity, MLS threads, sealing.
//! Owns: what is signed, how it is verified, and the engine that seals threads. Every primitive is a kept library's.
//! Never: input or output, a clock, an operating system's entropy; all chance is handed in ([`chance`]).
//! Rules: docs/protocol/identity.md, links.md, thread.md.

pub mod account_log;
pub mod backup;
pub mod certificate;
pub mod chance;
#[cfg(test)]
mod contract;
pub mod engine;
mod fixed;
pub mod key_package;
pub mod keys;
pub mod link;
pub mod linking;
pub mod mls;
pub mod padding;
pub mod participants;
pub mod pass;
pub mod public;
pub mod receipt;
pub mod recovery;
pub mod safety;
pub mod seal;
pub mod settings;
pub mod siblings;
pub mod signal;
pub mod signed;
#[cfg(feature = "stand-in")]
pub mod stand_in;
pub mod transparency;
pub mod tree;
pub mod warrant;

pub use account_log::{AccountLog, Device, LogError, Relation, TransportProof, UnverifiedLog};
pub use certificate::{CertificateError, RelayIdentity, VerifiedRelay};
pub use chance::{Chance, Seed};
pub use engine::{
    Applied, Authenticator, Change, Commit, Context, Created, Engine, EngineError, Invitee, Joined, KeyPackageFault,
    Opened, Own, SealMark, Sealed,
};
pub use keys::{KeyPair, SignatureError, verify};
pub use linking::{LinkingChannel, LinkingCode, LinkingError, LinkingHandshake};
pub use mls::{MlsEngine, MlsPublic};
pub use participants::ParticipantsKey;
pub use public::{Proved, PublicEngine, PublicGroup};
pub use recovery::{RecoveryError, RecoveryHash, RecoveryPhrase};
pub use safety::SafetyNumber;
pub use seal::{Check, KeyId, KeyShape, SealKey, SealedKv, Shapes};
pub use settings::SettingsKey;
pub use siblings::SiblingKey;
pub use signal::SignalKey;
#[cfg(feature = "stand-in")]
pub use stand_in::{StandInEngine, StandInPublic};
pub use transparency::{HeadError, VerifiedHead};
