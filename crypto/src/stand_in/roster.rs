//! Roster: who sits where in a stand-in thread, and what a commit of somebody there would cost.
//! Owns: slots (leaves) and the shape of the tree above them, kept as three epochs a slot instead of nodes.

use minicbor::{Decode, Encode};
use whimbrel_protocol::id::{DeviceId, PublicKey};

/// A leaf of the tree.
#[derive(Clone, Debug, Encode, Decode)]
#[cbor(map)]
pub(super) struct Slot {
    /// Who sits there; nobody after a removal.
    #[n(0)]
    pub(super) device: Option<(DeviceId, PublicKey)>,
    /// Epoch it was last filled in.
    #[n(1)]
    added: u64,
    /// Epoch its device last committed in.
    #[n(2)]
    committed: u64,
    /// Epoch it was last emptied in.
    #[n(3)]
    removed: u64,
}

/// The leaves, from the left.
#[derive(Clone, Debug, Default, Encode, Decode)]
#[cbor(transparent)]
pub(super) struct Roster(#[n(0)] pub(super) Vec<Slot>);

/// What a commit's path costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Path {
    pub(super) levels: usize,
    pub(super) ciphertexts: usize,
}

impl Roster {
    pub(super) fn members(&self) -> impl Iterator<Item = (DeviceId, PublicKey)> + '_ {
        self.0.iter().filter_map(|slot| slot.device)
    }

    pub(super) fn slot_of(&self, device: DeviceId) -> Option<u32> {
        let place = self.0.iter().position(|slot| slot.device.is_some_and(|(id, _)| id == device));
        place.and_then(|place| u32::try_from(place).ok())
    }

    pub(super) fn device_at(&self, slot: u32) -> Option<(DeviceId, PublicKey)> {
        self.0.get(slot as usize)?.device
    }

    /// Fills the leftmost empty slot (RFC 9420 §12.1.1).
    pub(super) fn add(&mut self, device: DeviceId, key: PublicKey, epoch: u64) {
        match self.0.iter_mut().find(|slot| slot.device.is_none()) {
            Some(slot) => {
                slot.device = Some((device, key));
                slot.added = epoch;
                slot.committed = 0;
            }
            None => self.0.push(Slot { device: Some((device, key)), added: epoch, committed: 0, removed: 0 }),
        }
    }

    /// Empties a slot; empty slots at the right end go (RFC 9420 §12.1.3).
    pub(super) fn remove(&mut self, slot: u32, epoch: u64) -> Option<DeviceId> {
        let slot = self.0.get_mut(slot as usize)?;
        let (device, _) = slot.device.take()?;
        slot.removed = epoch;
        while self.0.last().is_some_and(|slot| slot.device.is_none()) {
            self.0.pop();
        }
        Some(device)
    }

    pub(super) fn commits(&mut self, slot: u32, epoch: u64) {
        if let Some(slot) = self.0.get_mut(slot as usize) {
            slot.committed = epoch;
        }
    }

    /// The path of a commit from `slot`, in a commit that leads to `epoch`: whoever is added by it is not sealed to.
    pub(super) fn path(&self, slot: u32, epoch: u64) -> Path {
        let mut path = Path::default();
        let (mut low, mut width) = (slot as usize, 1);
        while width < self.0.len() {
            let sibling = if low / width % 2 == 0 { low + width } else { low - width };
            let beside = self.range(sibling, width);
            if beside.iter().any(|slot| slot.device.is_some()) {
                path.levels += 1;
                path.ciphertexts += resolution(beside, width, epoch);
            }
            low -= low / width % 2 * width;
            width *= 2;
        }
        path
    }

    /// How many parents are filled.
    pub(super) fn filled(&self) -> usize {
        let mut filled = 0;
        let mut width = 2;
        while width < 2 * self.0.len() {
            filled += self.0.chunks(width).filter(|below| below.len() > width / 2 && is_filled(below)).count();
            width *= 2;
        }
        filled
    }

    fn range(&self, from: usize, width: usize) -> &[Slot] {
        let from = from.min(self.0.len());
        self.0.get(from..(from + width).min(self.0.len())).unwrap_or_default()
    }
}

/// A parent is filled when somebody below committed after the last removal below.
fn is_filled(below: &[Slot]) -> bool {
    let removed = below.iter().map(|slot| slot.removed).max().unwrap_or_default();
    below.iter().any(|slot| slot.device.is_some() && slot.committed > removed)
}

/// How many keys one must seal to, to reach everybody below (RFC 9420 §4.1.1).
fn resolution(below: &[Slot], width: usize, epoch: u64) -> usize {
    let known = |slot: &&Slot| slot.device.is_some() && slot.added < epoch;
    if width > 1 && is_filled(below) {
        let last = below.iter().map(|slot| slot.committed).max().unwrap_or_default();
        return 1 + below.iter().filter(known).filter(|slot| slot.added > last).count();
    }
    if width <= 1 {
        return below.iter().filter(known).count();
    }
    let (left, right) = below.split_at((width / 2).min(below.len()));
    resolution(left, width / 2, epoch) + resolution(right, width / 2, epoch)
}
