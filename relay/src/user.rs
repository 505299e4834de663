//! User service: accounts of this relay, their KeyPackages, consent and invites.
//! Owns: what is answered about an own account, to whomever asks.
//! Never: asks another relay (`federation`); the conditions are in the store's commands.
//! Rules: docs/protocol/user.md.

use whimbrel_crypto::account_log::UnverifiedLog;
use whimbrel_crypto::{AccountLog, RecoveryHash, link, signed};
use whimbrel_protocol::RefusalCode;
use whimbrel_protocol::frame::decode_words;
use whimbrel_protocol::friendship::Standing;
use whimbrel_protocol::id::{
    AccountId, Address, DeviceId, DeviceIndex, Domain, InviteToken, Name, PublicKey, ThreadId,
};
use whimbrel_protocol::limits;
use whimbrel_protocol::signed::Signed;
use whimbrel_protocol::time::Wall;
use whimbrel_protocol::user::{
    CARD_CONTEXT, Card, ClaimedPackage, ExtendLog, NewInvite, Recover, SetProfile, StockKeyPackages, Who,
};

use crate::config::Registration;
use crate::refusal::Refusal;
use crate::store::command::people::Entrance;
use crate::store::command::{self, ClaimKeyPackages, GiveConsent, Register};
use crate::store::{Command, Conflict, Hearers, LogId, MailboxId, Outcome, Store, StoreError};

/// KeyPackages handed out.
pub(crate) struct Claimed {
    pub(crate) packages: Vec<ClaimedPackage>,
    /// What each of the owner's devices has left.
    pub(crate) left: Vec<(DeviceIndex, u32)>,
}

/// An account log that grew.
pub(crate) struct Extended {
    pub(crate) log: AccountLog,
    /// Devices that speak for the account no more.
    pub(crate) gone: Vec<DeviceIndex>,
    /// The threads they had a leaf in, and where what is said to whoever is there may go.
    pub(crate) around: Vec<(ThreadId, Hearers)>,
    /// Whether it grew just now.
    pub(crate) new: bool,
}

/// Why entries were not added to a log.
pub(crate) enum ExtendError {
    /// It goes on otherwise.
    Moved(AccountLog),
    /// They break a rule, or the store did not take them.
    Refused(Refusal),
}

impl From<Refusal> for ExtendError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<StoreError> for ExtendError {
    fn from(error: StoreError) -> Self {
        Self::Refused(error.into())
    }
}

/// The accounts of one domain.
#[derive(Debug)]
pub(crate) struct User {
    domain: Domain,
    registration: Registration,
}

impl User {
    pub(crate) const fn new(domain: Domain, registration: Registration) -> Self {
        Self { domain, registration }
    }

    /// Takes an account in; its log was verified.
    pub(crate) async fn register(
        &self,
        store: &impl Store,
        name: Name,
        log: &AccountLog,
        (at, invite): (Wall, Option<InviteToken>),
        mut chosen: impl FnMut() -> [u8; 16],
    ) -> Result<Address, Refusal> {
        let entrance = match (self.registration, invite) {
            (Registration::Open, _) => Entrance::Open,
            (Registration::Invite, Some(token)) => Entrance::Invited(token.hash()),
            (Registration::Invite, None) | (Registration::Closed, _) => Entrance::Closed,
        };
        let devices = log.devices().map(|device| {
            let mailbox = MailboxId::from_bytes(chosen());
            command::account_device(device.index, device.device_key, device.transport_key, mailbox)
        });
        let devices = devices.collect();
        let register = Register {
            name: name.clone(),
            account: log.account(),
            log: log.bytes(),
            head: log.head(),
            devices,
            inbox: LogId::from_bytes(chosen()),
            entrance,
            at,
        };
        store.commit(Command::Register(register)).await?;
        Ok(Address { name, domain: self.domain.clone() })
    }

    /// Adds entries to an own account's log. The log says whether they may be there; whoever brings them does not matter.
    pub(crate) async fn extend(
        &self,
        store: &impl Store,
        words: &ExtendLog,
        mut chosen: impl FnMut() -> [u8; 16],
    ) -> Result<Extended, ExtendError> {
        let gone = Refusal::last(RefusalCode::NotAuthenticated);
        let before = store.account(words.account).await?.ok_or(gone)?;
        let stored = UnverifiedLog(store.account_log(words.account).await?.ok_or(gone)?);
        let known = stored.verify().map_err(|_| Refusal::INTERNAL)?;
        let from = (words.after, words.hash);
        if known.hash_at(words.after) == Some(words.hash) && known.tail(words.after) == words.entries {
            // Said again, because the answer was lost.
            return Ok(Extended { log: known, gone: Vec::new(), around: Vec::new(), new: false });
        }
        if known.head() != from {
            return Err(ExtendError::Moved(known));
        }
        let log = known.extended(&words.entries).map_err(|_| Refusal::last(RefusalCode::Malformed))?;
        let is_gone = |index: &DeviceIndex| log.device(*index).is_none();
        let left: Vec<DeviceIndex> = before.devices.iter().map(|device| device.index).filter(is_gone).collect();
        // With the log the store forgets where they were.
        let around = match left.is_empty() {
            true => Vec::new(),
            false => store.surroundings(words.account, left.clone(), limits::LOG_GROWN_THREADS_MAX).await?,
        };
        let devices = log.devices().map(|device| {
            let mailbox = MailboxId::from_bytes(chosen());
            command::account_device(device.index, device.device_key, device.transport_key, mailbox)
        });
        let devices = devices.collect();
        let (account, bytes, head) = (words.account, log.bytes(), log.head());
        let extend = command::people::ExtendLog { account, from, log: bytes, head, devices };
        match store.commit(Command::ExtendLog(extend)).await {
            Ok(_) => {}
            Err(StoreError::Conflict(Conflict::Differs)) => {
                let stored = UnverifiedLog(store.account_log(words.account).await?.ok_or(gone)?);
                return Err(ExtendError::Moved(stored.verify().map_err(|_| Refusal::INTERNAL)?));
            }
            Err(error) => return Err(error.into()),
        }
        Ok(Extended { log, gone: left, around, new: true })
    }

    /// The log of an own account, for whoever holds its recovery key and has no device of it.
    pub(crate) async fn recover(
        &self,
        store: &impl Store,
        words: &Recover,
        exporter: &[u8; 32],
    ) -> Result<(Address, Vec<u8>), Refusal> {
        // No such account, and not its key, look alike.
        let gone = Refusal::last(RefusalCode::NotAuthenticated);
        link::verify_recovery(&words.key, exporter, &words.proof).map_err(|_| gone)?;
        let account = store.account_by_name(words.name.clone()).await?.ok_or(gone)?;
        let bytes = store.account_log(account).await?.ok_or(gone)?;
        let log = UnverifiedLog(bytes.clone()).verify().map_err(|_| Refusal::INTERNAL)?;
        if log.recovery_hash() != RecoveryHash::of(&words.key) {
            return Err(gone);
        }
        Ok((Address { name: words.name.clone(), domain: self.domain.clone() }, bytes))
    }

    /// Whether a device that is not its account's was so before: whoever shows its key is told, and is shown the log.
    pub(crate) async fn revoked(
        &self,
        store: &impl Store,
        device: DeviceId,
        transport: &PublicKey,
    ) -> Result<Option<Vec<u8>>, Refusal> {
        let Some(bytes) = store.account_log(device.account).await? else { return Ok(None) };
        let log = UnverifiedLog(bytes.clone()).verify().map_err(|_| Refusal::INTERNAL)?;
        let was = log.device(device.index).is_none() && log.has_named(transport);
        Ok(was.then_some(bytes))
    }

    /// An own account, by address or id.
    pub(crate) async fn look_up(&self, store: &impl Store, who: &Who) -> Result<(Address, Vec<u8>), Refusal> {
        let gone = Refusal::last(RefusalCode::NotFound);
        let account = match who {
            Who::Address(address) => store.account_by_name(address.name.clone()).await?.ok_or(gone)?,
            Who::Account(account, _) => *account,
        };
        let name = store.account(account).await?.ok_or(gone)?.name;
        let log = store.account_log(account).await?.ok_or(gone)?;
        Ok((Address { name, domain: self.domain.clone() }, log))
    }

    pub(crate) async fn stock(
        &self,
        store: &impl Store,
        device: DeviceId,
        words: StockKeyPackages,
    ) -> Result<u32, Refusal> {
        let StockKeyPackages { one_time, last_resort, replaces, .. } = words;
        let stock = command::StockKeyPackages { device, one_time, last_resort, replaces };
        match store.commit(Command::StockKeyPackages(stock)).await? {
            Outcome::Stocked { left } => Ok(left),
            _ => Err(Refusal::INTERNAL),
        }
    }

    pub(crate) async fn claim(
        &self,
        store: &impl Store,
        at: Wall,
        owner: AccountId,
        (requester, requester_domain): (AccountId, Domain),
        (token, own): (Option<InviteToken>, Option<DeviceIndex>),
    ) -> Result<Claimed, Refusal> {
        let local = self.domain.clone();
        let claim = ClaimKeyPackages { owner, requester, requester_domain, token, own, local, at };
        match store.commit(Command::ClaimKeyPackages(claim)).await? {
            Outcome::Claimed { packages, left } => Ok(Claimed { packages, left }),
            _ => Err(Refusal::INTERNAL),
        }
    }

    /// An own account used the invite of somebody elsewhere: consent is both ways.
    pub(crate) async fn give_consent(
        &self,
        store: &impl Store,
        owner: AccountId,
        other: AccountId,
        domain: Domain,
        at: Wall,
    ) -> Result<(), Refusal> {
        store.commit(Command::GiveConsent(GiveConsent { owner, other, domain, at })).await?;
        Ok(())
    }

    /// Puts an account's card up; it must be signed by the asking device and say what the request says.
    pub(crate) async fn set_profile(
        &self,
        store: &impl Store,
        device: DeviceId,
        words: SetProfile,
    ) -> Result<(), Refusal> {
        let SetProfile { revision, card, .. } = words;
        let owner = device.account;
        let read: Card = decode_words(&card.content).map_err(|_| Refusal::last(RefusalCode::Malformed))?;
        let account = store.account(owner).await?.ok_or(Refusal::last(RefusalCode::NotAuthenticated))?;
        let key = account.device(device.index).ok_or(Refusal::INTERNAL)?.device_key;
        let own = card.by == device && read.account == owner && read.revision == revision;
        if !own || signed::verify(&key, CARD_CONTEXT, &card).is_err() {
            return Err(Refusal::last(RefusalCode::NotAuthenticated));
        }
        store.commit(Command::SetProfile(command::people::SetProfile { owner, revision, card })).await?;
        Ok(())
    }

    /// An own account's card, for itself and its friends. To others there is none.
    pub(crate) async fn profile(
        &self,
        store: &impl Store,
        owner: AccountId,
        (requester, domain): (AccountId, &Domain),
    ) -> Result<Signed, Refusal> {
        let gone = Refusal::last(RefusalCode::NotFound);
        let friend = match store.standing(owner, requester).await? {
            Some((standing, _, home)) => standing == Standing::Friends && home == *domain,
            None => owner == requester && *domain == self.domain,
        };
        let card = store.profile(owner).await?;
        card.filter(|_| friend).ok_or(gone)
    }

    pub(crate) async fn invite(
        &self,
        store: &impl Store,
        at: Wall,
        owner: AccountId,
        words: NewInvite,
    ) -> Result<(), Refusal> {
        let NewInvite { token, uses, expires, .. } = words;
        if uses == 0 || expires <= at {
            return Err(Refusal::last(RefusalCode::Malformed));
        }
        store.commit(Command::NewInvite(command::NewInvite { owner, token, uses, expires, at })).await?;
        Ok(())
    }
}
