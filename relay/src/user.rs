//! User service: accounts of this relay, their KeyPackages, consent and invites.
//! Owns: what is answered about an own account, to whomever asks.
//! Never: asks another relay (`federation`); the conditions are in the store's commands.
//! Rules: docs/protocol/user.md.

use whimbrel_crypto::AccountLog;
use whimbrel_protocol::RefusalCode;
use whimbrel_protocol::id::{AccountId, Address, DeviceId, DeviceIndex, Domain, InviteToken, Name};
use whimbrel_protocol::time::Wall;
use whimbrel_protocol::user::{ClaimedPackage, NewInvite, StockKeyPackages, Who};

use crate::config::Registration;
use crate::refusal::Refusal;
use crate::store::command::{self, ClaimKeyPackages, GiveConsent, Register};
use crate::store::{Account, Command, LogId, MailboxId, Outcome, Store};

/// KeyPackages handed out.
pub(crate) struct Claimed {
    pub(crate) packages: Vec<ClaimedPackage>,
    /// What each of the owner's devices has left.
    pub(crate) left: Vec<(DeviceIndex, u32)>,
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
        mut chosen: impl FnMut() -> [u8; 16],
    ) -> Result<Address, Refusal> {
        if self.registration == Registration::Closed {
            // Whoever was taken in and did not hear the answer is here already, and stays.
            let known = store.account(log.account()).await?;
            let same = |known: &Account| known.name == name && (known.log_seq, known.log_hash) == log.head();
            if !known.is_some_and(|known| same(&known)) {
                return Err(Refusal::last(RefusalCode::RegistrationClosed));
            }
        }
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
        };
        store.commit(Command::Register(register)).await?;
        Ok(Address { name, domain: self.domain.clone() })
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
        let StockKeyPackages { one_time, last_resort, .. } = words;
        let stock = command::StockKeyPackages { device, one_time, last_resort };
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
        token: Option<InviteToken>,
    ) -> Result<Claimed, Refusal> {
        let local = self.domain.clone();
        let claim = ClaimKeyPackages { owner, requester, requester_domain, token, local, at };
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
    ) -> Result<(), Refusal> {
        store.commit(Command::GiveConsent(GiveConsent { owner, other, domain })).await?;
        Ok(())
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
