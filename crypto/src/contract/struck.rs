//! Struck: whatever bytes come in place of a commit, an opening, a Welcome or a KeyPackage (T52, and T34 of commits).
//! Owns: the rule, as tests on each engine: a typed error that blames whoever sent it, no panic, nothing changed, and what
//! is genuine is taken afterwards. The same seed strikes the same.

use super::public::{holds, opened};
use super::*;
use crate::public::PublicEngine;

/// Strikes of each kind of thing that a hub reads; of those that only members read, which cost more, a quarter.
const STRIKES: usize = 1_500;

/// Something done to bytes, once or a few times over; never nothing.
fn strike(chance: &mut Chance, genuine: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = genuine.to_vec();
    loop {
        for _ in 0..=chance.below(3) {
            once(chance, &mut bytes, other);
        }
        if bytes != genuine {
            return bytes;
        }
    }
}

fn once(chance: &mut Chance, bytes: &mut Vec<u8>, other: &[u8]) {
    let mut below = |n: usize| usize::try_from(chance.below(n.max(1) as u64)).unwrap();
    // Heads are where lengths and kinds are: every second blow falls there.
    let place = match below(2) {
        0 => below(bytes.len().min(200) + 1),
        _ => below(bytes.len() + 1),
    };
    let put = |bytes: &mut Vec<u8>, new: &[u8]| drop(bytes.splice(place..place, new.iter().copied()));
    let end = |length: usize| (place + length).min(bytes.len());
    match below(9) {
        0 if place < bytes.len() => bytes[place] ^= 1 << below(8),
        1 => bytes.truncate(place),
        2 => {
            let more = vec![below(256) as u8; 1 + below(40)];
            put(bytes, &more);
        }
        3 => drop(bytes.drain(place..end(1 + below(80)))),
        // What comes twice.
        4 => {
            let again = bytes[place..end(1 + below(300))].to_vec();
            put(bytes, &again);
        }
        // A length of as much as there can be, as MLS writes one (RFC 9420 §2.1.2) and as CBOR does.
        5 => put(bytes, &[0xbf, 0xff, 0xff, 0xff]),
        6 => put(bytes, &[0x5b, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]),
        // One in the other, as deep as a few thousand bytes go.
        7 => {
            let head = [0x81, 0xa1, 0x9f, 0x01, 0x00][below(5)];
            let deep = vec![head; 1 + below(4_000)];
            put(bytes, &deep);
        }
        // The rest of something else.
        _ => {
            bytes.truncate(place);
            bytes.extend_from_slice(&other[below(other.len())..]);
        }
    }
}

/// It is the bytes that are at fault, not the engine.
fn blames_the_bytes(error: &EngineError, what: &str, n: usize) {
    assert!(!matches!(error, EngineError::Library(_)), "{what} {n}: {error}");
}

fn t52_a_struck_commit_is_refused_and_the_genuine_one_is_followed_afterwards(
    make: fn() -> Box<dyn Engine>,
    hubs: &dyn PublicEngine,
) {
    let (mut people, created) = opened(make);
    let mut newcomer = people.pop().unwrap();
    let mut chance = Chance::from_seed(Seed::from_bytes([52; 32]));
    let mut hub = hubs.found(THREAD, &created.tree, &created.info).unwrap();
    let invitee = newcomer.invitee();
    let gone = people[2].id;
    for round in 0..3_usize {
        // A renewal, an addition and a removal.
        let genuine = match round {
            0 => people[0].update(),
            1 => people[0].add(std::slice::from_ref(&invitee)),
            _ => people[0].remove(gone),
        };
        let (before, shown) = (hub.save().unwrap(), hub.prove(&genuine.commit).unwrap());
        let mut refused = 0;
        for n in 0..STRIKES {
            let bytes = strike(&mut chance, &genuine.commit, &created.info);
            match hub.prove(&bytes) {
                // The tags, which only members can check, and what is sealed to them.
                Ok(proved) => assert_eq!(proved, shown, "{n}"),
                Err(error) => {
                    blames_the_bytes(&error, "commit", n);
                    assert!(hub.follow(&bytes).is_err(), "{n}");
                    refused += 1;
                }
            }
        }
        assert!(refused > STRIKES * 9 / 10, "{refused} refused");
        assert_eq!(hub.save().unwrap(), before);
        if round == 2 {
            people.remove(2);
        }
        holds(&mut people, 0, hub.as_mut(), &genuine.commit);
        if round == 1 {
            newcomer.join(genuine.welcome.as_ref().unwrap(), &genuine.tree).unwrap();
        }
    }
    assert_eq!(hub.epoch(), Epoch::new(4));
}

fn t52_a_struck_opening_is_none(make: fn() -> Box<dyn Engine>, hubs: &dyn PublicEngine) {
    let (_, created) = opened(make);
    let mut chance = Chance::from_seed(Seed::from_bytes([53; 32]));
    for n in 0..STRIKES {
        let (mut tree, mut info) = (created.tree.clone(), created.info.clone());
        match n % 3 {
            0 => tree = strike(&mut chance, &tree, &created.info),
            1 => info = strike(&mut chance, &info, &created.tree),
            _ => (tree, info) = (strike(&mut chance, &tree, &info), strike(&mut chance, &info, &tree)),
        }
        match hubs.found(THREAD, &tree, &info) {
            Ok(_) => panic!("{n}: an opening that nobody signed"),
            Err(error) => blames_the_bytes(&error, "opening", n),
        }
    }
    assert!(hubs.found(THREAD, &created.tree, &created.info).is_ok());
}

/// What a store gives back is not what an attacker sends; damaged all the same it is an error, and no state.
fn t52_a_struck_state_is_none_or_judges_without_a_panic(make: fn() -> Box<dyn Engine>, hubs: &dyn PublicEngine) {
    let (mut people, created) = opened(make);
    let saved = hubs.found(THREAD, &created.tree, &created.info).unwrap().save().unwrap();
    let commit = people[0].update().commit;
    let mut chance = Chance::from_seed(Seed::from_bytes([54; 32]));
    for _ in 0..STRIKES {
        if let Ok(mut hub) = hubs.restore(THREAD, &strike(&mut chance, &saved, &commit)) {
            let _either_way = (hub.members().is_ok(), hub.prove(&commit).is_ok(), hub.save().is_ok());
        }
    }
    assert!(hubs.restore(THREAD, &saved).unwrap().prove(&commit).is_ok());
}

fn t52_a_struck_welcome_or_key_package_brings_nobody_in_and_the_genuine_one_does(
    make: fn() -> Box<dyn Engine>,
    _: &dyn PublicEngine,
) {
    let mut people = people(make, 3, false);
    let invitees: Vec<_> = people[1..].iter_mut().map(Person::invitee).collect();
    let mut chance = Chance::from_seed(Seed::from_bytes([55; 32]));
    for n in 0..STRIKES / 4 {
        let key_package = strike(&mut chance, &invitees[0].key_package, &invitees[1].key_package);
        let struck = [Invitee { key_package, ..invitees[0].clone() }];
        match people[0].dry(|engine, cx, own| engine.create(cx, own, THREAD, &struck)).0 {
            Ok(_) => panic!("{n}: a package that nobody signed"),
            Err(error) => blames_the_bytes(&error, "package", n),
        }
    }
    let created = people[0].call(|engine, cx, own| engine.create(cx, own, THREAD, &invitees)).unwrap();
    for n in 0..STRIKES / 4 {
        let (mut welcome, mut tree) = (created.welcome.clone(), created.tree.clone());
        match n % 2 {
            0 => welcome = strike(&mut chance, &welcome, &tree),
            _ => tree = strike(&mut chance, &tree, &welcome),
        }
        match people[1].dry(|engine, cx, own| engine.join(cx, own, &welcome, &tree)).0 {
            // What was struck was sealed to the other.
            Ok(joined) => assert_eq!((joined.thread, joined.members.len()), (THREAD, 3), "{n}"),
            Err(error) => blames_the_bytes(&error, "welcome", n),
        }
    }
    for person in &mut people[1..] {
        person.join(&created.welcome, &created.tree).unwrap();
    }
    let hello = people[1].seal("hello");
    assert_eq!(people[2].reads(&hello.body), "hello");
}

/// A hub that reads as ours does takes of the strikes on a commit what only members can check. Whatever it took, each of them
/// is past it in the end, in one branch, and the next change comes about.
fn t34_past_every_struck_commit_that_a_hub_takes_everybody_goes_on_in_one_branch(
    make: fn() -> Box<dyn Engine>,
    hubs: &dyn PublicEngine,
) {
    const ROUNDS: usize = 8;
    let (mut people, created) = opened(make);
    people.pop();
    let mut hub = hubs.found(THREAD, &created.tree, &created.info).unwrap();
    let mut chance = Chance::from_seed(Seed::from_bytes([34; 32]));
    let (mut refused, mut rejoined) = (0, 0);
    for round in 0..ROUNDS {
        let author = round % people.len();
        let genuine = people[author].update();
        let before = hub.save().unwrap();
        let mut taken = None;
        for n in 0..400 {
            // Every second strike is at the end, where both tags are.
            let mut bytes = genuine.commit.clone();
            match n % 2 {
                0 => bytes = strike(&mut chance, &genuine.commit, &created.info),
                _ => {
                    let place = bytes.len() - 1 - usize::try_from(chance.below(70)).unwrap();
                    bytes[place] ^= 1 << chance.below(8);
                }
            }
            if hub.prove(&bytes).is_ok() && hub.offered_next(&genuine.info).is_ok() {
                taken = Some(bytes);
                break;
            }
            refused += 1;
        }
        assert_eq!(hub.save().unwrap(), before, "{round}");
        let taken = taken.unwrap_or_else(|| panic!("{round}: none was taken"));
        hub.follow(&taken).unwrap();
        // Its author sees that what the hub took is not what it made.
        people[author].call(|engine, cx, own| engine.discard_own(cx, own, THREAD)).unwrap();
        let mut chain = vec![(taken, genuine.info)];
        for who in 0..people.len() {
            let mut followed = people[who].call(|engine, cx, own| engine.public(cx, own, THREAD)).unwrap();
            let mut stuck = false;
            for (commit, _) in &chain {
                stuck = stuck || people[who].call(|engine, cx, own| engine.apply(cx, own, THREAD, commit)).is_err();
                followed.follow(commit).unwrap();
            }
            if !stuck {
                continue;
            }
            let (_, info) = chain.last().unwrap();
            let back =
                people[who].call(|engine, cx, own| engine.rejoin(cx, own, THREAD, followed.as_ref(), info)).unwrap();
            assert!(hub.prove(&back.commit).unwrap().rejoins, "{round}: {who}");
            hub.offered_next(&back.info).unwrap();
            hub.follow(&back.commit).unwrap();
            people[who].merge_own().unwrap();
            for other in &mut people[..who] {
                other.apply(&back.commit).unwrap();
            }
            chain.push((back.commit, back.info));
            rejoined += 1;
        }
        let of: Vec<_> =
            people.iter().map(|person| person.engine.authenticator(&person.disk, THREAD).unwrap()).collect();
        assert!(of.iter().all(|one| *one == of[0]), "{round}: two branches");
        let text = format!("after {round}");
        let sealed = people[author].seal(&text);
        for other in (0..people.len()).filter(|other| *other != author) {
            assert_eq!(people[other].reads(&sealed.body), text);
        }
    }
    assert!(refused > 0 && rejoined >= ROUNDS, "{refused} refused, {rejoined} came from without");
    let last = people[1].update();
    hub.prove(&last.commit).unwrap();
    holds(&mut people, 1, hub.as_mut(), &last.commit);
}

on_each_hub!(
    t34_past_every_struck_commit_that_a_hub_takes_everybody_goes_on_in_one_branch,
    t52_a_struck_commit_is_refused_and_the_genuine_one_is_followed_afterwards,
    t52_a_struck_opening_is_none,
    t52_a_struck_state_is_none_or_judges_without_a_panic,
    t52_a_struck_welcome_or_key_package_brings_nobody_in_and_the_genuine_one_does,
);
