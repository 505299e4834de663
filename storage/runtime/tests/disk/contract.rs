//! Both engines keep the contract of ordered stores.

use tempfile::TempDir;
use whimbrel_storage::contract::{self, Fixture};
use whimbrel_storage::{Engine, StorageError, Totals};
use whimbrel_storage_runtime::{DiskKv, EngineKind};

use crate::child::{on, open_released};

struct OnDisk {
    engine: EngineKind,
    dir: TempDir,
}

impl OnDisk {
    fn new(engine: EngineKind) -> Self {
        Self { engine, dir: TempDir::new().unwrap() }
    }
}

impl Fixture for OnDisk {
    type Store = DiskKv;

    fn fresh(&mut self) -> DiskKv {
        *self = Self::new(self.engine);
        open_released(self.dir.path(), &on(self.engine)).unwrap()
    }

    fn restart(&mut self, store: DiskKv) -> Result<DiskKv, StorageError> {
        store.close()?;
        open_released(self.dir.path(), &on(self.engine))
    }

    fn raw<'s>(&self, store: &'s DiskKv) -> &'s dyn Engine {
        store.kv().engine()
    }

    fn verify(&self, store: &DiskKv) -> Result<Totals, StorageError> {
        store.verify()
    }
}

#[test]
fn sled_keeps_the_contract() {
    contract::check(&mut OnDisk::new(EngineKind::Sled));
}

#[test]
fn fjall_keeps_the_contract() {
    contract::check(&mut OnDisk::new(EngineKind::Fjall));
}

#[test]
fn sled_answers_like_a_map_whatever_the_batches() {
    contract::check_against_model(&mut OnDisk::new(EngineKind::Sled), 12);
}

#[test]
fn fjall_answers_like_a_map_whatever_the_batches() {
    contract::check_against_model(&mut OnDisk::new(EngineKind::Fjall), 12);
}
