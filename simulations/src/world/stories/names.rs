//! Stories of relays that lead whoever looks somebody up to another account: with an invite nobody is led anywhere; without one
//! the first answer is believed, shown as unverified, and kept against every later one.

use whimbrel_node::api::{Command, CommandError, Reply};
use whimbrel_node::views::{Friendship, LogProof, Trust};
use whimbrel_protocol::friendship::Standing;
use whimbrel_protocol::id::{AccountId, Address};
use whimbrel_protocol::user::Who;

use super::*;
use crate::world::people::Asked;

const WORLDS: [(u64, Crypto); 3] = [(1, Crypto::Standin), (2, Crypto::Standin), (3, Crypto::Real)];

/// Alice, whom her relay leads to Carol, whoever she looks up; Bob, who lives elsewhere; Carol.
struct Astray {
    world: World,
    people: [ProcessNo; 3],
    home: ProcessNo,
    turned: usize,
}

/// Carol lives at Bob's relay, or at Alice's.
fn astray(seed: u64, crypto: Crypto, beside_bob: bool) -> Astray {
    let mut world = World::new(Seed::from(seed));
    (world.lively, world.crypto) = (false, crypto);
    let [home, other] = ["a.example", "b.example"].map(|domain| world.test_relay(domain).unwrap());
    let carols = if beside_bob { other } else { home };
    let [alice, bob, carol, dave] = [home, other, carols, home].map(|relay| world.test_node(relay).unwrap());
    let turned = world.turn_relay(home, RelayTrick::OtherKey, 1.0);
    world.meddles_with(home, alice);
    // Of all logs hers passes it first: Dave is told the truth.
    world.befriend(carol, dave);
    // Anybody may ask her to be friends.
    world.ledger.introduced(alice, carol);
    Astray { world, people: [alice, bob, carol], home, turned }
}

fn account(world: &World, of: ProcessNo) -> AccountId {
    world.node(of).unwrap().account
}

fn address(world: &World, of: ProcessNo) -> Address {
    views::account(world.node(of).unwrap().reads().unwrap()).unwrap().address.unwrap()
}

/// What somebody's node answers when they ask whoever has somebody's name to be friends.
fn asks_by_name(world: &mut World, who: ProcessNo, of: ProcessNo) -> Result<Reply, CommandError> {
    let command = Command::Befriend { who: Who::Address(address(world, of)), note: None };
    world.command(who, command, Asked::About);
    world.run_for(secs(10));
    world.person_of(who).unwrap().about.last().cloned().unwrap()
}

/// What somebody's device has of somebody's keys: whether its owner compared them, and whether their relay shows them to all.
fn keys(world: &World, on: ProcessNo, of: ProcessNo) -> Option<(Trust, LogProof)> {
    let keys = views::keys(world.node(on).unwrap().reads().unwrap(), &account(world, of)).unwrap();
    keys.map(|keys| (keys.trust, keys.log))
}

/// Whom somebody's list names, where they are said to be found, and how things stand.
fn list(world: &World, on: ProcessNo) -> Vec<(AccountId, Address, Friendship)> {
    let friends = views::friends(world.node(on).unwrap().reads().unwrap()).unwrap();
    friends.into_iter().map(|one| (one.account, one.address, one.friendship)).collect()
}

#[test]
fn t10_whoever_has_an_invite_is_led_to_nobody_else_by_their_relay() {
    for (seed, crypto) in WORLDS {
        for beside_bob in [true, false] {
            let Astray { mut world, people: [alice, bob, carol], home, turned } = astray(seed, crypto, beside_bob);
            world.introduce(bob, alice);
            world.run_for(secs(300));
            assert!(world.mischief(home).unwrap().changes.misled > 2, "{seed}: she was not misled");
            let told = &world.person_of(alice).unwrap().about;
            let refused = |one: &Result<Reply, CommandError>| matches!(one, Err(CommandError::Untrusted(why)) if why.contains("another account"));
            assert!(told.len() > 2 && told.iter().all(refused), "{seed}: {told:?}");
            // Neither is known to her, and there is nothing that she could write into.
            assert_eq!((keys(&world, alice, bob), keys(&world, alice, carol)), (None, None), "{seed}");
            assert!(!world.can_write(alice, bob) && !world.can_write(alice, carol), "{seed}");
            assert!(list(&world, alice).is_empty(), "{seed}");
            world.mend(turned);
            world.run_for(secs(120));
            assert!(world.can_write(alice, bob) && world.can_write(bob, alice), "{seed}: they never met");
            world.say(alice, bob, "to Bob");
            world.run_until_quiet();
            assert_eq!(world.shown_to(bob), ["to Bob"], "{seed}");
            assert_eq!(keys(&world, alice, carol), None, "{seed}");
            well(world);
        }
    }
}

#[test]
fn t10_without_an_invite_the_first_answer_is_kept_as_unverified_and_another_later_is_refused_and_told() {
    for (seed, crypto) in WORLDS {
        for beside_bob in [true, false] {
            let Astray { mut world, people: [alice, bob, carol], home, turned } = astray(seed, crypto, beside_bob);
            let (led, name) = (account(&world, carol), address(&world, bob));
            for round in 1..=2 {
                let found = asks_by_name(&mut world, alice, bob);
                // Whether his relay has anybody of that account it tells nobody.
                let standing = Some(Standing::Asked);
                let expected = Ok(Reply::Friend { account: led, address: name.clone(), standing });
                assert_eq!(found, expected, "{seed}: {round}");
                assert_eq!(world.mischief(home).unwrap().changes.misled, round, "{seed}");
            }
            // Her key stands under his name, as one that nobody compared.
            assert_eq!(keys(&world, alice, carol).map(|(trust, _)| trust), Some(Trust::Unverified), "{seed}");
            let asked = vec![(led, name.clone(), Friendship::Asked)];
            assert_eq!(list(&world, alice), asked, "{seed}");
            world.crash(alice);
            world.run_for(secs(30));
            world.mend(turned);
            let refused = asks_by_name(&mut world, alice, bob);
            assert!(
                matches!(&refused, Err(CommandError::Untrusted(why)) if why.contains("somebody else")),
                "{refused:?}"
            );
            assert_eq!(
                (keys(&world, alice, bob), list(&world, alice)),
                (None, asked),
                "{seed}: the truth took her place"
            );
            // Should she whom it was led to say yes, she stands there under the name she has.
            if beside_bob {
                let yes = Command::AcceptFriend(account(&world, alice));
                world.command(carol, yes, Asked::About);
                world.run_for(secs(60));
                assert_eq!(list(&world, alice), [(led, address(&world, carol), Friendship::Friends)], "{seed}");
                let found = keys(&world, alice, carol);
                assert!(matches!(found, Some((Trust::Unverified, LogProof::Found(_)))), "{seed}: {found:?}");
            }
            assert!(world.shown_to(carol).is_empty() && world.shown_to(bob).is_empty(), "{seed}");
            // By an invite she comes to him all the same.
            world.befriend(bob, alice);
            world.say(alice, bob, "to Bob");
            world.run_until_quiet();
            assert_eq!(world.shown_to(bob), ["to Bob"], "{seed}");
            well(world);
        }
    }
}
