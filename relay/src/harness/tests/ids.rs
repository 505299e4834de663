//! Ids that somebody guessed or overheard (T31): alone they are worth as much as wrong ones, byte by byte.

use whimbrel_protocol::friendship::LetSee;
use whimbrel_protocol::hub::{Commit, FIRST_TERM, FetchCommit, SubmitCommit};
use whimbrel_protocol::thread::{SetThread, ThreadSettings};
use whimbrel_protocol::user::{FetchProfile, RevokeInvite};

use super::*;

/// What somebody hears who asks each of these, as bytes.
fn answers(world: &mut World, who: usize, questions: Vec<Frame>) -> Vec<Vec<Vec<u8>>> {
    let bytes = |heard: Vec<Frame>| heard.iter().map(|frame| codec::encode(frame).unwrap()).collect();
    questions.into_iter().map(|frame| bytes(world.ask(who, frame))).collect()
}

/// Everything that can be asked about a thread and what is in it, under one number.
fn about_thread(thread: ThreadId) -> Vec<Frame> {
    let request = RequestId::new(7);
    let envelope = Envelope { thread, ..envelope(b"let me in") };
    let settings = ThreadSettings { sealed: Vec::new(), quiet_until: Wall::default() };
    let (term, epoch) = (FIRST_TERM, Epoch::new(1));
    let commit = Commit {
        thread,
        term,
        epoch,
        bytes: vec![1; 40],
        added: Vec::new(),
        removed: Vec::new(),
        info: vec![2; 40],
        warrant: None,
    };
    vec![
        Submit { request, envelope, heard: None }.into(),
        SetThread { request, thread, settings }.into(),
        TagThread { request, thread, tag: ParticipantsTag::from_bytes([1; 32]) }.into(),
        FetchCommit { request, thread, epoch }.into(),
        SubmitCommit { request, commit: Box::new(commit), newcomers: None }.into(),
    ]
}

#[test]
fn t31_ids_of_threads_blobs_accounts_and_invites_are_alone_worth_as_much_as_wrong_ones() {
    let bits = [size_of::<ThreadId>(), size_of::<BlobId>(), size_of::<InviteToken>()].map(|bytes| bytes * 8);
    assert!(bits.iter().all(|bits| *bits >= 128), "somebody guesses {bits:?}");
    let (mut world, alice, _) = friends(0, 0);
    let heard = std::mem::take(&mut world.devices[alice].inbox);
    let invited = entries(&heard, LogRef::Inbox, Sequence::ZERO);
    let EntryBody::Invitation(invitation) = &invited[0].body else { panic!("{invited:?}") };
    let eve = world.join("eve", 0);
    let request = RequestId::new(7);

    let known = answers(&mut world, eve, about_thread(THREAD));
    let wrong = answers(&mut world, eve, about_thread(ThreadId::from_bytes([78; 32])));
    assert_eq!(known, wrong);
    assert!(known.iter().all(|heard| heard.len() == 1), "{known:?}");

    let blob = |blob| -> Frame { FetchBlob { request, blob }.into() };
    let known = answers(&mut world, eve, vec![blob(invitation.welcome), blob(invitation.tree)]);
    let wrong = answers(&mut world, eve, vec![blob(BlobId::from_bytes([79; 32])); 2]);
    assert_eq!(known, wrong);

    // The owner's open invite, of which somebody knows what the relay is told of it, and one that nobody made.
    let revoke = |token: InviteToken| -> Frame { RevokeInvite { request, token: token.hash() }.into() };
    let wrong_token = InviteToken::from_bytes([6; 16]);
    assert_eq!(answers(&mut world, eve, vec![revoke(TOKEN)]), answers(&mut world, eve, vec![revoke(wrong_token)]));
    let request_of = world.request();
    let heard = world.ask(alice, whimbrel_protocol::user::ListInvites { request: request_of });
    assert!(matches!(&heard[..], [Frame::InvitePage(page)] if page.invites.len() == 1), "it is open still: {heard:?}");

    let (owner, nobody) = (world.devices[alice].id().account, world.person("nobody"));
    let nobody = world.devices[nobody].id().account;
    let about = |account| -> Vec<Frame> {
        let domain = domain(0);
        vec![
            FetchProfile { request, account, domain: domain.clone() }.into(),
            ClaimKeyPackages { request, account, domain: domain.clone(), token: None }.into(),
            ClaimKeyPackages { request, account, domain, token: Some(wrong_token) }.into(),
            LetSee { request, account, allowed: true }.into(),
        ]
    };
    assert_eq!(answers(&mut world, eve, about(owner)), answers(&mut world, eve, about(nobody)));
    // Nothing that was asked changed anything for those whose ids they are.
    let submit = world.submit(alice, b"as before");
    assert!(matches!(world.ask(alice, submit)[0], Frame::Stored(_)));
}
