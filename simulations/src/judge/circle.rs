//! Circles: groups whose members change, as the people in them are told.
//! Owns: for each of them, who may ever have become an admin, whom each member takes to be in it, and who was ever taken out.
//! Never: asks a node; a view changes with what its owner is told, in that order, and a text is meant for whom its author
//! took to be in the group when their node took it.

use std::collections::{BTreeMap, BTreeSet};

use whimbrel_protocol::id::ThreadId;

use crate::net::ProcessNo;

/// All groups that change.
#[derive(Debug, Default)]
pub(super) struct Circles {
    by_thread: BTreeMap<ThreadId, Circle>,
}

#[derive(Debug, Default)]
struct Circle {
    /// Whom each of them takes to be in it, themselves included.
    views: BTreeMap<ProcessNo, BTreeSet<ProcessNo>>,
    /// Who was to be taken out at some time, or asked for it.
    outs: BTreeSet<ProcessNo>,
    /// Who was in it at some time.
    ever: BTreeSet<ProcessNo>,
    /// Of whom the admin's node said that they are out, and whom nobody meant to take in since.
    gone: BTreeSet<ProcessNo>,
    /// Who made it, or was to be made an admin by one.
    admins: BTreeSet<ProcessNo>,
}

impl Circles {
    pub(super) fn is_circle(&self, thread: &ThreadId) -> bool {
        self.by_thread.contains_key(thread)
    }

    /// Somebody is told that they are in a group, with whom.
    pub(super) fn joined(&mut self, thread: ThreadId, who: ProcessNo, people: BTreeSet<ProcessNo>) {
        let circle = self.by_thread.entry(thread).or_default();
        circle.ever.extend(&people);
        circle.views.insert(who, people);
    }

    /// Somebody is told who came and who went.
    pub(super) fn changed(
        &mut self,
        thread: &ThreadId,
        who: ProcessNo,
        added: impl IntoIterator<Item = ProcessNo>,
        removed: impl IntoIterator<Item = ProcessNo>,
    ) {
        let Some(circle) = self.by_thread.get_mut(thread) else { return };
        let view = circle.views.entry(who).or_default();
        for one in added {
            view.insert(one);
            circle.ever.insert(one);
        }
        for one in removed {
            view.remove(&one);
        }
    }

    /// Somebody is told that they are out.
    pub(super) fn left(&mut self, thread: &ThreadId, who: ProcessNo) {
        if let Some(circle) = self.by_thread.get_mut(thread) {
            circle.views.remove(&who);
        }
    }

    /// Somebody is to be taken out, or asks for it.
    pub(super) fn out(&mut self, thread: &ThreadId, who: ProcessNo) {
        if let Some(circle) = self.by_thread.get_mut(thread) {
            circle.outs.insert(who);
        }
    }

    /// The admin's node said that somebody is out, or its owner is about to take them in.
    pub(super) fn taken(&mut self, thread: &ThreadId, who: ProcessNo, out: bool) {
        let Some(circle) = self.by_thread.get_mut(thread) else { return };
        if out {
            circle.gone.insert(who)
        } else {
            circle.gone.remove(&who)
        };
    }

    /// Of whom it was said that they are out, and has to be so.
    pub(super) fn gone(&self, thread: &ThreadId) -> BTreeSet<ProcessNo> {
        self.by_thread.get(thread).map(|circle| circle.gone.clone()).unwrap_or_default()
    }

    /// Whether somebody was ever to be taken out.
    pub(super) fn is_out(&self, thread: &ThreadId, who: ProcessNo) -> bool {
        self.by_thread.get(thread).is_some_and(|circle| circle.outs.contains(&who))
    }

    /// Somebody made it, or is to be made an admin by one.
    pub(super) fn may_be_admin(&mut self, thread: ThreadId, who: ProcessNo) {
        self.by_thread.entry(thread).or_default().admins.insert(who);
    }

    /// Who may ever have become an admin.
    pub(super) fn admins(&self, thread: &ThreadId) -> BTreeSet<ProcessNo> {
        self.by_thread.get(thread).map(|circle| circle.admins.clone()).unwrap_or_default()
    }

    /// Whether somebody may ever have become an admin.
    pub(super) fn was_admin(&self, thread: &ThreadId, who: ProcessNo) -> bool {
        self.by_thread.get(thread).is_some_and(|circle| circle.admins.contains(&who))
    }

    /// Whom somebody takes to be in it.
    pub(super) fn view(&self, thread: &ThreadId, who: ProcessNo) -> BTreeSet<ProcessNo> {
        self.by_thread.get(thread).and_then(|circle| circle.views.get(&who)).cloned().unwrap_or_default()
    }

    /// Who was in it at some time.
    pub(super) fn ever(&self, thread: &ThreadId) -> BTreeSet<ProcessNo> {
        self.by_thread.get(thread).map(|circle| circle.ever.clone()).unwrap_or_default()
    }
}
