//! The contract every store keeps, as checks a backend's tests run.
//! Owns: the cases. Never: knows a backend.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a failed check is a panic"
)]

mod blobs;
mod cursors;
mod full;
mod hub;
mod peers;
mod people;
mod public;

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use whimbrel_protocol::federation::ForwardBody;
use whimbrel_protocol::id::{
    AccountId, DeviceId, DeviceIndex, Domain, EnvelopeId, Epoch, InviteToken, LogHash, ParticipantsTag, PublicKey,
    RelayId, Sequence, ThreadId,
};
use whimbrel_protocol::push::{EntryBody, LogRef};
use whimbrel_protocol::thread::{Class, Envelope, ListingPlace, Opening, Participant};
use whimbrel_protocol::time::Wall;
use whimbrel_protocol::{RefusalCode, limits};

use super::command::people::Entrance;
use super::command::{
    self, Append, Appended, ClaimKeyPackages, CursorMove, Forwarded, GiveConsent, Here, LogBounds, NewInvite,
    OpenThread, Opened, Origin, PinPeer, Register, StockKeyPackages, TagThread, TouchThreads, Trim,
};
use super::{Command, Conflict, LogId, MailboxId, OutboundKey, Outcome, Pin, PinnedBy, Store, StoreError};

/// A backend under test.
pub trait Fixture {
    /// Its store.
    type Store: Store;

    /// An empty store.
    fn fresh(&mut self) -> Self::Store;

    /// The same store after a crash: only what is durable is left.
    fn restart(&mut self, store: Self::Store) -> Self::Store;
}

/// Runs every check.
pub fn check(fixture: &mut impl Fixture) {
    a_name_belongs_to_one_account(fixture);
    claims_race_for_the_last_package(fixture);
    the_uses_of_an_invite_run_out_inside_one_group(fixture);
    consent_is_for_an_account_at_its_home(fixture);
    a_stock_is_bounded_and_takes_nothing_twice(fixture);
    opening_twice_is_once(fixture);
    strangers_and_unknown_people_look_alike(fixture);
    an_append_is_idempotent_and_for_members_only(fixture);
    an_id_is_remembered_after_its_entry_is_gone(fixture);
    a_full_log_of_two_refuses_and_a_larger_one_forgets(fixture);
    pages_follow_each_other_without_gap(fixture);
    cursors_only_move_forward_and_never_beyond_the_head(fixture);
    cursors::a_cursor_has_the_epochs_of_its_leaf(fixture);
    a_trim_keeps_what_a_peer_waits_for(fixture);
    peers::what_a_peer_refuses_goes_with_a_notice_to_its_author(fixture);
    peers::a_refused_opening_lets_its_creator_open_another(fixture);
    peers::what_leaves_a_full_log_before_a_peer_had_it_is_told(fixture);
    full::what_leaves_a_full_log_before_a_device_here_had_it_is_told(fixture);
    full::a_page_says_from_where_on_it_leaves_nothing_out(fixture);
    full::an_author_elsewhere_and_a_device_that_had_it_cost_no_notice(fixture);
    full::a_log_full_of_what_waits_for_a_peer_takes_what_that_peer_forwards(fixture);
    full::what_a_peer_forwards_finds_room_where_nothing_may_go_for_it(fixture);
    full::what_was_not_for_a_device_is_not_missed_by_it(fixture);
    full::a_long_log_drops_a_step_at_once_and_stays_within_its_bounds(fixture);
    threads_are_listed_by_updated_time(fixture);
    peers::a_pin_never_changes(fixture);
    peers::an_introduction_needs_a_live_invite_and_leaves_it_as_it_was(fixture);
    peers::links_pin_a_bounded_number_of_peers_and_the_operator_any(fixture);
    people::an_invitation_to_register_is_used_up_by_those_who_come_in(fixture);
    people::a_request_that_is_accepted_makes_friends_of_both(fixture);
    people::each_relay_keeps_its_own_half_of_a_friendship(fixture);
    people::requests_that_cross_make_friends(fixture);
    people::whoever_is_kept_away_cannot_tell(fixture);
    people::a_block_holds_from_the_next_command_of_its_group_on(fixture);
    people::requests_are_bounded_by_the_day_and_by_the_list(fixture);
    people::whoever_has_no_room_for_a_word_is_as_nobody(fixture);
    people::an_invite_is_nothing_to_whom_its_owner_has_parted_with_since(fixture);
    people::invites_are_listed_and_taken_back(fixture);
    people::of_two_cards_the_higher_revision_stays(fixture);
    people::settings_of_a_thread_are_its_owners(fixture);
    people::logs_trees_and_stamps(fixture);
    people::a_device_is_woken_where_it_has_shown_to_be(fixture);
    people::what_waited_too_long_goes_and_its_author_is_told(fixture);
    people::an_account_is_given_out_whole_and_ends_whole(fixture);
    blobs::bodies_go_with_the_last_row_that_names_them(fixture);
    blobs::bodies_go_with_an_account_and_with_what_waited_too_long(fixture);
    blobs::an_opening_that_waited_too_long_goes_with_its_bodies_and_its_creator_is_told(fixture);
    blobs::bodies_of_many_pieces_are_kept_whole_and_go_whole(fixture);
    blobs::a_trim_takes_a_bounded_number_of_bodies(fixture);
    hub::the_first_commit_of_an_epoch_holds(fixture);
    public::a_commit_does_what_is_said_of_it(fixture);
    public::a_public_state_is_written_anew_and_the_commits_since_are_kept(fixture);
    hub::a_welcome_leaves_with_the_commit_that_holds_alone(fixture);
    hub::a_commit_says_what_can_be(fixture);
    hub::who_reads_an_entry_is_decided_by_its_epoch(fixture);
    hub::what_is_taken_of_a_former_member_is_decided_by_what_its_relay_knew(fixture);
    hub::t15_a_word_that_somebody_leaves_holds_for_the_leaf_they_had_then(fixture);
    hub::whoever_comes_back_still_gets_what_waited(fixture);
    hub::another_relay_follows_its_hub(fixture);
    hub::a_hub_names_none_of_this_relays_own_users_who_are_not_in_the_group(fixture);
    hub::an_inbox_that_is_full_takes_the_invitation_to_what_a_hub_decided(fixture);
    a_crash_after_any_command_loses_nothing_answered(fixture);
}

/// Drives a future on this thread, parked while it waits for another.
pub fn wait<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        std::thread::park();
    }
}

const ALICE: u8 = 1;
const BOB: u8 = 2;
const CAROL: u8 = 3;

fn here() -> Domain {
    "a.example".parse().unwrap()
}

fn there() -> Domain {
    "b.example".parse().unwrap()
}

fn account(person: u8) -> AccountId {
    AccountId::from_bytes([person; 32])
}

fn device(person: u8) -> DeviceId {
    DeviceId { account: account(person), index: DeviceIndex::FIRST }
}

fn mailbox(person: u8) -> MailboxId {
    MailboxId::from_bytes([person; 16])
}

fn log(thread: u8) -> LogId {
    LogId::from_bytes([100 + thread; 16])
}

fn at(millis: u64) -> Wall {
    Wall::from_millis(millis)
}

fn register(person: u8, name: &str) -> Command {
    let key = |n: u8| PublicKey::from_bytes([person.wrapping_mul(2) + n; 32]);
    Command::Register(Register {
        name: name.parse().unwrap(),
        account: account(person),
        log: vec![person; 300],
        head: (1, LogHash::from_bytes([person; 32])),
        devices: vec![command::account_device(DeviceIndex::FIRST, key(0), key(1), mailbox(person))],
        inbox: LogId::from_bytes([person; 16]),
        entrance: Entrance::Open,
        at: at(1_000),
    })
}

fn stock(person: u8, packages: &[u8], last_resort: Option<u8>) -> Command {
    let package = |byte: &u8| vec![*byte; 40].into();
    Command::StockKeyPackages(StockKeyPackages {
        device: device(person),
        one_time: packages.iter().map(package).collect(),
        last_resort: last_resort.as_ref().map(package),
        replaces: false,
    })
}

fn claim(owner: u8, requester: u8, domain: Domain, token: Option<u8>) -> Command {
    Command::ClaimKeyPackages(ClaimKeyPackages {
        owner: account(owner),
        requester: account(requester),
        requester_domain: domain,
        token: token.map(|byte| InviteToken::from_bytes([byte; 16])),
        own: None,
        local: here(),
        at: at(1_000),
    })
}

fn consent(owner: u8, other: u8, domain: Domain) -> Command {
    Command::GiveConsent(GiveConsent { owner: account(owner), other: account(other), domain, at: at(1_000) })
}

fn invite(owner: u8, token: u8, uses: u32, expires: u64) -> Command {
    let token = InviteToken::from_bytes([token; 16]).hash();
    Command::NewInvite(NewInvite { owner: account(owner), token, uses, expires: at(expires), at: at(1_000) })
}

fn bounds() -> LogBounds {
    LogBounds { entries_max: 4, bytes_max: 1 << 20 }
}

fn opening(thread: u8, people: &[(u8, Domain)]) -> Opening {
    let participant = |(person, domain): &(u8, Domain)| Participant {
        account: account(*person),
        domain: domain.clone(),
        devices: vec![DeviceIndex::FIRST],
    };
    Opening {
        thread: ThreadId::from_bytes([thread; 32]),
        epoch: Epoch::new(1),
        participants: people.iter().map(participant).collect(),
        welcome: vec![thread; 9_000],
        tree: vec![7; 5_000],
        founding: None,
    }
}

fn open(thread: u8, creator: u8, people: &[(u8, Domain)]) -> Command {
    let tag = ParticipantsTag::from_bytes([thread; 32]);
    open_of(thread, creator, Origin::Local, Some(tag), people)
}

fn open_of(thread: u8, creator: u8, origin: Origin, tag: Option<ParticipantsTag>, people: &[(u8, Domain)]) -> Command {
    let here = Here { local: here(), log: log(thread), at: at(1_000), bounds: LogBounds::default() };
    let open = OpenThread::new(opening(thread, people), device(creator), origin, tag, here, None);
    Command::OpenThread(Box::new(open))
}

fn envelope(thread: u8, body: &[u8]) -> Envelope {
    let thread = ThreadId::from_bytes([thread; 32]);
    Envelope { thread, epoch: Epoch::new(1), class: Class::Message, body: body.to_vec() }
}

fn append_of(author: u8, origin: Origin, envelope: Envelope, bounds: LogBounds, millis: u64) -> Command {
    let id = EnvelopeId::of(&envelope.body);
    let envelope = Arc::new(envelope);
    Command::Append(Append { envelope, id, author: device(author), origin, local: here(), at: at(millis), bounds })
}

fn append(thread: u8, author: u8, body: &[u8]) -> Command {
    append_of(author, Origin::Local, envelope(thread, body), LogBounds::default(), 2_000)
}

fn trim(thread: u8, cursors: &[(u8, u64)]) -> Command {
    let cursors = cursors.iter().map(|(person, upto)| (mailbox(*person), Sequence::new(*upto))).collect();
    Command::Trim(Trim { log: log(thread), cursors })
}

fn run(store: &impl Store, command: Command) -> Result<Outcome, Conflict> {
    match wait(store.commit(command)) {
        Ok(outcome) => Ok(outcome),
        Err(StoreError::Conflict(conflict)) => Err(conflict),
        Err(error) => panic!("the store failed: {error}"),
    }
}

fn run_all(store: &impl Store, commands: Vec<Command>) -> Vec<Result<Outcome, Conflict>> {
    wait(store.commit_all(commands)).unwrap()
}

fn done(store: &impl Store, commands: Vec<Command>) {
    for command in commands {
        let text = format!("{command:?}");
        run(store, command).unwrap_or_else(|conflict| panic!("{conflict}: {text}"));
    }
}

/// The sequence an append got, and whether it was new.
fn placed(outcome: Result<Outcome, Conflict>) -> (u64, bool) {
    match outcome {
        Ok(Outcome::Appended(Appended { sequence, new, .. })) => (sequence.get(), new),
        other => panic!("no append: {other:?}"),
    }
}

fn page(store: &impl Store, log: LogId, after: u64, limit: usize) -> Vec<u64> {
    let page = wait(store.log_page(log, Sequence::new(after), limit, usize::MAX)).unwrap();
    page.entries.iter().map(|entry| entry.sequence.get()).collect()
}

/// Alice and Bob here, Carol at the other relay; everybody lets everybody reach them.
fn three_friends<F: Fixture>(fixture: &mut F) -> F::Store {
    let store = fixture.fresh();
    done(&store, friends());
    store
}

fn friends() -> Vec<Command> {
    vec![
        register(ALICE, "alice"),
        register(BOB, "bob"),
        consent(ALICE, BOB, here()),
        consent(BOB, ALICE, here()),
        consent(ALICE, CAROL, there()),
        consent(BOB, CAROL, there()),
    ]
}

fn two() -> Vec<(u8, Domain)> {
    vec![(ALICE, here()), (BOB, here())]
}

fn across() -> Vec<(u8, Domain)> {
    vec![(ALICE, here()), (CAROL, there())]
}

fn all() -> Vec<(u8, Domain)> {
    vec![(ALICE, here()), (BOB, here()), (CAROL, there())]
}

fn a_name_belongs_to_one_account(fixture: &mut impl Fixture) {
    let store = fixture.fresh();
    let outcomes = run_all(&store, vec![register(ALICE, "alice"), register(BOB, "alice"), register(BOB, "bob")]);
    assert_eq!(outcomes, [Ok(Outcome::Done), Err(Conflict::NameTaken), Ok(Outcome::Done)]);
    assert_eq!(run(&store, register(ALICE, "alice")), Ok(Outcome::Done));
    assert_eq!(run(&store, register(ALICE, "alice2")), Err(Conflict::AccountExists));
    let mut other = register(ALICE, "alice");
    if let Command::Register(register) = &mut other {
        register.head.0 += 1;
    }
    assert_eq!(run(&store, other), Err(Conflict::AccountExists));
    assert_eq!(wait(store.account_by_name("bob".parse().unwrap())).unwrap(), Some(account(BOB)));
    assert_eq!(wait(store.account(account(ALICE))).unwrap().unwrap().devices[0].mailbox, mailbox(ALICE));
    assert_eq!(wait(store.account_log(account(BOB))).unwrap(), Some(vec![BOB; 300]));
    assert_eq!(wait(store.account(account(CAROL))).unwrap(), None);
}

fn claims_race_for_the_last_package(fixture: &mut impl Fixture) {
    let store = three_friends(fixture);
    assert_eq!(run(&store, stock(ALICE, &[1, 2], Some(9))), Ok(Outcome::Stocked { left: 2 }));
    let claims = (0..4).map(|_| claim(ALICE, BOB, here(), None)).collect();
    let handed: Vec<(u8, u32)> = run_all(&store, claims)
        .into_iter()
        .map(|outcome| match outcome {
            Ok(Outcome::Claimed { packages, left }) => (packages[0].package[0], left[0].1),
            other => panic!("no claim: {other:?}"),
        })
        .collect();
    assert_eq!(handed, [(1, 1), (2, 0), (9, 0), (9, 0)]);
    assert_eq!(wait(store.package_count(device(ALICE))).unwrap(), 0);
    let nothing = Outcome::Claimed { packages: Vec::new(), left: vec![(DeviceIndex::FIRST, 0)] };
    assert_eq!(run(&store, claim(BOB, ALICE, here(), None)), Ok(nothing));
}

fn the_uses_of_an_invite_run_out_inside_one_group(fixture: &mut impl Fixture) {
    let store = fixture.fresh();
    done(&store, vec![register(ALICE, "alice"), stock(ALICE, &[], Some(9)), invite(ALICE, 5, 2, 2_000)]);
    let claims = (10..14).map(|person| claim(ALICE, person, there(), Some(5))).collect();
    let passed: Vec<bool> = run_all(&store, claims).iter().map(Result::is_ok).collect();
    assert_eq!(passed, [true, true, false, false]);
    // Consent was given with the use: no token is needed any more, and none is used.
    assert!(run(&store, claim(ALICE, 10, there(), None)).is_ok());
    done(&store, vec![invite(ALICE, 6, 1, 1_000), invite(ALICE, 7, 1, 1_001)]);
    assert_eq!(run(&store, claim(ALICE, 20, there(), Some(6))), Err(Conflict::NoConsent), "expired");
    assert_eq!(run(&store, claim(ALICE, 20, there(), Some(8))), Err(Conflict::NoConsent), "never made");
    assert_eq!(run(&store, claim(CAROL, 20, there(), Some(7))), Err(Conflict::NoConsent), "no such account");
    assert!(run(&store, claim(ALICE, 20, there(), Some(7))).is_ok());
    assert_eq!(run(&store, invite(ALICE, 6, 3, 9_000)), Err(Conflict::Differs));
    // What is open is bounded; what has expired makes room.
    for token in 0..limits::INVITES_MAX as u64 - 1 {
        let mut wide = [0; 16];
        wide[..8].copy_from_slice(&token.to_be_bytes());
        let token = InviteToken::from_bytes(wide).hash();
        let invite = NewInvite { owner: account(ALICE), token, uses: 1, expires: at(9_000), at: at(999) };
        run(&store, Command::NewInvite(invite)).unwrap();
    }
    assert_eq!(run(&store, invite(ALICE, 200, 1, 9_000)), Ok(Outcome::Done));
    assert_eq!(run(&store, invite(ALICE, 201, 1, 9_000)), Err(Conflict::TooMany("open invites")));
}

fn consent_is_for_an_account_at_its_home(fixture: &mut impl Fixture) {
    let store = three_friends(fixture);
    done(&store, vec![stock(ALICE, &[1, 2, 3], None)]);
    assert!(run(&store, claim(ALICE, CAROL, there(), None)).is_ok());
    let elsewhere: Domain = "c.example".parse().unwrap();
    assert_eq!(run(&store, claim(ALICE, CAROL, elsewhere, None)), Err(Conflict::NoConsent));
    assert_eq!(run(&store, claim(ALICE, 77, here(), None)), Err(Conflict::NoConsent));
    // An invite used by a local account gives consent both ways.
    done(&store, vec![register(10, "dan"), invite(ALICE, 5, 1, 2_000), claim(ALICE, 10, here(), Some(5))]);
    assert!(run(&store, claim(10, ALICE, here(), None)).is_ok());
}

fn a_stock_is_bounded_and_takes_nothing_twice(fixture: &mut impl Fixture) {
    let store = three_friends(fixture);
    let many: Vec<u8> = (1..=limits::KEY_PACKAGES_MAX as u8).collect();
    let left = limits::KEY_PACKAGES_MAX as u32;
    assert_eq!(run(&store, stock(ALICE, &many, None)), Ok(Outcome::Stocked { left }));
    assert_eq!(run(&store, stock(ALICE, &many, None)), Ok(Outcome::Stocked { left }));
    assert_eq!(run(&store, stock(ALICE, &[200], None)), Err(Conflict::TooMany("key packages")));
    assert_eq!(run(&store, stock(CAROL, &[1], None)), Err(Conflict::NotFound));
    assert_eq!(wait(store.package_count(device(ALICE))).unwrap(), left);
    // A stock that replaces takes the place of all of it, and changes nothing when it comes twice.
    let anew: Vec<u8> = (101..=100 + limits::KEY_PACKAGES_MAX as u8).collect();
    for _ in 0..2 {
        let Command::StockKeyPackages(stock) = stock(ALICE, &anew, None) else { unreachable!() };
        let replaces = Command::StockKeyPackages(StockKeyPackages { replaces: true, ..stock });
        assert_eq!(run(&store, replaces), Ok(Outcome::Stocked { left }));
    }
    match run(&store, claim(ALICE, BOB, here(), None)) {
        Ok(Outcome::Claimed { packages, left }) => {
            assert_eq!((packages[0].package[0], left[0].1), (101, limits::KEY_PACKAGES_MAX as u32 - 1));
        }
        other => panic!("no claim: {other:?}"),
    }
}

fn opening_twice_is_once(fixture: &mut impl Fixture) {
    let store = three_friends(fixture);
    let opened = run(&store, open(1, ALICE, &all()));
    let expected = Opened {
        log: log(1),
        readers: vec![(device(ALICE), mailbox(ALICE)), (device(BOB), mailbox(BOB))],
        inboxes: vec![LogId::from_bytes([BOB; 16])],
        peers: vec![there()],
    };
    assert_eq!(opened, Ok(Outcome::Opened(expected)));
    let again = Opened { log: log(1), readers: Vec::new(), inboxes: Vec::new(), peers: Vec::new() };
    assert_eq!(run(&store, open(1, ALICE, &all())), Ok(Outcome::Opened(again)));
    assert_eq!(run(&store, open(1, ALICE, &two())), Err(Conflict::Differs));
    let mut other = open(2, ALICE, &all());
    if let Command::OpenThread(open) = &mut other {
        open.tag = Some(ParticipantsTag::from_bytes([1; 32]));
    }
    assert_eq!(run(&store, other), Ok(Outcome::Exists(ThreadId::from_bytes([1; 32]))));
    // One entry, one row, both blobs once.
    let inbox = wait(store.log_page(LogId::from_bytes([BOB; 16]), Sequence::ZERO, 9, usize::MAX)).unwrap();
    let EntryBody::Invitation(invitation) = &inbox.entries[0].body else { panic!("no invitation") };
    assert_eq!((inbox.entries.len(), invitation.inviter), (1, device(ALICE)));
    assert_eq!(wait(store.blob(invitation.welcome)).unwrap(), Some(vec![1; 9_000]));
    assert_eq!(wait(store.blob(invitation.tree)).unwrap(), Some(vec![7; 5_000]));
    let rows = wait(store.outbound(there(), None, 9, usize::MAX)).unwrap();
    let Some(ForwardBody::Opening(creator, forwarded)) = &rows[0].body else { panic!("no opening") };
    assert_eq!((rows.len(), *creator, forwarded), (1, device(ALICE), &opening(1, &all())));
    let tag = ParticipantsTag::from_bytes([1; 32]);
    assert_eq!(wait(store.thread_by_tag(account(ALICE), tag)).unwrap(), Some(ThreadId::from_bytes([1; 32])));
    assert_eq!(wait(store.thread_by_tag(account(BOB), tag)).unwrap(), None);
}

fn strangers_and_unknown_people_look_alike(fixture: &mut impl Fixture) {
    let store = fixture.fresh();
    done(&store, vec![register(ALICE, "alice"), register(BOB, "bob")]);
    let stranger = run(&store, open(1, ALICE, &two()));
    let unknown = run(&store, open(1, ALICE, &[(ALICE, here()), (99, here())]));
    assert_eq!((stranger, unknown), (Err(Conflict::NoConsent), Err(Conflict::NoConsent)));
    let from_peer = |creator, people: &[(u8, Domain)]| open_of(2, creator, Origin::Peer(there()), None, people);
    assert_eq!(run(&store, from_peer(CAROL, &across())), Err(Conflict::NoConsent));
    done(&store, vec![consent(ALICE, CAROL, there()), consent(BOB, ALICE, here())]);
    // A peer speaks for its own domain: not for Alice, not for Carol when she lives elsewhere.
    assert_eq!(run(&store, from_peer(ALICE, &two())), Err(Conflict::Malformed));
    assert_eq!(
        run(&store, from_peer(CAROL, &[(ALICE, here()), (CAROL, "c.example".parse().unwrap())])),
        Err(Conflict::Malformed)
    );
    assert_eq!(run(&store, from_peer(CAROL, &[(CAROL, there())])), Err(Conflict::Malformed));
    assert!(run(&store, from_peer(CAROL, &across())).is_ok());
    // Carol's envelopes come by her relay, Alice's from here.
    let peer = |author, domain| append_of(author, Origin::Peer(domain), envelope(2, b"x"), LogBounds::default(), 1);
    assert_eq!(run(&store, peer(ALICE, there())), Err(Conflict::NotMember));
    assert_eq!(run(&store, peer(CAROL, "c.example".parse().unwrap())), Err(Conflict::NotMember));
    assert_eq!(run(&store, append(2, CAROL, b"x")), Err(Conflict::NotMember));
    assert_eq!(placed(run(&store, peer(CAROL, there()))), (1, true));
    assert!(wait(store.outbound(there(), None, 9, usize::MAX)).unwrap().is_empty(), "what a peer brought goes nowhere");
}

fn an_append_is_idempotent_and_for_members_only(fixture: &mut impl Fixture) {
    let store = three_friends(fixture);
    done(&store, vec![open(1, ALICE, &across())]);
    let outcomes = run_all(&store, vec![append(1, ALICE, b"one"), append(1, ALICE, b"one"), append(1, ALICE, b"two")]);
    assert_eq!(outcomes.into_iter().map(placed).collect::<Vec<_>>(), [(1, true), (1, false), (2, true)]);
    let store = fixture.restart(store);
    assert_eq!(placed(run(&store, append(1, ALICE, b"two"))), (2, false));
    assert_eq!(run(&store, append(1, BOB, b"three")), Err(Conflict::NotMember));
    assert_eq!(run(&store, append(9, ALICE, b"three")), Err(Conflict::NotMember));
    let mut stale = envelope(1, b"three");
    stale.epoch = Epoch::new(2);
    assert_eq!(run(&store, append_of(ALICE, Origin::Local, stale, LogBounds::default(), 1)), Err(Conflict::StaleEpoch));
    assert_eq!(page(&store, log(1), 0, 9), [1, 2]);
    let rows: Vec<u64> =
        wait(store.outbound(there(), None, 9, usize::MAX)).unwrap().iter().map(|row| row.key.sequence.get()).collect();
    assert_eq!(rows, [0, 1, 2]);
}

fn an_id_is_remembered_after_its_entry_is_gone(fixture: &mut impl Fixture) {
    let store = three_friends(fixture);
    done(&store, vec![open(1, ALICE, &two()), append(1, ALICE, b"one"), append(1, BOB, b"two")]);
    let trimmed = run(&store, trim(1, &[(ALICE, 2), (BOB, 2)]));
    assert_eq!(trimmed, Ok(Outcome::Trimmed { upto: Sequence::new(2), more: false }));
    assert_eq!(page(&store, log(1), 0, 9), [0; 0]);
    assert_eq!(placed(run(&store, append(1, ALICE, b"one"))), (1, false));
    assert_eq!(placed(run(&store, append(1, ALICE, b"three"))), (3, true));
}

fn a_full_log_of_two_refuses_and_a_larger_one_forgets(fixture: &mut impl Fixture) {
    let store = three_friends(fixture);
    done(&store, vec![open(1, ALICE, &two()), open(2, ALICE, &all())]);
    let bounded = |thread, n: u8| append_of(ALICE, Origin::Local, envelope(thread, &[n]), bounds(), 1);
    for n in 1..=4 {
        assert_eq!(placed(run(&store, bounded(1, n))).0, u64::from(n));
        assert_eq!(placed(run(&store, bounded(2, n))).0, u64::from(n));
    }
    assert_eq!(run(&store, bounded(1, 5)), Err(Conflict::Full));
    assert_eq!(placed(run(&store, bounded(1, 4))), (4, false), "what is there is not refused");
    assert_eq!(placed(run(&store, bounded(2, 5))).0, 5);
    assert_eq!((page(&store, log(1), 0, 9), page(&store, log(2), 0, 9)), (vec![1, 2, 3, 4], vec![2, 3, 4, 5]));
    let rows = wait(store.outbound(there(), None, 9, usize::MAX)).unwrap();
    let there: Vec<u64> = rows.iter().filter(|row| row.body.is_some()).map(|row| row.key.sequence.get()).collect();
    assert_eq!((there, rows.len()), (vec![0, 2, 3, 4, 5], 5), "no row is left of an entry that is gone");
    // Once somebody has read, there is room again.
    done(&store, vec![trim(1, &[(ALICE, 4), (BOB, 1)])]);
    assert_eq!(placed(run(&store, bounded(1, 5))).0, 5);
    let bytes = LogBounds { entries_max: 100, bytes_max: 2_000 };
    let large = |n: u8| append_of(ALICE, Origin::Local, envelope(1, &[n; 1_000]), bytes, 1);
    assert_eq!(placed(run(&store, large(1))).0, 6);
    assert_eq!(run(&store, large(2)), Err(Conflict::Full));
}

fn pages_follow_each_other_without_gap(fixture: &mut impl Fixture) {
    let store = three_friends(fixture);
    done(&store, vec![open(1, ALICE, &across()), open(2, BOB, &all()), open(3, ALICE, &two())]);
    done(&store, (0..50_u8).map(|n| append(1, ALICE, &[n; 100])).collect());
    assert_eq!(page(&store, log(1), 0, 20), (1..=20).collect::<Vec<_>>());
    assert_eq!(page(&store, log(1), 20, 100), (21..=50).collect::<Vec<_>>());
    assert_eq!(page(&store, log(1), 50, 100), [0; 0]);
    assert_eq!(page(&store, log(9), 0, 100), [0; 0]);
    let bounded = wait(store.log_page(log(1), Sequence::ZERO, 100, 500)).unwrap();
    assert!((1..5).contains(&bounded.entries.len()) && bounded.head == Sequence::new(50));
    assert_eq!(bounded.upto, bounded.entries.last().unwrap().sequence);
    assert_eq!(wait(store.log_page(log(1), Sequence::ZERO, 100, 1)).unwrap().entries.len(), 1, "one always goes");
    let (mut rows, mut after) = (Vec::new(), None);
    loop {
        let page = wait(store.outbound(there(), after, 7, 1_000)).unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.key);
        rows.extend(page.iter().map(|row| row.key));
    }
    assert_eq!(rows.len(), 52);
    assert!(rows.is_sorted());
    let (mut logs, mut after) = (Vec::new(), None);
    loop {
        let page = wait(store.device_logs(mailbox(ALICE), after, 2)).unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.log);
        logs.extend(page.iter().map(|log| log.which));
    }
    assert_eq!(logs.len(), 4);
    assert!(logs.contains(&LogRef::Inbox));
    assert_eq!(wait(store.waiting_peers(None, 9)).unwrap(), [there()]);
    done(&store, vec![taken(rows)]);
    assert_eq!(wait(store.waiting_peers(None, 9)).unwrap(), []);
}

fn cursor(store: &impl Store, person: u8, id: LogId) -> u64 {
    let logs = wait(store.device_logs(mailbox(person), None, 99)).unwrap();
    logs.iter().find(|known| known.log == id).unwrap().cursor.get()
}

fn cursors_only_move_forward_and_never_beyond_the_head(fixture: &mut impl Fixture) {
    let store = three_friends(fixture);
    done(&store, vec![open(1, ALICE, &two())]);
    done(&store, (0..5).map(|n| append(1, ALICE, &[n])).collect());
    let move_to = |upto| {
        let upto = Sequence::new(upto);
        Command::MoveCursors(vec![CursorMove { mailbox: mailbox(BOB), log: log(1), upto }])
    };
    for (upto, expected) in [(3, 3), (2, 3), (9, 5), (0, 5)] {
        done(&store, vec![move_to(upto)]);
        assert_eq!(cursor(&store, BOB, log(1)), expected);
    }
    let foreign = CursorMove { mailbox: mailbox(CAROL), log: log(1), upto: Sequence::new(1) };
    done(&store, vec![Command::MoveCursors(vec![foreign])]);
    assert!(wait(store.device_logs(mailbox(CAROL), None, 9)).unwrap().is_empty());
}

fn a_trim_keeps_what_a_peer_waits_for(fixture: &mut impl Fixture) {
    let store = three_friends(fixture);
    done(&store, vec![open(1, ALICE, &across())]);
    done(&store, (1..=5).map(|n| append(1, ALICE, &[n])).collect());
    let nothing = Ok(Outcome::Trimmed { upto: Sequence::ZERO, more: false });
    assert_eq!(run(&store, trim(1, &[(ALICE, 5)])), nothing);
    assert_eq!(cursor(&store, ALICE, log(1)), 5, "the cursors it relies on are written with it");
    let forwarded = |rows: &[u64]| {
        let key = |n: &u64| OutboundKey { log: log(1), sequence: Sequence::new(*n) };
        taken(rows.iter().map(key).collect())
    };
    done(&store, vec![forwarded(&[0, 1, 2])]);
    assert_eq!(page(&store, log(1), 0, 9), [3, 4, 5]);
    done(&store, vec![forwarded(&[4, 5, 5, 77])]);
    assert_eq!(page(&store, log(1), 0, 9), [3, 4, 5], "the first row waits still");
    done(&store, vec![forwarded(&[3])]);
    assert_eq!(page(&store, log(1), 0, 9), [0; 0]);
    let store = fixture.restart(store);
    assert_eq!(placed(run(&store, append(1, ALICE, b"six"))), (6, true));
}

fn taken(rows: Vec<OutboundKey>) -> Command {
    let (refused, bounds) = (Vec::new(), LogBounds::default());
    Command::Forwarded(Forwarded { peer: there(), rows, refused, unknown: Vec::new(), at: at(3_000), bounds })
}

fn threads_are_listed_by_updated_time(fixture: &mut impl Fixture) {
    let store = three_friends(fixture);
    for thread in 1..=5 {
        done(&store, vec![open(thread, ALICE, &all())]);
        let said = append_of(
            ALICE,
            Origin::Local,
            envelope(thread, &[thread]),
            LogBounds::default(),
            2_000 + u64::from(thread),
        );
        done(&store, vec![said]);
    }
    let touch = TouchThreads { owner: account(BOB), threads: vec![ThreadId::from_bytes([2; 32])], at: at(9_000) };
    let tag = TagThread {
        owner: account(BOB),
        thread: ThreadId::from_bytes([2; 32]),
        tag: ParticipantsTag::from_bytes([42; 32]),
    };
    let mut control = envelope(5, b"control");
    control.class = Class::Control;
    done(
        &store,
        vec![
            Command::TouchThreads(touch),
            Command::TagThread(tag.clone()),
            append_of(ALICE, Origin::Local, control, LogBounds::default(), 2_005),
            trim(5, &[(BOB, 1)]),
        ],
    );
    let foreign = TagThread { owner: account(CAROL), ..tag };
    assert_eq!(run(&store, Command::TagThread(foreign)), Err(Conflict::NotFound));
    let list = |after: Option<ListingPlace>| wait(store.thread_rows(account(BOB), mailbox(BOB), after, 2)).unwrap();
    let (mut threads, mut after) = (Vec::new(), None);
    loop {
        let listing = list(after);
        after = listing.rows.last().map(|row| row.place);
        threads.extend(listing.rows.iter().map(|row| (row.place.thread.as_bytes()[0], row.unread)));
        if !listing.more {
            break;
        }
    }
    assert_eq!(threads, [(2, 1), (5, 0), (4, 1), (3, 1), (1, 1)]);
    assert_eq!(list(None).rows[0].tag, Some(ParticipantsTag::from_bytes([42; 32])));
    assert_eq!(list(None).rows[1].head, Sequence::new(2));
}

/// Everything that can be seen of the small world of these checks.
fn picture(store: &impl Store) -> String {
    let mut seen = String::new();
    for person in [ALICE, BOB] {
        let known = wait(store.account(account(person))).unwrap();
        let left = wait(store.package_count(device(person))).unwrap();
        let logs = wait(store.device_logs(mailbox(person), None, 99)).unwrap();
        let rows = wait(store.thread_rows(account(person), mailbox(person), None, 99)).unwrap();
        seen += &format!("{known:?} {left} {logs:?} {rows:?}\n");
        for log in logs {
            seen += &format!("{:?}\n", wait(store.log_page(log.log, Sequence::ZERO, 99, usize::MAX)).unwrap());
        }
    }
    let (outbound, waiting) =
        (wait(store.outbound(there(), None, 99, usize::MAX)).unwrap(), wait(store.waiting_peers(None, 9)).unwrap());
    seen += &people::picture(store);
    seen += &blobs::picture(store);
    seen + &format!("{outbound:?} {waiting:?} {:?}", wait(store.pins(None, 9)).unwrap())
}

/// Puts rows of every kind into a store.
pub fn fill(store: &impl Store) {
    done(store, script());
}

/// Puts many more accounts with invitations into a store that [`fill`] has filled.
pub fn fill_inboxes(store: &impl Store) {
    for person in 60..100 {
        let people = [(ALICE, here()), (person, here())];
        let from = |creator, thread| open_of(thread, creator, Origin::Local, None, &people);
        done(store, vec![register(person, &format!("person{person}")), consent(person, ALICE, here())]);
        done(store, vec![consent(ALICE, person, here()), from(ALICE, person), from(person, person + 50)]);
    }
}

fn script() -> Vec<Command> {
    let mut script = friends();
    script.extend([
        stock(ALICE, &[1, 2], Some(3)),
        invite(ALICE, 5, 2, 2_000),
        claim(ALICE, BOB, here(), Some(5)),
        open(1, ALICE, &all()),
        open(2, BOB, &two()),
        append(1, ALICE, b"one"),
        append(2, BOB, b"two"),
        append(1, BOB, &[4; 100_000]),
        trim(2, &[(ALICE, 1), (BOB, 1)]),
        taken(vec![OutboundKey { log: log(1), sequence: Sequence::ZERO }]),
        peers::refused(1, &[(1, RefusalCode::NotFound)], LogBounds::default()),
        trim(1, &[(ALICE, 1)]),
        append(2, ALICE, b"three"),
    ]);
    script.extend(people::script_of_people());
    script.extend(hub::script_of_groups());
    script
}

fn a_crash_after_any_command_loses_nothing_answered(fixture: &mut impl Fixture) {
    let script = script();
    // What a store without a crash shows after each command.
    let store = fixture.fresh();
    let mut pictures = vec![picture(&store)];
    for command in &script {
        run(&store, command.clone()).unwrap();
        pictures.push(picture(&store));
    }
    drop(store);
    for crash_after in 0..=script.len() {
        let mut store = fixture.fresh();
        for command in &script[..crash_after] {
            run(&store, command.clone()).unwrap();
        }
        store = fixture.restart(store);
        assert_eq!(picture(&store), pictures[crash_after], "after {crash_after} commands");
        for command in &script[crash_after..] {
            run(&store, command.clone()).unwrap();
        }
        assert_eq!(picture(&store), pictures[script.len()], "crashed after {crash_after} commands and went on");
    }
}

#[cfg(test)]
mod tests;
