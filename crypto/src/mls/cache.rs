//! Cache: groups kept loaded between calls.
//! Owns: a bounded number of them, each with the stamp of the rows it agrees with.
//! Never: decides anything. A group whose stamp is not the rows' stamp is dropped, whatever the reason: the step was
//! rolled back, the store is another one, the thread moved on elsewhere.

use std::collections::BTreeMap;

use openmls::group::MlsGroup;
use whimbrel_protocol::id::ThreadId;

/// Names one state of a thread's rows: a hash over all changes that led to it.
pub(super) type Stamp = [u8; 32];

/// Leaves of all loaded groups together: a leaf of the hybrid suite takes about 5 KiB in memory, so about 40 MiB.
const LEAVES_MAX: usize = 8_192;

struct Loaded {
    group: MlsGroup,
    stamp: Stamp,
    size: Size,
    used: u64,
}

/// How many leaves a group has, and in which epoch they were counted: counting copies every leaf's keys.
#[derive(Clone, Copy)]
pub(super) struct Size {
    epoch: u64,
    leaves: usize,
}

#[derive(Default)]
pub(super) struct Cache {
    loaded: BTreeMap<ThreadId, Loaded>,
    leaves: usize,
    clock: u64,
}

impl Cache {
    /// Takes the group out, if it agrees with the rows. Whoever changed nothing wrong puts it back.
    pub(super) fn take(&mut self, thread: ThreadId, stamp: &Stamp) -> Option<(MlsGroup, Size)> {
        let loaded = self.remove(thread)?;
        (loaded.stamp == *stamp).then_some((loaded.group, loaded.size))
    }

    /// Keeps a group; `size` is what [`Cache::take`] gave with it.
    pub(super) fn put(&mut self, thread: ThreadId, stamp: Stamp, group: MlsGroup, size: Option<Size>) {
        self.remove(thread);
        let epoch = group.epoch().as_u64();
        let counted = size.filter(|size| size.epoch == epoch);
        let size = counted.unwrap_or_else(|| Size { epoch, leaves: group.members().count() });
        while self.leaves + size.leaves > LEAVES_MAX {
            let oldest = self.loaded.iter().min_by_key(|(_, loaded)| loaded.used).map(|(thread, _)| *thread);
            match oldest {
                Some(oldest) => drop(self.remove(oldest)),
                None => break,
            }
        }
        self.clock += 1;
        self.leaves += size.leaves;
        self.loaded.insert(thread, Loaded { group, stamp, size, used: self.clock });
    }

    fn remove(&mut self, thread: ThreadId) -> Option<Loaded> {
        let loaded = self.loaded.remove(&thread)?;
        self.leaves -= loaded.size.leaves;
        Some(loaded)
    }
}
