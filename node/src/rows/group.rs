//! Rows about groups: openings, and changes of their members. Owns: their types and keys. Never: decides what to write.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use whimbrel_protocol::hub::{Commit, Newcomers};
use whimbrel_protocol::id::{AccountId, CommitHash, DeviceId, ParticipantsTag, PublicKey, ThreadId};
use whimbrel_protocol::policy::PolicyChange;
use whimbrel_protocol::thread::{Opening, Participant};
use whimbrel_protocol::time::Hlc;

use super::{Space, key};

/// An opening until the relay has it.
#[derive(Clone, Encode, Decode)]
#[cbor(map)]
pub(crate) struct OpeningRow {
    #[n(0)]
    pub(crate) opening: Opening,
    #[n(1)]
    pub(crate) tag: ParticipantsTag,
    /// Whose invite led here: a contact once the relay has it.
    #[n(2)]
    pub(crate) inviter: Option<AccountId>,
    /// For the hub: the public state beside the tree.
    #[n(3)]
    pub(crate) info: Option<ByteVec>,
}

/// A change of ours that the hub has not decided, as far as this device knows. The engine has it staged.
#[derive(Clone, Encode, Decode)]
#[cbor(map)]
pub(crate) struct ChangeRow {
    /// As it is handed in, however often.
    #[n(0)]
    pub(crate) commit: Commit,
    #[n(1)]
    pub(crate) newcomers: Option<Newcomers>,
    #[n(2)]
    pub(crate) hash: CommitHash,
    /// Whom it takes in: enough to make it anew when another commit wins.
    #[n(3)]
    pub(crate) invitees: Vec<InviteeRow>,
    /// Whom it takes away.
    #[n(4)]
    pub(crate) leaving: Vec<AccountId>,
    /// Devices of our own that it takes away.
    #[n(5)]
    #[cbor(default)]
    pub(crate) revoked: Vec<DeviceId>,
    /// Of a change by which this device goes on past commits that it cannot apply: who is in the thread where they lead to.
    #[n(6)]
    pub(crate) rejoins: Option<Vec<Participant>>,
    /// What it makes of the group's policy.
    #[n(7)]
    #[cbor(default)]
    pub(crate) policy: PolicyChange,
}

impl ChangeRow {
    /// Whether it changes nobody but renews the keys of this device.
    pub(crate) fn is_renewal(&self) -> bool {
        let nobody = self.invitees.is_empty() && self.leaving.is_empty() && self.revoked.is_empty();
        nobody && self.rejoins.is_none() && self.policy.is_nothing()
    }
}

/// A device to be taken in. Its KeyPackage is used up only by a commit that holds.
#[derive(Clone, Encode, Decode)]
#[cbor(map)]
pub(crate) struct InviteeRow {
    #[n(0)]
    pub(crate) device: DeviceId,
    #[n(1)]
    pub(crate) device_key: PublicKey,
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub(crate) key_package: Vec<u8>,
}

/// What a group is called.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub(crate) struct TitleRow {
    #[n(0)]
    pub(crate) text: String,
    /// When it was said: the latest holds.
    #[n(1)]
    pub(crate) hlc: Hlc,
}

/// The picture of a group, beside its row, which is written far more often.
#[derive(Clone, Encode, Decode)]
#[cbor(map)]
pub(crate) struct PictureRow {
    /// Absent: it was taken away.
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub(crate) bytes: Option<Vec<u8>>,
    /// When it was given: the latest holds.
    #[n(1)]
    pub(crate) hlc: Hlc,
}

pub(crate) fn picture_key(thread: &ThreadId) -> Vec<u8> {
    key(Space::Picture, &[thread.as_bytes()])
}

pub(crate) fn change_key(thread: &ThreadId) -> Vec<u8> {
    key(Space::Change, &[thread.as_bytes()])
}
