//! Friendship service: words between accounts, and the owner's list.
//! Owns: what a word must hold to before it is worth a command, and how requests about the list become commands.
//! Never: passes a word on (`federation`); what a word does to a list is decided in the store.
//! Rules: docs/protocol/friendship.md.

use whimbrel_crypto::signed;
use whimbrel_protocol::RefusalCode;
use whimbrel_protocol::frame::decode_words;
use whimbrel_protocol::friendship::{self, FRIENDSHIP_CONTEXT, Friend, FriendshipWord, ListFriends};
use whimbrel_protocol::id::{AccountId, Domain, PublicKey};
use whimbrel_protocol::limits;
use whimbrel_protocol::signed::Signed;
use whimbrel_protocol::time::Wall;

use crate::admission::Admission;
use crate::refusal::Refusal;
use crate::store::command::people::{Befriend, Block, Decline, LetSee};
use crate::store::command::{Befriended, LogBounds};
use crate::store::{Command, Outcome, Store};

/// The lists of one domain's users.
#[derive(Debug)]
pub(crate) struct Friendship {
    domain: Domain,
    bounds: LogBounds,
}

impl Friendship {
    pub(crate) const fn new(domain: Domain, bounds: LogBounds) -> Self {
        Self { domain, bounds }
    }

    /// Reads a word that an own user's device handed in: it must be its own, signed, and name its account as it is known.
    pub(crate) async fn vet(
        &self,
        store: &impl Store,
        from: &Admission,
        word: &Signed,
    ) -> Result<FriendshipWord, Refusal> {
        let read = self.read(word)?;
        let account = store.account(from.device.account).await?.ok_or(Refusal::last(RefusalCode::NotAuthenticated))?;
        let key: PublicKey = account.device(from.device.index).ok_or(Refusal::INTERNAL)?.device_key;
        let own = word.by == from.device && read.address.domain == self.domain && read.address.name == account.name;
        if !own || signed::verify(&key, FRIENDSHIP_CONTEXT, word).is_err() {
            return Err(Refusal::last(RefusalCode::NotAuthenticated));
        }
        Ok(read)
    }

    /// Reads a word that a peer passed on for one of its own users. Its signature is for whoever it is for to check,
    /// against the author's account log.
    pub(crate) fn vet_from(&self, peer: &Domain, word: &Signed) -> Result<FriendshipWord, Refusal> {
        let read = self.read(word)?;
        if read.address.domain == *peer { Ok(read) } else { Err(Refusal::last(RefusalCode::PeerUntrusted)) }
    }

    fn read(&self, word: &Signed) -> Result<FriendshipWord, Refusal> {
        let read: FriendshipWord = decode_words(&word.content).map_err(|_| Refusal::last(RefusalCode::Malformed))?;
        if read.by == word.by { Ok(read) } else { Err(Refusal::last(RefusalCode::Malformed)) }
    }

    /// Does on this relay's side what a word says.
    pub(crate) async fn befriend(
        &self,
        store: &impl Store,
        at: Wall,
        (read, word): (&FriendshipWord, Signed),
        to_domain: Domain,
    ) -> Result<Befriended, Refusal> {
        let command = Befriend {
            by: read.by.account,
            by_domain: read.address.domain.clone(),
            to: read.to,
            to_domain,
            act: read.act,
            said: read.at,
            word,
            local: self.domain.clone(),
            at,
            bounds: self.bounds,
        };
        match store.commit(Command::Befriend(command)).await? {
            Outcome::Befriended(befriended) => Ok(befriended),
            _ => Err(Refusal::INTERNAL),
        }
    }

    pub(crate) async fn decline(
        &self,
        store: &impl Store,
        owner: AccountId,
        other: Option<AccountId>,
    ) -> Result<(), Refusal> {
        store.commit(Command::Decline(Decline { owner, other })).await?;
        Ok(())
    }

    pub(crate) async fn block(
        &self,
        store: &impl Store,
        at: Wall,
        owner: AccountId,
        words: friendship::Block,
    ) -> Result<Befriended, Refusal> {
        let friendship::Block { account: other, domain, blocked, .. } = words;
        match store.commit(Command::Block(Block { owner, other, domain, blocked, at })).await? {
            Outcome::Befriended(befriended) => Ok(befriended),
            _ => Err(Refusal::INTERNAL),
        }
    }

    pub(crate) async fn let_see(
        &self,
        store: &impl Store,
        owner: AccountId,
        (other, allowed): (AccountId, bool),
    ) -> Result<(), Refusal> {
        store.commit(Command::LetSee(LetSee { owner, other, allowed })).await?;
        Ok(())
    }

    /// A page of an owner's list, and whether more follow.
    pub(crate) async fn list(
        &self,
        store: &impl Store,
        owner: AccountId,
        words: &ListFriends,
    ) -> Result<(Vec<Friend>, bool), Refusal> {
        let limit = usize::from(words.limit).clamp(1, limits::FRIEND_PAGE_MAX);
        let mut friends = store.friends(owner, words.after, limit + 1).await?;
        let more = friends.len() > limit;
        friends.truncate(limit);
        Ok((friends, more))
    }
}
