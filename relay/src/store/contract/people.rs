//! Contract, people: friendship, blocks, cards, invitations, settings, a log's growth, wake-ups, expiry, an account's end.

use whimbrel_protocol::friendship::{Act, Standing};
use whimbrel_protocol::id::Signature;
use whimbrel_protocol::reception::Stamp;
use whimbrel_protocol::signed::Signed;
use whimbrel_protocol::thread::ThreadSettings;
use whimbrel_protocol::wake::WakeEndpoint;

use super::*;
use crate::store::TreeView;
use crate::store::command::Befriended;
use crate::store::command::people::{
    Befriend, Block, ConfirmWake, Decline, Expire, ExtendLog, KeepStamp, LetSee, NewRegistration, SetProfile,
    SetThread, SetWake,
};

const DAVE: u8 = 4;

/// A word by somebody, at home here or there, to somebody here or there.
pub(super) fn says(by: (u8, Domain), act: Act, to: (u8, Domain), millis: u64) -> Command {
    let word = signed(by.0, format!("{act:?} {}", to.0).as_bytes());
    Command::Befriend(Befriend {
        by: account(by.0),
        by_domain: by.1,
        to: account(to.0),
        to_domain: to.1,
        act,
        said: at(millis),
        word,
        local: here(),
        at: at(millis),
        bounds: LogBounds::default(),
    })
}

fn signed(by: u8, content: &[u8]) -> Signed {
    Signed { by: device(by), content: content.to_vec(), signature: Signature::from_bytes([by; 64]) }
}

fn inbox(person: u8) -> LogId {
    LogId::from_bytes([person; 16])
}

fn became(outcome: Result<Outcome, Conflict>) -> (Option<Standing>, Option<Standing>, bool) {
    match outcome {
        Ok(Outcome::Befriended(Befriended { standing, other, inbox, .. })) => (standing, other, inbox.is_some()),
        other => panic!("no word taken: {other:?}"),
    }
}

fn block(owner: u8, other: u8, domain: Domain, blocked: bool) -> Command {
    Command::Block(Block { owner: account(owner), other: account(other), domain, blocked, at: at(1_000) })
}

fn standing(store: &impl Store, owner: u8, other: u8) -> Option<Standing> {
    wait(store.standing(account(owner), account(other))).unwrap().map(|(standing, ..)| standing)
}

fn registered<F: Fixture>(fixture: &mut F) -> F::Store {
    let store = fixture.fresh();
    done(&store, vec![register(ALICE, "alice"), register(BOB, "bob")]);
    store
}

fn invitation(token: u8, uses: u32, expires: u64) -> Command {
    let token = InviteToken::from_bytes([token; 16]).hash();
    Command::NewRegistration(NewRegistration { token, uses, expires: at(expires), at: at(1_000) })
}

fn entering(person: u8, name: &str, entrance: Entrance) -> Command {
    let mut command = register(person, name);
    if let Command::Register(register) = &mut command {
        register.entrance = entrance;
    }
    command
}

pub(super) fn an_invitation_to_register_is_used_up_by_those_who_come_in(fixture: &mut impl Fixture) {
    let store = fixture.fresh();
    let with = |token: u8| Entrance::Invited(InviteToken::from_bytes([token; 16]).hash());
    done(&store, vec![invitation(1, 2, 9_000), invitation(2, 1, 1_000), invitation(3, 1, 9_000)]);
    let outcomes = run_all(
        &store,
        vec![
            entering(10, "dan", Entrance::Closed),
            entering(10, "dan", with(1)),
            // Taken in already: no use is taken again.
            entering(10, "dan", with(1)),
            entering(11, "eve", with(1)),
            entering(12, "fay", with(1)),
            entering(12, "fay", with(2)),
            entering(12, "dan", with(3)),
            entering(12, "fay", with(3)),
        ],
    );
    let closed = || Err(Conflict::Closed);
    let taken = || Err(Conflict::NameTaken);
    let done = || Ok(Outcome::Done);
    assert_eq!(outcomes, [closed(), done(), done(), done(), closed(), closed(), taken(), done()]);
    assert_eq!(run(&store, invitation(4, 1, 9_000)), Ok(Outcome::Done));
    assert_eq!(run(&store, invitation(4, 2, 9_000)), Err(Conflict::Differs));
    let open = wait(store.registrations(None, 99)).unwrap();
    assert_eq!(open.len(), 1, "expired ones went when another was made");
    assert_eq!(wait(store.registrations(Some(open[0].token), 99)).unwrap(), []);
    let token = InviteToken::from_bytes([4; 16]).hash();
    assert_eq!(run(&store, Command::RevokeRegistration(token)), Ok(Outcome::Done));
    assert_eq!(run(&store, Command::RevokeRegistration(token)), Err(Conflict::NotFound));
    assert_eq!(run(&store, entering(13, "gil", with(4))), closed());
}

pub(super) fn a_request_that_is_accepted_makes_friends_of_both(fixture: &mut impl Fixture) {
    let store = registered(fixture);
    let asks = says((ALICE, here()), Act::Request, (BOB, here()), 2_000);
    assert_eq!(became(run(&store, asks.clone())), (Some(Standing::Asked), Some(Standing::Asking), true));
    assert_eq!(became(run(&store, asks)), (Some(Standing::Asked), Some(Standing::Asking), false), "told once");
    assert_eq!(run(&store, claim(BOB, ALICE, here(), None)), Err(Conflict::NoConsent));
    let listed = wait(store.friends(account(BOB), None, 9)).unwrap();
    assert_eq!(listed[0].word.as_ref().map(|word| word.by), Some(device(ALICE)));
    assert_eq!(run(&store, says((ALICE, here()), Act::Accept, (BOB, here()), 2_001)), Err(Conflict::NotFound));
    let accepts = says((BOB, here()), Act::Accept, (ALICE, here()), 2_002);
    assert_eq!(became(run(&store, accepts.clone())), (Some(Standing::Friends), Some(Standing::Friends), true));
    assert_eq!(became(run(&store, accepts)), (Some(Standing::Friends), Some(Standing::Friends), false));
    assert!(
        run(&store, claim(BOB, ALICE, here(), None)).is_ok() && run(&store, claim(ALICE, BOB, here(), None)).is_ok()
    );
    let told = wait(store.log_page(inbox(ALICE), Sequence::ZERO, 9, usize::MAX)).unwrap();
    assert!(
        matches!(&told.entries[..], [entry] if matches!(&entry.body, EntryBody::Friendship(word) if word.by == device(BOB)))
    );
    // Ended by one, it is ended for both, and the next word begins anew.
    assert_eq!(became(run(&store, says((ALICE, here()), Act::Remove, (BOB, here()), 2_003))), (None, None, true));
    assert_eq!((standing(&store, ALICE, BOB), standing(&store, BOB, ALICE)), (None, None));
    assert_eq!(run(&store, claim(BOB, ALICE, here(), None)), Err(Conflict::NoConsent));
    assert_eq!(run(&store, claim(ALICE, BOB, here(), None)), Err(Conflict::NoConsent));
    assert_eq!(run(&store, says((ALICE, here()), Act::Request, (ALICE, here()), 1)), Err(Conflict::Malformed));
    assert_eq!(run(&store, says((99, here()), Act::Request, (BOB, here()), 1)), Err(Conflict::NotFound));
}

pub(super) fn each_relay_keeps_its_own_half_of_a_friendship(fixture: &mut impl Fixture) {
    let store = registered(fixture);
    // Carol lives there: here is only what Alice's relay keeps.
    let out = run(&store, says((ALICE, here()), Act::Request, (CAROL, there()), 2_000));
    assert_eq!(became(out), (Some(Standing::Asked), None, false));
    assert_eq!(run(&store, claim(ALICE, CAROL, there(), None)), Err(Conflict::NoConsent));
    let back = run(&store, says((CAROL, there()), Act::Accept, (ALICE, here()), 2_001));
    assert_eq!(became(back), (None, Some(Standing::Friends), true));
    assert!(run(&store, claim(ALICE, CAROL, there(), None)).is_ok());
    assert_eq!(run(&store, claim(ALICE, CAROL, here(), None)), Err(Conflict::NoConsent), "at her home only");
    // An acceptance of what was never asked changes nothing.
    let unasked = run(&store, says((CAROL, there()), Act::Accept, (BOB, here()), 2_002));
    assert_eq!((became(unasked), standing(&store, BOB, CAROL)), ((None, None, false), None));
    // A request that was on its way since before changes nothing.
    let late = run(&store, says((CAROL, there()), Act::Request, (ALICE, here()), 2_001));
    assert_eq!(became(late), (None, Some(Standing::Friends), false));
    // She forgot, or ended it while nobody could hear: her new request is one.
    let again = run(&store, says((CAROL, there()), Act::Request, (ALICE, here()), 2_003));
    assert_eq!(became(again), (None, Some(Standing::Asking), true));
    assert_eq!(run(&store, claim(ALICE, CAROL, there(), None)), Err(Conflict::NoConsent));
    let neither = says((CAROL, there()), Act::Request, (77, there()), 1);
    assert_eq!(run(&store, neither), Err(Conflict::Malformed));
}

pub(super) fn requests_that_cross_make_friends(fixture: &mut impl Fixture) {
    let store = registered(fixture);
    let both = vec![
        says((ALICE, here()), Act::Request, (BOB, here()), 2_000),
        says((BOB, here()), Act::Request, (ALICE, here()), 2_000),
        says((ALICE, here()), Act::Request, (CAROL, there()), 2_000),
        says((CAROL, there()), Act::Request, (ALICE, here()), 2_001),
    ];
    let outcomes: Vec<_> = run_all(&store, both).into_iter().map(became).collect();
    assert_eq!(outcomes[1], (Some(Standing::Friends), Some(Standing::Friends), true));
    assert_eq!(outcomes[3], (None, Some(Standing::Friends), true));
    assert_eq!(
        (standing(&store, ALICE, BOB), standing(&store, BOB, ALICE)),
        (Some(Standing::Friends), Some(Standing::Friends))
    );
}

pub(super) fn whoever_is_kept_away_cannot_tell(fixture: &mut impl Fixture) {
    let store = registered(fixture);
    done(&store, vec![block(BOB, ALICE, here(), true), block(ALICE, CAROL, there(), true)]);
    let to_blocker = became(run(&store, says((ALICE, here()), Act::Request, (BOB, here()), 2_000)));
    let to_nobody = became(run(&store, says((ALICE, here()), Act::Request, (98, here()), 2_000)));
    assert_eq!(to_blocker, to_nobody);
    let from_there = |to| became(run(&store, says((CAROL, there()), Act::Request, (to, here()), 2_000)));
    assert_eq!(from_there(ALICE), from_there(97));
    assert_eq!(
        run(&store, says((BOB, here()), Act::Request, (ALICE, here()), 1)),
        Err(Conflict::Differs),
        "blocked by oneself"
    );
    assert_eq!(page(&store, inbox(BOB), 0, 9), [0; 0]);
    // An invite does not open what a block has closed, and nothing of it is used.
    done(&store, vec![invite(BOB, 5, 1, 9_000), stock(BOB, &[1], None)]);
    assert_eq!(run(&store, claim(BOB, ALICE, here(), Some(5))), Err(Conflict::NoConsent));
    assert_eq!(wait(store.invites(account(BOB))).unwrap()[0].left, 1);
    done(&store, vec![block(BOB, ALICE, here(), false)]);
    assert!(run(&store, claim(BOB, ALICE, here(), Some(5))).is_ok());
    assert_eq!(run(&store, block(99, ALICE, here(), true)), Err(Conflict::NotFound));
}

pub(super) fn a_block_holds_from_the_next_command_of_its_group_on(fixture: &mut impl Fixture) {
    let store = three_friends(fixture);
    done(
        &store,
        vec![open(1, ALICE, &two()), open(2, ALICE, &all()), open_of(3, CAROL, Origin::Peer(there()), None, &across())],
    );
    let carols = |body: &[u8]| append_of(CAROL, Origin::Peer(there()), envelope(3, body), LogBounds::default(), 1);
    let outcomes = run_all(
        &store,
        vec![
            append(1, ALICE, b"before"),
            carols(b"before"),
            block(BOB, ALICE, here(), true),
            says((ALICE, here()), Act::Remove, (CAROL, there()), 2_000),
            append(1, ALICE, b"after"),
            append(1, ALICE, b"before"),
            carols(b"after"),
            // A group is not between two.
            append(2, ALICE, b"to all"),
            // Bob may still write to Alice, who keeps nobody away; nor does he end the friendship in her list.
            append(1, BOB, b"from bob"),
        ],
    );
    let text = |outcome: &Result<Outcome, Conflict>| match outcome {
        Ok(Outcome::Appended(appended)) => {
            if appended.new {
                "new"
            } else {
                "known"
            }
        }
        Ok(_) => "done",
        Err(Conflict::NoConsent) => "no consent",
        Err(_) => "other",
    };
    let seen: Vec<_> = outcomes.iter().map(text).collect();
    assert_eq!(seen, ["new", "new", "done", "done", "no consent", "known", "no consent", "new", "new"]);
    assert_eq!(run(&store, open(4, ALICE, &two())), Err(Conflict::NoConsent));
}

pub(super) fn requests_are_bounded_by_the_day_and_by_the_list(fixture: &mut impl Fixture) {
    const DAY: u64 = 24 * 3_600 * 1_000;
    let store = registered(fixture);
    let asks = |to: u8, millis| says((ALICE, here()), Act::Request, (to, there()), millis);
    for to in 0..limits::FRIEND_REQUESTS_PER_DAY as u8 {
        run(&store, asks(100 + to, DAY)).unwrap();
    }
    assert_eq!(run(&store, asks(200, DAY + 5)), Err(Conflict::TooFast));
    assert_eq!(run(&store, asks(200, 1)), Err(Conflict::TooFast), "a clock set back opens no day");
    assert!(run(&store, asks(100, DAY + 5)).is_ok(), "said again is not asked again");
    assert!(run(&store, asks(200, 2 * DAY)).is_ok());
    for from in 0..limits::FRIENDS_ASKING_MAX as u8 {
        run(&store, says((100 + from, there()), Act::Request, (BOB, here()), 1)).unwrap();
    }
    // Whoever comes too late hears what one hears who asks nobody, and is not on the list.
    let nobody = run(&store, says((200, there()), Act::Request, (99, here()), 1));
    assert_eq!(run(&store, says((200, there()), Act::Request, (BOB, here()), 1)), nobody);
    assert_eq!(became(nobody), (None, None, false));
    let mut listed = 0;
    let mut after = None;
    loop {
        let page = wait(store.friends(account(BOB), after, 7)).unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.account);
        listed += page.len();
    }
    assert_eq!(listed, limits::FRIENDS_ASKING_MAX);
    done(&store, vec![Command::Decline(Decline { owner: account(BOB), other: Some(account(100)) })]);
    assert_eq!(became(run(&store, says((200, there()), Act::Request, (BOB, here()), 1))).1, Some(Standing::Asking));
    done(&store, vec![Command::Decline(Decline { owner: account(BOB), other: None })]);
    assert_eq!(wait(store.friends(account(BOB), None, 9)).unwrap(), []);
    assert!(!wait(store.hidden(account(ALICE))).unwrap());
    done(&store, vec![Command::SetVisible(account(ALICE), false)]);
    assert!(wait(store.hidden(account(ALICE))).unwrap());
    assert_eq!(run(&store, Command::SetVisible(account(99), false)), Err(Conflict::NotFound));
    let see = |allowed| Command::LetSee(LetSee { owner: account(ALICE), other: account(BOB), allowed });
    assert_eq!(run(&store, see(false)), Err(Conflict::NotFound));
    done(&store, vec![consent(ALICE, BOB, here()), see(false)]);
    assert_eq!(wait(store.standing(account(ALICE), account(BOB))).unwrap(), Some((Standing::Friends, false, here())));
}

/// A full list of requests, a full list, a full inbox: all answer a request as nobody does, and an author's own list, and share
/// of the day, show nothing of it either.
pub(super) fn whoever_has_no_room_for_a_word_is_as_nobody(fixture: &mut impl Fixture) {
    let store = registered(fixture);
    done(&store, vec![register(CAROL, "carol"), register(DAVE, "dave")]);
    for from in 0..limits::FRIENDS_ASKING_MAX as u8 {
        run(&store, says((100 + from, there()), Act::Request, (BOB, here()), 1)).unwrap();
    }
    let many = (0..limits::FRIENDS_MAX as u32).map(|n| {
        let mut bytes = [9; 32];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        let (owner, other) = (account(CAROL), AccountId::from_bytes(bytes));
        Command::Block(Block { owner, other, domain: there(), blocked: true, at: at(1) })
    });
    assert!(wait(store.commit_all(many.collect())).unwrap().iter().all(Result::is_ok));
    let none = LogBounds { entries_max: 0, ..LogBounds::default() };
    let within = |bounds, command| match command {
        Command::Befriend(words) => Command::Befriend(Befriend { bounds, ..words }),
        other => other,
    };
    for (from, home) in [(ALICE, here()), (200, there())] {
        let asks = |to, bounds| run(&store, within(bounds, says((from, home.clone()), Act::Request, (to, here()), 9)));
        let nobody = asks(99, LogBounds::default());
        for (to, bounds) in [(BOB, LogBounds::default()), (CAROL, LogBounds::default()), (DAVE, none)] {
            assert_eq!(asks(to, bounds), nobody, "{from} asks {to}");
            assert_eq!(standing(&store, to, from), None);
        }
        let own = (from == ALICE).then_some(Standing::Asked);
        assert!([99, BOB, CAROL, DAVE].iter().all(|to| standing(&store, from, *to) == own));
    }
    // Each of the four has cost its share of the day, and saying it again, when there is room, costs none.
    let rest =
        (0..limits::FRIEND_REQUESTS_PER_DAY as u8).map(|n| says((ALICE, here()), Act::Request, (n + 30, there()), 9));
    let taken = rest.filter(|asks| run(&store, asks.clone()).is_ok()).count();
    assert_eq!(taken, limits::FRIEND_REQUESTS_PER_DAY as usize - 4);
    let again = || run(&store, says((ALICE, here()), Act::Request, (DAVE, here()), 10));
    assert_eq!(became(again()), (Some(Standing::Asked), Some(Standing::Asking), true));

    // An acceptance that cannot be told is refused and changes nothing; a removal holds, told or not.
    let accepts = |bounds| run(&store, within(bounds, says((DAVE, here()), Act::Accept, (ALICE, here()), 11)));
    assert_eq!(accepts(none), Err(Conflict::Full));
    assert_eq!(
        (standing(&store, ALICE, DAVE), standing(&store, DAVE, ALICE)),
        (Some(Standing::Asked), Some(Standing::Asking))
    );
    assert_eq!(became(accepts(LogBounds::default())), (Some(Standing::Friends), Some(Standing::Friends), true));
    let removes = within(none, says((DAVE, here()), Act::Remove, (ALICE, here()), 12));
    assert_eq!(became(run(&store, removes)), (None, None, false));
    assert_eq!(standing(&store, ALICE, DAVE), None);
}

pub(super) fn an_invite_is_nothing_to_whom_its_owner_has_parted_with_since(fixture: &mut impl Fixture) {
    let mut store = registered(fixture);
    done(&store, vec![register(CAROL, "carol"), stock(ALICE, &[1, 2, 3, 4], None)]);
    done(&store, vec![invite(ALICE, 1, 9, 9_000)]);
    assert!(run(&store, claim(ALICE, BOB, here(), Some(1))).is_ok());
    for (lifted, round) in [(false, 0), (true, 1)] {
        match lifted {
            false => {
                let removed = run(&store, says((ALICE, here()), Act::Remove, (BOB, here()), 2_000));
                assert!(matches!(removed, Ok(Outcome::Befriended(Befriended { parted: Some(_), .. }))), "{removed:?}");
            }
            true => {
                assert!(run(&store, block(ALICE, BOB, here(), true)).is_ok());
                assert!(run(&store, block(ALICE, BOB, here(), false)).is_ok());
            }
        }
        store = fixture.restart(store);
        let old = 1 + round;
        assert_eq!(run(&store, claim(ALICE, BOB, here(), Some(old))), Err(Conflict::NoConsent));
        assert_eq!(standing(&store, ALICE, BOB), None);
        // To others it is what it was, and a later one is for everybody.
        assert!(run(&store, claim(ALICE, CAROL, here(), Some(1))).is_ok());
        done(&store, vec![invite(ALICE, old + 1, 9, 9_000)]);
        assert!(run(&store, claim(ALICE, BOB, here(), Some(old + 1))).is_ok());
        assert_eq!(standing(&store, ALICE, BOB), Some(Standing::Friends));
    }
}

pub(super) fn invites_are_listed_and_taken_back(fixture: &mut impl Fixture) {
    let store = registered(fixture);
    done(&store, vec![invite(ALICE, 1, 3, 9_000), invite(ALICE, 2, 1, 9_000), invite(BOB, 3, 1, 9_000)]);
    assert_eq!(wait(store.invites(account(ALICE))).unwrap().len(), 2);
    let token = InviteToken::from_bytes([1; 16]).hash();
    assert_eq!(run(&store, Command::RevokeInvite(account(BOB), token)), Err(Conflict::NotFound), "not his");
    assert_eq!(run(&store, Command::RevokeInvite(account(ALICE), token)), Ok(Outcome::Done));
    assert_eq!(run(&store, claim(ALICE, CAROL, there(), Some(1))), Err(Conflict::NoConsent));
    assert_eq!(wait(store.invites(account(ALICE))).unwrap().len(), 1);
}

pub(super) fn of_two_cards_the_higher_revision_stays(fixture: &mut impl Fixture) {
    let store = registered(fixture);
    let card = |revision, text: &[u8]| {
        Command::SetProfile(SetProfile { owner: account(ALICE), revision, card: signed(ALICE, text) })
    };
    done(&store, vec![card(2, b"two"), card(2, b"two")]);
    assert_eq!(run(&store, card(2, b"other")), Err(Conflict::Differs));
    assert_eq!(run(&store, card(1, b"one")), Err(Conflict::Differs));
    done(&store, vec![card(3, b"three")]);
    assert_eq!(wait(store.profile(account(ALICE))).unwrap(), Some(signed(ALICE, b"three")));
    assert_eq!(wait(store.profile(account(BOB))).unwrap(), None);
}

pub(super) fn settings_of_a_thread_are_its_owners(fixture: &mut impl Fixture) {
    let store = three_friends(fixture);
    done(&store, vec![open(1, ALICE, &two())]);
    let settings = ThreadSettings { sealed: vec![9; 100], quiet_until: at(5_000) };
    let set = |owner: u8| {
        let thread = ThreadId::from_bytes([1; 32]);
        Command::SetThread(SetThread { owner: account(owner), thread, settings: settings.clone() })
    };
    done(&store, vec![set(ALICE)]);
    assert_eq!(run(&store, set(CAROL)), Err(Conflict::NotFound));
    let row = |person: u8| wait(store.thread_rows(account(person), mailbox(person), None, 9)).unwrap().rows.remove(0);
    assert_eq!((row(ALICE).settings, row(BOB).settings), (Some(settings.clone()), None));
}

/// Alice's log with these devices, behind the head that was or another.
fn extend(from: u64, to: u64, devices: &[u32]) -> Command {
    let hash = |n: u64| if n == 1 { LogHash::from_bytes([ALICE; 32]) } else { LogHash::from_bytes([n as u8; 32]) };
    let device = |index: &u32| {
        let key = PublicKey::from_bytes([*index as u8 + 40; 32]);
        command::account_device(DeviceIndex::new(*index), key, key, MailboxId::from_bytes([*index as u8 + 60; 16]))
    };
    Command::ExtendLog(ExtendLog {
        account: account(ALICE),
        from: (from, hash(from)),
        log: vec![to as u8; 400],
        head: (to, hash(to)),
        devices: devices.iter().map(device).collect(),
    })
}

/// How account logs grow, and what grows with them.
pub(super) fn logs_trees_and_stamps(fixture: &mut impl Fixture) {
    an_account_log_grows_by_one_hand_at_a_time(fixture);
    the_tree_grows_with_the_logs_and_keeps_what_it_was(fixture);
    a_stamp_follows_the_one_before_and_an_old_copy_is_refused(fixture);
}

fn an_account_log_grows_by_one_hand_at_a_time(fixture: &mut impl Fixture) {
    let store = three_friends(fixture);
    done(&store, vec![stock(ALICE, &[1], Some(2)), open(1, ALICE, &two()), append(1, BOB, b"one")]);
    let outcomes = run_all(&store, vec![extend(1, 2, &[0, 1]), extend(1, 3, &[0, 2]), extend(1, 2, &[0, 1])]);
    assert_eq!(outcomes, [Ok(Outcome::Done), Err(Conflict::Differs), Ok(Outcome::Done)]);
    let known = wait(store.account(account(ALICE))).unwrap().unwrap();
    assert_eq!(
        (known.log_seq, known.devices.len(), known.devices[0].mailbox),
        (2, 2, mailbox(ALICE)),
        "its mailbox stays"
    );
    assert_eq!(wait(store.account_log(account(ALICE))).unwrap(), Some(vec![2; 400]));
    let second = MailboxId::from_bytes([61; 16]);
    let reads = |mailbox| wait(store.device_logs(mailbox, None, 9)).unwrap().len();
    assert_eq!((reads(mailbox(ALICE)), reads(second)), (2, 1));
    // The first device goes: nobody waits for it any more, and nothing of it is left.
    done(&store, vec![extend(2, 3, &[1]), trim(1, &[(BOB, 1)])]);
    assert_eq!((reads(mailbox(ALICE)), reads(second)), (0, 1));
    assert_eq!(page(&store, log(1), 0, 9), [0; 0]);
    assert_eq!(wait(store.package_count(device(ALICE))).unwrap(), 0);
    assert_eq!(run(&store, append(1, ALICE, b"two")), Err(Conflict::NotMember));
}

fn the_tree_grows_with_the_logs_and_keeps_what_it_was(fixture: &mut impl Fixture) {
    fn view(store: &impl Store, from: &[u64]) -> TreeView {
        wait(store.tree(Some(account(ALICE)), from.to_vec(), None)).unwrap()
    }
    let store = three_friends(fixture);
    let before = view(&store, &[]);
    assert_eq!(before.entry.as_ref().map(|entry| entry.seq), Some(1));
    // Neither what is refused nor what is said again adds a leaf.
    run_all(&store, vec![extend(1, 2, &[0]), extend(1, 3, &[0]), extend(1, 2, &[0])]);
    let now = view(&store, &[before.size]);
    let index = now.entry.as_ref().map(|entry| entry.index);
    assert_eq!((now.size, index), (before.size + 1, Some(before.size)));
    assert_eq!(now.steps[0].root, before.root);
    let store = fixture.restart(store);
    assert_eq!(view(&store, &[before.size]), now);
    done(&store, vec![Command::DeleteAccount(account(ALICE))]);
    let gone = view(&store, &[]);
    assert_eq!((gone.size, gone.root, gone.entry), (now.size, now.root, None));
}

fn a_stamp_follows_the_one_before_and_an_old_copy_is_refused(fixture: &mut impl Fixture) {
    let store = three_friends(fixture);
    let stamp = |number, token| Stamp { number, token: [token; 16] };
    let keep = |after, stamp| Command::KeepStamp(KeepStamp { device: device(ALICE), after, stamp });
    done(
        &store,
        vec![keep(None, stamp(1, 1)), keep(Some(stamp(1, 1)), stamp(2, 2)), keep(Some(stamp(1, 1)), stamp(2, 2))],
    );
    let store = fixture.restart(store);
    // Behind, beside, and at the beginning again.
    for old in [keep(Some(stamp(1, 1)), stamp(2, 9)), keep(Some(stamp(2, 9)), stamp(3, 9)), keep(None, stamp(1, 9))] {
        assert_eq!(run(&store, old), Err(Conflict::OldCopy));
    }
    assert_eq!(run(&store, keep(Some(stamp(4, 4)), stamp(4, 5))), Err(Conflict::Malformed));
    // A relay that has less than the device lost it.
    done(&store, vec![keep(Some(stamp(7, 7)), stamp(8, 8))]);
    let somebody = DeviceId { index: DeviceIndex::new(7), ..device(ALICE) };
    let strange = Command::KeepStamp(KeepStamp { device: somebody, after: None, stamp: stamp(1, 1) });
    assert_eq!(run(&store, strange), Err(Conflict::NotFound));
    // It goes with the device, and another under its account begins anew.
    done(&store, vec![extend(1, 2, &[1])]);
    assert_eq!(run(&store, keep(Some(stamp(8, 8)), stamp(9, 9))), Err(Conflict::NotFound));
    let next = DeviceId { index: DeviceIndex::new(1), ..device(ALICE) };
    done(&store, vec![Command::KeepStamp(KeepStamp { device: next, after: None, stamp: stamp(1, 1) })]);
}

fn endpoint(n: u8) -> WakeEndpoint {
    WakeEndpoint { url: format!("https://push.example/{n}"), key: vec![4; 65], auth: [n; 16] }
}

fn wakes(person: u8, n: Option<u8>) -> Command {
    let endpoint = n.map(|n| (endpoint(n), [n; 16]));
    Command::SetWake(SetWake { device: device(person), endpoint, at: at(1_000) })
}

fn confirms(person: u8, n: u8, millis: u64) -> Command {
    Command::ConfirmWake(ConfirmWake { device: device(person), code: [n; 16], at: at(millis) })
}

pub(super) fn a_device_is_woken_where_it_has_shown_to_be(fixture: &mut impl Fixture) {
    let store = three_friends(fixture);
    done(&store, vec![open(1, ALICE, &all()), wakes(ALICE, Some(1)), wakes(BOB, Some(2))]);
    let sleepers = |millis| wait(store.sleepers(log(1), at(millis), None, 9)).unwrap();
    assert_eq!(sleepers(1), [], "nothing is confirmed");
    assert_eq!(run(&store, confirms(ALICE, 2, 1_001)), Err(Conflict::NotFound));
    done(&store, vec![confirms(ALICE, 1, 1_001), confirms(BOB, 2, 1_001)]);
    assert_eq!(run(&store, confirms(ALICE, 1, 1_001)), Err(Conflict::NotFound), "once");
    assert_eq!(sleepers(1), [(device(ALICE), mailbox(ALICE)), (device(BOB), mailbox(BOB))]);
    let after = wait(store.sleepers(log(1), at(1), Some(device(ALICE)), 9)).unwrap();
    assert_eq!(after, [(device(BOB), mailbox(BOB))]);
    // Another address is in force once it is confirmed, and the challenge does not wait for ever.
    done(&store, vec![wakes(ALICE, Some(3))]);
    assert_eq!(wait(store.wake(device(ALICE))).unwrap().live, Some(endpoint(1)));
    let late = 1_001 + limits::WAKE_CHALLENGE_AGE_MAX.as_millis() as u64;
    assert_eq!(run(&store, confirms(ALICE, 3, late)), Err(Conflict::NotFound));
    let thread = ThreadId::from_bytes([1; 32]);
    let settings = ThreadSettings { sealed: Vec::new(), quiet_until: at(5_000) };
    done(&store, vec![Command::SetThread(SetThread { owner: account(BOB), thread, settings }), wakes(ALICE, None)]);
    assert_eq!((sleepers(4_999), sleepers(5_000)), (vec![], vec![(device(BOB), mailbox(BOB))]));
    assert_eq!(run(&store, wakes(CAROL, Some(1))), Err(Conflict::NotFound));
}

pub(super) fn what_waited_too_long_goes_and_its_author_is_told(fixture: &mut impl Fixture) {
    let store = three_friends(fixture);
    done(&store, vec![open(1, ALICE, &all()), open(2, ALICE, &two())]);
    let said = |n: u8, millis| append_of(ALICE, Origin::Local, envelope(1, &[n]), LogBounds::default(), millis);
    done(&store, vec![said(1, 2_000), said(2, 3_000), said(3, 9_000), trim(1, &[(ALICE, 3), (BOB, 1)])]);
    let forwarded = OutboundKey { log: log(1), sequence: Sequence::new(1) };
    done(&store, vec![taken(vec![OutboundKey { sequence: Sequence::ZERO, ..forwarded }, forwarded])]);
    assert_eq!(page(&store, log(1), 0, 9), [2, 3], "what everybody has is gone");
    let (stale, next) = wait(store.stale_logs(at(5_000), None, 99)).unwrap();
    assert_eq!((stale, next), (vec![inbox(BOB), log(1)], None), "Bob has not read his invitations either");
    let (_, next) = wait(store.stale_logs(at(5_000), None, 1)).unwrap();
    assert!(next.is_some(), "there are more logs");
    let expire = Command::Expire(Expire {
        log: log(1),
        before: at(5_000),
        local: here(),
        at: at(9_500),
        bounds: LogBounds::default(),
    });
    assert_eq!(run(&store, expire.clone()), Ok(Outcome::Expired { entries: 1, inboxes: vec![inbox(ALICE)] }));
    assert_eq!(run(&store, expire), Ok(Outcome::Expired { entries: 0, inboxes: Vec::new() }));
    assert_eq!(page(&store, log(1), 0, 9), [3]);
    let rows = wait(store.outbound(there(), None, 9, usize::MAX)).unwrap();
    assert_eq!(rows.iter().map(|row| row.key.sequence.get()).collect::<Vec<_>>(), [3], "not forwarded any more");
    let told = wait(store.log_page(inbox(ALICE), Sequence::ZERO, 9, usize::MAX)).unwrap();
    let Some(EntryBody::Undelivered(words)) = told.entries.last().map(|entry| &entry.body) else { panic!("not told") };
    assert_eq!((words.code, &words.domain, words.envelopes.len()), (RefusalCode::Expired, &here(), 1));
}

pub(super) fn an_account_is_given_out_whole_and_ends_whole(fixture: &mut impl Fixture) {
    let store = three_friends(fixture);
    done(&store, script_of_people());
    let rows = |after: &mut Vec<u8>| {
        let page = wait(store.export(account(ALICE), after.clone(), 3)).unwrap();
        *after = page.next.clone().unwrap_or_default();
        (page.rows, page.next.is_some())
    };
    let (mut kinds, mut after) = (Vec::new(), Vec::new());
    loop {
        let (rows, more) = rows(&mut after);
        kinds.extend(rows.into_iter().map(|row| row.kind));
        if !more {
            break;
        }
    }
    for kind in ["accounts", "account logs", "friends", "profile cards", "thread rows", "wake-up addresses", "entries"]
    {
        assert!(kinds.iter().any(|known| known == kind), "{kind} is not given out: {kinds:?}");
    }
    let whole = wait(store.export(account(ALICE), Vec::new(), 999)).unwrap();
    assert_eq!((whole.rows.len(), whole.next), (kinds.len(), None));

    done(&store, vec![Command::DeleteAccount(account(ALICE)), Command::DeleteAccount(account(ALICE))]);
    assert_eq!(wait(store.account(account(ALICE))).unwrap(), None);
    assert_eq!(run(&store, claim(ALICE, BOB, here(), None)), Err(Conflict::NoConsent));
    assert_eq!(run(&store, register(50, "alice")), Err(Conflict::NameTaken), "nobody takes the name up");
    assert_eq!(run(&store, register(ALICE, "alice")), Err(Conflict::AccountExists), "not before all is gone");
    assert_eq!(wait(store.to_purge(9)).unwrap(), [account(ALICE)]);
    let store = fixture.restart(store);
    let mut steps = 0;
    while run(&store, Command::Purge(account(ALICE))) != Ok(Outcome::Purged { more: false }) {
        steps += 1;
        assert!(steps < 99, "it does not end");
    }
    assert_eq!(wait(store.to_purge(9)).unwrap(), []);
    assert_eq!(standing(&store, BOB, ALICE), None);
    assert_eq!(wait(store.device_logs(mailbox(ALICE), None, 9)).unwrap(), []);
    assert_eq!(wait(store.friends(account(ALICE), None, 9)).unwrap(), []);
    assert_eq!(wait(store.invites(account(ALICE))).unwrap(), []);
    assert_eq!(run(&store, Command::DeleteAccount(account(ALICE))), Err(Conflict::NotFound));
    // What was theirs and Bob's goes on without her.
    done(&store, vec![trim(1, &[(BOB, 1)])]);
    assert_eq!(run(&store, append(1, ALICE, b"ghost")), Err(Conflict::NotMember));
}

/// Every command of these, after [`friends`]; for the crash case, and to have rows of every kind.
pub(super) fn script_of_people() -> Vec<Command> {
    let thread = ThreadId::from_bytes([21; 32]);
    let settings = ThreadSettings { sealed: vec![1; 30], quiet_until: at(5_000) };
    vec![
        invitation(9, 2, 9_000),
        entering(30, "ina", Entrance::Invited(InviteToken::from_bytes([9; 16]).hash())),
        says((ALICE, here()), Act::Request, (30, here()), 2_000),
        says((30, here()), Act::Accept, (ALICE, here()), 2_001),
        says((44, there()), Act::Request, (ALICE, here()), 2_002),
        says((BOB, here()), Act::Remove, (CAROL, there()), 2_003),
        block(BOB, 45, there(), true),
        Command::LetSee(LetSee { owner: account(ALICE), other: account(30), allowed: false }),
        Command::SetProfile(SetProfile { owner: account(ALICE), revision: 1, card: signed(ALICE, b"card") }),
        open(21, BOB, &two()),
        append(21, BOB, b"hello"),
        Command::SetThread(SetThread { owner: account(ALICE), thread, settings }),
        extend(1, 2, &[0, 1]),
        wakes(ALICE, Some(7)),
        confirms(ALICE, 7, 1_001),
        invite(ALICE, 41, 1, 9_000),
        Command::RevokeInvite(account(ALICE), InviteToken::from_bytes([41; 16]).hash()),
        Command::Expire(Expire {
            log: log(21),
            before: at(9_000),
            local: here(),
            at: at(9_000),
            bounds: LogBounds::default(),
        }),
        Command::RevokeRegistration(InviteToken::from_bytes([9; 16]).hash()),
        register(31, "joe"),
        says((31, here()), Act::Request, (BOB, here()), 2_004),
        Command::Decline(Decline { owner: account(BOB), other: Some(account(31)) }),
        Command::DeleteAccount(account(31)),
        Command::Purge(account(31)),
    ]
}

/// What can be seen of people.
pub(super) fn picture(store: &impl Store) -> String {
    let mut seen = String::new();
    for person in [ALICE, BOB, 30, 31] {
        let friends = wait(store.friends(account(person), None, 99)).unwrap();
        let (card, invites) =
            (wait(store.profile(account(person))).unwrap(), wait(store.invites(account(person))).unwrap());
        let (wake, export) =
            (wait(store.wake(device(person))).unwrap(), wait(store.export(account(person), Vec::new(), 999)).unwrap());
        seen += &format!("{friends:?} {card:?} {invites:?} {wake:?} {:?}\n", export.rows.len());
    }
    seen + &format!("{:?} {:?}", wait(store.registrations(None, 9)).unwrap(), wait(store.to_purge(9)).unwrap())
}
