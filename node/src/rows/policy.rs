//! Policies of a group, as its row has them: who may do what in it, epoch by epoch.
//! Owns: which one holds for what was said or done in an epoch. Never: decides whether something may be done.
//! Limits: `limits::POLICIES_MAX`.

use minicbor::{Decode, Encode};
use whimbrel_protocol::id::{AccountId, Epoch};
use whimbrel_protocol::limits;
use whimbrel_protocol::policy::Policy;

use super::ThreadRow;

/// A policy, and the epoch from which it holds.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub(crate) struct PolicyRow {
    #[n(0)]
    pub(crate) from: Epoch,
    #[n(1)]
    pub(crate) policy: Policy,
}

impl ThreadRow {
    /// The policy that the group has been given, in its present epoch.
    pub(crate) fn given_policy(&self) -> Option<&Policy> {
        self.policies.last().map(|row| &row.policy)
    }

    /// The policy of the present epoch; absent where the people are fixed.
    pub(crate) fn policy(&self) -> Option<Policy> {
        self.policy_in(self.epoch)
    }

    /// The policy of an epoch. Absent where the people are fixed, and of an epoch so long past that it is forgotten: nobody
    /// may do then what not everybody may.
    pub(crate) fn policy_in(&self, epoch: Epoch) -> Option<Policy> {
        let founding = self.founding.filter(|founding| !founding.fixed)?;
        match self.policies.iter().rev().find(|row| row.from <= epoch) {
            Some(row) => Some(row.policy.clone()),
            None if self.policies.len() < limits::POLICIES_MAX => Some(Policy::founding(&founding)),
            None => None,
        }
    }

    /// Takes the policy of the present epoch. Says whether it is another than before.
    pub(crate) fn hold_policy(&mut self, policy: Option<Policy>) -> bool {
        let Some(policy) = policy.filter(|policy| self.given_policy() != Some(policy)) else { return false };
        self.policies.push(PolicyRow { from: self.epoch, policy });
        if self.policies.len() > limits::POLICIES_MAX {
            self.policies.remove(0);
        }
        true
    }

    /// Whether somebody is an admin of this group now.
    pub(crate) fn is_admin(&self, account: &AccountId) -> bool {
        self.policy().is_some_and(|policy| policy.is_admin(account))
    }
}
