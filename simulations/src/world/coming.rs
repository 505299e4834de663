//! Coming: a device that is to come, as its runtime drives it: it waits at the relay for the account's other device.
//! Owns: when its words leave: after what they follow from is on its disk. Never: decides; `whimbrel_node::linking` does.

use whimbrel_crypto::{Chance, LinkingCode, MlsEngine, StandInEngine};
use whimbrel_node::api::{Input, Output, Peer, Step};
use whimbrel_node::linking::{Heard, Newcomer};
use whimbrel_protocol::Frame;
use whimbrel_protocol::id::{LinkId, PublicKey, RequestId};
use whimbrel_protocol::invite::RelayLink;
use whimbrel_protocol::linking::{LinkingWords, OfferLinking};
use whimbrel_protocol::time::{Monotonic, Now};
use whimbrel_storage::{Overlay, Reads};

use super::node::Core;
use crate::scenario::Crypto;

/// How far it has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Progress {
    /// It is not at the relay yet.
    Apart,
    /// Whoever has its code can approve it.
    Waits,
    /// It is one of the account's.
    Added,
    /// Nothing comes of it any more.
    Over,
}

/// A device that is to come.
pub(super) struct Coming {
    newcomer: Newcomer,
    chance: Chance,
    crypto: Crypto,
    relay: RelayLink,
    connects: bool,
    link: Option<LinkId>,
    progress: Progress,
}

impl Coming {
    pub(super) fn new(relay: RelayLink, crypto: Crypto, mut chance: Chance) -> Result<(Self, LinkingCode), String> {
        let code = LinkingCode::generate(&mut chance);
        let newcomer = Newcomer::new(&code, relay.clone(), "tablet", &mut chance).map_err(|error| error.to_string())?;
        let (connects, link, progress) = (false, None, Progress::Apart);
        Ok((Self { newcomer, chance, crypto, relay, connects, link, progress }, code))
    }

    pub(super) fn transport(&self) -> PublicKey {
        self.newcomer.transport().public()
    }

    /// Makes the KeyPackages it is asked for, and says them once they are on the disk.
    fn packages(&mut self, now: Now, reads: &dyn Reads, step: &mut Step, mut left: usize) -> Result<Vec<Vec<u8>>, ()> {
        let mut rows = Overlay::new(reads);
        let mut said = Vec::new();
        while left > 0 {
            let (newcomer, chance) = (&mut self.newcomer, &mut self.chance);
            let made = match self.crypto {
                Crypto::Standin => newcomer.packages(&mut StandInEngine::new(), &mut rows, chance, now, left),
                Crypto::Real => newcomer.packages(&mut MlsEngine::new(), &mut rows, chance, now, left),
            };
            let (words, after) = made.map_err(drop)?;
            said.extend(words);
            left = after;
        }
        step.batch.extend(rows.into_batch());
        Ok(said)
    }

    fn hear(&mut self, now: Now, words: &LinkingWords, reads: &dyn Reads, step: &mut Step) {
        let said = match self.newcomer.hear(&words.bytes, now) {
            Ok(Heard::Nothing) => return,
            Ok(Heard::Say(said)) => Ok(said),
            Ok(Heard::Granted(granted)) => {
                step.batch.extend(granted.batch);
                self.packages(now, reads, step, granted.packages)
            }
            Ok(Heard::Added) => {
                self.progress = Progress::Added;
                step.outputs.extend(self.link.take().map(|link| Output::Close { link }));
                return;
            }
            Ok(_) | Err(_) => Err(()),
        };
        match (said, self.link) {
            (Ok(said), Some(link)) => {
                let frame = |bytes| Frame::from(LinkingWords { meeting: words.meeting, bytes });
                step.outputs.extend(said.into_iter().map(|bytes| Output::Send { link, frame: frame(bytes) }));
            }
            _ => self.progress = Progress::Over,
        }
    }
}

impl Core for Coming {
    fn handle(&mut self, now: Now, input: Input, reads: &dyn Reads, step: &mut Step) {
        match input {
            Input::Timeout if !self.connects => {
                self.connects = true;
                step.outputs.push(Output::Connect { relay: self.relay.clone() });
            }
            Input::LinkUp { link, peer: Peer::Relay { .. } } => {
                self.link = Some(link);
                let frame = OfferLinking { request: RequestId::new(1), meeting: self.newcomer.meeting() }.into();
                step.outputs.push(Output::Send { link, frame });
            }
            Input::LinkUp { link, .. } => step.outputs.push(Output::Close { link }),
            Input::Frame { frame: Frame::Done(_), .. } => self.progress = Progress::Waits,
            Input::Frame { frame: Frame::LinkingWords(words), .. } => self.hear(now, &words, reads, step),
            Input::Frame { .. } | Input::LinkLost { .. } | Input::ConnectFailed { .. } | Input::Malformed { .. }
                if self.progress != Progress::Added =>
            {
                self.progress = Progress::Over;
            }
            _ => {}
        }
    }

    fn poll_timeout(&self) -> Option<Monotonic> {
        (!self.connects).then(Monotonic::default)
    }

    fn progress(&self) -> Option<Progress> {
        Some(self.progress)
    }
}
