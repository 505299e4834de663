//! The node runtime: drives the node core with real sockets, a real disk and the real time.
//! Owns: the core's thread (`driver`), the home link (`home`; over HTTPS `poll`), direct links (`direct`), the store's folder (`store`),
//! its seal (`seal`), its backup (`backup`).
//! Never: decides anything about a message; the core does.
//! Map: `entrance` is the one way in to the core, `outlet` the way out; `handle` is what an owner holds.
//!
//! Nothing leaves before it is durable: the driver applies each step's batch before the next input, syncs many at once,
//! and releases each step's outputs, in order, after the sync.

mod backup;
mod clock;
mod direct;
mod driver;
mod entrance;
mod first;
mod handle;
mod home;
mod outlet;
mod poll;
mod seal;
mod store;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]
mod testing;

pub use backup::{BackupFailure, check_backup, create_backup, restore_backup};
pub use direct::{DirectError, DirectOptions};
pub use first::{FirstError, FoundAccount, Waiting, find_account, fresh_recovery, offer_linking, recover};
pub use handle::{
    CommandFailure, Events, EventsError, NodeHandle, NodeRuntime, Options, RuntimeError, StartError, StoreAt,
};
pub use home::{RelayProblem, Transport};
pub use seal::{SealError, change_passphrase, forget, is_sealed, key_id, prepare, seal_home, unlock};
pub use store::{
    Access, CreateError, Created, EngineKind, NodeStore, OpenStoreError, ProbeCommand, Reserve, StoreOptions, create,
    open_probe, open_store, store_folder,
};
pub use whimbrel_crypto::{LinkingCode, LinkingError, RecoveryError, RecoveryPhrase};
