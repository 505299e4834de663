//! Stories of people whom nobody let come, and of a relay that lets them through: the node is the second to refuse them.

use whimbrel_node::api::{Command, Reply};
use whimbrel_protocol::invite::Invite;

use super::super::hostile::MINTED;
use super::*;
use crate::judge::verdict::Violation;
use crate::world::people::Asked;

const WORLDS: [(u64, Crypto); 3] = [(1, Crypto::Standin), (2, Crypto::Standin), (3, Crypto::Real)];

/// The invite that somebody's relay made in their name.
fn minted(world: &World, of: ProcessNo) -> Invite {
    let own = views::account(world.node(of).unwrap().reads().unwrap()).unwrap();
    let (address, relay) = (own.address.unwrap(), own.relay);
    let account = world.node(of).unwrap().account;
    Invite { address, endpoint: relay.endpoint, relay: relay.relay, account, token: MINTED, pass: None }
}

/// What somebody's node answers to a command.
fn asks(world: &mut World, who: ProcessNo, command: Command) -> Reply {
    world.command(who, command, Asked::About);
    world.run_for(secs(30));
    world.person_of(who).unwrap().about.last().cloned().unwrap().unwrap()
}

/// Threads somebody's device shows, and people it has for contacts.
fn has(world: &World, who: ProcessNo) -> (usize, usize) {
    let reads = world.node(who).unwrap().reads().unwrap();
    (views::threads(reads).unwrap().len(), views::contacts(reads).unwrap().len())
}

#[test]
fn t32_whoever_comes_by_an_invite_that_a_relay_made_in_its_users_name_is_refused_by_the_users_node_too() {
    for (seed, crypto) in WORLDS {
        for elsewhere in [false, true] {
            let mut world = World::new(Seed::from(seed));
            (world.lively, world.crypto) = (false, crypto);
            let [home, other] = ["a.example", "b.example"].map(|domain| world.test_relay(domain).unwrap());
            let [alice, bob] = [home, home].map(|relay| world.test_node(relay).unwrap());
            let eve = world.test_node(if elsewhere { other } else { home }).unwrap();
            // By an invite of hers, and by one of his.
            world.befriend(alice, bob);
            let carol = world.test_node(other).unwrap();
            world.befriend(carol, alice);
            chat(&mut world, alice, bob, 2);
            let turned = world.turn_relay(home, RelayTrick::MintInvite, 1.0);
            world.meddles_with(home, alice);
            let strange = world.turn_member(eve, MemberTrick::Stranger, 0.0);
            world.run_for(secs(120));
            assert!(world.mischief(home).unwrap().minted.contains(&alice), "{seed}: no invite was made");
            let before = has(&world, alice);
            let invite = minted(&world, alice);
            // To her relay they are friends from now on.
            let Reply::Contact { thread, account, .. } = asks(&mut world, eve, Command::AcceptInvite(invite)) else {
                panic!("{seed}: the relay did not let her through")
            };
            let group = Command::CreateGroup { title: "a prize".to_owned(), people: vec![account] };
            let Reply::Group { thread: group } = asks(&mut world, eve, group) else { panic!("{seed}: no group") };
            for thread in [thread, group] {
                asks(&mut world, eve, Command::Send { thread, text: "you do not know me".to_owned() });
            }
            world.crash(alice);
            world.run_for(secs(120));
            assert_eq!(has(&world, alice), before, "{seed}: she has a new contact or thread");
            assert!(!world.can_write(alice, eve), "{seed}");
            chat(&mut world, alice, bob, 2);
            assert_eq!(world.shown_to(alice).len(), 4, "{seed}: {:?}", world.shown_to(alice));
            world.mend(turned);
            world.mend(strange);
            world.heal_all();
            world.run_until_quiet();
            // Of whom Eve knows and sees, and of what she says by a program of her own, the judge was told nothing.
            let hers = |one: &Violation| match one {
                Violation::Intruder { of: whose }
                | Violation::Misattributed { to: whose, .. }
                | Violation::Seen { to: whose } => *whose == eve,
                _ => false,
            };
            let verdict = world.close().0;
            assert!(verdict.examples.iter().all(hers), "{seed}: {:?}", verdict.examples);
            assert_eq!(verdict.violations as usize, verdict.examples.len(), "{seed}");
        }
    }
}
