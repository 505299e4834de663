//! Linking: the half of a device that is to come, which has no account and no node yet; and how far one that approves it
//! has come (`flow/link` carries that on).
//! Owns: the newcomer's keys, its end of the channel, and what it keeps once it is granted a place: nothing before.
//! Never: input or output; whoever drives it keeps a batch before the words that follow it leave.
//! Limits: `limits::LINKING_PACKAGES_AT_ONCE`. Rules: docs/protocol/devices.md.

use whimbrel_crypto::{
    AccountLog, Chance, Context, Engine, EngineError, KeyPair, LinkingChannel, LinkingCode, LinkingError,
    LinkingHandshake, LogError, Own, SiblingKey, TransportProof, UnverifiedLog,
};
use whimbrel_protocol::frame::{decode_words, encode_words};
use whimbrel_protocol::id::{AccountId, Address, DeviceId, DeviceIndex, MeetingId, PublicKey};
use whimbrel_protocol::invite::RelayLink;
use whimbrel_protocol::limits;
use whimbrel_protocol::linking::{Grant, LinkingMessage, NewDevice, Packages};
use whimbrel_protocol::time::{Hlc, Now};
use whimbrel_storage::{Batch, Overlay};

use crate::api::Ticket;
use crate::rows::{self, AccountRow, HistoryRow, RelayRow, Single};

/// Why a device was not linked. Nothing of it is kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NewcomerError {
    /// The channel, or what was said over it.
    #[error(transparent)]
    Linking(#[from] LinkingError),
    /// The account log that was granted does not verify.
    #[error("the account log: {0}")]
    Log(#[from] LogError),
    /// It does not name this device as it is.
    #[error("the account log that was granted does not name this device")]
    NotNamed,
}

#[derive(Debug)]
enum Stage {
    /// The other speaks first.
    Shaking(LinkingHandshake),
    /// The channel stands: whose device it is to be comes next.
    Waiting(LinkingChannel),
    /// Our keys are told: the grant comes next.
    Told(LinkingChannel, DeviceId),
    /// Granted: packages are handed over, then the other says that it is done.
    Granted(LinkingChannel, DeviceId),
    /// Nothing more comes of it.
    Ended,
}

/// What comes of words that were heard.
#[derive(Debug)]
#[non_exhaustive]
pub enum Heard {
    /// More is to come.
    Nothing,
    /// This is to be said.
    Say(Vec<Vec<u8>>),
    /// This is to be kept in an empty store; then so many KeyPackages are made with [`Newcomer::packages`].
    Granted(Box<Granted>),
    /// The relay has this device in the account's log.
    Added,
}

/// A place in an account.
#[derive(Debug)]
pub struct Granted {
    /// To be applied to an empty store before any KeyPackage is made.
    pub batch: Batch,
    /// Whose.
    pub account: AccountId,
    /// Where it is found.
    pub address: Address,
    /// How many KeyPackages are asked for.
    pub packages: usize,
}

/// A device that is to come.
#[derive(Debug)]
pub struct Newcomer {
    meeting: MeetingId,
    relay: RelayLink,
    label: String,
    device: KeyPair,
    transport: KeyPair,
    /// Under which its siblings give it what was said before it came.
    history: SiblingKey,
    stage: Stage,
}

impl Newcomer {
    /// A device that shows this code and comes by this relay.
    ///
    /// # Errors
    /// Not expected.
    pub fn new(code: &LinkingCode, relay: RelayLink, label: &str, chance: &mut Chance) -> Result<Self, NewcomerError> {
        let mut keys = chance.fork("identity");
        Ok(Self {
            meeting: code.meeting(),
            relay,
            label: label.to_owned(),
            device: KeyPair::generate(&mut keys),
            transport: KeyPair::generate(&mut keys),
            history: SiblingKey::generate(&mut keys),
            stage: Stage::Shaking(LinkingHandshake::newcomer(code, &mut keys)?),
        })
    }

    /// Where it waits.
    pub const fn meeting(&self) -> MeetingId {
        self.meeting
    }

    /// What it shows its relay.
    pub const fn transport(&self) -> &KeyPair {
        &self.transport
    }

    /// Words of the other.
    ///
    /// # Errors
    /// As [`NewcomerError`] says; nothing more comes of it then.
    pub fn hear(&mut self, bytes: &[u8], now: Now) -> Result<Heard, NewcomerError> {
        match std::mem::replace(&mut self.stage, Stage::Ended) {
            Stage::Shaking(mut handshake) => {
                handshake.read(bytes)?;
                let answer = handshake.write()?;
                self.stage = Stage::Waiting(handshake.finish()?);
                Ok(Heard::Say(vec![answer]))
            }
            Stage::Waiting(mut channel) => match read(&mut channel, bytes)? {
                None => {
                    self.stage = Stage::Waiting(channel);
                    Ok(Heard::Nothing)
                }
                Some(LinkingMessage::Offer(account, index)) => {
                    let said = self.keys(&mut channel, account, index)?;
                    self.stage = Stage::Told(channel, DeviceId { account, index });
                    Ok(Heard::Say(said))
                }
                Some(_) => Err(LinkingError::Words.into()),
            },
            Stage::Told(mut channel, id) => match read(&mut channel, bytes)? {
                None => {
                    self.stage = Stage::Told(channel, id);
                    Ok(Heard::Nothing)
                }
                Some(LinkingMessage::Grant(grant)) => {
                    let granted = self.granted(&grant, id, now)?;
                    self.stage = Stage::Granted(channel, id);
                    Ok(Heard::Granted(Box::new(granted)))
                }
                Some(_) => Err(LinkingError::Words.into()),
            },
            Stage::Granted(mut channel, id) => match read(&mut channel, bytes)? {
                None => {
                    self.stage = Stage::Granted(channel, id);
                    Ok(Heard::Nothing)
                }
                Some(LinkingMessage::Added) => Ok(Heard::Added),
                Some(_) => Err(LinkingError::Words.into()),
            },
            Stage::Ended => Err(LinkingError::Words.into()),
        }
    }

    fn keys(
        &self,
        channel: &mut LinkingChannel,
        account: AccountId,
        index: DeviceIndex,
    ) -> Result<Vec<Vec<u8>>, LinkingError> {
        let proof = TransportProof::make(&self.transport, account, index, &self.device.public());
        let keys = NewDevice {
            device_key: self.device.public(),
            transport_key: self.transport.public(),
            proof: proof.signature(),
            label: self.label.clone(),
        };
        channel.seal(&encode_words(&LinkingMessage::Keys(keys)))
    }

    /// What the other grants is held against what it says of itself.
    fn granted(&self, grant: &Grant, id: DeviceId, now: Now) -> Result<Granted, NewcomerError> {
        let log = UnverifiedLog(grant.log.clone()).verify()?;
        let named = log.device(id.index).is_some_and(|device| {
            (device.device_key, device.transport_key) == (self.device.public(), self.transport.public())
        });
        if !named || log.account() != id.account {
            return Err(NewcomerError::NotNamed);
        }
        let public = |key: [u8; 32]| -> PublicKey { KeyPair::from_seed_bytes(key).public() };
        if grant.identity_key.is_some_and(|key| public(key) != log.identity_key()) {
            return Err(NewcomerError::NotNamed);
        }
        let address = Address { name: grant.name.clone(), domain: self.relay.domain.clone() };
        let RelayLink { domain, endpoint, relay } = self.relay.clone();
        let row = AccountRow {
            device: id,
            name: grant.name.clone(),
            relay: RelayRow { domain, endpoint, relay },
            log: grant.log.clone(),
            identity_key: grant.identity_key,
            device_key: *self.device.secret_bytes(),
            transport_key: *self.transport.secret_bytes(),
            participants_key: grant.participants_key,
            address: Some(address.clone()),
        };
        let mut batch = Batch::new();
        batch.put(rows::account_key(), rows::encode(&row));
        batch.put(rows::single_key(Single::Joining), Vec::new());
        let history =
            HistoryRow { key: *self.history.secret_bytes(), from: None, listed: false, threads: 0, done: 0, texts: 0 };
        batch.put(rows::history_row_key(), rows::encode(&history));
        batch.put(rows::single_key(Single::Clock), rows::encode(&Hlc::default().tick(now.wall)));
        let packages = usize::try_from(grant.packages).unwrap_or(usize::MAX).min(limits::LINKING_PACKAGES_MAX);
        Ok(Granted { batch, account: id.account, address, packages })
    }

    /// Makes some of the KeyPackages that are asked for, `left` of them still to come, and says them. Their secrets are in
    /// the rows: to be kept before the words leave.
    ///
    /// # Errors
    /// The engine, or the channel.
    pub fn packages<E: Engine>(
        &mut self,
        engine: &mut E,
        rows: &mut Overlay<'_>,
        chance: &mut Chance,
        now: Now,
        left: usize,
    ) -> Result<(Vec<Vec<u8>>, usize), EngineError> {
        let Stage::Granted(channel, id) = &mut self.stage else { return Err(EngineError::NotMember) };
        let own = Own { id: *id, device: &self.device };
        let count = left.min(limits::LINKING_PACKAGES_AT_ONCE);
        let mut packages = Vec::with_capacity(count);
        for _ in 0..count {
            let mut cx = Context { rows: &mut *rows, chance: &mut *chance, now };
            packages.push(engine.key_package(&mut cx, &own, false)?.into());
        }
        let left = left - count;
        let words = LinkingMessage::Packages(Packages { packages, last: left == 0 });
        let said = channel.seal(&encode_words(&words)).map_err(|error| EngineError::Library(error.to_string()))?;
        Ok((said, left))
    }
}

/// A linking under way; it ends with the process.
#[derive(Debug)]
pub(crate) struct Approving {
    pub(crate) ticket: Ticket,
    pub(crate) meeting: MeetingId,
    pub(crate) limited: bool,
    pub(crate) stage: Progress,
}

#[derive(Debug)]
pub(crate) enum Progress {
    /// The relay is asked to bring us together; then the handshake begins.
    Joining(LinkingHandshake),
    /// The other's half of it comes next.
    Shaking(LinkingHandshake),
    /// It is offered a place: its keys come next.
    Offered(LinkingChannel, DeviceId),
    /// It is granted: KeyPackages come next.
    Granted {
        channel: LinkingChannel,
        log: Box<AccountLog>,
        device: DeviceId,
        packages: u32,
    },
    /// The log is with the relay; who waits is answered by `account`.
    HandedIn(LinkingChannel),
    Ended,
}

/// The next message of a channel, once it is whole.
pub(crate) fn read(channel: &mut LinkingChannel, bytes: &[u8]) -> Result<Option<LinkingMessage>, LinkingError> {
    match channel.open(bytes)? {
        Some(message) => decode_words(&message).map(Some).map_err(|_| LinkingError::Words),
        None => Ok(None),
    }
}
