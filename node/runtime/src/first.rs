//! First: what a device says to its relay before it is one of an account.
//! Owns: one link that ends with the errand, made with keys that are kept only if the errand comes to something.
//! Never: takes another relay for the one meant; goes on by another way than QUIC.
//! Limits: `limits::ANSWER_TIME_MAX`.

use std::path::Path;

use tokio::task::spawn_blocking;
use tokio::time::timeout;
use whimbrel_crypto::{
    Chance, KeyPair, LinkingCode, LogError, MlsEngine, RecoveryHash, RecoveryPhrase, UnverifiedLog, link,
};
use whimbrel_node::identity::{self, LoadError, Recovery};
use whimbrel_node::linking::{Granted, Heard, Newcomer, NewcomerError};
use whimbrel_node::views;
use whimbrel_protocol::id::{AccountId, Address, Name, RequestId};
use whimbrel_protocol::invite::RelayLink;
use whimbrel_protocol::linking::{LinkingWords, OfferLinking};
use whimbrel_protocol::reception::Refused;
use whimbrel_protocol::refusal::RefusalCode;
use whimbrel_protocol::user::Recover;
use whimbrel_protocol::{Frame, limits};
use whimbrel_storage::{Batch, OrderedKv, Overlay, StorageError};
use whimbrel_transport::{BindError, CloseCode, Endpoint, Identity, IdentityError, Link};

use crate::clock::{self, Clock};
use crate::home::RelayProblem;
use crate::store::{self, Access, NodeStore, OpenStoreError};

/// Why a device did not become one of an account.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FirstError {
    /// There is an account in this folder already.
    #[error("there is an account already: {0}")]
    Exists(Address),
    /// There is one, and what it is cannot be read.
    #[error("there is an account already, and it cannot be read: {0}")]
    Unreadable(LoadError),
    /// The relay was not reached, or is another.
    #[error(transparent)]
    Relay(#[from] RelayProblem),
    /// It refused.
    #[error("refused by the relay: {0}")]
    Refused(RefusalCode),
    /// It said nothing, or what makes no sense.
    #[error("the relay did not answer")]
    Silent,
    /// The other device ended it, or does not know the code.
    #[error("the other device ended it; nothing was changed")]
    Declined,
    /// The linking itself.
    #[error(transparent)]
    Linking(#[from] NewcomerError),
    /// What it said does not prove what it must.
    #[error("not trusted: {0}")]
    Untrusted(String),
    /// The account's log does not take this device.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The store could not be opened.
    #[error(transparent)]
    Open(#[from] OpenStoreError),
    /// The store could not be written.
    #[error(transparent)]
    Write(#[from] StorageError),
    /// The system gave no chance.
    #[error("no entropy: {0}")]
    Entropy(getrandom::Error),
    /// No socket.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// TLS does not take the key; not expected.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// A link to a relay that knows nobody on it.
#[derive(Debug)]
pub(crate) struct Errand {
    endpoint: Endpoint,
    link: Link,
    requests: u64,
}

impl Errand {
    /// Reaches the relay, showing this key.
    pub(crate) async fn begin(key: &KeyPair, relay: &RelayLink) -> Result<Self, FirstError> {
        let endpoint = Endpoint::bind_dialler(Identity::node(key)?, clock::wall)?;
        let mut link = endpoint.connect(relay).await.map_err(RelayProblem::from)?;
        // TLS proved that it is the pinned relay.
        link.receiver.authenticated();
        Ok(Self { endpoint, link, requests: 0 })
    }

    pub(crate) fn exporter(&self) -> [u8; 32] {
        self.link.exporter
    }

    /// Sends a frame that asks, and waits for what answers it.
    pub(crate) async fn ask<F: Into<Frame>>(
        &mut self,
        frame: impl FnOnce(RequestId) -> F,
    ) -> Result<Frame, FirstError> {
        self.requests += 1;
        self.say(&frame(RequestId::new(self.requests)).into())?;
        timeout(limits::ANSWER_TIME_MAX, self.next()).await.map_err(|_| FirstError::Silent)?
    }

    pub(crate) fn say(&mut self, frame: &Frame) -> Result<(), FirstError> {
        self.link.sender.send(frame).map_err(|_| FirstError::Silent)
    }

    /// The next frame; a refusal is an error.
    pub(crate) async fn next(&mut self) -> Result<Frame, FirstError> {
        match self.link.receiver.next().await {
            Ok(Frame::Refused(Refused { code, .. })) => Err(FirstError::Refused(code)),
            Ok(frame) => Ok(frame),
            Err(error) => {
                tracing::debug!(%error, "the relay ended the link");
                Err(FirstError::Silent)
            }
        }
    }

    /// Waits until there is room for more.
    pub(crate) async fn drained(&self) {
        self.link.sender.has_room().await;
    }

    pub(crate) async fn end(self) {
        self.link.sender.close(CloseCode::Done);
        self.endpoint.close(CloseCode::Done);
        let _told_or_not = timeout(limits::LINK_CLOSE_TIME_MAX, self.endpoint.idle()).await;
    }
}

/// Fresh recovery words, for a change that commits to them.
///
/// # Errors
/// The system gave no chance.
pub fn fresh_recovery() -> Result<RecoveryPhrase, getrandom::Error> {
    Ok(RecoveryPhrase::generate(&mut Chance::from_seed(store::seed()?)))
}

/// Keeps an account in a folder that is free. Waits for the disk.
pub(crate) fn keep(home: &Path, access: &Access, batch: Batch) -> Result<(), FirstError> {
    let store = store::make(home, access)?;
    let mut all = match views::account(&store) {
        Err(LoadError::NoAccount) => Batch::new(),
        Ok(views::Account { address: Some(address), linking: false, .. }) => return Err(FirstError::Exists(address)),
        // One whose linking never came to its end is worth nothing.
        Ok(_) => store::removal_of_everything(&store)?,
        Err(error) => return Err(FirstError::Unreadable(error)),
    };
    all.extend(batch);
    store.apply(&all)?;
    store.close()?;
    Ok(())
}

/// A device that waits for another of the account to approve it.
#[derive(Debug)]
pub struct Waiting {
    errand: Errand,
    newcomer: Newcomer,
    chance: Chance,
    code: LinkingCode,
}

/// Begins to link this device: it waits at the relay for one that is told the code.
///
/// # Errors
/// As [`FirstError`] says.
pub async fn offer_linking(relay: &RelayLink, label: &str) -> Result<Waiting, FirstError> {
    let mut chance = Chance::from_seed(store::seed().map_err(FirstError::Entropy)?);
    let code = LinkingCode::generate(&mut chance);
    let newcomer = Newcomer::new(&code, relay.clone(), label, &mut chance)?;
    let mut errand = Errand::begin(newcomer.transport(), relay).await?;
    let meeting = newcomer.meeting();
    match errand.ask(|request| OfferLinking { request, meeting }).await? {
        Frame::Done(_) => Ok(Waiting { errand, newcomer, chance, code }),
        _ => Err(FirstError::Silent),
    }
}

impl Waiting {
    /// What is to be shown to its owner, and typed in at the other device.
    pub const fn code(&self) -> &LinkingCode {
        &self.code
    }

    /// Waits until it is approved, and keeps what it is granted in the folder `home`, which must be free. When this
    /// returns, the relay has the device in the account's log.
    ///
    /// # Errors
    /// As [`FirstError`] says. A device that was granted a place and never heard that it holds keeps what it was granted:
    /// whether it is one of the account's shows when its node runs.
    pub async fn linked(mut self, home: &Path, access: Access) -> Result<(Address, AccountId), FirstError> {
        let outcome = self.link(home, access).await;
        self.errand.end().await;
        outcome
    }

    async fn link(&mut self, home: &Path, access: Access) -> Result<(Address, AccountId), FirstError> {
        let clock = Clock::start();
        let mut granted = None;
        loop {
            let next = timeout(limits::LINKING_TIME_MAX, self.errand.next()).await;
            let words = match next.map_err(|_| FirstError::Silent)?? {
                Frame::LinkingWords(words) => words,
                Frame::LinkingOver(_) => return Err(FirstError::Declined),
                _ => return Err(FirstError::Silent),
            };
            match self.newcomer.hear(&words.bytes, clock.now())? {
                Heard::Say(pieces) => self.say(pieces)?,
                Heard::Granted(found) => {
                    let Granted { batch, account, address, packages } = *found;
                    let (home, access) = (home.to_owned(), access.clone());
                    let store = spawn_blocking(move || {
                        keep(&home, &access, batch)
                            .and_then(|()| store::open_store(&home, access).map_err(FirstError::from))
                    });
                    let store = store.await.map_err(|_| FirstError::Silent)??;
                    self.hand_over(store, packages, clock).await?;
                    granted = Some((address, account));
                }
                Heard::Added => return granted.ok_or(FirstError::Silent),
                _ => {}
            }
        }
    }

    fn say(&mut self, pieces: Vec<Vec<u8>>) -> Result<(), FirstError> {
        let meeting = self.newcomer.meeting();
        pieces.into_iter().try_for_each(|bytes| self.errand.say(&LinkingWords { meeting, bytes }.into()))
    }

    /// Makes KeyPackages, some at a time: their secrets are durable before they are told.
    async fn hand_over(&mut self, store: NodeStore, packages: usize, clock: Clock) -> Result<(), FirstError> {
        let mut engine = MlsEngine::new();
        let mut left = packages;
        loop {
            let (said, now_left, batch) = {
                let mut rows = Overlay::new(&store);
                let made = self.newcomer.packages(&mut engine, &mut rows, &mut self.chance, clock.now(), left);
                let (said, left) = made.map_err(|error| FirstError::Untrusted(error.to_string()))?;
                (said, left, rows.into_batch())
            };
            store.apply(&batch)?;
            store.sync()?;
            self.say(said)?;
            self.errand.drained().await;
            left = now_left;
            if left == 0 {
                break;
            }
        }
        store.close()?;
        Ok(())
    }
}

/// An account that is found by its recovery words.
#[derive(Debug)]
pub struct FoundAccount {
    address: Address,
    relay: RelayLink,
    log: whimbrel_crypto::AccountLog,
}

/// Asks the relay for the account of this name, showing that its recovery words are known here.
///
/// # Errors
/// As [`FirstError`] says; words that are not the account's, and a name that nobody has, look alike.
pub async fn find_account(relay: &RelayLink, name: Name, words: &RecoveryPhrase) -> Result<FoundAccount, FirstError> {
    let mut chance = Chance::from_seed(store::seed().map_err(FirstError::Entropy)?);
    let mut errand = Errand::begin(&KeyPair::generate(&mut chance), relay).await?;
    let recovery = words.key_pair();
    let proof = link::prove_recovery(&recovery, &errand.exporter());
    let (asked, key) = (name.clone(), recovery.public());
    let answer = errand.ask(|request| Recover { request, name: asked, key, proof }).await;
    errand.end().await;
    let Frame::LookedUp(found) = answer? else { return Err(FirstError::Silent) };
    let untrusted = |what: &str| FirstError::Untrusted(what.to_owned());
    if found.address.name != name || found.address.domain != relay.domain {
        return Err(untrusted("the relay answered with another address"));
    }
    let log = UnverifiedLog(found.log).verify().map_err(|error| FirstError::Untrusted(error.to_string()))?;
    if log.recovery_hash() != RecoveryHash::of(&recovery.public()) {
        return Err(untrusted("the relay answered with a log that these words do not recover"));
    }
    Ok(FoundAccount { address: found.address, relay: relay.clone(), log })
}

/// Makes the folder `home` a device of an account that was found, in the words of [`identity::recover`]. It is durable when
/// this returns; the relay is handed it when the node first runs. Waits for the disk.
///
/// # Errors
/// As [`FirstError`] says.
pub fn recover(
    home: &Path,
    found: FoundAccount,
    words: &RecoveryPhrase,
    next: RecoveryHash,
    (label, revoke_others): (&str, bool),
    access: &Access,
) -> Result<(Address, AccountId), FirstError> {
    let mut chance = Chance::from_seed(store::seed().map_err(FirstError::Entropy)?);
    let FoundAccount { address, relay, log } = found;
    let recovery = Recovery { address: address.clone(), relay, log, words, next, label, revoke_others };
    let (batch, account) = identity::recover(recovery, &mut chance, Clock::start().now())?;
    keep(home, access, batch)?;
    Ok((address, account))
}
