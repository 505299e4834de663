//! Keys of others: compared, changed, taken back.

use whimbrel_crypto::{Chance, KeyPair, RecoveryPhrase, Seed, StandInEngine, TransportProof};
use whimbrel_protocol::id::{AccountId, DeviceId, DeviceIndex};
use whimbrel_protocol::time::Hlc;
use whimbrel_protocol::user::Who;
use whimbrel_storage::{OrderedKv as _, Overlay};

use super::world::{ALICE, BOB, World, friends};
use crate::api::{Command, CommandError, Event};
use crate::views::{self, Trust};
use crate::{contacts, identity};

/// Phrase and identity key of a person of this world, as the seed of their account made them.
fn secrets(who: usize) -> (RecoveryPhrase, KeyPair) {
    let mut chance = Chance::from_seed(Seed::from_bytes([100 + who as u8; 32]));
    let mut keys = chance.fork("identity");
    (RecoveryPhrase::generate(&mut keys), KeyPair::generate(&mut keys))
}

/// A friend's log as it is after the owner used the recovery phrase: another identity key, the first device gone, another
/// in its place.
fn recovered(world: &World<StandInEngine>, who: usize) -> contacts::Person {
    let mut person = contacts::known(world.store(ALICE), &world.people[who].account).unwrap().unwrap();
    let (phrase, _) = secrets(who);
    let identity = KeyPair::from_seed_bytes([70; 32]);
    let next = RecoveryPhrase::generate(&mut Chance::from_seed(Seed::from_bytes([71; 32]))).recovery_hash();
    let log = &mut person.log;
    log.rotate_identity(&phrase.key_pair(), &identity, next, Hlc { millis: 9, count: 0 }).unwrap();
    log.revoke_device(&identity, DeviceIndex::FIRST, Hlc { millis: 10, count: 0 }).unwrap();
    person
}

#[test]
fn a_verified_friend_with_another_identity_key_is_changed_until_compared_again() {
    let (mut world, _) = friends();
    let (alice, bob) = (world.people[ALICE].account, world.people[BOB].account);
    let keys = |world: &World<StandInEngine>, at, of| views::keys(world.store(at), &of).unwrap().unwrap();
    let (here, there) = (keys(&world, ALICE, bob), keys(&world, BOB, alice));
    assert_eq!((here.number, here.trust), (there.number, Trust::Unverified), "one number at both ends");
    world.ask(ALICE, Command::Verify { account: bob, verified: true }).unwrap();
    assert_eq!(keys(&world, ALICE, bob).trust, Trust::Verified);
    assert_eq!(keys(&world, BOB, alice).trust, Trust::Unverified, "it is the owner's word, not the other's");
    world.crash_now(ALICE);
    world.settle();
    assert_eq!(keys(&world, ALICE, bob).trust, Trust::Verified, "and it is kept");

    let person = recovered(&world, BOB);
    let transport = identity::transport_key(world.store(BOB)).unwrap().public();
    let mut rows = Overlay::new(world.store(ALICE));
    assert!(contacts::by_transport(&rows, &transport).unwrap().is_some());
    contacts::keep(&mut rows, &person, false).unwrap();
    assert_eq!(contacts::by_transport(&rows, &transport).unwrap(), None, "a revoked device is nobody's any more");
    assert!(contacts::device(&rows, &DeviceId { account: bob, index: DeviceIndex::FIRST }).unwrap().is_none());
    let batch = rows.into_batch();
    world.store(ALICE).apply(&batch).unwrap();

    let changed = keys(&world, ALICE, bob);
    assert_eq!((changed.trust, changed.history.len()), (Trust::Changed, 2));
    assert_ne!(changed.number, here.number);
    assert!(views::contacts(world.store(ALICE)).unwrap().iter().all(|one| one.trust == Trust::Changed));
    world.ask(ALICE, Command::Verify { account: bob, verified: true }).unwrap();
    assert_eq!(keys(&world, ALICE, bob).trust, Trust::Verified, "compared again");
    world.ask(ALICE, Command::Verify { account: bob, verified: false }).unwrap();
    assert_eq!(keys(&world, ALICE, bob).trust, Trust::Unverified);
    let nobody = Command::Verify { account: AccountId::from_bytes([9; 32]), verified: true };
    assert_eq!(world.ask(ALICE, nobody), Err(CommandError::Unknown));
}

#[test]
fn a_log_that_the_recovery_key_settled_takes_the_place_of_a_thiefs() {
    let (world, _) = friends();
    let bob = world.people[BOB].account;
    let before = contacts::known(world.store(ALICE), &bob).unwrap().unwrap();
    let owner = recovered(&world, BOB);
    // The thief holds the identity key, and writes a longer log.
    let (_, stolen) = secrets(BOB);
    let mut thief = before;
    for n in 1..4 {
        let (index, transport) = (DeviceIndex::new(n), KeyPair::from_seed_bytes([80 + n as u8; 32]));
        let device = KeyPair::from_seed_bytes([90 + n as u8; 32]).public();
        let proof = TransportProof::make(&transport, bob, index, &device);
        thief.log.add_device(&stolen, index, device, proof, "x", Hlc::default()).unwrap();
    }
    let mut rows = Overlay::new(world.store(ALICE));
    let domain = owner.address.domain.clone();
    let judge = |rows: &Overlay<'_>, person: &contacts::Person| {
        contacts::judge(rows, bob, &domain, person.address.clone(), person.log.bytes()).unwrap()
    };
    contacts::keep(&mut rows, &thief, false).unwrap();
    let taken = judge(&rows, &owner).unwrap();
    assert_eq!(taken.log, owner.log, "the recovery key decides");
    contacts::keep(&mut rows, &taken, false).unwrap();
    assert_eq!(judge(&rows, &thief).unwrap().log, owner.log, "and the thief's does not come back");
}

#[test]
fn whoever_looks_a_verified_friend_up_hears_that_their_key_is_another() {
    let (mut world, _) = friends();
    let bob = world.people[BOB].account;
    world.ask(ALICE, Command::Verify { account: bob, verified: true }).unwrap();
    let changed = |event: &Event| matches!(event, Event::KeyChanged { account, .. } if *account == bob);
    let look_up = |world: &mut World<StandInEngine>| {
        let who = Who::Address(views::keys(world.store(ALICE), &bob).unwrap().unwrap().address);
        world.ask(ALICE, Command::Befriend { who, note: None }).unwrap();
    };
    look_up(&mut world);
    assert_eq!(world.events(ALICE, changed), 0, "the same log");
    let log = recovered(&world, BOB).log.bytes();
    world.relay.accounts.get_mut(&bob).unwrap().log = log;
    look_up(&mut world);
    assert_eq!(world.events(ALICE, changed), 1);
    assert_eq!(views::keys(world.store(ALICE), &bob).unwrap().unwrap().trust, Trust::Changed);
    look_up(&mut world);
    assert_eq!(world.events(ALICE, changed), 1, "told once");
}
