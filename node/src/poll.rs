//! Poll: the node's end of a link over HTTPS, whatever carries its calls.
//! Owns: which frames the relay may not have yet, how many of its frames have arrived, how often a call is made again.
//! Never: waits, knows what a frame says, or hands a frame on twice or out of order.
//! Limits: `limits::POLL_PENDING_FRAMES_MAX`, `limits::POLL_RETRIES_MAX`, `limits::POLL_BODY_BYTES_MAX`.
//! Rules: docs/protocol/poll.md.

use std::collections::VecDeque;
use std::time::Duration;

use whimbrel_protocol::limits;
use whimbrel_storage::planted::{self, Bug};

/// One link's frames, both ways, both numbered from 1 on.
#[derive(Debug)]
pub struct Calls<F> {
    /// Frames the relay may not have yet, the oldest first, each with how many bytes it has.
    pending: VecDeque<(F, usize)>,
    /// How many of ours it has taken before them.
    taken: u64,
    /// How many of its frames have arrived.
    arrived: u64,
    /// Whether the relay has let the device in: from then on a call's body may be large.
    admitted: bool,
    /// Calls in a row that came to nothing.
    failed: u32,
}

/// What a relay answered that no relay answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CallError {
    /// It counts more frames than there are.
    #[error("the relay has frames that nobody sent")]
    NeverSent,
}

impl<F> Default for Calls<F> {
    fn default() -> Self {
        Self { pending: VecDeque::new(), taken: 0, arrived: 0, admitted: false, failed: 0 }
    }
}

impl<F: Clone> Calls<F> {
    /// Whether another frame can be taken over.
    pub fn has_room(&self) -> bool {
        self.pending.len() < limits::POLL_PENDING_FRAMES_MAX
    }

    /// Takes a frame of so many bytes over. Ask [`Calls::has_room`] first.
    pub fn push(&mut self, frame: F, bytes: usize) {
        self.pending.push_back((frame, bytes));
    }

    /// Whether the relay has every frame.
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    /// What a call says that has arrived.
    pub const fn after(&self) -> u64 {
        self.arrived
    }

    /// How many frames a call says went before those it has.
    pub const fn from(&self) -> u64 {
        self.taken
    }

    /// What a call carries: at least one frame, if there is one, and no more than a body may have.
    pub fn body(&self) -> Vec<F> {
        let max = if self.admitted { limits::POLL_BODY_BYTES_MAX } else { limits::UNAUTHENTICATED_BYTES_MAX };
        let mut bytes = 0;
        let fits = |(_, more): &&(F, usize)| {
            let fits = bytes == 0 || bytes + more <= max;
            bytes += more;
            fits
        };
        self.pending.iter().take_while(fits).map(|(frame, _)| frame.clone()).collect()
    }

    /// A call was answered: the relay has taken so many of our frames. An answer that was overtaken says less than one
    /// before it.
    ///
    /// # Errors
    /// It says what cannot be.
    pub fn answered(&mut self, taken: u64) -> Result<(), CallError> {
        self.failed = 0;
        for _ in self.taken..taken {
            self.pending.pop_front().ok_or(CallError::NeverSent)?;
            self.taken += 1;
        }
        Ok(())
    }

    /// The relay's frame of this number came. Whether it is a new one; it is counted then.
    pub const fn arrives(&mut self, number: u64) -> bool {
        if number <= self.arrived {
            return false;
        }
        self.arrived = number;
        true
    }

    /// The relay has let the device in.
    pub const fn let_in(&mut self) {
        self.admitted = true;
    }

    /// Whether the last call came to nothing.
    pub const fn has_failed(&self) -> bool {
        self.failed > 0
    }

    /// A call came to nothing. After so long it is made again, with the same numbers; nothing: the link is lost.
    pub fn failed(&mut self) -> Option<Duration> {
        self.failed += 1;
        if planted::active(Bug::PollCursorSkips) {
            self.taken += self.pending.drain(..).count() as u64;
        }
        (self.failed <= limits::POLL_RETRIES_MAX).then(|| limits::POLL_RETRY_DELAY * self.failed)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn what_the_relay_did_not_take_is_in_the_next_call() {
        let mut calls = Calls::default();
        for frame in 1..=3 {
            calls.push(frame, 10);
        }
        assert_eq!((calls.from(), calls.body()), (0, vec![1, 2, 3]));
        calls.answered(2).unwrap();
        assert_eq!((calls.from(), calls.body()), (2, vec![3]));
        // An answer from before says nothing new.
        calls.answered(1).unwrap();
        assert_eq!((calls.from(), calls.body()), (2, vec![3]));
        assert_eq!(calls.answered(4), Err(CallError::NeverSent));
    }

    #[test]
    fn a_frame_that_came_before_is_no_new_one() {
        let mut calls = Calls::<u8>::default();
        assert!(calls.arrives(1) && calls.arrives(2));
        assert!(!calls.arrives(1) && !calls.arrives(2));
        assert_eq!(calls.after(), 2);
    }

    #[test]
    fn a_body_grows_once_the_device_is_in() {
        let mut calls = Calls::default();
        calls.push('a', limits::UNAUTHENTICATED_BYTES_MAX);
        calls.push('b', 1);
        assert_eq!(calls.body(), ['a']);
        calls.let_in();
        assert_eq!(calls.body(), ['a', 'b']);
        calls.push('c', limits::POLL_BODY_BYTES_MAX);
        assert_eq!(calls.body(), ['a', 'b']);
    }

    #[test]
    fn calls_that_come_to_nothing_are_made_again_until_the_link_is_lost() {
        let mut calls = Calls::<u8>::default();
        let mut waits = Vec::new();
        while let Some(wait) = calls.failed() {
            waits.push(wait);
        }
        assert_eq!(waits.len(), limits::POLL_RETRIES_MAX as usize);
        assert!(waits.is_sorted());
        calls.answered(0).unwrap();
        assert!(!calls.has_failed() && calls.failed().is_some());
    }
}
