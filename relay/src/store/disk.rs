//! Disk: what a runtime lends the shared mapping, and the mapping's store over it.
//! Owns: the port [`Disk`], [`KvStore`] over it, and a disk that does everything at once for tests.
//! Never: decides a command (`kv`).

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use whimbrel_protocol::friendship::{Friend, Standing};
use whimbrel_protocol::hub::Accepted;
use whimbrel_protocol::id::{
    AccountId, BlobId, DeviceId, DeviceIndex, Domain, Epoch, Name, ParticipantsTag, Sequence, ThreadId, TokenHash,
};
use whimbrel_protocol::signed::Signed;
use whimbrel_protocol::thread::ListingPlace;
use whimbrel_protocol::time::Wall;
use whimbrel_protocol::user::OpenInvite;
use whimbrel_storage::planted::{self, Bug};
use whimbrel_storage::{OrderedKv, Reads, StorageError};

use super::command::Origin;
use super::kv::{self, Committer, Unsynced};
use super::{
    Account, Command, Conflict, DeviceLog, ExportPage, Hearers, Listing, LogId, LogPage, MailboxId, Outbound,
    OutboundKey, Outcome, Pin, PublicState, Store, StoreError, TreeView, Wake,
};

/// A place for ordered rows with a writer of its own.
pub trait Disk: Send + Sync + 'static {
    /// Decides the commands with one [`Committer`], in the order in which calls are first polled, and answers once
    /// what they wrote is durable. Calls may share a group.
    fn commit(
        &self,
        commands: Vec<Command>,
    ) -> impl Future<Output = Result<Vec<Result<Outcome, Conflict>>, StoreError>> + Send;

    /// What can be read that a crash could still take back: applied, and not synced yet.
    fn unsynced(&self) -> Arc<Unsynced>;

    /// Runs a query on the rows as they are now: every command answered so far is seen, and some that are not.
    fn read<T, Q>(&self, query: Q) -> impl Future<Output = Result<T, StoreError>> + Send
    where
        T: Send + 'static,
        Q: FnOnce(&dyn Reads) -> Result<T, StorageError> + Send + 'static;
}

/// The store over a disk of ordered rows.
#[derive(Debug)]
pub struct KvStore<D>(D);

impl<D: Disk> KvStore<D> {
    /// The store over this disk.
    pub const fn new(disk: D) -> Self {
        Self(disk)
    }

    /// The disk below.
    pub const fn disk(&self) -> &D {
        &self.0
    }

    /// What is to leave this relay, once it is durable: an entry that was shown at its place and then lost would leave
    /// the place to another, and whoever saw the first would take the second for it.
    ///
    /// To be asked after it was read: `may_vanish` tells whether any of it could still be taken back.
    async fn durable<T>(&self, found: T, may_vanish: impl FnOnce(&T, &Unsynced) -> bool) -> Result<T, StoreError> {
        if may_vanish(&found, &self.0.unsynced()) && !planted::active(Bug::ReadUnsynced) {
            // Answered after a sync, and after all that was applied before.
            self.0.commit(Vec::new()).await?;
        }
        Ok(found)
    }
}

impl<D: Disk> Store for KvStore<D> {
    async fn commit(&self, command: Command) -> Result<Outcome, StoreError> {
        let mut outcomes = self.0.commit(vec![command]).await?;
        let outcome = outcomes.pop().ok_or_else(|| StoreError::Failed("a command without an outcome".to_owned()))?;
        Ok(outcome?)
    }

    async fn commit_all(&self, commands: Vec<Command>) -> Result<Vec<Result<Outcome, Conflict>>, StoreError> {
        let count = commands.len();
        let outcomes = self.0.commit(commands).await?;
        if outcomes.len() == count {
            Ok(outcomes)
        } else {
            Err(StoreError::Failed("commands without an outcome".to_owned()))
        }
    }

    async fn account(&self, account: AccountId) -> Result<Option<Account>, StoreError> {
        self.0.read(move |reads| kv::account(reads, account)).await
    }

    async fn account_by_name(&self, name: Name) -> Result<Option<AccountId>, StoreError> {
        self.0.read(move |reads| kv::account_by_name(reads, &name)).await
    }

    async fn account_log(&self, account: AccountId) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.read(move |reads| kv::account_log(reads, account)).await
    }

    async fn package_count(&self, device: DeviceId) -> Result<u32, StoreError> {
        self.0.read(move |reads| kv::package_count(reads, device)).await
    }

    async fn names(&self, account: AccountId, blob: BlobId) -> Result<bool, StoreError> {
        self.0.read(move |reads| kv::names(reads, account, blob)).await
    }

    async fn blob(&self, blob: BlobId) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.read(move |reads| kv::blob(reads, blob)).await
    }

    async fn commit_of(
        &self,
        device: DeviceId,
        thread: ThreadId,
        epoch: Epoch,
    ) -> Result<Option<Accepted>, StoreError> {
        let found = self.0.read(move |reads| kv::commit_of(reads, device, thread, epoch)).await?;
        // Which log it is of is not told; a commit is asked for seldom.
        self.durable(found, |found, unsynced| found.is_some() && unsynced.any()).await
    }

    async fn public_state(
        &self,
        author: DeviceId,
        origin: Origin,
        commit: (ThreadId, Epoch),
        have: Option<Epoch>,
    ) -> Result<Option<PublicState>, StoreError> {
        // It may vanish, and what was judged by it with it.
        self.0.read(move |reads| kv::public_state(reads, author, &origin, commit, have)).await
    }

    async fn log_page(
        &self,
        log: LogId,
        after: Sequence,
        limit: usize,
        bytes_max: usize,
    ) -> Result<LogPage, StoreError> {
        let page = self.0.read(move |reads| kv::log_page(reads, log, after, limit, bytes_max)).await?;
        // Under load something is unsynced nearly always, and a device that comes in reads all its logs: it waits for
        // those alone that just got something.
        self.durable(page, |page, unsynced| page.upto > after && unsynced.has(log)).await
    }

    async fn device_logs(
        &self,
        mailbox: MailboxId,
        after: Option<LogId>,
        limit: usize,
    ) -> Result<Vec<DeviceLog>, StoreError> {
        self.0.read(move |reads| kv::device_logs(reads, mailbox, after, limit)).await
    }

    async fn thread_rows(
        &self,
        owner: AccountId,
        mailbox: MailboxId,
        after: Option<ListingPlace>,
        limit: usize,
    ) -> Result<Listing, StoreError> {
        self.0.read(move |reads| kv::thread_rows(reads, owner, mailbox, after, limit)).await
    }

    async fn thread_by_tag(&self, owner: AccountId, tag: ParticipantsTag) -> Result<Option<ThreadId>, StoreError> {
        self.0.read(move |reads| kv::thread_by_tag(reads, owner, tag)).await
    }

    async fn outbound(
        &self,
        peer: Domain,
        after: Option<OutboundKey>,
        limit: usize,
        bytes_max: usize,
    ) -> Result<Vec<Outbound>, StoreError> {
        let rows = self.0.read(move |reads| kv::outbound(reads, &peer, after, limit, bytes_max)).await?;
        self.durable(rows, |rows, unsynced| rows.iter().any(|row| unsynced.has(row.key.log))).await
    }

    async fn waiting_peers(&self, after: Option<Domain>, limit: usize) -> Result<Vec<Domain>, StoreError> {
        self.0.read(move |reads| kv::waiting_peers(reads, after.as_ref(), limit)).await
    }

    async fn live_invites(&self, owner: AccountId, at: Wall) -> Result<Vec<TokenHash>, StoreError> {
        self.0.read(move |reads| kv::live_invites(reads, owner, at)).await
    }

    async fn invites(&self, owner: AccountId) -> Result<Vec<OpenInvite>, StoreError> {
        self.0.read(move |reads| kv::invites(reads, owner)).await
    }

    async fn registrations(&self, after: Option<TokenHash>, limit: usize) -> Result<Vec<OpenInvite>, StoreError> {
        self.0.read(move |reads| kv::registrations(reads, after, limit)).await
    }

    async fn friends(
        &self,
        owner: AccountId,
        after: Option<AccountId>,
        limit: usize,
    ) -> Result<Vec<Friend>, StoreError> {
        self.0.read(move |reads| kv::friends(reads, owner, after, limit)).await
    }

    async fn standing(
        &self,
        owner: AccountId,
        other: AccountId,
    ) -> Result<Option<(Standing, bool, Domain)>, StoreError> {
        self.0.read(move |reads| kv::standing(reads, owner, other)).await
    }

    async fn hidden(&self, owner: AccountId) -> Result<bool, StoreError> {
        self.0.read(move |reads| kv::hidden(reads, owner)).await
    }

    async fn profile(&self, owner: AccountId) -> Result<Option<Signed>, StoreError> {
        self.0.read(move |reads| kv::profile(reads, owner)).await
    }

    async fn hearers(
        &self,
        thread: ThreadId,
        signal: (DeviceId, Epoch),
        origin: Origin,
    ) -> Result<Option<Hearers>, StoreError> {
        // It may vanish, as the signal may.
        self.0.read(move |reads| kv::hearers(reads, thread, signal, &origin)).await
    }

    async fn surroundings(
        &self,
        account: AccountId,
        devices: Vec<DeviceIndex>,
        limit: usize,
    ) -> Result<Vec<(ThreadId, Hearers)>, StoreError> {
        // It may vanish, as what is said may.
        self.0.read(move |reads| kv::surroundings(reads, account, &devices, limit)).await
    }

    async fn surrounding_of(
        &self,
        thread: ThreadId,
        account: AccountId,
        peer: Domain,
    ) -> Result<Option<Hearers>, StoreError> {
        self.0.read(move |reads| kv::surrounding_of(reads, thread, account, &peer)).await
    }

    async fn wake(&self, device: DeviceId) -> Result<Wake, StoreError> {
        self.0.read(move |reads| kv::wake(reads, device)).await
    }

    async fn sleepers(
        &self,
        log: LogId,
        at: Wall,
        after: Option<DeviceId>,
        limit: usize,
    ) -> Result<Vec<(DeviceId, MailboxId)>, StoreError> {
        self.0.read(move |reads| kv::sleepers(reads, log, at, after, limit)).await
    }

    async fn export(&self, account: AccountId, after: Vec<u8>, limit: usize) -> Result<ExportPage, StoreError> {
        self.0.read(move |reads| kv::export(reads, account, &after, limit)).await
    }

    async fn tree(
        &self,
        account: Option<AccountId>,
        from: Vec<u64>,
        asker: Option<AccountId>,
    ) -> Result<TreeView, StoreError> {
        let found = self.0.read(move |reads| kv::tree(reads, account, &from, asker)).await?;
        // A head that was signed and then lost would leave its place to another: the relay would have two faces.
        self.durable(found, |_, unsynced| unsynced.has_leaves()).await
    }

    async fn stale_logs(
        &self,
        before: Wall,
        after: Option<LogId>,
        limit: usize,
    ) -> Result<(Vec<LogId>, Option<LogId>), StoreError> {
        self.0.read(move |reads| kv::stale_logs(reads, before, after, limit)).await
    }

    async fn to_purge(&self, limit: usize) -> Result<Vec<AccountId>, StoreError> {
        self.0.read(move |reads| kv::to_purge(reads, limit)).await
    }

    async fn pins(&self, after: Option<Domain>, limit: usize) -> Result<Vec<(Domain, Pin)>, StoreError> {
        self.0.read(move |reads| kv::pins(reads, after.as_ref(), limit)).await
    }
}

/// A disk that decides, applies and syncs at the first poll: for tests, and wherever nobody else waits.
pub struct InlineDisk<K> {
    kv: Arc<K>,
    committer: Mutex<Committer<Arc<K>>>,
}

/// The store over an [`InlineDisk`].
pub type InlineStore<K> = KvStore<InlineDisk<K>>;

impl<K: OrderedKv + 'static> InlineStore<K> {
    /// A store that does everything at once on these rows.
    pub fn over(kv: Arc<K>) -> Self {
        Self::new(InlineDisk { committer: Mutex::new(Committer::new(Arc::clone(&kv))), kv })
    }
}

impl<K> std::fmt::Debug for InlineDisk<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InlineDisk").finish_non_exhaustive()
    }
}

impl<K: OrderedKv + 'static> Disk for InlineDisk<K> {
    async fn commit(&self, commands: Vec<Command>) -> Result<Vec<Result<Outcome, Conflict>>, StoreError> {
        // A panic under the lock leaves the committer with nothing but a cache that the next error clears.
        let mut committer = self.committer.lock().unwrap_or_else(PoisonError::into_inner);
        let outcomes = committer.apply(&commands)?;
        committer.sync()?;
        Ok(outcomes)
    }

    fn unsynced(&self) -> Arc<Unsynced> {
        // Whoever applies holds the lock until it has synced, unless that failed.
        self.committer.lock().unwrap_or_else(PoisonError::into_inner).unsynced()
    }

    async fn read<T, Q>(&self, query: Q) -> Result<T, StoreError>
    where
        T: Send + 'static,
        Q: FnOnce(&dyn Reads) -> Result<T, StorageError> + Send + 'static,
    {
        Ok(query(self.kv.as_ref())?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use whimbrel_storage::{Kv, MemoryEngine, MemoryKv};

    use super::*;
    use crate::store::contract::{self, Fixture};

    #[derive(Default)]
    struct Memory {
        disk: MemoryEngine,
    }

    impl Fixture for Memory {
        type Store = InlineStore<MemoryKv>;

        fn fresh(&mut self) -> Self::Store {
            self.disk = MemoryEngine::new();
            KvStore::over(Arc::new(Kv::open(self.disk.clone(), None).unwrap()))
        }

        fn restart(&mut self, store: Self::Store) -> Self::Store {
            drop(store);
            self.disk.crash(0);
            let kv = Kv::open(self.disk.clone(), None).unwrap();
            kv.verify().unwrap();
            KvStore::over(Arc::new(kv))
        }
    }

    #[test]
    fn memory_keeps_the_contract() {
        contract::check(&mut Memory::default());
    }
}
