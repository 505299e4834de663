//! Policy: who may do what in a group.
//! Owns: what it says, and the one rule by which a hub and every member hold a commit to it.
//! Never: knows where it is kept (in the group context, RFC 9420 §8.1: `crypto`), or of which epoch it is; the caller does.
//! Rules: docs/protocol/hub.md 33 to 37.

use std::collections::BTreeSet;

use minicbor::{Decode, Encode};

use crate::frame::{Bound, Words};
use crate::hub::Commit;
use crate::id::{AccountId, DeviceId};
use crate::limits;
use crate::thread::Founding;

/// Who may do something that not only admins need do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Encode, Decode)]
#[cbor(index_only)]
pub enum Who {
    /// Admins alone.
    #[default]
    #[n(0)]
    Admins,
    /// Every member.
    #[n(1)]
    Members,
}

/// Who may do what in a group. It is part of the group's state: it changes with a commit, and holds for the commits of the
/// epochs that follow.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Policy {
    /// They take people out, say who else is an admin, and decide what is left to nobody else. Ascending, one at least.
    #[n(0)]
    pub admins: Vec<AccountId>,
    /// Who takes people in.
    #[n(1)]
    pub adds: Who,
    /// Who says what the group is called.
    #[n(2)]
    pub renames: Who,
}

impl Policy {
    /// The policy of a group that has not been given one: its creator is the admin, and nobody else may do anything.
    pub fn founding(founding: &Founding) -> Self {
        Self { admins: vec![founding.creator], adds: Who::Admins, renames: Who::Admins }
    }

    /// Whether somebody is an admin.
    pub fn is_admin(&self, account: &AccountId) -> bool {
        self.admins.binary_search(account).is_ok()
    }

    /// Whether somebody may take people in.
    pub fn may_add(&self, account: &AccountId) -> bool {
        self.adds == Who::Members || self.is_admin(account)
    }

    /// Whether somebody may say what the group is called.
    pub fn may_rename(&self, account: &AccountId) -> bool {
        self.renames == Who::Members || self.is_admin(account)
    }

    fn permits(&self, by: &AccountId, commit: &Commit, sets: Option<&Self>, due: &BTreeSet<DeviceId>) -> bool {
        let adds = commit.added.iter().all(|one| one.account == *by || self.may_add(by));
        let goes = |device: &DeviceId| device.account == *by || due.contains(device);
        let removes = self.is_admin(by) || commit.removed.iter().all(goes);
        adds && removes && (sets.is_none() || self.is_admin(by))
    }

    fn is_of(&self, members: &BTreeSet<AccountId>) -> bool {
        self.admins.iter().all(|admin| members.contains(admin))
    }
}

/// Whether a member may make a commit, by the policy of the epoch it is made in (absent: the group has been given none), if it
/// sets the policy `sets` and leads to these members. The devices in `due` are to go by what comes with the commit, whoever it
/// is by.
///
/// Everybody sees to the devices of their own account; nobody takes anybody else in where the people are fixed. Every admin is
/// among the members it leads to: else who comes back would be an admin by what was said of them before, and a group whose
/// admins are all gone could not change.
pub fn permits(
    founding: &Founding,
    policy: Option<&Policy>,
    by: &AccountId,
    commit: &Commit,
    sets: Option<&Policy>,
    members: &BTreeSet<AccountId>,
    due: &BTreeSet<DeviceId>,
) -> bool {
    if founding.fixed {
        let adds = commit.added.iter().all(|one| one.account == *by);
        let removes = commit.removed.iter().all(|device| device.account == *by || due.contains(device));
        return sets.is_none() && policy.is_none() && adds && removes;
    }
    let founded;
    let policy = match policy {
        Some(policy) => policy,
        None => {
            founded = Policy::founding(founding);
            &founded
        }
    };
    policy.permits(by, commit, sets, due) && sets.unwrap_or(policy).is_of(members)
}

impl Words for Policy {
    fn check(&self) -> Result<(), Bound> {
        Bound::items("admins", self.admins.len(), limits::ADMINS_MAX)?;
        let ascending = !self.admins.is_empty() && self.admins.is_sorted_by(|a, b| a < b);
        if ascending { Ok(()) } else { Err(Bound::order("admins")) }
    }
}

/// What is to become of a policy: made of the policy that holds, whenever that is.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
#[cbor(map)]
pub struct PolicyChange {
    /// Who becomes an admin, ascending.
    #[n(0)]
    pub admins: Vec<AccountId>,
    /// Who is none any more, ascending.
    #[n(1)]
    pub members: Vec<AccountId>,
    /// Who takes people in from then on.
    #[n(2)]
    pub adds: Option<Who>,
    /// Who says what the group is called.
    #[n(3)]
    pub renames: Option<Who>,
}

impl PolicyChange {
    /// Whether there is nothing in it.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// What it makes of a policy.
    pub fn of(&self, before: &Policy) -> Policy {
        let mut admins: BTreeSet<AccountId> = before.admins.iter().copied().collect();
        admins.extend(self.admins.iter().copied());
        admins.retain(|account| !self.members.contains(account));
        Policy {
            admins: admins.into_iter().collect(),
            adds: self.adds.unwrap_or(before.adds),
            renames: self.renames.unwrap_or(before.renames),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use crate::id::{DeviceIndex, Domain, Epoch, RelayId, ThreadId};
    use crate::thread::Participant;

    fn account(number: u8) -> AccountId {
        AccountId::from_bytes([number; 32])
    }

    fn commit(added: &[u8], removed: &[u8]) -> Commit {
        let index = DeviceIndex::new(0);
        let domain = "a.example".parse::<Domain>().unwrap();
        let newcomer = |one: &u8| Participant { account: account(*one), domain: domain.clone(), devices: vec![index] };
        Commit {
            thread: ThreadId::from_bytes([0; 32]),
            term: 1,
            epoch: Epoch::new(1),
            bytes: Vec::new(),
            added: added.iter().map(newcomer).collect(),
            removed: removed.iter().map(|one| DeviceId { account: account(*one), index }).collect(),
            info: Vec::new(),
            warrant: None,
        }
    }

    fn none() -> BTreeSet<DeviceId> {
        BTreeSet::new()
    }

    fn policy(admins: &[u8]) -> Policy {
        Policy { admins: admins.iter().map(|one| account(*one)).collect(), adds: Who::Admins, renames: Who::Admins }
    }

    #[test]
    fn a_member_sees_to_their_own_devices_and_an_admin_to_everybodys() {
        let policy = policy(&[1, 3]);
        for (by, added, removed, may) in [
            (2, &[2][..], &[2][..], true),
            (2, &[4], &[], false),
            (2, &[], &[4], false),
            (1, &[4], &[2], true),
            (3, &[], &[1], true),
        ] {
            assert_eq!(
                policy.permits(&account(by), &commit(added, removed), None, &none()),
                may,
                "{by} {added:?} {removed:?}"
            );
        }
    }

    #[test]
    fn whoever_takes_out_what_is_due_need_be_no_admin_and_takes_out_nothing_else() {
        let due = BTreeSet::from([commit(&[], &[4]).removed[0]]);
        let (policy, members) = (policy(&[1]), BTreeSet::from([account(1), account(2), account(3)]));
        assert!(policy.permits(&account(2), &commit(&[], &[4]), None, &due));
        assert!(policy.permits(&account(2), &commit(&[2], &[2, 4]), None, &due));
        assert!(!policy.permits(&account(2), &commit(&[], &[3, 4]), None, &due));
        assert!(!policy.permits(&account(2), &commit(&[4], &[4]), None, &due));
        let mut founding =
            Founding { creator: account(1), hub: RelayId::from_bytes([0; 32]), nonce: [0; 32], fixed: true };
        let may =
            |founding: &Founding, due| permits(founding, None, &account(2), &commit(&[], &[4]), None, &members, due);
        assert!(may(&founding, &due) && !may(&founding, &none()));
        // An admin is in the group as long as they are its admin.
        founding.fixed = false;
        let left = BTreeSet::from([account(2)]);
        let may = |gone| permits(&founding, Some(&policy), &account(2), &commit(&[], &[gone]), None, &left, &due);
        assert!(!may(4));
    }

    #[test]
    fn nobody_makes_themselves_an_admin() {
        let (before, after) = (policy(&[1]), policy(&[1, 2]));
        assert!(!before.permits(&account(2), &commit(&[], &[]), Some(&after), &none()));
        assert!(before.permits(&account(1), &commit(&[], &[]), Some(&after), &none()));
    }

    #[test]
    fn where_members_take_people_in_they_still_take_nobody_out() {
        let policy = Policy { adds: Who::Members, ..policy(&[1]) };
        assert!(policy.permits(&account(2), &commit(&[5], &[]), None, &none()));
        assert!(!policy.permits(&account(2), &commit(&[5], &[4]), None, &none()));
        assert!(policy.may_add(&account(2)) && !policy.may_rename(&account(2)));
    }

    #[test]
    fn a_commit_leads_to_no_admin_who_is_not_a_member() {
        let founding =
            Founding { creator: account(1), hub: RelayId::from_bytes([0; 32]), nonce: [0; 32], fixed: false };
        let members = BTreeSet::from([account(1), account(2)]);
        let (before, gone) = (policy(&[1, 3]), commit(&[], &[3]));
        let may =
            |sets: Option<&Policy>| permits(&founding, Some(&before), &account(1), &gone, sets, &members, &none());
        assert!(!may(None) && !may(Some(&policy(&[1, 2, 3]))));
        assert!(may(Some(&policy(&[1]))) && may(Some(&policy(&[2]))));
    }

    #[test]
    fn a_group_without_a_policy_is_its_creators_and_a_conversation_of_fixed_people_nobodys() {
        let mut founding =
            Founding { creator: account(1), hub: RelayId::from_bytes([0; 32]), nonce: [0; 32], fixed: false };
        let members = BTreeSet::from([account(1), account(2)]);
        let may = |founding: &Founding, by, sets: Option<&Policy>, what: &Commit| {
            permits(founding, None, &account(by), what, sets, &members, &none())
        };
        assert!(may(&founding, 1, Some(&policy(&[1, 2])), &commit(&[], &[3])));
        assert!(!may(&founding, 2, None, &commit(&[], &[3])));
        founding.fixed = true;
        assert!(!may(&founding, 1, None, &commit(&[], &[3])));
        assert!(!may(&founding, 1, Some(&policy(&[1])), &commit(&[], &[])));
        assert!(may(&founding, 2, None, &commit(&[2], &[2])));
    }

    #[test]
    fn a_policy_has_an_admin_and_each_once_and_not_too_many() {
        assert!(policy(&[1, 2]).check().is_ok());
        assert!(policy(&[]).check().is_err());
        assert!(policy(&[2, 1]).check().is_err());
        assert!(policy(&[1, 1]).check().is_err());
        let many = Policy {
            admins: (0..=limits::ADMINS_MAX as u16)
                .map(|n| AccountId::from_bytes([n.to_be_bytes(); 16].concat().try_into().unwrap()))
                .collect(),
            ..policy(&[1])
        };
        assert!(many.check().is_err());
    }

    #[test]
    fn a_change_is_made_of_what_holds() {
        let change = PolicyChange { admins: vec![account(2)], members: vec![account(1)], ..PolicyChange::default() };
        assert_eq!(change.of(&policy(&[1, 3])), policy(&[2, 3]));
        let change = PolicyChange { adds: Some(Who::Members), ..PolicyChange::default() };
        let after = change.of(&policy(&[1]));
        assert_eq!((after.adds, after.renames), (Who::Members, Who::Admins));
    }
}
