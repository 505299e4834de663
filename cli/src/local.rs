//! Local: the node that runs in this process.
//! Owns: opening and closing it, what is known of its home relay, and its errors in the words of a command.
//! Never: decides what a request means (`desk`).

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout_at;
use whimbrel_crypto::SealKey;
use whimbrel_node::identity::LoadError;
use whimbrel_node::views;
use whimbrel_node::{Command, Event, Reply};
use whimbrel_node_runtime::{
    Access, CommandFailure, CreateError, Created, DirectOptions, EngineKind, Events, EventsError, FoundAccount,
    NodeHandle, NodeRuntime, OpenStoreError, Options, ProbeCommand, RecoveryPhrase, RelayProblem, RuntimeError,
    StartError, StoreAt, StoreOptions, open_store, store_folder,
};
use whimbrel_protocol::RefusalCode;
use whimbrel_protocol::id::{AccountId, Address, Name};
use whimbrel_protocol::invite::RelayLink;
use whimbrel_storage::{OrderedKv, Reads, StorageError};

use crate::account::first_failure;
use crate::config::Settings;
use crate::failure::{Exit, Failure};
use crate::vault;

/// Page cache of a person's store: the newest messages of every chat fit many times.
const STORE_CACHE_BYTES: u64 = 16 * 1024 * 1024;

/// What is known of the home relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    /// Not reached yet.
    Trying,
    /// It admitted us.
    Up,
    /// And everything it held is here.
    CaughtUp,
    /// It is not there, or is not who it must be.
    Down { reason: String, mistrust: bool },
    /// It does not take the account.
    Refused(RefusalCode),
    /// It deleted the account.
    Deleted,
}

/// A running node.
pub(crate) struct Local {
    node: Arc<NodeHandle>,
    reads: Arc<dyn OrderedKv>,
    home: watch::Receiver<Home>,
    watcher: JoinHandle<()>,
}

/// Something happened in the node.
pub(crate) enum Heard {
    /// This.
    Event(Event),
    /// More than could be kept for us; what it was is in the store.
    TooMuch,
    /// The end of the node.
    End(Failure),
}

/// What is in a profile's folder.
pub(crate) enum Found {
    /// No identity.
    Nothing,
    /// One that no relay is known to have taken in; `asked`: one may have, for it was handed in and its answer is missing.
    Unfinished { name: Name, relay: RelayLink, asked: bool },
    /// One that this device is about to become one of, as soon as the relay hears of it.
    Joining {
        address: Address,
        /// By another device's word, which may never have come.
        linking: bool,
    },
    /// One in use.
    Registered { address: Address },
}

impl Local {
    /// Opens the profile's store and starts the node.
    pub(crate) async fn open(settings: &Settings, direct: DirectOptions) -> Result<Self, Failure> {
        let key = vault::key(settings).await?;
        let store = StoreAt::Home(settings.home.clone(), Access { options: store_options(settings.store), key });
        Self::start(Options { store, config: settings.node.clone(), direct, transport: settings.transport }).await
    }

    /// Starts a node.
    pub(crate) async fn start(options: Options) -> Result<Self, Failure> {
        let node = Arc::new(NodeRuntime::start(options).await.map_err(start_failure)?);
        let events = node.events();
        let (sender, home) = watch::channel(Home::Trying);
        let watcher = tokio::spawn(watch_home(Arc::clone(&node), events, sender));
        Ok(Self { reads: node.reads(), node, home, watcher })
    }

    /// Has the node do something.
    pub(crate) async fn command(&self, command: Command) -> Result<Reply, Failure> {
        self.node.command(command).await.map_err(|failure| match failure {
            CommandFailure::Command(error) => error.into(),
            CommandFailure::Runtime(error) => runtime_failure(&error),
            other => Failure::internal(other),
        })
    }

    /// Every event from now on.
    pub(crate) fn events(&self) -> Listener {
        Listener(self.node.events())
    }

    /// What is known of the home relay, and its changes.
    pub(crate) fn home(&self) -> watch::Receiver<Home> {
        self.home.clone()
    }

    /// The node's rows, for views.
    pub(crate) fn reads(&self) -> &dyn Reads {
        &*self.reads
    }

    /// Waits until the home relay is as wanted.
    pub(crate) async fn wait_home(&self, deadline: Instant, wanted: impl Fn(&Home) -> bool) -> Result<(), Failure> {
        let mut home = self.home();
        let settled =
            home.wait_for(|home| wanted(home) || matches!(home, Home::Down { .. } | Home::Refused(_) | Home::Deleted));
        let settled = timeout_at(deadline.into(), settled).await.map(|home| home.map(|home| home.clone()));
        match settled {
            Ok(Ok(home)) if wanted(&home) => Ok(()),
            Ok(Ok(home)) => home_failure(&home).map_or(Ok(()), Err),
            Ok(Err(_)) => Err(self.ended().await),
            Err(_) => Err(late()),
        }
    }

    /// Waits until the account is registered. Whether it may be all the same is in the store once this is closed
    /// ([`look`]).
    pub(crate) async fn registered(&self, deadline: Instant) -> Result<(Address, AccountId), Failure> {
        let mut home = self.home();
        let settled = home.wait_for(|home| !matches!(home, Home::Trying));
        let outcome = timeout_at(deadline.into(), settled).await.map(|home| home.map(|home| home.clone()));
        // The row decides: it is written before the event is told.
        match views::account(self.reads()) {
            Ok(own) => {
                if let Some(address) = own.address {
                    return Ok((address, own.account));
                }
            }
            Err(error) => return Err(Failure::internal(error)),
        }
        match outcome {
            Ok(Ok(home)) => Err(home_failure(&home)
                .unwrap_or_else(|| Failure::internal("the relay admitted an account without an address"))),
            Ok(Err(_)) => Err(self.ended().await),
            Err(_) => Err(late()),
        }
    }

    /// Waits until the node has ended, and says why.
    pub(crate) async fn ended(&self) -> Failure {
        runtime_failure(&self.node.ended().await)
    }

    /// Ends the node and closes its store.
    pub(crate) async fn close(&self) -> Result<(), Failure> {
        let end = self.node.shutdown().await;
        self.watcher.abort();
        end.map_err(|error| runtime_failure(&error))
    }
}

/// Follows a node's events.
pub(crate) struct Listener(Events);

impl Listener {
    pub(crate) async fn next(&mut self) -> Heard {
        match self.0.next().await {
            Ok(event) => Heard::Event(event),
            Err(EventsError::Lagged { .. }) => Heard::TooMuch,
            Err(EventsError::Ended(error)) => Heard::End(runtime_failure(&error)),
            Err(other) => Heard::End(Failure::internal(other)),
        }
    }
}

async fn watch_home(node: Arc<NodeHandle>, mut events: Events, home: watch::Sender<Home>) {
    let mut ahead = None;
    loop {
        let event = match ahead.take() {
            Some(event) => event,
            None => events.next().await,
        };
        let now = match event {
            Ok(Event::RelayUp) => Home::Up,
            Ok(Event::CaughtUp) => Home::CaughtUp,
            Ok(Event::RegistrationRefused(code)) => Home::Refused(code),
            Ok(Event::AccountDeleted) => Home::Deleted,
            Ok(Event::DeviceRevoked) => Home::Refused(RefusalCode::Revoked),
            Ok(Event::StoreOutdated) => Home::Refused(RefusalCode::OldCopy),
            Ok(Event::RelayDown(reason)) => {
                let problem = node.relay_problem();
                // A relay that refuses the account ends the link, too, and the refusal is what people need to hear: it is
                // told in the same step, so it is here once a later question has been answered.
                let _answer = node.status().await;
                ahead = tokio::select! {
                    biased;
                    event = events.next() => Some(event),
                    () = std::future::ready(()) => None,
                };
                if matches!(
                    ahead,
                    Some(Ok(Event::RegistrationRefused(_) | Event::DeviceRevoked | Event::StoreOutdated))
                ) || matches!(*home.borrow(), Home::Refused(_) | Home::Deleted)
                {
                    continue;
                }
                let mistrust = problem.as_ref().is_some_and(RelayProblem::is_mistrust);
                Home::Down { reason: problem.map_or(reason, |problem| problem.to_string()), mistrust }
            }
            Ok(_) => continue,
            // What was missed may have been one of those: ask.
            Err(EventsError::Lagged { .. }) => match node.status().await {
                Ok(status) if status.relay_admitted => Home::CaughtUp,
                Ok(_) => Home::Trying,
                Err(_) => return,
            },
            Err(_) => return,
        };
        home.send_replace(now);
    }
}

/// Looks what is in the profile's folder.
pub(crate) async fn look(settings: &Settings) -> Result<Found, Failure> {
    let (home, access) = (settings.home.clone(), access(settings).await?);
    blocking(move || {
        let store = match open_store(&home, access) {
            Ok(store) => store,
            Err(OpenStoreError::Absent(_)) => return Ok(Found::Nothing),
            Err(error) => return Err(open_failure(error)),
        };
        let account = views::account(&store);
        store.close().map_err(|error| store_failure(&error))?;
        match account {
            Ok(views::Account { address: Some(address), joining: true, linking, .. }) => {
                Ok(Found::Joining { address, linking })
            }
            Ok(views::Account { address: Some(address), .. }) => Ok(Found::Registered { address }),
            Ok(views::Account { name, relay, registering, .. }) => {
                Ok(Found::Unfinished { name, relay, asked: registering })
            }
            Err(LoadError::NoAccount) => Ok(Found::Nothing),
            Err(LoadError::Rows(error)) => Err(store_failure(&error)),
            Err(error) => Err(Failure::internal(error)),
        }
    })
    .await
}

/// How the profile's store is opened.
pub(crate) async fn access(settings: &Settings) -> Result<Access, Failure> {
    Ok(Access { options: store_options(settings.store), key: vault::key(settings).await? })
}

/// Makes an identity in a folder.
pub(crate) async fn create(
    home: &Path,
    engine: EngineKind,
    key: Option<SealKey>,
    name: Name,
    relay: RelayLink,
) -> Result<Created, Failure> {
    let (home, access) = (home.to_owned(), Access { options: store_options(engine), key });
    blocking(move || {
        whimbrel_node_runtime::create(&home, name, relay, "first device", access).map_err(|error| match error {
            CreateError::Exists(address) => {
                Failure::new(Exit::Locked, "exists", format!("this profile is {address} already"))
            }
            CreateError::Open(error) => open_failure(error),
            CreateError::Write(error) => store_failure(&error),
            other => Failure::internal(other),
        })
    })
    .await
}

/// Makes a folder a device of an account that was found by its recovery words.
pub(crate) async fn recover(
    settings: &Settings,
    found: FoundAccount,
    words: &RecoveryPhrase,
    next: &RecoveryPhrase,
    (label, revoke_others): (&str, bool),
) -> Result<(), Failure> {
    let access = Access { options: store_options(settings.store), key: vault::new_key(settings).await? };
    let home = settings.home.clone();
    let (words, next, label) = (words.clone(), next.recovery_hash(), label.to_owned());
    blocking(move || {
        whimbrel_node_runtime::recover(&home, found, &words, next, (&label, revoke_others), &access)
            .map(drop)
            .map_err(first_failure)
    })
    .await
}

/// Takes away an identity that no relay took in.
pub(crate) fn clear(home: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::internal(format!("{}: {error}", home.display()));
    match std::fs::remove_dir_all(store_folder(home)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed(error)),
        _ => whimbrel_node_runtime::forget(home).map_err(vault::failure),
    }
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(Failure::internal(error)))
}

/// How a person's store is opened: a doubtful one by a child of this very program first.
pub(crate) fn store_options(engine: EngineKind) -> StoreOptions {
    let probe = std::env::current_exe().ok().map(|program| ProbeCommand { program, args: vec!["store-probe".into()] });
    StoreOptions { engine, cache_bytes: STORE_CACHE_BYTES, probe, ..StoreOptions::default() }
}

/// Why a relay in this state cannot be asked.
pub(crate) fn home_failure(home: &Home) -> Option<Failure> {
    match home {
        Home::Down { reason, mistrust: true } => Some(
            Failure::new(Exit::Trust, "relay_untrusted", reason)
                .hint("nothing was sent to it; compare the link with the relay's operator before you go on"),
        ),
        Home::Down { reason, mistrust: false } => {
            Some(Failure::new(Exit::Unreachable, "relay_unreachable", reason).hint("check the network, then try again"))
        }
        Home::Refused(code) => Some(Failure::refused(*code)),
        Home::Deleted => Some(
            Failure::new(Exit::Locked, "deleted", "this account was deleted at its relay")
                .hint("what was said is still here: whimbrel log; a new identity needs another --home or --profile"),
        ),
        Home::Trying | Home::Up | Home::CaughtUp => None,
    }
}

/// Nobody answered before the deadline.
pub(crate) fn late() -> Failure {
    Failure::new(Exit::Unreachable, "relay_unreachable", "the relay did not answer in time")
        .hint("try again later, or give it more time: --timeout 1m")
}

fn start_failure(error: StartError) -> Failure {
    match error {
        StartError::Store(error) => open_failure(error),
        StartError::Node(whimbrel_node::OpenError::Rows(error)) | StartError::Account(LoadError::Rows(error)) => {
            store_failure(&error)
        }
        StartError::Node(whimbrel_node::OpenError::NoAccount) | StartError::Account(LoadError::NoAccount) => {
            no_identity()
        }
        other => Failure::internal(other),
    }
}

pub(crate) fn open_failure(error: OpenStoreError) -> Failure {
    match error {
        OpenStoreError::Absent(_) => no_identity(),
        OpenStoreError::Locked => vault::locked(),
        OpenStoreError::InUse => store_failure(&StorageError::InUse),
        OpenStoreError::Damaged(error) | OpenStoreError::Other(error) => store_failure(&error),
        other => Failure::internal(other),
    }
}

fn no_identity() -> Failure {
    Failure::new(Exit::Locked, "not_registered", "there is no identity in this profile")
        .hint("make one: whimbrel init --help")
}

/// What went wrong in the store, and what to do.
pub(crate) fn store_failure(error: &StorageError) -> Failure {
    match error {
        StorageError::InUse => Failure::new(Exit::Locked, "in_use", "the store is in use by another process")
            .hint("wait until it ends; to run several commands at once, keep one: whimbrel daemon run"),
        StorageError::Altered { .. } => Failure::new(Exit::Trust, "store_altered", error)
            .hint("somebody changed the store's files; put back a copy of the profile's folder that you trust"),
        StorageError::Damaged { .. } | StorageError::LostTail { .. } | StorageError::DoesNotOpen { .. } => {
            Failure::new(Exit::Internal, "store_damaged", error)
                .hint("nothing was changed; put back a copy of the profile's folder, or start anew with another --home")
        }
        StorageError::WrongEngine { found, .. } => Failure::new(Exit::Usage, "store_engine", error)
            .hint(format!("nothing was touched; say store = \"{found}:\" in the configuration")),
        StorageError::Full => {
            Failure::new(Exit::Limit, "disk_full", error).hint("make room on the disk, then try again")
        }
        other => Failure::new(Exit::Internal, "store", other),
    }
}

fn runtime_failure(error: &RuntimeError) -> Failure {
    match error {
        RuntimeError::Store(error) => store_failure(error),
        other => Failure::internal(other),
    }
}
