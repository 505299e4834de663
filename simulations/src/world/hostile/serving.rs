//! Serving: what a hostile relay does for a device that its owner took off the account.
//! Owns: the change of the account that it keeps from its own core, what it takes of the device, and what it gives it.
//! Never: opens anything, or makes up a word: it hands on what it was handed.

use std::collections::{BTreeSet, VecDeque};

use whimbrel_protocol::id::{DeviceId, EnvelopeId, RequestId, Sequence, ThreadId};
use whimbrel_protocol::push::{EntryBody, LogRef, Push};
use whimbrel_protocol::thread::{Envelope, Stored};
use whimbrel_protocol::user::ExtendLog;
use whimbrel_protocol::{Frame, limits};

use crate::net::ProcessNo;

/// What is kept to be handed on: more than there is in a story.
const KEPT: usize = limits::PUSH_ENTRIES_MAX;

/// A device that is served on, and what passes.
#[derive(Debug, Default)]
pub(in crate::world) struct Serving {
    /// Whom it serves.
    pub(in crate::world) device: Option<(ProcessNo, DeviceId)>,
    /// The newest change of an account that its core was told.
    extended: Option<ExtendLog>,
    taken: VecDeque<Envelope>,
    requests: BTreeSet<RequestId>,
    told: BTreeSet<(ProcessNo, EnvelopeId)>,
    heard: VecDeque<(ThreadId, EntryBody)>,
    /// Changes of the account that were kept from its core.
    pub(in crate::world) kept: u64,
    /// Words of the device that were handed on to others.
    pub(in crate::world) handed_on: u64,
    /// Words of others that were handed to the device.
    pub(in crate::world) handed_to: u64,
}

impl Serving {
    fn serves(&self, one: ProcessNo) -> bool {
        self.device.is_some_and(|(device, _)| device == one)
    }

    /// What the core hears instead of a frame.
    pub(in crate::world) fn incoming(&mut self, from: ProcessNo, frame: &mut Frame) {
        match frame {
            Frame::ExtendLog(words) => match self.extended.clone().filter(|_| self.device.is_some()) {
                // What it has already, said again: its answer is the one that is waited for.
                Some(before) => {
                    self.kept += 1;
                    *words = ExtendLog { request: words.request, ..before };
                }
                None => self.extended = Some(words.clone()),
            },
            Frame::Submit(words) if self.serves(from) => {
                self.requests.insert(words.request);
                self.taken.push_back(words.envelope.clone());
                self.taken.drain(..self.taken.len().saturating_sub(KEPT));
            }
            _ => {}
        }
    }

    /// What the device is answered instead: that what it handed in is taken.
    pub(in crate::world) fn answer(&self, to: ProcessNo, frame: &Frame) -> Option<Frame> {
        let Frame::Refused(words) = frame else { return None };
        let request = words.request.filter(|request| self.serves(to) && self.requests.contains(request))?;
        Some(Stored { request, sequence: Sequence::new(u64::from(u32::MAX)) }.into())
    }

    /// What others are told of a thread, to be handed on.
    pub(in crate::world) fn hear(&mut self, to: ProcessNo, run: &Push) {
        let LogRef::Thread(thread) = run.log else { return };
        if self.device.is_some() && !self.serves(to) {
            let envelopes = run.entries.iter().filter(|entry| matches!(entry.body, EntryBody::Envelope(..)));
            self.heard.extend(envelopes.map(|entry| (thread, entry.body.clone())));
            self.heard.drain(..self.heard.len().saturating_sub(KEPT));
        }
    }

    /// What the device is told of threads that its leaf is out of.
    pub(in crate::world) fn hand_to(&mut self, to: ProcessNo, frame: &Frame) -> Vec<(ThreadId, EntryBody)> {
        if !self.serves(to) || !matches!(frame, Frame::HeartbeatAnswer(_)) {
            return Vec::new();
        }
        self.handed_to += self.heard.len() as u64;
        self.heard.drain(..).collect()
    }

    /// What somebody else is told of the device, once.
    pub(in crate::world) fn hand_on(&mut self, to: ProcessNo, thread: ThreadId) -> Vec<EntryBody> {
        let Some((_, id)) = self.device.filter(|(device, _)| *device != to) else { return Vec::new() };
        let told = &mut self.told;
        let new = self.taken.iter().filter(|one| one.thread == thread && told.insert((to, one.id())));
        let new: Vec<_> = new.map(|one| EntryBody::Envelope(id, one.clone())).collect();
        self.handed_on += new.len() as u64;
        new
    }
}
