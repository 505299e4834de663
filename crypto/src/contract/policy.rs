//! Policy: what of a group's policy an engine and a hub know, and by what it changes.
//! Owns: the rules of [`Change::policy`], as tests on each engine.

use whimbrel_protocol::policy::{Policy, Who};

use super::public::{holds, opened};
use super::*;
use crate::engine::Change;
use crate::public::PublicEngine;

/// These are the admins, and every member takes people in.
fn of(admins: &[&Person]) -> Policy {
    let mut admins: Vec<_> = admins.iter().map(|person| person.id.account).collect();
    admins.sort_unstable();
    Policy { admins, adds: Who::Members, renames: Who::Admins }
}

fn change(person: &mut Person, change: Change<'_>) -> Result<Commit, EngineError> {
    person.call(|engine, cx, own| engine.change(cx, own, THREAD, change))
}

fn policy(person: &mut Person) -> Option<Policy> {
    person.call(|engine, cx, _| engine.policy(cx, THREAD)).unwrap()
}

fn t37_a_policy_is_in_the_state_of_members_newcomers_and_hub_and_shows_in_the_commit_that_sets_it(
    make: fn() -> Box<dyn Engine>,
    hubs: &dyn PublicEngine,
) {
    let (mut people, created) = opened(make);
    let mut newcomer = people.pop().unwrap();
    let mut hub = hubs.found(THREAD, &created.tree, &created.info).unwrap();
    assert_eq!((policy(&mut people[0]), hub.policy().unwrap()), (None, None));
    let first = of(&[&people[0], &people[1]]);
    let set = change(&mut people[0], Change { policy: Some(&first), ..Change::default() }).unwrap();
    assert_eq!(policy(&mut people[0]), None, "not before it holds");
    let proved = hub.prove(&set.commit).unwrap();
    assert_eq!((proved.committer, proved.policy, proved.sets), (people[0].id, None, Some(first.clone())));
    hub.offered_next(&set.info).unwrap();
    holds(&mut people, 0, hub.as_mut(), &set.commit);
    for person in &mut people {
        assert_eq!(policy(person), Some(first.clone()));
    }
    // It stays through what does not set it, and whoever is taken in has it from the welcome.
    let invitee = newcomer.invitee();
    let added = people[2].add(std::slice::from_ref(&invitee));
    let proved = hub.prove(&added.commit).unwrap();
    assert_eq!((proved.policy, proved.sets), (Some(first.clone()), None));
    hub.offered_next(&added.info).unwrap();
    holds(&mut people, 2, hub.as_mut(), &added.commit);
    let joined = newcomer.join(added.welcome.as_ref().unwrap(), &added.tree).unwrap();
    assert_eq!(joined.inviter, people[2].id, "whoever made the commit, not who made the group");
    assert_eq!(policy(&mut newcomer), Some(first.clone()));
    let mut restored = hubs.restore(THREAD, &hub.save().unwrap()).unwrap();
    assert_eq!(restored.policy().unwrap(), Some(first.clone()));
    // Whoever goes, and what they were, in one commit.
    let (bob, second) = (people[1].id, of(&[&people[0], &people[3]]));
    let gone = change(&mut people[0], Change { removes: &[bob], policy: Some(&second), ..Change::default() }).unwrap();
    let proved = restored.prove(&gone.commit).unwrap();
    assert_eq!((proved.removed, proved.policy, proved.sets), (vec![bob], Some(first), Some(second.clone())));
    restored.offered_next(&gone.info).unwrap();
    holds(&mut people, 0, restored.as_mut(), &gone.commit);
    newcomer.apply(&gone.commit).unwrap();
    for person in [0, 2, 3] {
        assert_eq!(policy(&mut people[person]), Some(second.clone()));
    }
    assert_eq!((policy(&mut newcomer), restored.policy().unwrap()), (Some(second.clone()), Some(second)));
}

fn t37_who_comes_back_from_without_has_the_policy_and_sets_none(
    make: fn() -> Box<dyn Engine>,
    hubs: &dyn PublicEngine,
) {
    let (mut people, created) = opened(make);
    people.pop();
    let mut hub = hubs.found(THREAD, &created.tree, &created.info).unwrap();
    let wanted = of(&[&people[0], &people[3]]);
    // Right but for its membership tag: nobody else can apply it.
    let mut bad = change(&mut people[0], Change { policy: Some(&wanted), ..Change::default() }).unwrap();
    *bad.commit.last_mut().unwrap() ^= 1;
    people[0].merge_own().unwrap();
    hub.prove(&bad.commit).unwrap();
    hub.offered_next(&bad.info).unwrap();
    hub.follow(&bad.commit).unwrap();
    let mut followed = people[1].call(|engine, cx, own| engine.public(cx, own, THREAD)).unwrap();
    followed.follow(&bad.commit).unwrap();
    assert_eq!(followed.policy().unwrap(), Some(wanted.clone()));
    let back = people[1].call(|engine, cx, own| engine.rejoin(cx, own, THREAD, followed.as_ref(), &bad.info)).unwrap();
    let proved = hub.prove(&back.commit).unwrap();
    assert_eq!((proved.rejoins, proved.policy, proved.sets), (true, Some(wanted.clone()), None));
    hub.offered_next(&back.info).unwrap();
    people[1].merge_own().unwrap();
    people[0].apply(&back.commit).unwrap();
    assert_eq!((policy(&mut people[0]), policy(&mut people[1])), (Some(wanted.clone()), Some(wanted)));
}

fn t37_a_policy_that_is_none_is_not_made(make: fn() -> Box<dyn Engine>, hubs: &dyn PublicEngine) {
    let (mut people, created) = opened(make);
    let mut hub = hubs.found(THREAD, &created.tree, &created.info).unwrap();
    let nobody = Policy { admins: Vec::new(), ..of(&[]) };
    let twice = Policy { admins: vec![people[0].id.account; 2], ..of(&[]) };
    for bad in [nobody, twice] {
        let made = change(&mut people[0], Change { policy: Some(&bad), ..Change::default() });
        assert!(matches!(made, Err(EngineError::Untrusted)), "{bad:?}");
    }
    let good = people[0].update();
    hub.prove(&good.commit).unwrap();
}

on_each_hub!(
    t37_a_policy_is_in_the_state_of_members_newcomers_and_hub_and_shows_in_the_commit_that_sets_it,
    t37_who_comes_back_from_without_has_the_policy_and_sets_none,
    t37_a_policy_that_is_none_is_not_made,
);

#[test]
fn a_device_of_before_policies_is_named_where_one_is_to_be_and_learns_of_them_with_its_next_commit() {
    let make: fn() -> Box<dyn Engine> = || Box::new(crate::MlsEngine::new());
    let mut people = people(make, 3, false);
    let key_package = people[1].call(|_, cx, own| crate::mls::of_before(cx, own)).unwrap();
    let old = Invitee { id: people[1].id, device_key: people[1].device.public(), key_package };
    let created = people[0].call(|engine, cx, own| {
        engine.check_key_package(cx, &old)?;
        engine.create(cx, own, THREAD, std::slice::from_ref(&old))
    });
    let created = created.unwrap();
    people[1].join(&created.welcome, &created.tree).unwrap();
    let mut hub = crate::MlsPublic::new().found(THREAD, &created.tree, &created.info).unwrap();
    let wanted = of(&[&people[0]]);
    let refused = change(&mut people[0], Change { policy: Some(&wanted), ..Change::default() });
    assert!(matches!(refused, Err(EngineError::Outdated(device)) if device == old.id));
    let renewed = people[1].update();
    hub.prove(&renewed.commit).unwrap();
    hub.follow(&renewed.commit).unwrap();
    people[1].merge_own().unwrap();
    people[0].apply(&renewed.commit).unwrap();
    let set = change(&mut people[0], Change { policy: Some(&wanted), ..Change::default() }).unwrap();
    assert_eq!(hub.prove(&set.commit).unwrap().sets, Some(wanted));
    people[0].merge_own().unwrap();
    // Nor is one taken in where there is a policy.
    let key_package = people[2].call(|_, cx, own| crate::mls::of_before(cx, own)).unwrap();
    let old = Invitee { id: people[2].id, device_key: people[2].device.public(), key_package };
    let refused = change(&mut people[0], Change { adds: std::slice::from_ref(&old), ..Change::default() });
    assert!(matches!(refused, Err(EngineError::Outdated(device)) if device == old.id));
}
