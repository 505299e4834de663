//! Branches: what members compare to know that they are on one.
//! Owns: the rules of authenticators, as tests on each engine.

use super::*;

fn authenticator(person: &Person) -> Result<[u8; 32], EngineError> {
    person.engine.authenticator(&person.disk, THREAD)
}

pub(super) fn members_hold_one_authenticator_and_another_branch_of_the_same_length_another(
    make: fn() -> Box<dyn Engine>,
) {
    let mut people = thread(make, 4, false);
    let mut dave = people.pop().unwrap();
    let mut seen = Vec::new();
    let mut agree = |people: &[Person]| {
        let first = authenticator(&people[0]).unwrap();
        assert!(people.iter().all(|person| authenticator(person).unwrap() == first), "members differ");
        assert!(!seen.contains(&first), "an epoch has the authenticator of another");
        seen.push(first);
    };
    agree(&people);
    // Nobody outside has any, nor has whoever was taken out; who came with a commit has its epoch's.
    let erin = Person::new(9, make);
    assert!(matches!(authenticator(&erin), Err(EngineError::UnknownThread)));
    let removed = people[0].remove(dave.id);
    people[0].merge_own().unwrap();
    people[1..].iter_mut().chain([&mut dave]).for_each(|person| {
        person.apply(&removed.commit).unwrap();
    });
    assert!(matches!(authenticator(&dave), Err(EngineError::NotMember)));
    agree(&people);
    let mut frank = Person::new(6, make);
    let added = people[1].add(&[frank.invitee()]);
    people[1].merge_own().unwrap();
    people[0].apply(&added.commit).unwrap();
    people[2].apply(&added.commit).unwrap();
    frank.join(added.welcome.as_ref().unwrap(), &added.tree).unwrap();
    people.push(frank);
    agree(&people);
    // Two commits for one epoch, each followed by some: the same number, the same people, and not the same.
    let (lost, won) = (people[0].update(), people[1].update());
    people[0].merge_own().unwrap();
    people[1].merge_own().unwrap();
    people[2].apply(&lost.commit).unwrap();
    people[3].apply(&won.commit).unwrap();
    let of: Vec<_> = people.iter().map(|person| authenticator(person).unwrap()).collect();
    let told: Vec<_> = people.iter_mut().map(|person| (person.epoch(), person.members().unwrap())).collect();
    assert!(told.iter().all(|one| one.0 == told[0].0 && one.1.len() == 4));
    assert_eq!((of[0], of[1]), (of[2], of[3]));
    assert_ne!(of[0], of[1]);
}
