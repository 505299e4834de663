//! What the small relay knows of people: friendship, cards, settings, presence, and the end of an account.

use std::collections::BTreeMap;

use whimbrel_crypto::Engine;
use whimbrel_protocol::Frame;
use whimbrel_protocol::frame::decode_words;
use whimbrel_protocol::friendship::{Act, Friend, FriendPage, FriendshipWord, Parted, Standing};
use whimbrel_protocol::id::{AccountId, RequestId, Sequence, ThreadId};
use whimbrel_protocol::presence::Status;
use whimbrel_protocol::push::EntryBody;
use whimbrel_protocol::reception::{Done, HeartbeatAnswer, Refused};
use whimbrel_protocol::refusal::RefusalCode;
use whimbrel_protocol::signed::Signed;
use whimbrel_protocol::thread::{ListingPlace, ThreadPage, ThreadRow, ThreadSettings};
use whimbrel_protocol::time::Wall;
use whimbrel_protocol::user::{Exported, ExportedRow, InvitePage, OpenInvite, Profile};

use super::world::World;

/// The relay's memory of all that.
#[derive(Default)]
pub(super) struct Manners {
    /// How the first stands with the second.
    pub(super) standings: BTreeMap<(AccountId, AccountId), Standing>,
    pub(super) cards: BTreeMap<AccountId, Signed>,
    pub(super) settings: BTreeMap<ThreadId, ThreadSettings>,
    /// What the next heartbeat is answered with, and its version.
    pub(super) statuses: (u64, Vec<Status>),
    /// Where devices are sent instead of being served, so many times.
    pub(super) push_address: Option<(String, usize)>,
    /// Where it sends them and is not there.
    pub(super) nobody_at: Option<String>,
    /// It sends them on though they say that they were sent to nobody.
    pub(super) deaf: bool,
    /// The relay's clock, where it is not the device's.
    pub(super) wall: Option<Wall>,
    /// Rows of a page of a list.
    pub(super) page: usize,
}

/// The request of a frame that this file answers.
pub(super) fn request(frame: &Frame) -> Option<RequestId> {
    Some(match frame {
        Frame::Befriend(words) => words.request,
        Frame::Decline(words) => words.request,
        Frame::Block(words) => words.request,
        Frame::LetSee(words) => words.request,
        Frame::ListFriends(words) => words.request,
        Frame::ListInvites(words) => words.request,
        Frame::RevokeInvite(words) => words.request,
        Frame::SetProfile(words) => words.request,
        Frame::FetchProfile(words) => words.request,
        Frame::ExportOwn(words) => words.request,
        Frame::DeleteAccount(words) => words.request,
        Frame::SetVisible(words) => words.request,
        Frame::SetThread(words) => words.request,
        Frame::ListThreads(words) => words.request,
        Frame::SetWake(words) => words.request,
        Frame::ConfirmWake(words) => words.request,
        _ => return None,
    })
}

impl<E: Engine> World<E> {
    pub(super) fn answer_people(&mut self, who: usize, frame: Frame) {
        let account = self.people[who].account;
        let request = request(&frame);
        let done = request.map(|request| Done { request });
        let parts = match &frame {
            Frame::Befriend(words) => {
                decode_words::<FriendshipWord>(&words.word.content).is_ok_and(|word| word.act == Act::Remove)
            }
            Frame::Block(words) => words.blocked,
            _ => false,
        };
        match frame {
            Frame::Befriend(words) => self.take_word(words.word),
            Frame::Decline(words) => {
                let asking = |(owner, other): &(AccountId, AccountId), standing: &Standing| {
                    *owner == account && *standing == Standing::Asking && words.account.is_none_or(|one| one == *other)
                };
                self.relay.manners.standings.retain(|pair, standing| !asking(pair, standing));
            }
            Frame::Block(words) => {
                let standings = &mut self.relay.manners.standings;
                match words.blocked {
                    true => drop(standings.insert((account, words.account), Standing::Blocked)),
                    false => drop(standings.remove(&(account, words.account))),
                }
            }
            Frame::RevokeInvite(words) => {
                self.relay.accounts.get_mut(&account).unwrap().invites.remove(&words.token);
            }
            Frame::SetProfile(words) => drop(self.relay.manners.cards.insert(account, words.card)),
            Frame::SetThread(words) => drop(self.relay.manners.settings.insert(words.thread, words.settings)),
            Frame::LetSee(_) | Frame::SetVisible(_) | Frame::SetWake(_) | Frame::ConfirmWake(_) => {}
            Frame::DeleteAccount(words) => drop(self.relay.accounts.remove(&words.account)),
            Frame::Goodbye(_) => return,
            other => return self.tell_people(who, other),
        }
        match request.filter(|_| parts) {
            Some(request) => {
                let inbox = Sequence::new(self.relay.accounts[&account].inbox.len() as u64);
                self.say_to(who, Parted { request, inbox });
            }
            None => self.say_to(who, done.unwrap()),
        }
        self.push_all();
    }

    fn tell_people(&mut self, who: usize, frame: Frame) {
        let account = self.people[who].account;
        match frame {
            Frame::ListFriends(words) => {
                let own = self.relay.manners.standings.iter().filter(|((owner, _), _)| *owner == account);
                let later = own.filter(|((_, other), _)| words.after.is_none_or(|after| *other > after));
                let friend = |((_, other), standing): (&(AccountId, AccountId), &Standing)| Friend {
                    account: *other,
                    domain: self.relay.accounts[other].address.clone().unwrap().domain,
                    standing: *standing,
                    sees: true,
                    since: Wall::default(),
                    word: None,
                };
                let mut friends: Vec<Friend> = later.map(friend).collect();
                let more = friends.len() > self.relay.manners.page.max(1);
                friends.truncate(self.relay.manners.page.max(1));
                self.say_to(who, FriendPage { request: words.request, friends, more });
            }
            // As it would for the one owner there is: whoever else asks cannot open them.
            Frame::ListThreads(words) => {
                let kept = self.relay.manners.settings.iter();
                let row = |(thread, settings): (&ThreadId, &ThreadSettings)| ThreadRow {
                    place: ListingPlace { updated: Wall::default(), thread: *thread },
                    head: Sequence::ZERO,
                    unread: 0,
                    tag: None,
                    settings: Some(settings.clone()),
                };
                let later = kept.filter(|(thread, _)| words.after.is_none_or(|after| **thread > after.thread));
                let mut rows: Vec<ThreadRow> = later.map(row).collect();
                let more = rows.len() > self.relay.manners.page.max(1);
                rows.truncate(self.relay.manners.page.max(1));
                self.say_to(who, ThreadPage { request: words.request, rows, more });
            }
            Frame::ListInvites(words) => {
                let row = &self.relay.accounts[&account];
                let open =
                    |(token, left): (&_, &u32)| OpenInvite { token: *token, left: *left, expires: Wall::default() };
                let invites = row.invites.iter().filter(|(_, left)| **left > 0).map(open).collect();
                self.say_to(who, InvitePage { request: words.request, invites });
            }
            Frame::FetchProfile(words) => match self.relay.manners.cards.get(&words.account).cloned() {
                Some(card) => self.say_to(who, Profile { request: words.request, card }),
                None => {
                    let (request, code) = (Some(words.request), RefusalCode::NotFound);
                    self.say_to(who, Refused { request, code, retry_after_ms: None });
                }
            },
            Frame::ExportOwn(words) => {
                let place = words.after.first().copied().unwrap_or(0);
                let rows = vec![ExportedRow { kind: "row".to_owned(), key: vec![place], value: vec![1, 2] }];
                let next = (place < 2).then(|| vec![place + 1].into());
                self.say_to(who, Exported { request: words.request, rows, next });
            }
            other => panic!("a relay was sent {}", other.name()),
        }
    }

    /// What a relay does with a word, whoever handed it in.
    pub(super) fn take_word(&mut self, word: Signed) {
        let read: FriendshipWord = decode_words(&word.content).unwrap();
        let (by, to) = (read.by.account, read.to);
        let (ours, theirs) = ((by, to), (to, by));
        let standings = &mut self.relay.manners.standings;
        if standings.get(&theirs) == Some(&Standing::Blocked) {
            return;
        }
        match (read.act, standings.get(&ours).copied(), standings.get(&theirs).copied()) {
            (Act::Remove, ..) => {
                standings.remove(&ours);
                standings.remove(&theirs);
                self.relay.accounts.get_mut(&by).unwrap().friends.remove(&to);
                self.relay.accounts.get_mut(&to).unwrap().friends.remove(&by);
            }
            (Act::Request | Act::Accept, Some(Standing::Asking), _) | (Act::Request, _, Some(Standing::Asked)) => {
                standings.extend([(ours, Standing::Friends), (theirs, Standing::Friends)]);
                self.relay.accounts.get_mut(&by).unwrap().friends.insert(to);
                self.relay.accounts.get_mut(&to).unwrap().friends.insert(by);
            }
            (Act::Request, ..) => standings.extend([(ours, Standing::Asked), (theirs, Standing::Asking)]),
            (Act::Accept, ..) => {}
        }
        self.slip(to, word);
    }

    /// Puts a word into somebody's inbox log as if it were anybody's.
    pub(super) fn slip(&mut self, to: AccountId, word: Signed) {
        self.relay.accounts.get_mut(&to).unwrap().inbox.push(EntryBody::Friendship(word));
        self.push_all();
    }

    pub(super) fn heartbeat_answer(&mut self, known: u64) -> HeartbeatAnswer {
        let (version, statuses) = self.relay.manners.statuses.clone();
        let statuses = if version == known { Vec::new() } else { statuses };
        HeartbeatAnswer { wall: self.relay.manners.wall.unwrap_or(self.now.wall), version, statuses }
    }
}
