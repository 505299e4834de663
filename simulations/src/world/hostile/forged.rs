//! Forged: acceptances that a hostile relay makes up for its users, who asked somebody to be friends.
//! Owns: who asked whom, and where they are found, as far as it passed. Never: has a key of anybody's but its own.

use std::collections::{BTreeMap, VecDeque};

use whimbrel_crypto::{KeyPair, UnverifiedLog, signed};
use whimbrel_protocol::Frame;
use whimbrel_protocol::frame::{decode_words, encode_words};
use whimbrel_protocol::friendship::{Act, FRIENDSHIP_CONTEXT, FriendshipWord};
use whimbrel_protocol::id::{AccountId, Address, DeviceId, DeviceIndex};
use whimbrel_protocol::push::EntryBody;
use whimbrel_protocol::signed::Signed;
use whimbrel_protocol::time::Wall;

use crate::engine::Stream;
use crate::net::ProcessNo;

/// How much later than the request the acceptance is said to be: so late that no genuine word comes after it.
const LATER_MS: u64 = 24 * 3_600 * 1_000;

/// Requests that passed.
#[derive(Debug, Default)]
pub(in crate::world) struct Forged {
    found: BTreeMap<AccountId, Address>,
    asked: VecDeque<(ProcessNo, Signed)>,
    /// Acceptances it told.
    pub(in crate::world) told: u64,
}

impl Forged {
    /// An answer leaves: where somebody is found.
    pub(in crate::world) fn answered(&mut self, frame: &Frame) {
        if let Frame::LookedUp(words) = frame
            && let Ok(log) = UnverifiedLog(words.log.clone()).verify()
        {
            self.found.insert(log.account(), words.address.clone());
        }
    }

    /// A word is handed in.
    pub(in crate::world) fn heard(&mut self, from: ProcessNo, frame: &Frame) {
        if let Frame::Befriend(words) = frame {
            self.asked.push_back((from, words.word.clone()));
        }
    }

    /// What somebody is told beside an answer: that whoever they asked said yes, once by a key of the relay's, and once with the
    /// signature of their own request.
    pub(in crate::world) fn accepts(&mut self, to: ProcessNo, stream: &mut Stream) -> Vec<EntryBody> {
        let (mine, rest) = std::mem::take(&mut self.asked).into_iter().partition(|(asker, _)| *asker == to);
        self.asked = rest;
        let mut told = Vec::new();
        let mine: VecDeque<(ProcessNo, Signed)> = mine;
        for (_, request) in mine {
            let Ok(word) = decode_words::<FriendshipWord>(&request.content) else { continue };
            let Some(address) = self.found.get(&word.to).cloned().filter(|_| word.act == Act::Request) else {
                continue;
            };
            let by = DeviceId { account: word.to, index: DeviceIndex::FIRST };
            let (at, to) = (Wall::from_millis(word.at.as_millis() + LATER_MS), word.by.account);
            let content = encode_words(&FriendshipWord { by, address, to, act: Act::Accept, at, note: None });
            let own = KeyPair::generate(stream.chance());
            told.push(EntryBody::Friendship(signed::sign(&own, by, FRIENDSHIP_CONTEXT, content.clone())));
            told.push(EntryBody::Friendship(Signed { by, content, ..request }));
        }
        self.told += told.len() as u64;
        told
    }
}
