//! Friend requests by the score (T29), as the node of whom they are for tells of them and shows them.

use whimbrel_crypto::{AccountLog, Chance, KeyPair, RecoveryPhrase, Seed, StandInEngine, TransportProof, signed};
use whimbrel_protocol::frame::encode_words;
use whimbrel_protocol::friendship::{Act, FRIENDSHIP_CONTEXT, FriendshipWord};
use whimbrel_protocol::id::{Address, DeviceId, DeviceIndex};
use whimbrel_protocol::limits;
use whimbrel_protocol::time::Hlc;

use super::world::{ALICE, Account, World, world};
use crate::api::{Command, Event};
use crate::views::{self, Friendship};

/// Somebody whom the relay knows, and who asks Alice to be friends.
fn asks(world: &mut World<StandInEngine>, n: u8) {
    let mut chance = Chance::from_seed(Seed::from_bytes([n; 32]));
    let [identity, key, transport] = std::array::from_fn(|_| KeyPair::generate(&mut chance));
    let recovery = RecoveryPhrase::generate(&mut chance).recovery_hash();
    let mut log = AccountLog::genesis(&identity, recovery, Hlc::default(), &mut chance);
    let by = DeviceId { account: log.account(), index: DeviceIndex::FIRST };
    let proof = TransportProof::make(&transport, by.account, by.index, &key.public());
    log.add_device(&identity, by.index, key.public(), proof, "phone", Hlc::default()).unwrap();
    let address: Address = format!("s{n}@a.example").parse().unwrap();
    let known = Account { address: Some(address.clone()), log: log.bytes(), ..Account::default() };
    world.relay.accounts.insert(by.account, known);
    let to = world.people[ALICE].account;
    let word = FriendshipWord { by, address, to, act: Act::Request, at: world.now.wall, note: Some(format!("{n}")) };
    world.slip(to, signed::sign(&key, by, FRIENDSHIP_CONTEXT, encode_words(&word)));
    world.settle();
}

fn asking(world: &World<StandInEngine>) -> usize {
    let friends = views::friends(world.store(ALICE)).unwrap();
    friends.iter().filter(|friend| friend.friendship == Friendship::Asking).count()
}

/// How many waited when each was told of.
fn told(world: &World<StandInEngine>) -> Vec<usize> {
    let waiting = |event: &Event| match event {
        Event::FriendRequest { waiting, .. } => Some(*waiting),
        _ => None,
    };
    world.people[ALICE].events.iter().filter_map(waiting).collect()
}

#[test]
fn t29_of_fifty_who_ask_the_owner_is_notified_of_the_first_all_are_one_list_and_one_command_clears_it() {
    let mut world = world(&["a.example"]);
    let most = limits::FRIENDS_ASKING_MAX;
    (0..most as u8).for_each(|n| asks(&mut world, n));
    assert_eq!((told(&world), asking(&world)), ((1..=most).collect(), most), "the first alone is one that waits alone");
    // A start tells of none of them again.
    world.crash_now(ALICE);
    world.settle();
    assert_eq!((told(&world).len(), asking(&world)), (most, most));
    world.ask(ALICE, Command::DeclineFriend(None)).unwrap();
    assert_eq!(asking(&world), 0);
    // Whoever asks then is a first one again, and the next is not.
    asks(&mut world, 100);
    asks(&mut world, 101);
    assert_eq!((told(&world)[most..].to_vec(), asking(&world)), (vec![1, 2], 2));
}
