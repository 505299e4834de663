//! Tree: whoever asks is shown the newest head of the tree over the account logs, signed, with what leads to it.
//! The trip: the store for the tree, the relay's key for the head; or another relay, whose answer finds its way back.
//! Never: answers for another domain, or one asker otherwise than the next.
//! Rules: docs/protocol/transparency.md.

use whimbrel_crypto::transparency;
use whimbrel_protocol::RefusalCode;
use whimbrel_protocol::id::{AccountId, LinkId};
use whimbrel_protocol::time::Now;
use whimbrel_protocol::transparency::{FetchTreeHead, Head, TreeHead};

use super::ask;
use crate::admission::Admission;
use crate::federation::{Asked, What};
use crate::ports::Ports;
use crate::refusal::Refusal;
use crate::rooms::Rooms;
use crate::store::{Store, TreeView};

/// A device asks: here, or at the relay of that domain.
pub(crate) async fn fetch<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, from: Admission, words: FetchTreeHead) {
    if words.domain == rooms.config.domain {
        return show(rooms, now, link, Some(from.device.account), words).await;
    }
    let FetchTreeHead { request, domain, account, from: sizes } = words;
    let asked = Asked { link, request, what: What::TreeHead };
    let passed = rooms.federation.resolve(&domain, None, from.device.account, None);
    let to = domain.clone();
    let frame = |request| FetchTreeHead { request, domain, account, from: sizes }.into();
    let passed = passed.and_then(|()| rooms.federation.ask(rooms.links(), now.monotonic, &to, asked, frame));
    if let Err(refusal) = passed {
        rooms.refuse(now, link, request, refusal);
    }
}

/// A peer asks, for somebody it does not name.
pub(crate) async fn fetch_for<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, words: FetchTreeHead) {
    if words.domain != rooms.config.domain {
        return rooms.refuse(now, link, words.request, Refusal::last(RefusalCode::NotFound));
    }
    show(rooms, now, link, None, words).await;
}

async fn show<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, asker: Option<AccountId>, words: FetchTreeHead) {
    let FetchTreeHead { request, account, from, .. } = words;
    let shown = match rooms.store().tree(account, from, asker).await {
        Ok(TreeView { size, root, steps, entry }) => {
            let head = transparency::sign(rooms.ports.identity(), &Head { size, root, at: now.wall });
            Ok(TreeHead { request, head: Box::new(head), steps, entry: entry.map(Box::new) }.into())
        }
        Err(error) => Err(error.into()),
    };
    ask::answer(rooms, now, link, request, shown);
}

/// A peer answered: its head proves itself to whoever asked.
pub(crate) fn fetched<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, words: TreeHead) {
    let Some(asked) = rooms.federation.answered(link, words.request) else { return ask::late() };
    let shown = match asked.what {
        What::TreeHead => Ok(TreeHead { request: asked.request, ..words }.into()),
        _ => Err(Refusal::last(RefusalCode::PeerUntrusted)),
    };
    ask::answer(rooms, now, asked.link, asked.request, shown);
}
