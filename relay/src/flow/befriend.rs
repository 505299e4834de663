//! Befriend: an account's word to another, from its frame to both lists, wherever the other lives.
//! The trip: friendship (the word is the device's own), the store's command for whoever lives here, federation for the
//! other's relay, push of the word, presence.
//! Rules: docs/protocol/friendship.md.

use whimbrel_protocol::Frame;
use whimbrel_protocol::friendship::{
    Act, Befriend, Block, Decline, FriendPage, LetSee, ListFriends, Parted, PeerBefriend, Standing,
};
use whimbrel_protocol::id::{AccountId, Domain, LinkId, RequestId, Sequence};
use whimbrel_protocol::reception::Done;
use whimbrel_protocol::time::Now;
use whimbrel_storage::planted::{self, Bug};

use super::ask::answer;
use super::deliver;
use crate::admission::Admission;
use crate::federation::{Asked, What};
use crate::ports::Ports;
use crate::presence::Known;
use crate::refusal::Refusal;
use crate::rooms::Rooms;
use crate::store::Store;

/// A device hands a word in.
pub(crate) async fn befriend<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, from: Admission, words: Befriend) {
    let Befriend { request, domain, word } = words;
    let read = match rooms.friendship.vet(rooms.store(), &from, &word).await {
        Ok(read) => read,
        Err(refusal) => return rooms.refuse(now, link, request, refusal),
    };
    let elsewhere = domain != rooms.config.domain;
    // Before anything is written: a relay that nobody knows will never hear of it.
    if elsewhere && let Err(refusal) = rooms.federation.resolve(&domain, None, from.device.account, None) {
        return rooms.refuse(now, link, request, refusal);
    }
    let early = planted::active(Bug::AnswerWordEarly) && !elsewhere;
    if early {
        rooms.answer(now, link, Done { request });
    }
    // Before the removal: what gives them consent by now is ahead of it.
    if read.act == Act::Remove {
        rooms.federation.parted(read.by.account, read.to);
    }
    let parted = match rooms.friendship.befriend(rooms.store(), now.wall, (&read, word.clone()), domain.clone()).await {
        Ok(befriended) => {
            changed(rooms, read.by.account, read.to).await;
            deliver::notices(rooms, now, befriended.inbox.as_slice()).await;
            befriended.parted
        }
        Err(refusal) => return rooms.refuse(now, link, request, refusal),
    };
    if early {
        return;
    }
    if !elsewhere {
        return rooms.answer(now, link, done(request, parted));
    }
    let asked = Asked { link, request, what: What::Befriend(parted) };
    let frame = |request| PeerBefriend { request, word }.into();
    if let Err(refusal) = rooms.federation.ask(rooms.links(), now.monotonic, &domain, asked, frame) {
        rooms.refuse(now, link, request, refusal);
    }
}

/// It is done; of a parting, with the place in the inbox from which on it holds.
fn done(request: RequestId, parted: Option<Sequence>) -> Frame {
    match parted {
        Some(inbox) => Parted { request, inbox }.into(),
        None => Done { request }.into(),
    }
}

/// A peer passes on a word of one of its own users.
pub(crate) async fn befriend_here<P: Ports>(
    rooms: &Rooms<P>,
    now: Now,
    link: LinkId,
    peer: Domain,
    words: PeerBefriend,
) {
    let PeerBefriend { request, word } = words;
    let read = match rooms.friendship.vet_from(&peer, &word) {
        Ok(read) => read,
        Err(refusal) => return rooms.refuse(now, link, request, refusal),
    };
    if read.act == Act::Request
        && let Err(refusal) = rooms.limiter.peer_friend_request(now.monotonic, &peer)
    {
        return rooms.refuse(now, link, request, refusal);
    }
    let local = rooms.config.domain.clone();
    let early = planted::active(Bug::AnswerWordEarly);
    if early {
        rooms.answer(now, link, Done { request });
    }
    match rooms.friendship.befriend(rooms.store(), now.wall, (&read, word), local).await {
        Ok(befriended) => {
            if !early {
                rooms.answer(now, link, Done { request });
            }
            changed(rooms, read.by.account, read.to).await;
            deliver::notices(rooms, now, befriended.inbox.as_slice()).await;
        }
        Err(refusal) => rooms.refuse(now, link, request, refusal),
    }
}

/// Two lists may have changed: what they show each other follows them.
pub(crate) async fn changed<P: Ports>(rooms: &Rooms<P>, one: AccountId, two: AccountId) {
    for (owner, other) in [(one, two), (two, one)] {
        match rooms.store().standing(owner, other).await {
            Ok(standing) => {
                let friend = standing.filter(|(standing, ..)| *standing == Standing::Friends);
                rooms.presence.changed(owner, other, friend.map(|(_, sees, domain)| Known { domain, sees }));
            }
            // It shows what it showed until one of the two comes in again.
            Err(error) => tracing::error!(%error, "a list could not be read for presence"),
        }
    }
}

/// A device declines a request, or all.
pub(crate) async fn decline<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, from: Admission, words: Decline) {
    let Decline { request, account } = words;
    let declined = rooms.friendship.decline(rooms.store(), from.device.account, account).await;
    answer(rooms, now, link, request, declined.map(|()| Done { request }.into()));
}

/// A device keeps somebody away, or no longer.
pub(crate) async fn block<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, from: Admission, words: Block) {
    let (request, other) = (words.request, words.account);
    if words.blocked {
        rooms.federation.parted(from.device.account, other);
    }
    let blocked = rooms.friendship.block(rooms.store(), now.wall, from.device.account, words).await;
    if blocked.is_ok() {
        changed(rooms, from.device.account, other).await;
    }
    answer(rooms, now, link, request, blocked.map(|blocked| done(request, blocked.parted)));
}

/// A device lets a friend see, or not.
pub(crate) async fn let_see<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, from: Admission, words: LetSee) {
    let LetSee { request, account, allowed } = words;
    let done = rooms.friendship.let_see(rooms.store(), from.device.account, (account, allowed)).await;
    if done.is_ok() {
        changed(rooms, from.device.account, account).await;
    }
    answer(rooms, now, link, request, done.map(|()| Done { request }.into()));
}

/// A device asks for its owner's list.
pub(crate) async fn list<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, from: Admission, words: ListFriends) {
    let request = words.request;
    let listed = rooms.friendship.list(rooms.store(), from.device.account, &words).await;
    let page = listed.map(|(friends, more)| FriendPage { request, friends, more }.into());
    answer(rooms, now, link, request, page);
}

/// A peer answered for a word that was passed on.
pub(crate) fn passed_on<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, words: Done) {
    let Some(asked) = rooms.federation.answered(link, words.request) else {
        return tracing::debug!("a peer's answer came after its time");
    };
    let request = asked.request;
    let done = match asked.what {
        What::Befriend(parted) => Ok(done(request, parted)),
        _ => Err(Refusal::last(whimbrel_protocol::RefusalCode::PeerUntrusted)),
    };
    answer(rooms, now, asked.link, request, done);
}
