//! Rows about the growth of account logs, and about how far this device has come. Owns: their types and keys. Never: decides what to write.

use minicbor::{Decode, Encode};
use whimbrel_protocol::id::{AccountId, DeviceId, DeviceIndex, LogHash};
use whimbrel_protocol::reception::Stamp;
use whimbrel_protocol::time::Wall;

use super::{Space, key};

/// A change of the own account log, handed in until the relay has it.
#[derive(Clone, Encode, Decode)]
#[cbor(map)]
pub(crate) struct ExtensionRow {
    /// The whole log with it.
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub(crate) log: Vec<u8>,
    /// The identity key from then on, where the change is of that.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub(crate) identity_key: Option<[u8; 32]>,
    /// It is handed in before this device is let in: with it the device becomes one of the account's.
    #[n(2)]
    pub(crate) first: bool,
    /// How many entries of the log the relay has.
    #[n(3)]
    pub(crate) after: u64,
}

/// Somebody's account log goes at least so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub(crate) struct HeraldRow {
    #[n(0)]
    pub(crate) seq: u64,
    #[n(1)]
    pub(crate) hash: LogHash,
}

/// KeyPackages that a sibling handed over, for the threads it is to be taken into.
pub(crate) fn package_prefix(device: &DeviceId) -> Vec<u8> {
    key(Space::Package, &[device.account.as_bytes(), &device.index.get().to_be_bytes()])
}

pub(crate) fn package_key(device: &DeviceId, number: u32) -> Vec<u8> {
    key(Space::Package, &[device.account.as_bytes(), &device.index.get().to_be_bytes(), &number.to_be_bytes()])
}

/// Whose device a KeyPackage is.
pub(crate) fn package_device(key: &[u8]) -> Option<DeviceIndex> {
    let (_, rest) = key.get(1..)?.split_first_chunk::<{ AccountId::LEN }>()?;
    rest.first_chunk::<4>().map(|index| DeviceIndex::new(u32::from_be_bytes(*index)))
}

/// Which of that device's it is.
pub(crate) fn package_number(key: &[u8]) -> Option<u32> {
    key.last_chunk::<4>().map(|number| u32::from_be_bytes(*number))
}

pub(crate) fn herald_key(account: &AccountId) -> Vec<u8> {
    key(Space::Herald, &[account.as_bytes()])
}

/// How far this store has come.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub(crate) struct StampRow {
    /// What the relay keeps, as far as it answered.
    #[n(0)]
    pub(crate) kept: Option<Stamp>,
    /// What it was handed since.
    #[n(1)]
    pub(crate) next: Option<Stamp>,
}

pub(crate) fn stamp_key() -> Vec<u8> {
    key(Space::Stamp, &[])
}

/// See [`super::Single::Stocked`].
#[derive(Clone, Copy, Encode, Decode)]
#[cbor(map)]
pub(crate) struct StockedRow {
    #[n(0)]
    pub(crate) oldest: Wall,
    #[n(1)]
    pub(crate) newest: Wall,
}
