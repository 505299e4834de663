//! What a relay does for an account and the people it knows.

use whimbrel_crypto::{Chance, KeyPair, Seed, TransportProof, signed};
use whimbrel_protocol::canonical;
use whimbrel_protocol::friendship::{
    Act, Befriend, Block, Decline, FRIENDSHIP_CONTEXT, Friend, FriendshipWord, LetSee, ListFriends, PeerBefriend,
    Standing,
};
use whimbrel_protocol::id::{AccountId, Address};
use whimbrel_protocol::presence::{Goodbye, PeerPresence, SetVisible, Shown, Status};
use whimbrel_protocol::reception::Hello;
use whimbrel_protocol::signed::Signed;
use whimbrel_protocol::user::{
    CARD_CONTEXT, Card, DeleteAccount, ExportOwn, ExtendLog, FetchProfile, ListInvites, RevokeInvite, SetProfile,
};

use super::*;
use crate::rate::{Rate, Rates};
use crate::store::command::people::NewRegistration;
use crate::store::command::{Here, LogBounds, OpenThread as Open, Origin};
use crate::store::{LogId, Store};

impl World {
    pub(super) fn word_of(&self, who: usize, at: usize, to: AccountId, act: Act) -> Signed {
        let device = &self.devices[who];
        let address = Address { name: device.name.parse().unwrap(), domain: domain(at) };
        let note = (act == Act::Request).then(|| "hello".to_owned());
        let word = FriendshipWord { by: device.id(), address, to, act, at: self.now.wall, note };
        signed::sign(&device.key, device.id(), FRIENDSHIP_CONTEXT, canonical::encode(&word))
    }

    /// One says to the other, each at home at the relay of that number.
    pub(super) fn tell(&mut self, (who, at): (usize, usize), act: Act, (to, there): (usize, usize)) -> Vec<Frame> {
        let word = self.word_of(who, at, self.devices[to].id().account, act);
        let request = self.request();
        self.ask(who, Befriend { request, domain: domain(there), word })
    }

    pub(super) fn make_friends(&mut self, one: (usize, usize), two: (usize, usize)) {
        assert!(matches!(self.tell(one, Act::Request, two)[..], [Frame::Done(_)]));
        assert!(matches!(self.tell(two, Act::Accept, one)[..], [Frame::Done(_)]));
    }

    pub(super) fn friends_of(&mut self, who: usize) -> Vec<Friend> {
        let request = self.request();
        let heard = self.ask(who, ListFriends { request, after: None, limit: 50 });
        let [Frame::FriendPage(page)] = &heard[..] else { panic!("{heard:?}") };
        page.friends.clone()
    }

    /// What a heartbeat brings.
    fn beat(&mut self, who: usize) -> Vec<(AccountId, bool)> {
        let heard = self.ask(who, Heartbeat::default());
        let answer = heard.iter().find_map(|frame| match frame {
            Frame::HeartbeatAnswer(answer) => Some(answer.statuses.clone()),
            _ => None,
        });
        answer.expect("an answer").into_iter().map(|status| (status.account, status.online)).collect()
    }

    pub(super) fn account(&self, who: usize) -> AccountId {
        self.devices[who].id().account
    }

    /// Drives a call of the store to its end.
    pub(super) fn store<T: Send + 'static, F>(&mut self, at: usize, call: impl FnOnce(Arc<Relay<Kit>>) -> F) -> T
    where
        F: Future<Output = T> + Send + 'static,
    {
        let got = Arc::new(Mutex::new(None));
        let (call, into) = (call(self.relay(at)), Arc::clone(&got));
        self.spawn(at, |_| async move {
            *into.lock().unwrap() = Some(call.await);
        });
        self.run();
        got.lock().unwrap().take().unwrap()
    }
}

fn one() -> (World, usize, usize) {
    let mut world = World::new(1);
    let (alice, bob) = (world.join("alice", 0), world.join("bob", 0));
    (world, alice, bob)
}

/// A request, its acceptance, a thread without an invite, and the end of it.
fn become_friends(alice_at: usize, bob_at: usize) {
    let mut world = World::new(2);
    let (alice, bob) = ((world.join("alice", alice_at), alice_at), (world.join("bob", bob_at), bob_at));
    assert_eq!(refusal(&world.claim(alice.0, bob.0, bob_at, None)), Some(RefusalCode::NoConsent));
    world.devices[bob.0].inbox.clear();
    assert!(matches!(world.tell(alice, Act::Request, bob)[..], [Frame::Done(_)]));
    let inbox = std::mem::take(&mut world.devices[bob.0].inbox);
    let told = entries(&inbox, LogRef::Inbox, Sequence::ZERO);
    let EntryBody::Friendship(word) = &told[0].body else { panic!("{told:?}") };
    signed::verify_in(&world.devices[alice.0].log, FRIENDSHIP_CONTEXT, word).unwrap();
    let listed = world.friends_of(bob.0);
    assert_eq!((listed[0].standing, listed[0].word.as_ref()), (Standing::Asking, Some(word)));
    assert_eq!(world.friends_of(alice.0)[0].standing, Standing::Asked);
    assert_eq!(
        refusal(&world.claim(bob.0, alice.0, alice_at, None)),
        Some(RefusalCode::NoConsent),
        "asked, not agreed"
    );

    assert!(matches!(world.tell(bob, Act::Accept, alice)[..], [Frame::Done(_)]));
    for (who, other, at) in [(alice.0, bob.0, bob_at), (bob.0, alice.0, alice_at)] {
        assert_eq!(world.friends_of(who)[0].standing, Standing::Friends);
        assert!(matches!(world.claim(who, other, at, None)[..], [Frame::ClaimedKeyPackages(_)]));
    }
    let open = world.open_frame(&[(alice.0, alice_at), (bob.0, bob_at)]);
    assert!(matches!(world.ask(bob.0, open)[0], Frame::Stored(_)));
    let submit = world.submit(alice.0, b"friend");
    assert!(matches!(world.ask(alice.0, submit)[0], Frame::Stored(_)));

    assert!(matches!(world.tell(alice, Act::Remove, bob)[..], [Frame::Parted(_)]));
    assert_eq!((world.friends_of(alice.0), world.friends_of(bob.0)), (vec![], vec![]));
    assert_eq!(refusal(&world.claim(bob.0, alice.0, alice_at, None)), Some(RefusalCode::NoConsent));
}

#[test]
fn friends_are_made_and_parted_on_one_relay() {
    become_friends(0, 0);
}

#[test]
fn friends_are_made_and_parted_across_two_relays() {
    become_friends(0, 1);
}

#[test]
fn a_word_is_its_authors_own_or_refused() {
    let (mut world, alice, bob) = one();
    let (to, request) = (world.account(bob), RequestId::new(1));
    let ask = |world: &mut World, word| refusal(&world.ask(alice, Befriend { request, domain: domain(0), word }));
    let good = world.word_of(alice, 0, to, Act::Request);
    let mut changed = good.clone();
    changed.content[20] ^= 1;
    let another = world.word_of(bob, 0, to, Act::Request);
    let elsewhere = world.word_of(alice, 1, to, Act::Request);
    world.devices[alice].name = "bob".to_owned();
    let named = world.word_of(alice, 0, to, Act::Request);
    for word in [changed, another, elsewhere, named] {
        let code = ask(&mut world, word).unwrap();
        assert!(matches!(code, RefusalCode::NotAuthenticated | RefusalCode::Malformed), "{code}");
    }
    assert_eq!(world.friends_of(bob), []);
    assert_eq!(ask(&mut world, good), None);
}

#[test]
fn t19_a_peer_passes_on_words_of_its_own_users_only() {
    let mut world = World::new(2);
    let (alice, bob) = (world.join("alice", 0), world.join("bob", 1));
    let link = world.come_in_as_relay(0, relay_id(1), domain(1));
    world.hand(0, link, &hello(1, 0, None).into());
    world.run();
    world.heard.clear();
    // Bob's relay speaks as somebody of a third one, and as Alice's own neighbour.
    for at in [2, 0] {
        let word = world.word_of(bob, at, world.account(alice), Act::Request);
        world.hand(0, link, &PeerBefriend { request: RequestId::new(1), word }.into());
        world.run();
        assert_eq!(refusal(&std::mem::take(&mut world.heard)), Some(RefusalCode::PeerUntrusted));
    }
    assert_eq!(world.friends_of(alice), []);
}

#[test]
fn t29_a_target_has_a_bounded_number_of_requests_and_declines_them_at_once() {
    let mut world = World::new(1);
    let target = world.join("target", 0);
    for n in 0..limits::FRIENDS_ASKING_MAX + 10 {
        let stranger = world.join(&format!("s{n}"), 0);
        let told = world.tell((stranger, 0), Act::Request, (target, 0));
        assert!(matches!(told[..], [Frame::Done(_)]), "whether there was room is not told: {told:?}");
    }
    assert_eq!(world.friends_of(target).len(), limits::FRIENDS_ASKING_MAX);
    let request = world.request();
    assert!(matches!(world.ask(target, Decline { request, account: None })[..], [Frame::Done(_)]));
    assert_eq!(world.friends_of(target), []);
    // One stranger alone soon has had a day's share.
    let stranger = world.join("persistent", 0);
    let mut codes = Vec::new();
    for n in 0..=limits::FRIEND_REQUESTS_PER_DAY {
        let to = AccountId::from_bytes([n as u8 + 100; 32]);
        let word = world.word_of(stranger, 0, to, Act::Request);
        let request = world.request();
        codes.push(refusal(&world.ask(stranger, Befriend { request, domain: domain(0), word })));
    }
    assert_eq!(codes.pop(), Some(Some(RefusalCode::TooFast)));
    assert!(codes.iter().all(Option::is_none), "unknown people look like any: {codes:?}");
}

#[test]
fn t33_whoever_is_blocked_is_out_at_once() {
    let (mut world, alice, bob) = friends(0, 0);
    assert_eq!(
        (world.beat(alice), world.beat(bob)),
        (vec![(world.account(bob), true)], vec![(world.account(alice), true)])
    );
    let (request, account) = (world.request(), world.account(bob));
    let block = Block { request, account, domain: domain(0), blocked: true };
    assert!(matches!(world.ask(alice, block)[..], [Frame::Parted(_)]));
    let submit = world.submit(bob, b"still there?");
    assert_eq!(refusal(&world.ask(bob, submit)), Some(RefusalCode::NoConsent));
    assert_eq!(refusal(&world.claim(bob, alice, 0, Some(TOKEN))), Some(RefusalCode::NoConsent));
    assert_eq!(world.beat(bob), [(world.account(alice), false)], "within one heartbeat");
    assert_eq!(world.beat(alice), [(world.account(bob), false)]);
    let again = world.tell((bob, 0), Act::Request, (alice, 0));
    assert!(matches!(again[..], [Frame::Refused(_) | Frame::Done(_)]));
    assert_eq!(world.friends_of(alice)[0].standing, Standing::Blocked);
}

#[test]
fn friends_see_each_other_come_and_go() {
    let (mut world, alice, bob) = one();
    assert_eq!((world.beat(alice), world.beat(bob)), (vec![], vec![]), "strangers");
    world.make_friends((alice, 0), (bob, 0));
    let (a, b) = (world.account(alice), world.account(bob));
    assert_eq!((world.beat(alice), world.beat(bob)), (vec![(b, true)], vec![(a, true)]));
    assert_eq!((world.beat(alice), world.beat(bob)), (vec![], vec![]), "only what changed");
    assert!(world.ask(bob, Goodbye {}).is_empty());
    assert_eq!(world.beat(alice), [(b, false)]);
    world.leave(bob);
    world.come_back(bob, 0);
    assert_eq!((world.beat(alice), world.beat(bob)), (vec![(b, true)], vec![(a, true)]));
    // Gone without a word: offline a minute after it was last heard.
    world.leave(bob);
    for _ in 0..5 {
        world.pass(limits::HEARTBEAT_EVERY);
        assert_eq!(world.beat(alice), []);
    }
    world.pass(limits::HEARTBEAT_EVERY);
    assert_eq!(world.beat(alice), [(b, false)]);
}

#[test]
fn t30_offline_invisible_not_let_see_blocked_and_unknown_are_one() {
    let mut world = World::new(1);
    let watcher = world.join("watcher", 0);
    let names = ["offline", "invisible", "unseen", "blocker"];
    let people: Vec<usize> = names.iter().map(|name| world.join(name, 0)).collect();
    for who in &people {
        world.make_friends((watcher, 0), (*who, 0));
    }
    assert_eq!(world.beat(watcher).len(), 4);
    let (request, account) = (world.request(), world.account(watcher));
    assert!(world.ask(people[0], Goodbye {}).is_empty());
    world.leave(people[0]);
    world.ask(people[1], SetVisible { request, visible: false });
    world.ask(people[2], LetSee { request, account, allowed: false });
    world.ask(people[3], Block { request, account, domain: domain(0), blocked: true });
    let told = world.beat(watcher);
    assert_eq!(told.iter().map(|(_, online)| *online).collect::<Vec<_>>(), [false; 4]);
    assert_eq!(world.beat(watcher), []);
    // A new look from the beginning is the same for all, and as if they had never been.
    world.leave(watcher);
    world.come_back(watcher, 0);
    assert_eq!(world.beat(watcher), []);
    // Claims and invitations to threads: the same refusal for those who keep away and those who do not exist.
    let blocked = world.claim(watcher, people[3], 0, None);
    let nobody = world.person("nobody");
    let unknown = world.claim(watcher, nobody, 0, None);
    assert_eq!((refusal(&blocked), refusal(&unknown)), (Some(RefusalCode::NoConsent), Some(RefusalCode::NoConsent)));
    let words = |world: &mut World, to| world.tell((watcher, 0), Act::Request, (to, 0)).len();
    assert_eq!(words(&mut world, people[3]), words(&mut world, nobody));
    // Invisible stays invisible after the relay has been gone.
    world.crash(0, true);
    world.start(0);
    for who in [watcher, people[1], people[2]] {
        world.come_back(who, 0);
    }
    assert_eq!(world.beat(watcher), []);
    let heard = world.ask(people[1], SetVisible { request, visible: true });
    assert!(matches!(heard[..], [Frame::Done(_)]));
    assert_eq!(world.beat(watcher), [(world.account(people[1]), true)]);
}

#[test]
fn t30_a_list_of_requests_that_is_full_answers_as_one_that_keeps_away_and_as_nobody_here_and_across_relays() {
    let mut world = World::new(2);
    let (full, blocker, free) = (world.join("full", 0), world.join("blocker", 0), world.join("free", 0));
    let nobody = world.person("nobody");
    for n in 0..limits::FRIENDS_ASKING_MAX {
        let puppet = world.join(&format!("s{n}"), 0);
        world.tell((puppet, 0), Act::Request, (full, 0));
    }
    let before = world.friends_of(full);
    assert_eq!(before.len(), limits::FRIENDS_ASKING_MAX);
    for site in [0, 1] {
        let watcher = world.join(&format!("watcher{site}"), site);
        let (request, account) = (world.request(), world.account(watcher));
        let block = Block { request, account, domain: domain(site), blocked: true };
        assert!(matches!(world.ask(blocker, block)[..], [Frame::Parted(_)]));
        for act in [Act::Request, Act::Remove, Act::Request] {
            let mut answers = Vec::new();
            for to in [free, full, blocker, nobody] {
                let word = world.word_of(watcher, site, world.account(to), act);
                let befriend = Befriend { request: RequestId::new(7), domain: domain(0), word };
                answers.push(world.ask(watcher, befriend));
            }
            assert!(!answers[0].is_empty() && answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
        }
        let own = world.friends_of(watcher);
        assert!(own.len() == 4 && own.iter().all(|friend| friend.standing == Standing::Asked), "{own:?}");
        assert_eq!(world.friends_of(full), before);
        // What a peer itself is answered, which passes it on.
        let link = world.come_in_as_relay(0, relay_id(1), domain(1));
        world.hand(0, link, &hello(1, 0, None).into());
        world.run();
        let answers = [full, blocker, nobody].map(|to| {
            let word = world.word_of(watcher, 1, world.account(to), Act::Request);
            world.heard.clear();
            world.hand(0, link, &PeerBefriend { request: RequestId::new(1), word }.into());
            world.run();
            std::mem::take(&mut world.heard)
        });
        assert!(answers.iter().all(|heard| matches!(heard[..], [Frame::Done(_)])), "{answers:?}");
    }
    // Whoever was not put down is so once there is room and they ask again.
    let request = world.request();
    world.ask(full, Decline { request, account: None });
    let watcher = world.join("patient", 1);
    for _ in 0..2 {
        assert!(matches!(world.tell((watcher, 1), Act::Request, (full, 0))[..], [Frame::Done(_)]));
    }
    assert_eq!(world.friends_of(full).len(), 1);
}

#[test]
fn friends_at_two_relays_see_each_other_and_nobody_elses() {
    let mut world = World::new(2);
    let (alice, bob, eve) = (world.join("alice", 0), world.join("bob", 1), world.join("eve", 1));
    world.make_friends((alice, 0), (bob, 1));
    for _ in 0..3 {
        world.pass(limits::HEARTBEAT_EVERY);
        let all = (world.beat(alice), world.beat(bob), world.beat(eve));
        assert_eq!(all.2, []);
        if !all.0.is_empty() {
            assert_eq!((all.0, all.1), (vec![(world.account(bob), true)], vec![(world.account(alice), true)]));
        }
    }
    world.ask(bob, Goodbye {});
    world.pass(limits::HEARTBEAT_EVERY);
    assert_eq!(world.beat(alice), [(world.account(bob), false)]);
    // A relay that says of our own user, or of a stranger, what it likes, is not heard.
    let link = world.come_in_as_relay(0, relay_id(1), domain(1));
    world.hand(0, link, &hello(1, 0, None).into());
    world.run();
    let says = |account| Shown { status: Status { account, online: true }, to: vec![world.account(alice)] };
    let changes = vec![says(world.account(eve)), says(world.account(alice))];
    world.hand(0, link, &PeerPresence { fresh: false, changes }.into());
    world.run();
    assert_eq!(world.beat(alice), []);
}

#[test]
fn a_card_is_its_owners_and_for_friends() {
    let mut world = World::new(2);
    let (alice, bob, eve) = (world.join("alice", 0), world.join("bob", 1), world.join("eve", 0));
    let card = |world: &World, revision, signer: usize| {
        let card = Card { account: world.account(alice), revision, display: "Alice".to_owned(), about: None };
        let device = &world.devices[signer];
        signed::sign(&device.key, device.id(), CARD_CONTEXT, canonical::encode(&card))
    };
    let set = |world: &mut World, revision, card| {
        let request = world.request();
        refusal(&world.ask(alice, SetProfile { request, revision, card }))
    };
    let good = card(&world, 2, alice);
    let forged = card(&world, 2, bob);
    assert_eq!(set(&mut world, 2, forged), Some(RefusalCode::NotAuthenticated));
    assert_eq!(set(&mut world, 3, good.clone()), Some(RefusalCode::NotAuthenticated), "it says another revision");
    assert_eq!(set(&mut world, 2, good.clone()), None);
    let older = card(&world, 1, alice);
    assert_eq!(set(&mut world, 1, older), Some(RefusalCode::Exists));
    let fetch = |world: &mut World, who| {
        let (request, account) = (world.request(), world.account(alice));
        world.ask(who, FetchProfile { request, account, domain: domain(0) })
    };
    for who in [bob, eve] {
        assert_eq!(refusal(&fetch(&mut world, who)), Some(RefusalCode::NotFound));
    }
    world.make_friends((alice, 0), (bob, 1));
    for who in [bob, alice] {
        let heard = fetch(&mut world, who);
        assert!(matches!(&heard[..], [Frame::Profile(profile)] if profile.card == good), "{heard:?}");
    }
}

#[test]
fn an_invitation_lets_in_whoever_has_it() {
    let mut config = Config::new(domain(0), relay_id(0));
    config.registration = Registration::Invite;
    let mut world = World::with(vec![config]);
    let at = world.now.wall;
    let new = NewRegistration { token: TOKEN.hash(), uses: 1, expires: Wall::from_millis(u64::MAX), at };
    world
        .store(0, |relay| async move { relay.ports().store().commit(Command::NewRegistration(new)).await.is_ok() })
        .then_some(())
        .unwrap();
    let enter = |world: &mut World, name: &str, invite| {
        let who = world.person(name);
        let link = world.link(who, 0);
        let mut register = world.register_frame(who, link);
        register.invite = invite;
        refusal(&world.ask(who, register))
    };
    assert_eq!(enter(&mut world, "alice", None), Some(RefusalCode::RegistrationClosed));
    assert_eq!(enter(&mut world, "bob", Some(InviteToken::from_bytes([6; 16]))), Some(RefusalCode::RegistrationClosed));
    assert_eq!(enter(&mut world, "carol", Some(TOKEN)), None);
    assert_eq!(enter(&mut world, "dan", Some(TOKEN)), Some(RefusalCode::RegistrationClosed));
}

#[test]
fn invites_are_listed_and_revoked_by_their_owner() {
    let (mut world, alice, bob) = one();
    world.invite(alice);
    let request = world.request();
    let heard = world.ask(alice, ListInvites { request });
    assert!(matches!(&heard[..], [Frame::InvitePage(page)] if page.invites[0].token == TOKEN.hash()), "{heard:?}");
    assert_eq!(refusal(&world.ask(bob, RevokeInvite { request, token: TOKEN.hash() })), Some(RefusalCode::NotFound));
    assert!(matches!(world.ask(alice, RevokeInvite { request, token: TOKEN.hash() })[..], [Frame::Done(_)]));
    assert_eq!(refusal(&world.claim(bob, alice, 0, Some(TOKEN))), Some(RefusalCode::NoConsent));
}

#[test]
fn t66_an_account_over_its_rate_is_told_when_to_come_back_and_others_are_not_slowed() {
    let mut config = Config::new(domain(0), relay_id(0));
    config.rates = Rates { messages: Rate::new(60, 2), arrivals: Rate::new(60, 4), ..config.rates };
    config.rates.requests = Rate::new(60, 4);
    let mut world = World::with(vec![config]);
    let (alice, bob) = (world.join("alice", 0), world.join("bob", 0));
    world.befriend((alice, 0), (bob, 0));
    let say = |world: &mut World, who, n: u8, heard| {
        let submit = Submit { heard, ..world.submit(who, &[n]) };
        let request = submit.request;
        let refused = world.ask(who, submit).into_iter().find_map(|frame| match frame {
            Frame::Refused(refused) => Some((refused.code, refused.retry_after_ms)),
            _ => None,
        });
        refused.map(|(code, after)| (code, after, request))
    };
    assert_eq!([say(&mut world, bob, 1, None), say(&mut world, bob, 2, None)], [None, None]);
    let Some((RefusalCode::TooFast, Some(1_000), third)) = say(&mut world, bob, 3, None) else { panic!("not refused") };
    assert_eq!(say(&mut world, alice, 4, None), None);
    world.pass(Duration::from_secs(1));
    // There is room now, but this was under way before they had heard that the third must wait.
    let fourth = say(&mut world, bob, 5, None);
    let Some((RefusalCode::TooFast, Some(1_000), fourth)) = fourth else { panic!("it overtakes: {fourth:?}") };
    assert!(say(&mut world, bob, 3, Some(third)).is_some(), "it has heard of the first refusal only");
    let Some((.., newest)) = say(&mut world, bob, 3, Some(fourth)) else { panic!("nor of the third") };
    assert_eq!(say(&mut world, bob, 3, Some(newest)), None);
    let mut requests = Vec::new();
    for _ in 0..6 {
        requests.push(refusal(&world.look_up(bob, Who::Address("alice@a.example".parse().unwrap()), None)));
    }
    assert_eq!(requests.last(), Some(&Some(RefusalCode::TooFast)));
    // The address is at its end too: two came in, each over one link, and then some.
    for _ in 0..4 {
        world.link(alice, 0);
        world.run();
    }
    assert_eq!(refusal(&world.devices[alice].inbox), Some(RefusalCode::TooFast));
}

#[test]
fn a_claimer_gets_a_bounded_number_of_packages_in_an_hour() {
    let (mut world, alice, bob) = friends(0, 0);
    let mut claims = Vec::new();
    // They met by a claim, the first of ten.
    for _ in 0..11 {
        claims.push(refusal(&world.claim(bob, alice, 0, None)));
    }
    assert_eq!(claims[..9], [None; 9]);
    assert_eq!(claims[9..], [Some(RefusalCode::TooFast); 2]);
}

#[test]
fn a_device_is_sent_to_the_push_address_its_account_belongs_to() {
    let push: Vec<String> = (0..3).map(|n| format!("push{n}.a.example:4433")).collect();
    let mut config = Config::new(domain(0), relay_id(0));
    config.push = push.clone();
    let mut world = World::with(vec![config]);
    let mut sent = BTreeMap::new();
    for n in 0..40 {
        let who = world.person(&format!("p{n}"));
        let chosen = crate::reception::push_address(&push, world.account(who)).unwrap().to_owned();
        let served = |frame: &Frame| matches!(frame, Frame::Admitted(admitted) if admitted.push_address.is_none());
        for (door, address) in (0..).zip(&push) {
            world.door = Some(door);
            let link = world.link(who, 0);
            if door == 0 {
                let register = world.register_frame(who, link);
                world.ask(who, register);
            }
            let hello = world.hello_frame(who, link);
            let heard = world.ask(who, hello);
            let Some(Frame::Admitted(admitted)) = heard.first() else { panic!("{heard:?}") };
            assert_eq!(admitted.push_address.clone().unwrap_or_else(|| address.clone()), chosen);
            assert_eq!(admitted.push_address.is_none(), heard.len() > 1, "served here, or not at all");
        }
        *sent.entry(chosen.clone()).or_insert(0) += 1;
        // Without one address, those of the others stay where they are.
        let left: Vec<String> = push.iter().filter(|address| **address != push[2]).cloned().collect();
        let then = crate::reception::push_address(&left, world.account(who)).unwrap();
        assert!(chosen == push[2] || then == chosen);
        // Whoever was sent there and was not served is served where it comes in.
        world.door = (0..).zip(&push).find(|(_, address)| **address != chosen).map(|(door, _)| door);
        let link = world.link(who, 0);
        let hello = Hello { stays: true, ..world.hello_frame(who, link) };
        let heard = world.ask(who, hello);
        assert!(heard.iter().any(served), "{heard:?}");
        // Where nobody is sent, whoever comes in is served.
        world.door = None;
        let link = world.link(who, 0);
        let hello = world.hello_frame(who, link);
        let heard = world.ask(who, hello);
        assert!(heard.iter().any(served), "{heard:?}");
    }
    assert_eq!(sent.len(), 3, "{sent:?}");
    assert!(sent.values().all(|count| *count >= 5), "{sent:?}");
}

#[test]
fn one_message_to_five_hundred_is_one_append_and_a_push_for_each_who_is_there() {
    let mut world = World::new(1);
    let everybody: Vec<usize> = (0..500).map(|n| world.join(&format!("m{n}"), 0)).collect();
    let creator = everybody[0];
    let participants: Vec<Participant> = {
        let of = |who: &usize| {
            let DeviceId { account, index } = world.devices[*who].id();
            Participant { account, domain: domain(0), devices: vec![index] }
        };
        let mut participants: Vec<Participant> = everybody.iter().map(of).collect();
        participants.sort_by_key(|participant| participant.account);
        participants
    };
    let opening = Opening {
        thread: THREAD,
        epoch: Epoch::new(1),
        participants,
        welcome: vec![3; 100],
        tree: vec![4; 100],
        founding: None,
    };
    let here =
        Here { local: domain(0), log: LogId::from_bytes([9; 16]), at: world.now.wall, bounds: LogBounds::default() };
    let tag = Some(ParticipantsTag::from_bytes([9; 32]));
    let (by, at) = (world.devices[creator].id(), world.now.wall);
    let mut commands: Vec<Command> = everybody[1..]
        .iter()
        .map(|who| {
            let give = crate::store::command::GiveConsent {
                owner: world.account(*who),
                other: by.account,
                domain: domain(0),
                at,
            };
            Command::GiveConsent(give)
        })
        .collect();
    commands.push(Command::OpenThread(Box::new(Open::new(opening, by, Origin::Local, tag, here, None))));
    let outcomes = world.store(0, |relay| async move { relay.ports().store().commit_all(commands).await.unwrap() });
    assert!(outcomes.iter().all(Result::is_ok));

    for who in &everybody[10..] {
        world.leave(*who);
    }
    for who in &everybody[..10] {
        world.leave(*who);
        world.come_back(*who, 0);
    }
    let submit = world.submit(creator, b"to all");
    for who in &everybody[..10] {
        world.devices[*who].inbox.clear();
    }
    let counted = world.sites[0].running.as_ref().unwrap().disk.commands();
    world.say(creator, submit);
    world.run();
    let appended = world.sites[0].running.as_ref().unwrap().disk.commands() - counted;
    let pushed = |who: &usize| world.devices[*who].inbox.iter().filter(|frame| matches!(frame, Frame::Push(_))).count();
    assert_eq!((appended, everybody.iter().map(pushed).sum::<usize>()), (1, 10));
    // Whoever leaves is not pushed to, from the next message on.
    world.leave(everybody[9]);
    let submit = world.submit(creator, b"to nine");
    for who in &everybody[..10] {
        world.devices[*who].inbox.clear();
    }
    world.say(creator, submit);
    world.run();
    let pushed = |who: &usize| world.devices[*who].inbox.iter().filter(|frame| matches!(frame, Frame::Push(_))).count();
    assert_eq!(everybody.iter().map(pushed).sum::<usize>(), 9);
}

#[test]
fn what_nobody_fetched_in_a_month_goes_and_its_author_hears() {
    let (mut world, alice, bob) = friends(0, 0);
    world.leave(alice);
    let submit = world.submit(bob, b"never read");
    world.ask(bob, submit);
    world.acknowledge(bob, LOG, 1);
    world.pass(Duration::from_secs(2));
    world.leave(bob);
    world.pass(limits::HOLD_AGE_MAX.saturating_sub(Duration::from_secs(3_600)));
    assert_eq!(world.store(0, |relay| async move { waiting(&relay).await }), 1, "not yet");
    world.pass(Duration::from_secs(2 * 3_600));
    assert_eq!(world.store(0, |relay| async move { waiting(&relay).await }), 0);
    let heard = world.come_back(bob, 0);
    let notices = entries(&heard, LogRef::Inbox, Sequence::ZERO);
    let expired = notices.iter().any(
        |entry| matches!(&entry.body, EntryBody::Undelivered(words) if words.code == RefusalCode::Expired && words.envelopes.len() == 1),
    );
    assert!(expired, "{notices:?}");
}

/// Entries of the thread's log.
pub(super) async fn waiting(relay: &Relay<Kit>) -> usize {
    let store = relay.ports().store();
    let (stale, _) = store.stale_logs(Wall::from_millis(u64::MAX), None, 99).await.unwrap();
    let mut entries = 0;
    for log in stale {
        let page = store.log_page(log, Sequence::ZERO, 99, usize::MAX).await.unwrap();
        entries += page.entries.iter().filter(|entry| matches!(entry.body, EntryBody::Envelope(..))).count();
    }
    entries
}

#[test]
fn a_clock_that_jumps_empties_nothing() {
    let (mut world, alice, bob) = friends(0, 0);
    world.leave(alice);
    let submit = world.submit(bob, b"keep me");
    world.ask(bob, submit);
    world.pass(Duration::from_secs(3_600));
    world.now.wall = Wall::from_millis(world.now.wall.as_millis() + 365 * 24 * 3_600 * 1_000);
    world.pass(Duration::from_secs(23 * 3_600));
    assert_eq!(world.store(0, |relay| async move { waiting(&relay).await }), 1);
}

#[test]
fn an_account_is_given_out_and_ends() {
    let (mut world, alice, bob) = friends(0, 0);
    let (mut after, mut kinds) = (Vec::new(), std::collections::BTreeSet::new());
    loop {
        let request = world.request();
        let heard = world.ask(alice, ExportOwn { request, after: after.clone() });
        let [Frame::Exported(part)] = &heard[..] else { panic!("{heard:?}") };
        kinds.extend(part.rows.iter().map(|row| row.kind.clone()));
        match &part.next {
            Some(next) => after = next.to_vec(),
            None => break,
        }
    }
    assert!(kinds.contains("accounts") && kinds.contains("friends") && kinds.contains("entries"), "{kinds:?}");
    let request = world.request();
    let account = world.account(bob);
    assert_eq!(refusal(&world.ask(alice, DeleteAccount { request, account })), Some(RefusalCode::Malformed));
    let account = world.account(alice);
    assert!(matches!(world.ask(alice, DeleteAccount { request, account })[..], [Frame::Done(_)]));
    assert_eq!(world.devices[alice].link, None, "its links end with it");
    world.pass(Duration::from_secs(1));
    assert_eq!(refusal(&world.come_back(alice, 0)), Some(RefusalCode::NotAuthenticated));
    assert_eq!(refusal(&world.look_up(bob, Who::Account(account, domain(0)), None)), Some(RefusalCode::NotFound));
    assert_eq!(world.friends_of(bob), []);
}

#[test]
fn t55_a_crowd_that_returns_is_let_in_at_the_rate_and_told_of_each_other_by_heartbeats_alone() {
    const CROWD: usize = 60;
    let mut config = Config::new(domain(0), relay_id(0));
    config.rates = Rates { arrivals: Rate::new(600, 1_000), ..config.rates };
    let mut world = World::with(vec![config]);
    let crowd: Vec<usize> = (0..CROWD).map(|n| world.join(&format!("c{n}"), 0)).collect();
    let accounts: Vec<AccountId> = crowd.iter().map(|who| world.account(*who)).collect();
    let at = world.now.wall;
    let mut commands = Vec::new();
    for owner in &accounts {
        for other in accounts.iter().filter(|other| *other != owner) {
            let give = crate::store::command::GiveConsent { owner: *owner, other: *other, domain: domain(0), at };
            commands.push(Command::GiveConsent(give));
        }
    }
    world.store(0, |relay| async move { relay.ports().store().commit_all(commands).await.unwrap() });
    world.crash(0, true);
    world.sites[0].config.rates.arrivals = Rate::new(600, 20);
    world.start(0);

    // All at once: those over the rate are told when, come then, and are let in.
    let (mut waiting, mut rounds, mut frames, mut statuses) = (crowd.clone(), 0, 0, 0);
    while !waiting.is_empty() {
        rounds += 1;
        assert!(rounds < 20, "{} still wait", waiting.len());
        let mut again = Vec::new();
        let mut wait = 0;
        for who in waiting {
            let heard = world.come_back(who, 0);
            match heard.iter().find_map(|frame| match frame {
                Frame::Refused(refused) => Some((refused.code, refused.retry_after_ms)),
                _ => None,
            }) {
                Some((RefusalCode::TooFast, Some(after))) => {
                    wait = wait.max(after);
                    again.push(who);
                }
                Some(other) => panic!("{other:?}"),
                None => assert!(!heard.iter().any(|frame| matches!(frame, Frame::HeartbeatAnswer(_)))),
            }
        }
        waiting = again;
        world.pass(Duration::from_millis(u64::from(wait) * 10));
    }
    assert!(rounds > 1, "the rate was met");
    for _ in 0..2 {
        for who in &crowd {
            if world.devices[*who].link.is_none() {
                world.come_back(*who, 0);
            }
            frames += 1;
            statuses += world.beat(*who).len();
        }
    }
    assert_eq!(frames, 2 * CROWD, "one frame a heartbeat, however many came");
    assert_eq!(statuses, CROWD * (CROWD - 1), "each is told of each friend once");
    // Nobody was told anything between heartbeats.
    for who in &crowd {
        let unasked = world.devices[*who].inbox.iter().filter(|frame| matches!(frame, Frame::HeartbeatAnswer(_)));
        assert_eq!(unasked.count(), 0);
    }
}

#[test]
fn a_revoked_device_loses_its_link_in_that_step_and_is_told_why_when_it_comes_back() {
    let mut world = World::new(1);
    let alice = world.join("alice", 0);
    let device = &world.devices[alice];
    let (mut log, (after, hash), first) = (device.log.clone(), device.log.head(), DeviceIndex::FIRST);
    let mut chance = Chance::from_seed(Seed::from_bytes([99; 32]));
    let (key, transport) = (KeyPair::generate(&mut chance), KeyPair::generate(&mut chance));
    let second = DeviceIndex::new(1);
    let proof = TransportProof::make(&transport, log.account(), second, &key.public());
    log.add_device(&device.identity, second, key.public(), proof, "laptop", Hlc::default()).unwrap();
    log.revoke_device(&device.identity, first, Hlc::default()).unwrap();
    let account = log.account();
    let request = world.request();
    let strange = ExtendLog { request, account, after: after + 1, hash, entries: log.tail(after) };
    let heard = world.ask(alice, strange);
    assert!(matches!(&heard[..], [Frame::OwnLog(_), Frame::Refused(refused)] if refused.code == RefusalCode::Exists));
    let request = world.request();
    let forged = ExtendLog { request, account, after, hash, entries: log.tail(after)[..40].to_vec() };
    let heard = world.ask(alice, forged);
    assert!(matches!(&heard[..], [Frame::Refused(refused)] if refused.code == RefusalCode::Malformed), "{heard:?}");

    let request = world.request();
    let words = ExtendLog { request, account, after, hash, entries: log.tail(after) };
    let heard = world.ask(alice, words);
    let [Frame::Done(_), Frame::OwnLog(own), Frame::Refused(refused)] = &heard[..] else { panic!("{heard:?}") };
    assert_eq!((own.log.as_slice(), refused.code), (log.bytes().as_slice(), RefusalCode::Revoked));
    assert!(world.devices[alice].link.is_none(), "its link has ended");
    let heard = world.come_back(alice, 0);
    let [Frame::OwnLog(own), Frame::Refused(refused)] = &heard[..] else { panic!("{heard:?}") };
    assert_eq!((own.log.as_slice(), refused.code), (log.bytes().as_slice(), RefusalCode::Revoked));
    // Nothing was lost by a crash right after the answer.
    world.crash(0, false);
    world.start(0);
    let heard = world.come_back(alice, 0);
    assert!(matches!(&heard[..], [Frame::OwnLog(_), Frame::Refused(_)]), "{heard:?}");
}
