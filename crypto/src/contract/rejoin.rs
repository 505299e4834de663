//! Rejoining: what a member does whose thread went on by a commit that it cannot apply.
//! Owns: the rules of [`Engine::rejoin`] and of what a hub holds it to, as tests on each engine.

use super::public::opened;
use super::*;
use crate::public::{PublicEngine, PublicGroup};

/// Carol's renewal, right but for its membership tag: her own device goes on by it, and nobody else's can.
fn mistag(people: &mut [Person], hub: &mut dyn PublicGroup) -> Commit {
    let mut bad = people[2].update();
    *bad.commit.last_mut().unwrap() ^= 1;
    people[2].merge_own().unwrap();
    hub.prove(&bad.commit).unwrap();
    hub.offered_next(&bad.info).unwrap();
    hub.follow(&bad.commit).unwrap();
    bad
}

fn public(person: &mut Person) -> Box<dyn PublicGroup> {
    person.call(|engine, cx, own| engine.public(cx, own, THREAD)).unwrap()
}

fn rejoin(person: &mut Person, public: &dyn PublicGroup, info: &[u8]) -> Result<Commit, EngineError> {
    person.call(|engine, cx, own| engine.rejoin(cx, own, THREAD, public, info))
}

fn four(make: fn() -> Box<dyn Engine>, hubs: &dyn PublicEngine) -> (Vec<Person>, Box<dyn PublicGroup>) {
    let (mut people, created) = opened(make);
    people.pop();
    let hub = hubs.found(THREAD, &created.tree, &created.info).unwrap();
    (people, hub)
}

fn t34_whoever_cannot_apply_a_commit_goes_on_from_without_and_the_thread_changes_on(
    make: fn() -> Box<dyn Engine>,
    hubs: &dyn PublicEngine,
) {
    let (mut people, mut hub) = four(make, hubs);
    let late = people[1].seal("late");
    let mut chain = vec![mistag(&mut people, hub.as_mut())];
    // Each in turn: who is back applies the next one's as any commit.
    for who in [0, 1, 3] {
        assert!(matches!(people[who].apply(&chain[0].commit), Err(EngineError::BadSignature)));
        let mut followed = public(&mut people[who]);
        chain.iter().for_each(|commit| followed.follow(&commit.commit).unwrap());
        let back = rejoin(&mut people[who], followed.as_ref(), &chain.last().unwrap().info).unwrap();
        // Until it holds, the epoch it left is where it is.
        assert_eq!(people[who].epoch(), 1);
        let proved = hub.prove(&back.commit).unwrap();
        assert_eq!((proved.committer, proved.rejoins), (people[who].id, true));
        assert!(proved.added.is_empty() && proved.removed.is_empty());
        hub.offered_next(&back.info).unwrap();
        hub.follow(&back.commit).unwrap();
        let mut saved = hubs.restore(THREAD, &hub.save().unwrap()).unwrap();
        assert_eq!((saved.epoch(), saved.offered(&back.info).is_ok()), (back.epoch, true));
        assert!(saved.prove(&back.commit).is_err());
        people[who].merge_own().unwrap();
        assert_eq!(people[who].epoch(), back.epoch.get());
        for other in [2, 0, 1, 3].into_iter().take_while(|other| *other != who) {
            let by = people[other].call(|engine, cx, own| engine.apply(cx, own, THREAD, &back.commit)).unwrap();
            assert_eq!(by.committer, people[who].id);
        }
        chain.push(back);
    }
    // One branch, and what was said before still opens at whoever was away.
    let of: Vec<_> = people.iter().map(|person| person.engine.authenticator(&person.disk, THREAD).unwrap()).collect();
    assert!(of.iter().all(|one| *one == of[0]));
    assert_eq!(people[0].open(&late.body).unwrap().content, b"late");
    for (number, content) in ["alice", "bob", "carol", "dave"].iter().enumerate() {
        let sealed = people[number].seal(content);
        for other in (0..4).filter(|other| *other != number) {
            assert_eq!(people[other].open(&sealed.body).unwrap().content, content.as_bytes());
        }
    }
    let last = people[1].update();
    hub.prove(&last.commit).unwrap();
    public::holds(&mut people, 1, hub.as_mut(), &last.commit);
}

fn t07_a_groupinfo_that_the_commits_do_not_lead_to_is_refused_and_leaves_no_trace(
    make: fn() -> Box<dyn Engine>,
    hubs: &dyn PublicEngine,
) {
    let (mut people, mut hub) = four(make, hubs);
    let lost = people[1].update();
    people[1].call(|engine, cx, own| engine.discard_own(cx, own, THREAD)).unwrap();
    let before = public(&mut people[1]);
    let first = people[1].update();
    public::holds(&mut people, 1, hub.as_mut(), &first.commit);
    let mut followed = public(&mut people[0]);
    let bad = mistag(&mut people, hub.as_mut());
    // Of an epoch that is over, though rightly signed; of one that the commits were not followed to; of another branch.
    let stale = rejoin(&mut people[0], followed.as_ref(), &bad.info);
    assert!(matches!(stale, Err(EngineError::Untrusted)), "{stale:?}");
    followed.follow(&bad.commit).unwrap();
    for info in [&first.info, &lost.info] {
        assert!(matches!(rejoin(&mut people[0], followed.as_ref(), info), Err(EngineError::Untrusted)));
        assert!(followed.offered(info).is_err() && hub.offered(info).is_err());
    }
    assert!(before.offered(&bad.info).is_err());
    for at in (0..bad.info.len()).step_by(1 + bad.info.len() / 200) {
        let mut damaged = bad.info.clone();
        damaged[at] ^= 1;
        assert!(rejoin(&mut people[0], followed.as_ref(), &damaged).is_err(), "bit at {at}");
        assert!(rejoin(&mut people[0], followed.as_ref(), &bad.info[..at]).is_err(), "cut at {at}");
    }
    // Where it was, and able to go on.
    assert_eq!(people[0].epoch(), 2);
    let late = people[1].seal("here");
    assert_eq!(people[0].open(&late.body).unwrap().content, b"here");
    rejoin(&mut people[0], followed.as_ref(), &bad.info).unwrap();
    // Another won: it is made anew on that.
    people[0].call(|engine, cx, own| engine.discard_own(cx, own, THREAD)).unwrap();
    let won = people[2].update();
    people[2].merge_own().unwrap();
    followed.follow(&won.commit).unwrap();
    assert!(rejoin(&mut people[0], followed.as_ref(), &bad.info).is_err());
    rejoin(&mut people[0], followed.as_ref(), &won.info).unwrap();
    people[0].merge_own().unwrap();
    let sealed = people[0].seal("back");
    assert!(matches!(people[1].open(&sealed.body), Err(EngineError::WrongEpoch { .. })));
}

fn t34_a_hub_takes_no_commit_without_the_groupinfo_that_goes_with_it(
    make: fn() -> Box<dyn Engine>,
    hubs: &dyn PublicEngine,
) {
    let (mut people, mut hub) = four(make, hubs);
    let (one, other) = (people[0].update(), people[1].update());
    assert!(hub.offered_next(&one.info).is_err(), "none was proved");
    hub.prove(&one.commit).unwrap();
    hub.offered_next(&one.info).unwrap();
    assert!(hub.offered_next(&other.info).is_err());
    assert!(hub.offered_next(&[]).is_err() && hub.offered_next(&one.commit).is_err());
    public::holds(&mut people[..1], 0, hub.as_mut(), &one.commit);
    assert!(hub.offered_next(&one.info).is_err(), "that one is followed");
    hub.offered(&one.info).unwrap();
}

on_each_hub!(
    t34_whoever_cannot_apply_a_commit_goes_on_from_without_and_the_thread_changes_on,
    t07_a_groupinfo_that_the_commits_do_not_lead_to_is_refused_and_leaves_no_trace,
    t34_a_hub_takes_no_commit_without_the_groupinfo_that_goes_with_it,
);

#[test]
fn t34_who_comes_from_without_for_another_device_is_refused_by_the_hub_and_by_members() {
    let make: fn() -> Box<dyn Engine> = || Box::new(crate::MlsEngine::new());
    let (mut people, mut hub) = four(make, &crate::MlsPublic::new());
    let last = people[1].update();
    public::holds(&mut people, 1, hub.as_mut(), &last.commit);
    let stranger = Person::new(9, make);
    let (alice, carol) = (people[0].id, people[2].id);
    let forged = |id, device: &KeyPair, hub: &dyn PublicGroup| {
        crate::mls::forged::from_without(&Own { id, device }, THREAD, hub, &last.info)
    };
    let bad = [
        // Who has no leaf; under a member's name, with another key; under another's name, in the place of its own leaf.
        forged(stranger.id, &stranger.device, hub.as_ref()),
        forged(alice, &stranger.device, hub.as_ref()),
        forged(alice, &people[2].device, hub.as_ref()),
    ];
    for (number, commit) in bad.iter().enumerate() {
        assert!(matches!(hub.prove(&commit.commit), Err(EngineError::Untrusted)), "{number}");
        for member in [0, 1, 3] {
            assert!(people[member].apply(&commit.commit).is_err(), "{number} at {member}");
        }
    }
    let good = forged(carol, &people[2].device, hub.as_ref());
    assert!(hub.prove(&good.commit).unwrap().rejoins);
    let by = people[0].call(|engine, cx, own| engine.apply(cx, own, THREAD, &good.commit)).unwrap();
    assert_eq!(by.committer, carol);
}

#[test]
fn t34_a_commit_with_another_confirmation_tag_is_followed_in_public_and_rejoined_after() {
    let make: fn() -> Box<dyn Engine> = || Box::new(crate::MlsEngine::new());
    let (mut people, mut hub) = four(make, &crate::MlsPublic::new());
    let genuine = people[2].update();
    let carol = Own { id: people[2].id, device: &people[2].device };
    let (commit, info) = crate::mls::forged::retagged(&carol, &genuine);
    hub.prove(&commit).unwrap();
    assert!(matches!(hub.offered_next(&genuine.info), Err(EngineError::Untrusted)), "of another tag");
    hub.offered_next(&info).unwrap();
    hub.follow(&commit).unwrap();
    assert!(matches!(people[0].apply(&commit), Err(EngineError::BadSignature)));
    let mut followed = public(&mut people[0]);
    followed.follow(&commit).unwrap();
    assert!(rejoin(&mut people[0], followed.as_ref(), &genuine.info).is_err());
    let back = rejoin(&mut people[0], followed.as_ref(), &info).unwrap();
    assert!(hub.prove(&back.commit).unwrap().rejoins);
    hub.offered_next(&back.info).unwrap();
    hub.follow(&back.commit).unwrap();
    people[0].merge_own().unwrap();
    followed = public(&mut people[1]);
    [&commit, &back.commit].iter().for_each(|commit| followed.follow(commit).unwrap());
    let next = rejoin(&mut people[1], followed.as_ref(), &back.info).unwrap();
    people[1].merge_own().unwrap();
    people[0].apply(&next.commit).unwrap();
    let sealed = people[1].seal("again");
    assert_eq!(people[0].open(&sealed.body).unwrap().content, b"again");
}
