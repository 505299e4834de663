//! Poll: the relay's end of a link over HTTPS, whatever carries its calls.
//! Owns: the numbers of a link's frames both ways: which were handed out and arrived, which came in before; their bounds,
//! those of any link's queue.
//! Never: waits, knows what a frame says, or hands out by another order than that in which frames came.
//! Limits: `limits::LINK_QUEUE_FRAMES_MAX`, `limits::LINK_QUEUE_BYTES_MAX`, `limits::POLL_ANSWER_BYTES`.
//! Rules: docs/protocol/poll.md.

use std::collections::VecDeque;

use whimbrel_protocol::limits;
use whimbrel_storage::planted::{self, Bug};

use crate::ports::SendError;

/// Frames that wait until they are fetched, and stay until it is known that they were. They are numbered from 1 on.
#[derive(Debug)]
pub struct Outgoing<F> {
    /// Each with how many bytes it has.
    frames: VecDeque<(F, usize)>,
    /// The number of the first of them.
    first: u64,
    bytes: usize,
    /// A frame was refused since the queue last had room.
    refused: bool,
    ended: bool,
    /// The number of the newest call.
    turn: u64,
}

/// What is fetched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fetched<F> {
    /// These.
    Frames(Vec<F>),
    /// Nothing yet.
    Nothing,
    /// Nothing for this call: there is a newer one.
    Superseded,
    /// Nothing, and there will be nothing.
    Ended,
}

/// What came of a word that frames have arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acknowledged {
    /// They are let go.
    Yes,
    /// They are, and the queue, which had refused a frame, is down to half.
    Drained,
    /// They never were sent, or what follows them is here no more, since a later call had it already.
    Gap,
}

impl<F> Default for Outgoing<F> {
    fn default() -> Self {
        Self { frames: VecDeque::new(), first: 1, bytes: 0, refused: false, ended: false, turn: 0 }
    }
}

impl<F: Clone> Outgoing<F> {
    /// Queues a frame of so many bytes.
    ///
    /// # Errors
    /// The queue is full, or the link has ended; the frame was not taken.
    pub fn send(&mut self, frame: F, bytes: usize) -> Result<(), SendError> {
        if self.ended {
            return Err(SendError::Gone);
        }
        let full = self.frames.len() >= limits::LINK_QUEUE_FRAMES_MAX
            || self.bytes.saturating_add(bytes) > limits::LINK_QUEUE_BYTES_MAX;
        if full {
            self.refused = true;
            return Err(SendError::Full);
        }
        self.bytes += bytes;
        self.frames.push_back((frame, bytes));
        Ok(())
    }

    /// Takes nothing more; what waits can still be fetched.
    pub fn close(&mut self) {
        self.ended = true;
    }

    /// Takes nothing more, and keeps nothing.
    pub fn abort(&mut self) {
        self.ended = true;
        self.bytes = 0;
        self.frames = VecDeque::new();
    }

    /// Whether it takes nothing more.
    pub const fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether more than half of it is in use: whoever does not fetch its answers gets no more of them.
    pub fn is_crowded(&self) -> bool {
        self.frames.len() > limits::LINK_QUEUE_FRAMES_MAX / 2 || self.bytes > limits::LINK_QUEUE_BYTES_MAX / 2
    }

    /// How many frames wait.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Another call begins: those before it wait no more. Returns its number.
    pub const fn turn(&mut self) -> u64 {
        self.turn += 1;
        self.turn
    }

    /// Everything up to this number has arrived.
    pub fn acknowledge(&mut self, upto: u64) -> Acknowledged {
        let next = upto.saturating_add(1);
        if next < self.first || next > self.first.saturating_add(self.frames.len() as u64) {
            return Acknowledged::Gap;
        }
        while self.first <= upto && !self.frames.is_empty() {
            self.let_go();
        }
        if !self.is_crowded() && std::mem::take(&mut self.refused) {
            return Acknowledged::Drained;
        }
        Acknowledged::Yes
    }

    fn let_go(&mut self) {
        if let Some((_, bytes)) = self.frames.pop_front() {
            self.first += 1;
            self.bytes = self.bytes.saturating_sub(bytes);
        }
    }

    /// What follows this number, which was acknowledged: at least one frame, if there is one, and no more once
    /// [`limits::POLL_ANSWER_BYTES`] are passed.
    pub fn after(&self, number: u64, turn: u64) -> Fetched<F> {
        if self.turn != turn {
            return Fetched::Superseded;
        }
        let skip = usize::try_from(number.saturating_add(1).saturating_sub(self.first)).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let fits = |(_, more): &&(F, usize)| {
            let taken = bytes < limits::POLL_ANSWER_BYTES;
            bytes += more;
            taken
        };
        let frames: Vec<F> = self.frames.iter().skip(skip).take_while(fits).map(|(frame, _)| frame.clone()).collect();
        match frames.is_empty() {
            false => Fetched::Frames(frames),
            true if self.ended => Fetched::Ended,
            true => Fetched::Nothing,
        }
    }
}

/// Frames of the caller's, numbered from 1 on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Incoming {
    taken: u64,
}

impl Incoming {
    /// How many were taken since the link was opened.
    pub const fn taken(&self) -> u64 {
        self.taken
    }

    /// Whether a call whose frames follow so many leaves no gap.
    pub fn follows(&mut self, from: u64) -> bool {
        if planted::active(Bug::PollCursorSkips) {
            self.taken = self.taken.max(from);
        }
        from <= self.taken
    }

    /// Whether the frame that so many went before is a new one. Whoever has room for a new one says so with
    /// [`Incoming::take`]; one that there is no room for comes again, with all that follow it.
    pub const fn is_new(&self, before: u64) -> bool {
        before == self.taken
    }

    /// The new frame was taken.
    pub const fn take(&mut self) {
        self.taken += 1;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use super::*;

    fn frames(outgoing: &mut Outgoing<u8>, after: u64) -> Vec<u8> {
        let turn = outgoing.turn();
        match outgoing.after(after, turn) {
            Fetched::Frames(frames) => frames,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_was_not_acknowledged_is_handed_out_again() {
        let mut outgoing = Outgoing::default();
        for byte in 1..=3_u8 {
            outgoing.send(byte, 1).unwrap();
        }
        assert_eq!(outgoing.acknowledge(0), Acknowledged::Yes);
        for _ in 0..2 {
            assert_eq!(frames(&mut outgoing, 0), [1, 2, 3]);
        }
        assert_eq!(outgoing.acknowledge(2), Acknowledged::Yes);
        assert_eq!(frames(&mut outgoing, 2), [3]);
        // An older call that comes late would see a gap.
        assert_eq!(outgoing.acknowledge(1), Acknowledged::Gap);
        assert_eq!(outgoing.acknowledge(4), Acknowledged::Gap);
        assert_eq!(outgoing.acknowledge(3), Acknowledged::Yes);
        let turn = outgoing.turn();
        assert_eq!(outgoing.after(3, turn), Fetched::Nothing);
        outgoing.close();
        assert_eq!(outgoing.after(3, turn), Fetched::Ended);
        assert_eq!(outgoing.after(3, turn - 1), Fetched::Superseded);
    }

    #[test]
    fn it_is_bounded_and_tells_when_it_has_room_again() {
        let mut outgoing = Outgoing::default();
        for _ in 0..limits::LINK_QUEUE_FRAMES_MAX {
            outgoing.send(b'x', 1).unwrap();
        }
        assert_eq!(outgoing.send(b'x', 1), Err(SendError::Full));
        assert!(outgoing.is_crowded());
        assert_eq!(outgoing.acknowledge(limits::LINK_QUEUE_FRAMES_MAX as u64 / 2 - 1), Acknowledged::Yes);
        assert_eq!(outgoing.acknowledge(limits::LINK_QUEUE_FRAMES_MAX as u64 / 2), Acknowledged::Drained);
        outgoing.send(b'y', limits::LINK_QUEUE_BYTES_MAX / 2).unwrap();
        assert_eq!(outgoing.send(b'z', limits::LINK_QUEUE_BYTES_MAX), Err(SendError::Full));
    }

    #[test]
    fn an_answer_has_one_frame_at_least_and_ends_once_it_is_large() {
        let mut outgoing = Outgoing::default();
        for byte in 1..=3_u8 {
            outgoing.send(byte, limits::POLL_ANSWER_BYTES).unwrap();
        }
        assert_eq!(frames(&mut outgoing, 0), [1]);
        assert_eq!(outgoing.acknowledge(1), Acknowledged::Yes);
        assert_eq!(frames(&mut outgoing, 1), [2]);
    }

    #[test]
    fn frames_of_a_call_that_comes_again_are_new_once() {
        let mut incoming = Incoming::default();
        for repeated in [false, true] {
            let taken = (0..3).filter(|before| incoming.is_new(*before)).collect::<Vec<_>>();
            assert_eq!(taken.is_empty(), repeated);
            for _ in taken.into_iter().chain((!repeated).then_some(1)).chain((!repeated).then_some(2)) {
                incoming.take();
            }
        }
        assert_eq!(incoming.taken(), 3);
        assert!(incoming.follows(3) && !incoming.follows(4));
    }
}
