//! Own: an account's card, invites and data, where its devices are woken, and its end.
//! The trip: user (what becomes a command), federation for a card that is elsewhere, the port for a challenge.
//! Rules: docs/protocol/user.md, wake.md.

use whimbrel_protocol::id::{Domain, LinkId};
use whimbrel_protocol::presence::SetVisible;
use whimbrel_protocol::reception::{Done, KeepStamp};
use whimbrel_protocol::time::Now;
use whimbrel_protocol::user::{
    DeleteAccount, ExportOwn, Exported, FetchProfile, InvitePage, ListInvites, PeerProfile, Profile, RevokeInvite,
    SetProfile,
};
use whimbrel_protocol::wake::{ConfirmWake, SetWake};
use whimbrel_protocol::{RefusalCode, limits};

use super::ask::answer;
use crate::admission::Admission;
use crate::federation::{Asked, What};
use crate::ports::{Ports, WakeOrder, WakeWord};
use crate::refusal::Refusal;
use crate::rooms::Rooms;
use crate::store::{Command, Conflict, Store, StoreError, command};

/// A device puts its owner's card up.
pub(crate) async fn set_profile<P: Ports>(
    rooms: &Rooms<P>,
    now: Now,
    link: LinkId,
    from: Admission,
    words: SetProfile,
) {
    let request = words.request;
    let set = rooms.user.set_profile(rooms.store(), from.device, words).await;
    answer(rooms, now, link, request, set.map(|()| Done { request }.into()));
}

/// A device asks for a card, here or elsewhere.
pub(crate) async fn profile<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, from: Admission, words: FetchProfile) {
    let FetchProfile { request, account, domain } = words;
    let requester = from.device.account;
    if domain == rooms.config.domain {
        let card = rooms.user.profile(rooms.store(), account, (requester, &domain)).await;
        return answer(rooms, now, link, request, card.map(|card| Profile { request, card }.into()));
    }
    let asked = Asked { link, request, what: What::Profile(account) };
    let frame = |request| PeerProfile { request, owner: account, requester }.into();
    let passed = rooms.federation.resolve(&domain, None, requester, None);
    let passed = passed.and_then(|()| rooms.federation.ask(rooms.links(), now.monotonic, &domain, asked, frame));
    if let Err(refusal) = passed {
        rooms.refuse(now, link, request, refusal);
    }
}

/// A peer asks for a card for one of its own users.
pub(crate) async fn profile_for<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, peer: &Domain, words: PeerProfile) {
    let PeerProfile { request, owner, requester } = words;
    let card = rooms.user.profile(rooms.store(), owner, (requester, peer)).await;
    answer(rooms, now, link, request, card.map(|card| Profile { request, card }.into()));
}

/// A peer gave a card.
pub(crate) fn profiled<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, words: Profile) {
    let Some(asked) = rooms.federation.answered(link, words.request) else {
        return tracing::debug!("a peer's answer came after its time");
    };
    let (request, card) = (asked.request, words.card);
    let card = match asked.what {
        What::Profile(owner) if card.by.account == owner => Ok(Profile { request, card }.into()),
        _ => Err(Refusal::last(RefusalCode::PeerUntrusted)),
    };
    answer(rooms, now, asked.link, request, card);
}

/// A device lists its owner's invites.
pub(crate) async fn invites<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, from: Admission, words: ListInvites) {
    let request = words.request;
    let invites = rooms.store().invites(from.device.account).await.map_err(Refusal::from);
    answer(rooms, now, link, request, invites.map(|invites| InvitePage { request, invites }.into()));
}

/// A device takes an invite back.
pub(crate) async fn revoke<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, from: Admission, words: RevokeInvite) {
    let RevokeInvite { request, token } = words;
    let command = Command::RevokeInvite(from.device.account, token);
    done(rooms, now, link, request, command).await;
}

/// A device asks for everything kept of its owner.
pub(crate) async fn export<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, from: Admission, words: ExportOwn) {
    let ExportOwn { request, after } = words;
    // A row may be as large as an account log; a part stays far below what a frame may have.
    let page = rooms.store().export(from.device.account, after, limits::EXPORT_ROWS_MAX / 32).await;
    let page = page.map_err(Refusal::from).map(|page| {
        let next = page.next.map(Into::into);
        Exported { request, rows: page.rows, next }.into()
    });
    answer(rooms, now, link, request, page);
}

/// A device ends its account here: its links end with it, and its rows go in the time that follows.
pub(crate) async fn delete<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, from: Admission, words: DeleteAccount) {
    let DeleteAccount { request, account } = words;
    if account != from.device.account {
        return rooms.refuse(now, link, request, Refusal::last(RefusalCode::Malformed));
    }
    match rooms.store().commit(Command::DeleteAccount(account)).await {
        Ok(_) => {
            rooms.answer(now, link, Done { request });
            for link in rooms.reception.links_of(account) {
                rooms.end(now, link);
            }
            rooms.wakes.changed();
            rooms.sweeper.purge_now(now.monotonic);
        }
        Err(error) => rooms.refuse(now, link, request, error.into()),
    }
}

/// A device shows its owner to be there, or nobody.
pub(crate) async fn set_visible<P: Ports>(
    rooms: &Rooms<P>,
    now: Now,
    link: LinkId,
    from: Admission,
    words: SetVisible,
) {
    let SetVisible { request, visible } = words;
    match rooms.store().commit(Command::SetVisible(from.device.account, visible)).await {
        Ok(_) => {
            rooms.presence.set_visible(from.device.account, visible);
            rooms.answer(now, link, Done { request });
        }
        Err(error) => rooms.refuse(now, link, request, error.into()),
    }
}

/// A device names where it is woken: a challenge goes there, once the store has it.
pub(crate) async fn set_wake<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, from: Admission, words: SetWake) {
    let SetWake { request, endpoint } = words;
    if endpoint.as_ref().is_some_and(|endpoint| !crate::wake::is_endpoint(endpoint)) {
        return rooms.refuse(now, link, request, Refusal::last(RefusalCode::Malformed));
    }
    let (device, code) = (from.device, rooms.chosen());
    let challenge = endpoint.clone().map(|endpoint| (endpoint, code));
    let command =
        Command::SetWake(crate::store::command::people::SetWake { device, endpoint: challenge, at: now.wall });
    match rooms.store().commit(command).await {
        Ok(_) => {
            rooms.wakes.changed();
            if let Some(endpoint) = endpoint {
                rooms.ports.wake(WakeOrder { device, endpoint, word: WakeWord::Challenge(code) });
            }
            rooms.answer(now, link, Done { request });
        }
        Err(error) => rooms.refuse(now, link, request, error.into()),
    }
}

/// The challenge came back.
pub(crate) async fn confirm_wake<P: Ports>(
    rooms: &Rooms<P>,
    now: Now,
    link: LinkId,
    from: Admission,
    words: ConfirmWake,
) {
    let ConfirmWake { request, code } = words;
    let confirm = crate::store::command::people::ConfirmWake { device: from.device, code, at: now.wall };
    done(rooms, now, link, request, Command::ConfirmWake(confirm)).await;
    rooms.wakes.changed();
}

async fn done<P: Ports>(
    rooms: &Rooms<P>,
    now: Now,
    link: LinkId,
    request: whimbrel_protocol::id::RequestId,
    command: Command,
) {
    let result = rooms.store().commit(command).await.map_err(Refusal::from);
    answer(rooms, now, link, request, result.map(|_| Done { request }.into()));
}

/// A device says how far its store has come.
pub(crate) async fn keep_stamp<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, from: Admission, words: KeepStamp) {
    let KeepStamp { request, after, stamp } = words;
    let keep = command::people::KeepStamp { device: from.device, after, stamp };
    let kept = rooms.store().commit(Command::KeepStamp(keep)).await;
    if matches!(kept, Err(StoreError::Conflict(Conflict::OldCopy))) {
        tracing::warn!("a device came with an old copy of its store");
    }
    answer(rooms, now, link, request, kept.map(|_| Done { request }.into()).map_err(Refusal::from));
}
