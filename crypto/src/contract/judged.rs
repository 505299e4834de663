//! Judged: what the hub of a thread of MLS lets into its tree, by a member whose program is its own.
//! Owns: the rules on keys, leaves and places (docs/protocol/hub.md 25), as tests on the one engine that has such things.

use super::public::{holds, opened};
use super::*;
use crate::MlsPublic;
use crate::mls::spoilt;
use crate::public::PublicEngine;

fn make() -> Box<dyn Engine> {
    Box::new(crate::MlsEngine::new())
}

/// A public key of the suite's KEM: ML-KEM-768's and X25519's.
const KEY_BYTES: usize = 1_184 + 32;

/// Keys that nobody can seal to.
fn keys_of_no_suite() -> [Vec<u8>; 5] {
    // Coefficients of 12 bits that are all greater than the field has.
    let out_of_range = vec![0xff; KEY_BYTES];
    [Vec::new(), vec![5; 32], vec![0; KEY_BYTES - 1], vec![0; KEY_BYTES + 1], out_of_range]
}

#[test]
fn t34_a_commit_that_puts_a_key_of_no_suite_anywhere_into_the_tree_is_refused_and_the_group_changes_on() {
    let (mut people, created) = opened(make);
    people.pop();
    let mut hub = MlsPublic::new().found(THREAD, &created.tree, &created.info).unwrap();
    let before = hub.save().unwrap();
    for key in keys_of_no_suite() {
        let (mut made, mut refused) = (0, 0);
        for nth in 0..12 {
            let (commit, _) =
                spoilt::with(nth, &key, || people[1].dry(|engine, cx, own| engine.update(cx, own, THREAD)));
            let Ok(commit) = commit else { continue };
            made += 1;
            match hub.prove(&commit.commit) {
                Ok(proved) => assert_eq!(proved.committer, people[1].id),
                Err(error) => {
                    assert!(!matches!(error, EngineError::Library(_)), "{} bytes, {nth}: {error}", key.len());
                    refused += 1;
                }
            }
        }
        // In a tree of four leaves: of the committer's leaf, of the node over two, and of the root.
        assert_eq!((made, refused), (12, 3), "{} bytes", key.len());
    }
    assert_eq!(hub.save().unwrap(), before);
    let good = people[1].update();
    assert_eq!(hub.prove(&good.commit).unwrap().committer, people[1].id);
    holds(&mut people, 1, hub.as_mut(), &good.commit);
    assert_eq!(hub.epoch(), Epoch::new(2));
}

#[test]
fn t34_an_opening_with_a_key_of_no_suite_in_its_tree_is_none() {
    let mut people = people(make, 4, false);
    let invitees: Vec<_> = people[1..].iter_mut().map(Person::invitee).collect();
    for key in keys_of_no_suite() {
        let (mut made, mut refused) = (0, 0);
        for nth in 0..12 {
            let create = |engine: &mut dyn Engine, cx: &mut Context<'_, '_>, own: &Own<'_>| {
                engine.create(cx, own, THREAD, &invitees)
            };
            let (created, _) = spoilt::with(nth, &key, || people[0].dry(create));
            let Ok(created) = created else { continue };
            made += 1;
            refused += usize::from(MlsPublic::new().found(THREAD, &created.tree, &created.info).is_err());
        }
        assert!(made > 3 && refused == 3, "{} bytes: {refused} of {made}", key.len());
    }
}

#[test]
fn t12_a_key_package_with_a_key_of_no_suite_takes_nobody_in_and_stops_nothing() {
    let (mut people, _) = opened(make);
    let mut newcomer = people.pop().unwrap();
    for key in keys_of_no_suite() {
        // The key that the invitation is sealed to, and the leaf's.
        for nth in 0..2 {
            let (package, _) =
                spoilt::with(nth, &key, || newcomer.dry(|engine, cx, own| engine.key_package(cx, own, false)));
            let Ok(key_package) = package else { continue };
            let invitee = Invitee { id: newcomer.id, device_key: newcomer.device.public(), key_package };
            let added = people[0].call(|engine, cx, own| engine.add(cx, own, THREAD, &[invitee]));
            assert!(matches!(added, Err(EngineError::KeyPackage { .. })), "{} bytes, {nth}", key.len());
        }
    }
    let invitee = newcomer.invitee();
    let added = people[0].add(&[invitee]);
    people[0].merge_own().unwrap();
    newcomer.join(added.welcome.as_ref().unwrap(), &added.tree).unwrap();
}

/// A blank place is a byte on the wire and hundreds once the tree is made out: to the place, the bound is where it is said
/// to be.
#[test]
fn t52_a_tree_of_one_place_more_than_the_bound_is_refused_before_it_is_made_out() {
    let (_, created) = opened(make);
    let content = &created.tree[2..];
    assert_eq!(created.tree[..2], (0x4000 | content.len() as u16).to_be_bytes(), "a length of two bytes");
    let found = |blanks: usize| {
        let content = [content, &vec![0; blanks], content].concat();
        let tree = [&(0x8000_0000 | content.len() as u32).to_be_bytes()[..], &content].concat();
        MlsPublic::new().found(THREAD, &tree, &created.info).err().unwrap()
    };
    // Twice four leaves with three nodes between them.
    let most = limits::PUBLIC_TREE_PLACES_MAX - 2 * 7;
    assert!(!matches!(found(most), EngineError::TooLarge(_)));
    assert!(matches!(found(most + 1), EngineError::TooLarge(_)));
}
