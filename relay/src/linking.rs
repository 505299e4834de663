//! Linking: a device that is to come and one that speaks for its account, brought together.
//! Owns: who meets where, in memory alone, and how much they may say.
//! Never: reads what they say, knows whose device comes of it, or keeps anything.
//! Limits: `limits::LINKINGS_MAX`, `limits::LINKING_TIME_MAX`, `limits::LINKING_BYTES_MAX`. Rules: docs/protocol/devices.md.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use whimbrel_protocol::id::{LinkId, MeetingId};
use whimbrel_protocol::{RefusalCode, limits};

use crate::refusal::Refusal;

/// What words cost at least, in bytes: the frame around them.
const WORDS_COST_MIN: usize = 64;

#[derive(Debug)]
struct Meeting {
    newcomer: LinkId,
    approver: Option<LinkId>,
    /// What they may still say.
    left: usize,
}

#[derive(Debug, Default)]
struct State {
    meetings: BTreeMap<MeetingId, Meeting>,
    /// Where a link meets somebody: one place each.
    links: BTreeMap<LinkId, MeetingId>,
}

/// The room.
#[derive(Debug, Default)]
pub(crate) struct Linking {
    state: Mutex<State>,
}

impl Linking {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A newcomer waits.
    pub(crate) fn offer(&self, link: LinkId, meeting: MeetingId) -> Result<(), Refusal> {
        let mut state = self.state();
        if state.meetings.contains_key(&meeting) || state.links.contains_key(&link) {
            return Err(Refusal::last(RefusalCode::Exists));
        }
        if state.meetings.len() >= limits::LINKINGS_MAX {
            return Err(Refusal::BUSY);
        }
        state.links.insert(link, meeting);
        state.meetings.insert(meeting, Meeting { newcomer: link, approver: None, left: limits::LINKING_BYTES_MAX });
        Ok(())
    }

    /// Another joins it; nobody else can then.
    pub(crate) fn join(&self, link: LinkId, meeting: MeetingId) -> Result<(), Refusal> {
        let mut state = self.state();
        let state = &mut *state;
        if state.links.contains_key(&link) {
            return Err(Refusal::last(RefusalCode::Exists));
        }
        // Nobody waits there, or not for this one any more: alike.
        let gone = Refusal::last(RefusalCode::NotFound);
        let found = state.meetings.get_mut(&meeting).filter(|found| found.approver.is_none()).ok_or(gone)?;
        found.approver = Some(link);
        state.links.insert(link, meeting);
        Ok(())
    }

    /// To whom one's words go; no one, when they do not meet there or have said too much.
    pub(crate) fn other(&self, link: LinkId, meeting: MeetingId, bytes: usize) -> Option<LinkId> {
        let mut state = self.state();
        let found = state.meetings.get_mut(&meeting)?;
        let other = match (found.newcomer == link, found.approver) {
            (true, approver) => approver?,
            (false, Some(approver)) if approver == link => found.newcomer,
            _ => return None,
        };
        // Each costs something, however little it says.
        found.left = found.left.checked_sub(bytes.max(WORDS_COST_MIN))?;
        Some(other)
    }

    /// One has had enough, or is gone; gives where it met whom, if it did.
    pub(crate) fn leave(&self, link: LinkId) -> Option<(MeetingId, Option<LinkId>)> {
        let mut state = self.state();
        let meeting = state.links.remove(&link)?;
        let found = state.meetings.remove(&meeting)?;
        let other = if found.newcomer == link { found.approver } else { Some(found.newcomer) };
        if let Some(other) = other {
            state.links.remove(&other);
        }
        Some((meeting, other))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn meeting(n: u8) -> MeetingId {
        MeetingId::from_bytes([n; 16])
    }

    #[test]
    fn two_meet_and_nobody_else_hears_them() {
        let linking = Linking::default();
        let [new, old, third] = [1, 2, 3].map(LinkId::new);
        assert_eq!(linking.join(old, meeting(1)).unwrap_err().code, RefusalCode::NotFound);
        linking.offer(new, meeting(1)).unwrap();
        assert_eq!(linking.offer(third, meeting(1)).unwrap_err().code, RefusalCode::Exists);
        assert_eq!(linking.other(new, meeting(1), 9), None, "nobody is there yet");
        linking.join(old, meeting(1)).unwrap();
        assert_eq!(linking.join(third, meeting(1)).unwrap_err().code, RefusalCode::NotFound);
        assert_eq!(linking.other(new, meeting(1), 9), Some(old));
        assert_eq!(linking.other(old, meeting(1), 9), Some(new));
        assert_eq!(linking.other(third, meeting(1), 9), None);
        assert_eq!(linking.leave(old), Some((meeting(1), Some(new))));
        assert_eq!(linking.leave(new), None);
        linking.offer(new, meeting(1)).unwrap();
    }

    #[test]
    fn too_many_meetings_and_too_many_words_are_refused() {
        let linking = Linking::default();
        for n in 0..limits::LINKINGS_MAX {
            let id = MeetingId::from_bytes((n as u128).to_be_bytes());
            linking.offer(LinkId::new(n as u64), id).unwrap();
        }
        let over = linking.offer(LinkId::new(u64::MAX), meeting(255));
        assert_eq!(over.unwrap_err().code, RefusalCode::Busy);
        let first = MeetingId::from_bytes([0; 16]);
        linking.join(LinkId::new(u64::MAX), first).unwrap();
        let new = LinkId::new(0);
        assert!(linking.other(new, first, limits::LINKING_BYTES_MAX).is_some());
        assert_eq!(linking.other(new, first, 1), None);
    }
}
