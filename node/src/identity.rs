//! Identity: the account of this device and its keys.
//! Owns: making them, the one row they live in, and the device's proof on a link.
//! Never: shows a secret; keeps the recovery phrase (only its hash is in the account log).
//! Rules: docs/protocol/identity.md.

use whimbrel_crypto::{
    AccountLog, Chance, KeyPair, LogError, Own, ParticipantsKey, RecoveryHash, RecoveryPhrase, TransportProof,
    UnverifiedLog,
};
use whimbrel_protocol::id::{AccountId, Address, DeviceId, DeviceIndex, Name};
use whimbrel_protocol::invite::RelayLink;
use whimbrel_protocol::time::{Hlc, Now};
use whimbrel_storage::{Batch, Overlay, Reads, StorageError};

use crate::rows::{self, AccountRow, ExtensionRow, RelayRow};

/// A new account, not yet stored or known to anybody.
#[derive(Debug)]
pub struct Created {
    /// To be applied to an empty store before the node is opened.
    pub batch: Batch,
    /// To be written down by its owner: shown once, kept nowhere.
    pub recovery: RecoveryPhrase,
    /// The account's id.
    pub account: AccountId,
}

/// Why an account could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// The device's label does not fit the account log.
    #[error("the device's label is too long or has control characters")]
    Label(#[source] LogError),
}

/// Why the own account could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// No account was made in this store.
    #[error("there is no account in this store")]
    NoAccount,
    /// The store could not be read.
    #[error(transparent)]
    Rows(#[from] StorageError),
    /// The own account log does not verify.
    #[error("the own account log: {0}")]
    Log(#[from] LogError),
}

/// Makes an account with this device as its first, on the relay it will register at.
///
/// # Errors
/// The label does not fit.
pub fn create(
    name: Name,
    relay: RelayLink,
    label: &str,
    chance: &mut Chance,
    now: Now,
) -> Result<Created, CreateError> {
    let mut keys = chance.fork("identity");
    let recovery = RecoveryPhrase::generate(&mut keys);
    let identity = KeyPair::generate(&mut keys);
    let device = KeyPair::generate(&mut keys);
    let transport = KeyPair::generate(&mut keys);
    let hlc = Hlc::default().tick(now.wall);
    let mut log = AccountLog::genesis(&identity, recovery.recovery_hash(), hlc, &mut keys);
    let later = hlc.tick(now.wall);
    let first = DeviceIndex::FIRST;
    let proof = TransportProof::make(&transport, log.account(), first, &device.public());
    log.add_device(&identity, first, device.public(), proof, label, later).map_err(CreateError::Label)?;
    let row = AccountRow {
        device: DeviceId { account: log.account(), index: DeviceIndex::FIRST },
        name,
        relay: RelayRow { domain: relay.domain, endpoint: relay.endpoint, relay: relay.relay },
        log: log.bytes(),
        identity_key: Some(*identity.secret_bytes()),
        device_key: *device.secret_bytes(),
        transport_key: *transport.secret_bytes(),
        participants_key: *ParticipantsKey::generate(&mut keys).secret_bytes(),
        address: None,
    };
    let mut batch = Batch::new();
    batch.put(rows::account_key(), rows::encode(&row));
    batch.put(rows::single_key(rows::Single::Clock), rows::encode(&later));
    batch.put(rows::single_key(rows::Single::Strangers), rows::encode(&0_u64));
    Ok(Created { batch, recovery, account: log.account() })
}

/// What is known of an account that is to be recovered, and what is wanted.
#[derive(Debug)]
pub struct Recovery<'r> {
    /// Where it is found.
    pub address: Address,
    /// The relay it lives at.
    pub relay: RelayLink,
    /// Its log, as proved.
    pub log: AccountLog,
    /// The words typed in.
    pub words: &'r RecoveryPhrase,
    /// What the words from then on commit to; their owner has written them down.
    pub next: RecoveryHash,
    /// What this device is called.
    pub label: &'r str,
    /// Whether every device the account had is taken off it.
    pub revoke_others: bool,
}

/// Makes this device one of an account by its recovery words alone: another identity key takes the place of the one that
/// was, the devices that are to go go, this one comes. The relay is handed it when the node first runs, before anything
/// else, as often as it takes.
///
/// # Errors
/// The words are not the account's, the label does not fit, or there are ten devices and none goes.
pub fn recover(recovery: Recovery<'_>, chance: &mut Chance, now: Now) -> Result<(Batch, AccountId), LogError> {
    let Recovery { address, relay, mut log, words, next, label, revoke_others } = recovery;
    let mut keys = chance.fork("identity");
    let identity = KeyPair::generate(&mut keys);
    let device = KeyPair::generate(&mut keys);
    let transport = KeyPair::generate(&mut keys);
    let mut hlc = Hlc::default().tick(now.wall);
    let (after, _) = log.head();
    log.rotate_identity(&words.key_pair(), &identity, next, hlc)?;
    if revoke_others {
        let others: Vec<DeviceIndex> = log.devices().map(|device| device.index).collect();
        for index in others {
            hlc = hlc.tick(now.wall);
            log.revoke_device(&identity, index, hlc)?;
        }
    }
    hlc = hlc.tick(now.wall);
    let index = log.next_index();
    let proof = TransportProof::make(&transport, log.account(), index, &device.public());
    log.add_device(&identity, index, device.public(), proof, label, hlc)?;
    let account = log.account();
    let row = AccountRow {
        device: DeviceId { account, index },
        name: address.name.clone(),
        relay: RelayRow { domain: relay.domain, endpoint: relay.endpoint, relay: relay.relay },
        log: log.bytes(),
        identity_key: Some(*identity.secret_bytes()),
        device_key: *device.secret_bytes(),
        transport_key: *transport.secret_bytes(),
        participants_key: *ParticipantsKey::generate(&mut keys).secret_bytes(),
        address: Some(address),
    };
    let extension = ExtensionRow { log: log.bytes(), identity_key: None, first: true, after };
    let mut batch = Batch::new();
    batch.put(rows::account_key(), rows::encode(&row));
    batch.put(rows::single_key(rows::Single::Extension), rows::encode(&extension));
    batch.put(rows::single_key(rows::Single::Clock), rows::encode(&hlc));
    Ok((batch, account))
}

/// The transport key of the account in this store: what TLS and libp2p show.
///
/// # Errors
/// There is no account, or the store could not be read.
pub fn transport_key(reads: &dyn Reads) -> Result<KeyPair, LoadError> {
    let row: AccountRow = rows::get(reads, &rows::account_key())?.ok_or(LoadError::NoAccount)?;
    Ok(KeyPair::from_seed_bytes(row.transport_key))
}

/// The device key of the account in this store: what signs its leaves, messages and commits.
///
/// # Errors
/// There is no account, or the store could not be read.
pub fn device_key(reads: &dyn Reads) -> Result<KeyPair, LoadError> {
    let row: AccountRow = rows::get(reads, &rows::account_key())?.ok_or(LoadError::NoAccount)?;
    Ok(KeyPair::from_seed_bytes(row.device_key))
}

/// The own account in memory.
pub(crate) struct Identity {
    row: AccountRow,
    pub(crate) log: AccountLog,
    pub(crate) device: KeyPair,
    pub(crate) transport: KeyPair,
    pub(crate) participants: ParticipantsKey,
}

impl Identity {
    pub(crate) fn load(reads: &dyn Reads) -> Result<Self, LoadError> {
        let row: AccountRow = rows::get(reads, &rows::account_key())?.ok_or(LoadError::NoAccount)?;
        Ok(Self {
            log: UnverifiedLog(row.log.clone()).verify()?,
            device: KeyPair::from_seed_bytes(row.device_key),
            transport: KeyPair::from_seed_bytes(row.transport_key),
            participants: ParticipantsKey::from_bytes(row.participants_key),
            row,
        })
    }

    pub(crate) fn id(&self) -> DeviceId {
        self.row.device
    }

    pub(crate) fn account(&self) -> AccountId {
        self.row.device.account
    }

    pub(crate) fn name(&self) -> &Name {
        &self.row.name
    }

    pub(crate) fn address(&self) -> Option<&Address> {
        self.row.address.as_ref()
    }

    pub(crate) fn relay(&self) -> RelayLink {
        let RelayRow { domain, endpoint, relay } = self.row.relay.clone();
        RelayLink { domain, endpoint, relay }
    }

    /// What signs the account log, if this device holds it.
    pub(crate) fn identity_key(&self) -> Option<KeyPair> {
        let key = self.row.identity_key.map(KeyPair::from_seed_bytes)?;
        Some(key).filter(|key| key.public() == self.log.identity_key())
    }

    /// The identity key this device was given last, whether or not it is the account's to this day.
    pub(crate) fn held_key(&self) -> Option<KeyPair> {
        self.row.identity_key.map(KeyPair::from_seed_bytes)
    }

    /// Whether the log still names this device.
    pub(crate) fn is_listed(&self) -> bool {
        self.log.device(self.row.device.index).is_some_and(|device| device.device_key == self.device.public())
    }

    /// The account's log is this one from now on.
    pub(crate) fn adopt(&mut self, rows: &mut Overlay<'_>, log: AccountLog, identity: Option<[u8; 32]>) {
        self.row.log = log.bytes();
        if identity.is_some() {
            self.row.identity_key = identity;
        }
        self.log = log;
        rows::put(rows, rows::account_key(), &self.row);
    }

    /// As the engine wants it.
    pub(crate) fn own(&self) -> Own<'_> {
        Own { id: self.row.device, device: &self.device }
    }

    /// The account is about to be handed to the relay: from then on it may be taken in there, answer or not.
    pub(crate) fn registering(rows: &mut Overlay<'_>) {
        rows.put(rows::single_key(rows::Single::Registering), Vec::new());
    }

    /// The relay does not take the account in.
    pub(crate) fn rejected(rows: &mut Overlay<'_>) {
        rows.delete(rows::single_key(rows::Single::Registering));
    }

    /// The relay took the account in.
    pub(crate) fn registered(&mut self, rows: &mut Overlay<'_>, address: Address) {
        Self::rejected(rows);
        self.row.address = Some(address);
        rows::put(rows, rows::account_key(), &self.row);
    }
}
