//! sled keeps the contract of ordered stores.

use tempfile::TempDir;
use whimbrel_storage::contract::{self, Fixture};
use whimbrel_storage::{Engine, StorageError, Totals};
use whimbrel_storage_runtime::{Options, SledKv};

struct Sled {
    dir: TempDir,
}

impl Sled {
    fn new() -> Self {
        Self { dir: TempDir::new().unwrap() }
    }
}

impl Fixture for Sled {
    type Store = SledKv;

    fn fresh(&mut self) -> SledKv {
        *self = Self::new();
        SledKv::open(self.dir.path(), Options::default()).unwrap()
    }

    fn restart(&mut self, store: SledKv) -> Result<SledKv, StorageError> {
        store.close()?;
        SledKv::open(self.dir.path(), Options::default())
    }

    fn raw<'s>(&self, store: &'s SledKv) -> &'s dyn Engine {
        store.kv().engine()
    }

    fn verify(&self, store: &SledKv) -> Result<Totals, StorageError> {
        store.verify()
    }
}

#[test]
fn sled_keeps_the_contract() {
    contract::check(&mut Sled::new());
}

#[test]
fn sled_answers_like_a_map_whatever_the_batches() {
    contract::check_against_model(&mut Sled::new(), 12);
}
