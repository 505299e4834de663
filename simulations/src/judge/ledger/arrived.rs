//! The account's door for frames: which of its pages each that arrives is for. Owns: nothing; the pages do.

use whimbrel_protocol::thread::Class;

use super::*;

impl Ledger {
    /// A frame arrived.
    pub fn arrived(&mut self, from: ProcessNo, to: ProcessNo, frame: &Frame, at: Time) {
        match frame {
            Frame::ClaimKeyPackages(words) => {
                let who = Some(self.twins.owner(from));
                self.asks_for_keys((from, to), words.request, (who, &words.account));
            }
            Frame::PeerClaim(words) => {
                let who = self.process_of(&words.requester);
                self.asks_for_keys((from, to), words.request, (who, &words.account));
            }
            Frame::ClaimedKeyPackages(words) => self.handed_keys(from, to, words.request, at),
            Frame::ThreadPage(page) if self.excuses.home(to) == Some(from) => self.services.page(to, page),
            _ => {}
        }
        // Whoever hands in is somebody, from whichever device.
        let from = self.twins.owner(from);
        if self.excuses.home(from) == Some(to) {
            self.consent.comes(from, at);
        }
        if self.excuses.home(to) == Some(from) {
            self.told_of_commits(to, frame);
        }
        match frame {
            Frame::Push(run) if self.excuses.home(to) == Some(from) => self.pushed(to, from, run, at),
            Frame::HeartbeatAnswer(words) if self.excuses.home(to) == Some(from) => {
                self.statuses(to, from, &words.statuses, at);
            }
            Frame::Submit(words) if self.excuses.home(from) == Some(to) => {
                self.wire.submitted(from, &words.envelope, at);
                if words.envelope.class == Class::Message {
                    self.services.speaks(words.envelope.thread, at);
                }
            }
            // Whoever opens a thread has held every device in it against its account's log.
            Frame::OpenThread(words)
                if self.excuses.home(from) == Some(to)
                    && !words.opening.devices().all(|device| self.takes_part(&device)) =>
            {
                self.violate(Violation::Intruder { of: from });
            }
            Frame::SubmitCommit(words) if self.excuses.home(from) == Some(to) => {
                let commit = &words.commit;
                for device in commit.added_devices() {
                    if let Some(one) = self.process_of(&device.account) {
                        self.services.takes_in(commit.thread, commit.epoch.get(), one);
                    }
                }
                // Handed in until it is decided: what it was when it was made counts.
                if self.handed_in.insert(commit.hash())
                    && !commit.added_devices().all(|device| self.takes_part(&device))
                {
                    self.violate(Violation::Intruder { of: from });
                }
            }
            _ => {}
        }
    }
}
