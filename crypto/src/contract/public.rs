//! Public state: what a hub sees of a thread's changes.
//! Owns: the rules of [`PublicEngine`], as tests on each engine.

use super::*;
use crate::engine::Created;
use crate::public::{PublicEngine, PublicGroup};

/// Alice's thread of four, all joined but for the last; and what its hub was told.
pub(super) fn opened(make: fn() -> Box<dyn Engine>) -> (Vec<Person>, Created) {
    let mut people = people(make, 5, false);
    let invitees: Vec<_> = people[1..4].iter_mut().map(Person::invitee).collect();
    let created = people[0].call(|engine, cx, own| engine.create(cx, own, THREAD, &invitees)).unwrap();
    for person in &mut people[1..4] {
        person.join(&created.welcome, &created.tree).unwrap();
    }
    (people, created)
}

fn sorted(people: &mut Person) -> Vec<(DeviceId, PublicKey)> {
    let mut members = people.members().unwrap();
    members.sort_unstable();
    members
}

/// The author's commit holds: it, the others and the hub go on by it.
pub(super) fn holds(people: &mut [Person], author: usize, hub: &mut dyn PublicGroup, commit: &[u8]) {
    people[author].merge_own().unwrap();
    for (_, other) in people.iter_mut().enumerate().filter(|(who, _)| *who != author) {
        other.apply(commit).unwrap();
    }
    hub.follow(commit).unwrap();
}

fn a_hub_follows_every_change_and_knows_who_made_it(make: fn() -> Box<dyn Engine>, hubs: &dyn PublicEngine) {
    let (mut people, created) = opened(make);
    let mut newcomer = people.pop().unwrap();
    let mut hub = hubs.found(THREAD, &created.tree, &created.info).unwrap();
    assert_eq!((hub.epoch(), hub.members().unwrap()), (Epoch::new(1), sorted(&mut people[0])));
    for round in 0..3 {
        let renewed = people[round].update();
        let proved = hub.prove(&renewed.commit).unwrap();
        assert_eq!((proved.committer, proved.added, proved.removed), (people[round].id, Vec::new(), Vec::new()));
        holds(&mut people, round, hub.as_mut(), &renewed.commit);
    }
    let invitee = newcomer.invitee();
    let added = people[1].add(std::slice::from_ref(&invitee));
    let proved = hub.prove(&added.commit).unwrap();
    assert_eq!((proved.committer, proved.removed), (people[1].id, Vec::new()));
    assert_eq!(proved.added, [(invitee.id, invitee.device_key)]);
    holds(&mut people, 1, hub.as_mut(), &added.commit);
    newcomer.join(added.welcome.as_ref().unwrap(), &added.tree).unwrap();
    people.push(newcomer);
    let gone = people.remove(2);
    let removed = people[2].remove(gone.id);
    // Without being asked for a proof first, as when the state is made anew from the log.
    let proved = hubs.restore(THREAD, &hub.save().unwrap()).unwrap().prove(&removed.commit).unwrap();
    assert_eq!((proved.committer, proved.added, proved.removed), (people[2].id, Vec::new(), vec![gone.id]));
    holds(&mut people, 2, hub.as_mut(), &removed.commit);
    assert_eq!((hub.epoch(), hub.members().unwrap()), (Epoch::new(6), sorted(&mut people[0])));
    // Whoever is out commits nothing.
    let mut gone = gone;
    let late = gone.update();
    assert!(hub.prove(&late.commit).is_err());
}

fn t34_what_a_hub_refuses_changes_nothing_there(make: fn() -> Box<dyn Engine>, hubs: &dyn PublicEngine) {
    let (mut people, created) = opened(make);
    people.pop();
    let mut hub = hubs.found(THREAD, &created.tree, &created.info).unwrap();
    let before = hub.save().unwrap();
    let genuine = people[1].update();
    // A bit anywhere in what its author signed.
    let signed = genuine.commit.len() - 80;
    for at in (0..signed).step_by(37).chain([signed - 1]) {
        let mut damaged = genuine.commit.clone();
        damaged[at] ^= 1;
        assert!(hub.prove(&damaged).is_err(), "bit at {at} of {}", genuine.commit.len());
        assert!(hub.follow(&damaged).is_err(), "bit at {at} of {}", genuine.commit.len());
    }
    for cut in [0, 1, 40, genuine.commit.len() - 1] {
        assert!(hub.prove(&genuine.commit[..cut]).is_err(), "{cut}");
    }
    let sealed = people[1].seal("no commit");
    assert!(hub.prove(&sealed.body).is_err());
    assert!(hub.prove(&created.info).is_err());
    assert_eq!(hub.save().unwrap(), before);
    // One that was proved and lost leaves no trace; the other is followed, and then the first is of an epoch that is over.
    let other = people[2].update();
    hub.prove(&other.commit).unwrap();
    hub.prove(&genuine.commit).unwrap();
    assert_eq!(hub.save().unwrap(), before);
    hub.follow(&other.commit).unwrap();
    let stale = hub.prove(&genuine.commit);
    let is = |ours, theirs| EngineError::WrongEpoch { ours: Epoch::new(ours), theirs: Epoch::new(theirs) };
    assert_eq!(format!("{:?}", stale.unwrap_err()), format!("{:?}", is(2, 1)));
    people[1].apply(&other.commit).unwrap();
    let next = people[1].update();
    hub.prove(&next.commit).unwrap();
    hub.follow(&next.commit).unwrap();
    assert_eq!(hub.epoch(), Epoch::new(3));
}

fn a_saved_state_goes_on_as_the_one_that_was_saved(make: fn() -> Box<dyn Engine>, hubs: &dyn PublicEngine) {
    let (mut people, created) = opened(make);
    people.pop();
    let mut hub = hubs.found(THREAD, &created.tree, &created.info).unwrap();
    let mut log = Vec::new();
    let first = hub.save().unwrap();
    for round in 0..6 {
        let author = if round == 4 { 0 } else { round % 3 };
        let commit = match people.last().filter(|_| round == 4).map(|last| last.id) {
            Some(last) => people[author].remove(last).commit,
            None => people[author].update().commit,
        };
        let mut again = hubs.restore(THREAD, &hub.save().unwrap()).unwrap();
        assert_eq!(again.prove(&commit).unwrap(), hub.prove(&commit).unwrap());
        if round == 4 {
            people.truncate(3);
        }
        holds(&mut people, author, hub.as_mut(), &commit);
        again.follow(&commit).unwrap();
        assert_eq!(again.save().unwrap(), hub.save().unwrap());
        log.push(commit);
    }
    // From the first state and the commits since.
    let mut rebuilt = hubs.restore(THREAD, &first).unwrap();
    log.iter().for_each(|commit| rebuilt.follow(commit).unwrap());
    assert_eq!(rebuilt.save().unwrap(), hub.save().unwrap());
    for cut in [0, 1, first.len() / 2, first.len() - 1] {
        assert!(hubs.restore(THREAD, &first[..cut]).is_err(), "{cut}");
    }
    assert!(hubs.restore(ThreadId::from_bytes([9; 32]), &first).is_err());
}

fn an_opening_whose_parts_do_not_fit_is_none(make: fn() -> Box<dyn Engine>, hubs: &dyn PublicEngine) {
    let (mut people, created) = opened(make);
    let newcomer = people.pop().unwrap().invitee();
    let other = ThreadId::from_bytes([77; 32]);
    let (_, elsewhere) = {
        let mut alice = Person::new(1, make);
        let made = alice.call(|engine, cx, own| engine.create(cx, own, other, &[newcomer])).unwrap();
        (alice, made)
    };
    assert!(hubs.found(THREAD, &created.tree, &created.info).is_ok());
    assert!(hubs.found(other, &elsewhere.tree, &elsewhere.info).is_ok());
    assert!(hubs.found(other, &created.tree, &created.info).is_err(), "of another thread");
    assert!(hubs.found(THREAD, &elsewhere.tree, &created.info).is_err(), "another's tree");
    assert!(hubs.found(THREAD, &created.tree, &elsewhere.info).is_err(), "another's word");
    let added = people[0].update();
    assert!(hubs.found(THREAD, &added.tree, &created.info).is_err(), "a later tree");
    assert!(hubs.found(THREAD, &created.info, &created.tree).is_err());
    for (part, len) in [(0, created.tree.len()), (1, created.info.len())] {
        for at in (0..len).step_by(1 + len / 60) {
            let mut parts = [created.tree.clone(), created.info.clone()];
            parts[part][at] ^= 1;
            assert!(hubs.found(THREAD, &parts[0], &parts[1]).is_err(), "bit at {at} of part {part}, {len}");
            let mut parts = [created.tree.clone(), created.info.clone()];
            parts[part].truncate(at);
            assert!(hubs.found(THREAD, &parts[0], &parts[1]).is_err(), "{at} of part {part}, {len}");
        }
    }
}

/// A blank place is a byte on the wire, and hundreds once the tree is made out.
#[test]
fn a_tree_of_blanks_is_refused_before_it_is_made_out() {
    let (_, created) = opened(|| Box::new(crate::MlsEngine::new()));
    let hubs = crate::MlsPublic::new();
    let content = &created.tree[2..];
    assert_eq!(created.tree[..2], (0x4000 | content.len() as u16).to_be_bytes(), "a length of two bytes");
    let found = |blanks: usize| {
        let content = [content, &vec![0; blanks], content].concat();
        let tree = [&(0x8000_0000 | content.len() as u32).to_be_bytes()[..], &content].concat();
        hubs.found(THREAD, &tree, &created.info).err()
    };
    assert!(matches!(found(limits::PUBLIC_TREE_PLACES_MAX), Some(EngineError::TooLarge(_))));
    assert!(matches!(found(3_000_000), Some(EngineError::TooLarge(_))));
    assert!(!matches!(found(1), None | Some(EngineError::TooLarge(_))), "it is wrong all the same");
}

/// The limit of what a hub can do, so that nobody takes it for more.
fn what_takes_the_epochs_secrets_to_see_a_hub_does_not_see(make: fn() -> Box<dyn Engine>, hubs: &dyn PublicEngine) {
    let (mut people, created) = opened(make);
    let mut hub = hubs.found(THREAD, &created.tree, &created.info).unwrap();
    let mut commit = people[1].update().commit;
    *commit.last_mut().unwrap() ^= 1;
    assert!(hub.prove(&commit).is_ok());
    assert!(matches!(people[0].apply(&commit), Err(EngineError::BadSignature)));
}

on_each_hub!(
    a_hub_follows_every_change_and_knows_who_made_it,
    t34_what_a_hub_refuses_changes_nothing_there,
    a_saved_state_goes_on_as_the_one_that_was_saved,
    an_opening_whose_parts_do_not_fit_is_none,
    what_takes_the_epochs_secrets_to_see_a_hub_does_not_see,
);
