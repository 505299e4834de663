//! Relays among each other: introductions, what one of them will not have, what waits for an operator.

use whimbrel_crypto::link::Introducing;

use super::*;

/// Relays that know nobody.
fn strangers(sites: usize) -> World {
    let config = |site| {
        let mut config = Config::new(domain(site), relay_id(site));
        config.endpoint = Some(address(site).endpoint);
        config
    };
    World::with((0..sites).map(config).collect())
}

impl World {
    /// Looks somebody up as an invite's link makes a node do it.
    fn follow(&mut self, who: usize, owner: usize, at: usize, token: Option<InviteToken>) -> Vec<Frame> {
        let PeerAddress { domain, endpoint, relay } = address(at);
        let whom = Who::Account(self.devices[owner].id().account, domain.clone());
        self.look_up(who, whom, Some(RelayHint { domain, endpoint, relay, token }))
    }

    /// A test plays a relay that shows an invite of `owner` at site 0.
    fn introduce(
        &mut self,
        relay: RelayId,
        as_domain: usize,
        owner: usize,
        token: InviteToken,
    ) -> (LinkId, Vec<Frame>) {
        let owner = self.devices[owner].id().account;
        let link = self.come_in_as_relay(0, relay, domain(as_domain));
        let (endpoint, exporter) = ("127.0.0.1:1007", TEST_EXPORTER);
        let (from, to) = ((&domain(as_domain), relay), (&domain(0), relay_id(0)));
        let what = Introducing { owner, endpoint, from, to, exporter };
        let proof = whimbrel_crypto::link::introduce(&token.hash(), &what);
        let introduction = Introduction { owner, endpoint: endpoint.to_owned(), proof };
        self.heard.clear();
        self.hand(0, link, &hello(as_domain, 0, Some(introduction)).into());
        self.run();
        (link, std::mem::take(&mut self.heard))
    }
}

#[test]
fn an_invite_introduces_two_relays_that_know_nobody() {
    let mut world = strangers(2);
    let (alice, bob) = (world.join("alice", 0), world.join("bob", 1));
    world.invite(alice);
    assert_eq!(refusal(&world.follow(bob, alice, 0, None)), Some(RefusalCode::PeerUntrusted), "not without the invite");
    let heard = world.follow(bob, alice, 0, Some(TOKEN));
    assert!(matches!(heard[..], [Frame::LookedUp(_)]), "{heard:?}");
    let heard = world.claim(bob, alice, 0, Some(TOKEN));
    assert!(matches!(&heard[..], [Frame::ClaimedKeyPackages(_)]), "{heard:?}");
    let open = world.open_frame(&[(alice, 0), (bob, 1)]);
    assert!(matches!(world.ask(bob, open)[..], [Frame::Stored(_)]));
    // Alice's relay reaches Bob's in its turn, and both remember, whoever restarts.
    for n in 0..4_u8 {
        let who = Who::Account(world.devices[bob].id().account, domain(1));
        let heard = world.look_up(alice, who, None);
        assert!(matches!(heard[..], [Frame::LookedUp(_)]), "{heard:?}");
        for (from, to) in [(alice, bob), (bob, alice)] {
            world.devices[to].inbox.clear();
            let submit = world.submit(from, &[n, from as u8]);
            world.ask(from, submit);
            world.pass(Duration::from_secs(3));
            let heard = std::mem::take(&mut world.devices[to].inbox);
            let told = heard.iter().any(|frame| matches!(frame, Frame::Push(push) if push.log == LOG));
            assert!(told, "{from} to {to}, round {n}: {heard:?}");
        }
        for site in 0..2 {
            if n % 2 == 0 || site == 1 {
                world.crash(site, false);
                world.start(site);
            }
        }
        for (who, at) in [(alice, 0), (bob, 1)] {
            if world.devices[who].link.is_none() {
                world.come_back(who, at);
            }
        }
        world.pass(Duration::from_secs(3));
    }
}

#[test]
fn an_introduction_is_for_its_token_relays_and_connection_alone() {
    let mut world = strangers(2);
    let (alice, bob) = (world.join("alice", 0), world.join("bob", 0));
    world.invite(alice);
    let untrusted = |heard: &[Frame]| assert_eq!(refusal(heard), Some(RefusalCode::PeerUntrusted), "{heard:?}");
    untrusted(&world.introduce(relay_id(1), 1, alice, InviteToken::from_bytes([6; 16])).1);
    untrusted(&world.introduce(relay_id(1), 1, bob, TOKEN).1);
    untrusted(&world.introduce(relay_id(0), 1, alice, TOKEN).1);
    untrusted(&world.introduce(relay_id(1), 0, alice, TOKEN).1);
    // A proof that was made for another connection.
    let link = world.come_in_as_relay(0, relay_id(1), domain(1));
    let owner = world.devices[alice].id().account;
    let introduction = Introduction { owner, endpoint: "127.0.0.1:1001".to_owned(), proof: [7; 32] };
    world.heard.clear();
    world.hand(0, link, &hello(1, 0, Some(introduction)).into());
    world.run();
    untrusted(&std::mem::take(&mut world.heard));
    assert!(!world.lives(0, link));
    // The right one lets in, and another identity under that name is refused from then on, across a crash.
    assert!(matches!(world.introduce(relay_id(1), 1, alice, TOKEN).1[..], [Frame::PeerHello(_)]));
    for _ in 0..2 {
        untrusted(&world.introduce(relay_id(2), 1, alice, TOKEN).1);
        world.crash(0, false);
        world.start(0);
        assert!(matches!(world.introduce(relay_id(1), 1, alice, TOKEN).1[..], [Frame::PeerHello(_)]));
    }
}

#[test]
fn an_introduced_relay_that_moved_is_reached_where_it_says() {
    let mut world = strangers(2);
    let (alice, bob) = (world.join("alice", 0), world.join("bob", 1));
    world.invite(alice);
    // Under its identity, at a place where nobody is.
    assert!(matches!(world.introduce(relay_id(1), 1, alice, TOKEN).1[..], [Frame::PeerHello(_)]));
    let who = Who::Account(world.devices[bob].id().account, domain(1));
    assert_eq!(refusal(&world.look_up(alice, who.clone(), None)), Some(RefusalCode::PeerUnreachable));
    assert!(matches!(world.follow(bob, alice, 0, Some(TOKEN))[..], [Frame::LookedUp(_)]));
    world.pass(Duration::from_secs(2));
    assert!(matches!(world.look_up(alice, who, None)[..], [Frame::LookedUp(_)]));
    // A known one is let in though its invite is worth nothing any more.
    let wrong = InviteToken::from_bytes([6; 16]);
    assert!(matches!(world.introduce(relay_id(1), 1, alice, wrong).1[..], [Frame::PeerHello(_)]));
}

#[test]
fn an_introduced_relay_has_no_names_and_reaches_nobody_without_consent() {
    let mut world = strangers(1);
    let (alice, bob) = (world.join("alice", 0), world.join("bob", 0));
    world.invite(alice);
    let (link, heard) = world.introduce(relay_id(1), 1, alice, TOKEN);
    assert!(matches!(heard[..], [Frame::PeerHello(_)]), "{heard:?}");
    let ask = |world: &mut World, frame: Frame| {
        world.heard.clear();
        world.hand(0, link, &frame);
        world.run();
        std::mem::take(&mut world.heard)
    };
    // It learns no names, and Alice's relay takes none from it.
    let by_name = |name: &str| Who::Address(name.parse().unwrap());
    let request = world.request();
    let heard = ask(&mut world, LookUp { request, who: by_name("alice@a.example"), hint: None }.into());
    assert_eq!(refusal(&heard), Some(RefusalCode::NotFound));
    let heard = world.look_up(alice, by_name("carol@b.example"), None);
    assert_eq!(refusal(&heard), Some(RefusalCode::PeerUntrusted));
    // An id proves itself.
    let who = Who::Account(world.devices[alice].id().account, domain(0));
    let heard = ask(&mut world, LookUp { request, who, hint: None }.into());
    assert!(matches!(heard[..], [Frame::LookedUp(_)]), "{heard:?}");
    // Whoever did not use the invite has nobody's consent; Bob's is nobody's to give.
    let carol = world.person("carol");
    let requester = world.devices[carol].id().account;
    for (owner, token) in [(alice, None), (bob, None), (bob, Some(TOKEN))] {
        let (request, account) = (world.request(), world.devices[owner].id().account);
        let heard = ask(&mut world, PeerClaim { request, account, requester, token }.into());
        assert_eq!(refusal(&heard), Some(RefusalCode::NoConsent));
    }
}

#[test]
fn what_the_operator_says_of_a_domain_comes_before_any_invite() {
    let mut world = strangers(1);
    let alice = world.join("alice", 0);
    world.invite(alice);
    assert!(matches!(world.introduce(relay_id(2), 1, alice, TOKEN).1[..], [Frame::PeerHello(_)]));
    // The operator lists the genuine one: the introduced one is refused, whatever it shows, and stays so when the
    // entry goes again.
    for peers in [vec![address(1)], Vec::new()] {
        world.crash(0, false);
        world.sites[0].config.peers = peers;
        world.start(0);
        let heard = world.introduce(relay_id(2), 1, alice, TOKEN).1;
        assert_eq!(refusal(&heard), Some(RefusalCode::PeerUntrusted));
    }
    assert!(
        matches!(world.introduce(relay_id(1), 1, alice, TOKEN).1[..], [Frame::PeerHello(_)]),
        "the same, by invite"
    );
}

/// What a device was told is not delivered: by which relay, why, and how much.
fn undelivered(heard: &[Frame]) -> Vec<(Domain, RefusalCode, usize)> {
    let pushes = heard.iter().filter_map(|frame| match frame {
        Frame::Push(push) if push.log == LogRef::Inbox => Some(&push.entries),
        _ => None,
    });
    let notice = |entry: &Entry| match &entry.body {
        EntryBody::Undelivered(words) => Some((words.domain.clone(), words.code, words.envelopes.len())),
        _ => None,
    };
    pushes.flatten().filter_map(notice).collect()
}

#[test]
fn what_another_relay_refuses_for_good_is_told_to_its_author_across_crashes() {
    let mut world = World::new(2);
    let (alice, bob, dave) = (world.join("alice", 0), world.join("bob", 1), world.join("dave", 1));
    // Dave lets Bob reach him, Alice does not: her relay will not have the thread.
    world.invite(dave);
    world.claim(bob, dave, 1, Some(TOKEN));
    let open = world.open_frame(&[(alice, 0), (bob, 1), (dave, 1)]);
    let mut heard = world.ask(bob, open);
    assert!(matches!(heard[0], Frame::Stored(_)), "{heard:?}");
    for n in 0..3_u8 {
        let submit = world.submit(bob, &[n]);
        heard.extend(world.ask(bob, submit));
    }
    world.pass(Duration::from_secs(3));
    heard.extend(std::mem::take(&mut world.devices[bob].inbox));
    let told = undelivered(&heard);
    assert_eq!(told[0], (domain(0), RefusalCode::NoConsent, 0), "{told:?}");
    let after = &told[1..];
    assert!(after.iter().all(|(by, code, _)| (by, *code) == (&domain(0), RefusalCode::NotFound)), "{told:?}");
    assert_eq!(after.iter().map(|(.., envelopes)| envelopes).sum::<usize>(), 3);
    // Dave, whose relay has it, got everything; and the news waits for Bob like mail.
    assert!(undelivered(&world.devices[dave].inbox).is_empty());
    assert_eq!(entries(&world.devices[dave].inbox, LOG, Sequence::ZERO).len(), 3);
    for _ in 0..2 {
        for site in 0..2 {
            world.crash(site, false);
            world.start(site);
        }
        assert_eq!(undelivered(&world.come_back(bob, 1)), told);
    }
    // Nothing is left to be sent, and nothing is told twice.
    world.pass(Duration::from_secs(60));
    assert!(undelivered(&world.devices[bob].inbox[..]).len() <= told.len());
}

#[test]
fn a_thread_with_a_relay_unknown_to_the_peer_waits_until_it_is_known() {
    // Bob's relay does not know Carol's; Alice's knows both.
    let configs = (0..3).map(|site| {
        let mut config = Config::new(domain(site), relay_id(site));
        let known = (0..3).filter(|other| *other != site && (site, *other) != (1, 2));
        config.peers = known.map(address).collect();
        config
    });
    let mut world = World::with(configs.collect());
    let (alice, bob, carol) = (world.join("alice", 0), world.join("bob", 1), world.join("carol", 2));
    for (friend, at) in [(bob, 1), (carol, 2)] {
        world.invite(friend);
        let heard = world.claim(alice, friend, at, Some(TOKEN));
        assert!(matches!(&heard[..], [Frame::ClaimedKeyPackages(_)]), "{heard:?}");
    }
    world.devices[carol].inbox.clear();
    let open = world.open_frame(&[(alice, 0), (bob, 1), (carol, 2)]);
    assert!(matches!(world.ask(alice, open)[0], Frame::Stored(_)));
    for n in 0..5_u8 {
        let submit = world.submit(alice, &[n]);
        world.ask(alice, submit);
    }
    world.pass(Duration::from_secs(60));
    let expected: Vec<Vec<u8>> = (0..5_u8).map(|n| vec![n]).collect();
    assert_eq!(bodies(&entries(&world.devices[carol].inbox, LOG, Sequence::ZERO)), expected, "Carol's relay took it");
    world.leave(bob);
    let heard = world.come_back(bob, 1);
    assert!(entries(&heard, LogRef::Inbox, Sequence::ZERO).is_empty());
    // Alice's relay may restart; Bob's operator lists Carol's relay at last.
    world.crash(0, false);
    world.start(0);
    world.crash(1, false);
    world.sites[1].config.peers.push(address(2));
    world.start(1);
    world.come_back(bob, 1);
    world.devices[bob].inbox.clear();
    world.pass(limits::UNKNOWN_DOMAIN_RETRY_AFTER.saturating_mul(2));
    let late = world.submit(alice, b"late");
    world.come_back(alice, 0);
    world.ask(alice, late);
    world.pass(Duration::from_secs(3));
    world.leave(bob);
    let heard = world.come_back(bob, 1);
    assert_eq!(entries(&heard, LogRef::Inbox, Sequence::ZERO).len(), 1, "{heard:?}");
    let got = bodies(&entries(&heard, LOG, Sequence::ZERO));
    assert_eq!(got[..5], expected);
    assert_eq!(got.last().map(Vec::as_slice), Some(&b"late"[..]));
    assert_eq!(world.relay(0).forwards_dropped(), 0);
}
