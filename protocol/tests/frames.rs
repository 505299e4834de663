//! Every frame, by property: what is sent reads back; what is cut, foreign or too large is refused by name.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

#[path = "frames/t52.rs"]
mod t52;

use minicbor::bytes::ByteVec;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use whimbrel_protocol::codec::{self, Decoder, HEADER_BYTES};
use whimbrel_protocol::direct::{DirectEnvelope, DirectRefused, DirectStored};
use whimbrel_protocol::federation::{
    Forward, ForwardBody, ForwardItem, ForwardRefusal, Forwarded, Introduction, PeerClaim, PeerHello,
};
use whimbrel_protocol::frame::{FrameError, decode_words, encode_words};
use whimbrel_protocol::friendship::{
    Befriend, Block, Decline, Friend, FriendPage, LetSee, ListFriends, Parted, PeerBefriend, Standing,
};
use whimbrel_protocol::hold::{AckedLog, Acknowledge};
use whimbrel_protocol::hub::{
    Accepted, Arrivals, Commit, CommitLost, CommitTaken, Committed, FetchCommit, Newcomers, PeerCommit, Receipt,
    SignedReceipt, SubmitCommit, Warrant,
};
use whimbrel_protocol::id::*;
use whimbrel_protocol::linking::{JoinLinking, LinkingOver, LinkingWords, OfferLinking};
use whimbrel_protocol::message::{Body, Candidates, Content, Declined, DeviceReceipt, Reaction, Repair, Target};
use whimbrel_protocol::presence::{Goodbye, PeerPresence, SetVisible, Shown, Status};
use whimbrel_protocol::push::{CaughtUp, Entry, EntryBody, Gone, Invitation, LogRef, Push, Undelivered};
use whimbrel_protocol::reception::{
    Admitted, Done, Heartbeat, HeartbeatAnswer, Hello, KeepStamp, Refused, Register, Registered, Stamp,
};
use whimbrel_protocol::refusal::RefusalCode;
use whimbrel_protocol::siblings::{
    Fact, Handover, HistoryLine, HistoryPlace, HistorySign, HistoryThread, HistoryWords, Known, SiblingTold,
    TellSibling, What,
};
use whimbrel_protocol::signal::Signal;
use whimbrel_protocol::signed::Signed;
use whimbrel_protocol::thread::{
    Blob, Class, Envelope, FetchBlob, Founding, ListThreads, ListingPlace, OpenThread, Opening, Participant, SetThread,
    Stored, Submit, TagThread, ThreadExists, ThreadPage, ThreadRow, ThreadSettings,
};
use whimbrel_protocol::time::{Hlc, Wall};
use whimbrel_protocol::transparency::{FetchTreeHead, Inclusion, SignedHead, Step, TreeHead};
use whimbrel_protocol::user::{
    ClaimKeyPackages, ClaimedKeyPackages, ClaimedPackage, DeleteAccount, ExportOwn, Exported, ExportedRow, ExtendLog,
    FetchProfile, InvitePage, ListInvites, LogGrown, LookUp, LookedUp, NewInvite, OpenInvite, OwnLog, PeerProfile,
    Profile, Recover, RelayHint, RevokeInvite, SetProfile, StockKeyPackages, Stocked, Who,
};
use whimbrel_protocol::wake::{ConfirmWake, SetWake, WakeEndpoint};
use whimbrel_protocol::{Frame, canonical, limits};

macro_rules! ids {
    ($($function:ident $name:ident),*) => {
        $(fn $function() -> impl Strategy<Value = $name> {
            vec(any::<u8>(), $name::LEN).prop_map(|bytes| $name::try_from(bytes.as_slice()).unwrap())
        })*
    };
}
ids!(
    account AccountId, relay RelayId, thread ThreadId, envelope_id EnvelopeId, message_id MessageId, blob BlobId,
    log_hash LogHash, commit_hash CommitHash, tag ParticipantsTag, token InviteToken, token_hash TokenHash, signature Signature,
    public_key PublicKey, meeting MeetingId, tree_hash TreeHash, tree_salt TreeSalt
);

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..200)
}
fn request() -> impl Strategy<Value = RequestId> {
    any::<u64>().prop_map(RequestId::new)
}
fn sequence() -> impl Strategy<Value = Sequence> {
    any::<u64>().prop_map(Sequence::new)
}
fn epoch() -> impl Strategy<Value = Epoch> {
    any::<u64>().prop_map(Epoch::new)
}
fn wall() -> impl Strategy<Value = Wall> {
    any::<u64>().prop_map(Wall::from_millis)
}
fn index() -> impl Strategy<Value = DeviceIndex> {
    any::<u32>().prop_map(DeviceIndex::new)
}
fn name() -> impl Strategy<Value = Name> {
    "[a-z0-9][a-z0-9._-]{0,31}".prop_map(|text| text.parse().unwrap())
}
fn domain() -> impl Strategy<Value = Domain> {
    "[a-z0-9]{1,20}\\.[a-z]{2,6}".prop_map(|text| text.parse().unwrap())
}
fn address() -> impl Strategy<Value = Address> {
    (name(), domain()).prop_map(|(name, domain)| Address { name, domain })
}
fn device() -> impl Strategy<Value = DeviceId> {
    (account(), index()).prop_map(|(account, index)| DeviceId { account, index })
}
fn code() -> impl Strategy<Value = RefusalCode> {
    any::<u16>().prop_map(RefusalCode::from_number)
}
fn envelope() -> impl Strategy<Value = Envelope> {
    (thread(), epoch(), prop_oneof![Just(Class::Message), Just(Class::Control)], bytes())
        .prop_map(|(thread, epoch, class, body)| Envelope { thread, epoch, class, body })
}
fn participants() -> impl Strategy<Value = Vec<Participant>> {
    let devices = proptest::collection::btree_set(index(), 1..4);
    proptest::collection::btree_map(account(), (domain(), devices), 1..5).prop_map(|people| {
        let person = |(account, (domain, devices)): (AccountId, (Domain, std::collections::BTreeSet<_>))| Participant {
            account,
            domain,
            devices: devices.into_iter().collect(),
        };
        people.into_iter().map(person).collect()
    })
}
fn opening() -> impl Strategy<Value = Opening> {
    (thread(), epoch(), participants(), bytes(), bytes(), option::of(founding().prop_map(Box::new))).prop_map(
        |(thread, epoch, participants, welcome, tree, founding)| Opening {
            thread,
            epoch,
            participants,
            welcome,
            tree,
            founding,
        },
    )
}
fn founding() -> impl Strategy<Value = Founding> {
    (account(), relay(), any::<[u8; 32]>(), any::<bool>()).prop_map(|(creator, hub, nonce, fixed)| Founding {
        creator,
        hub,
        nonce,
        fixed,
    })
}
fn newcomers() -> impl Strategy<Value = Newcomers> {
    (bytes(), bytes()).prop_map(|(welcome, tree)| Newcomers { welcome, tree })
}
fn commit() -> impl Strategy<Value = Commit> {
    let removed = proptest::collection::btree_set(device(), 0..4);
    let warrant = option::of(prop_oneof![
        bytes().prop_map(|log| Warrant::Revoked(log.into())),
        leave().prop_map(Warrant::Leaves),
    ]);
    (thread(), any::<u64>(), epoch(), bytes(), participants(), removed, bytes(), warrant).prop_map(
        |(thread, term, epoch, bytes, added, removed, info, warrant)| Commit {
            thread,
            term,
            epoch,
            bytes,
            added,
            removed: removed.into_iter().collect(),
            info,
            warrant,
        },
    )
}
fn receipt() -> impl Strategy<Value = Receipt> {
    (thread(), any::<u64>(), epoch(), commit_hash(), option::of(commit_hash()), wall())
        .prop_map(|(thread, term, epoch, commit, previous, at)| Receipt { thread, term, epoch, commit, previous, at })
}
fn signed_receipt() -> impl Strategy<Value = SignedReceipt> {
    (receipt(), signature(), vec(bytes(), 0..3)).prop_map(|(words, signature, chain)| SignedReceipt {
        words,
        signature,
        chain: chain.into_iter().map(Into::into).collect(),
    })
}
fn accepted() -> impl Strategy<Value = Accepted> {
    (device(), commit(), signed_receipt()).prop_map(|(author, commit, receipt)| Accepted {
        author,
        commit,
        receipt: Box::new(receipt),
    })
}
fn arrivals() -> impl Strategy<Value = Arrivals> {
    (participants(), founding(), newcomers()).prop_map(|(participants, founding, newcomers)| Arrivals {
        participants,
        founding,
        newcomers,
    })
}
fn log() -> impl Strategy<Value = LogRef> {
    prop_oneof![Just(LogRef::Inbox), thread().prop_map(LogRef::Thread)]
}
fn place() -> impl Strategy<Value = ListingPlace> {
    (wall(), thread()).prop_map(|(updated, thread)| ListingPlace { updated, thread })
}
fn entry_body() -> impl Strategy<Value = EntryBody> {
    let invitation = (thread(), epoch(), device(), participants(), blob(), blob(), option::of(founding())).prop_map(
        |(thread, epoch, inviter, participants, welcome, tree, founding)| {
            EntryBody::Invitation(Invitation { thread, epoch, inviter, participants, welcome, tree, founding })
        },
    );
    let undelivered = (thread(), domain(), code(), vec(bytes().prop_map(|body| EnvelopeId::of(&body)), 0..4)).prop_map(
        |(thread, domain, code, envelopes)| EntryBody::Undelivered(Undelivered { thread, domain, code, envelopes }),
    );
    let envelope = (device(), envelope()).prop_map(|(device, envelope)| EntryBody::Envelope(device, envelope));
    let commit = accepted().prop_map(EntryBody::Commit);
    prop_oneof![envelope, invitation, undelivered, signed().prop_map(EntryBody::Friendship), commit]
}

fn signed() -> impl Strategy<Value = Signed> {
    (device(), bytes(), signature()).prop_map(|(by, content, signature)| Signed { by, content, signature })
}

/// What somebody signs who leaves: of any content that is short enough.
fn leave() -> impl Strategy<Value = Signed> {
    let content = vec(any::<u8>(), 0..=limits::LEAVE_BYTES_MAX);
    (device(), content, signature()).prop_map(|(by, content, signature)| Signed { by, content, signature })
}

fn reception() -> BoxedStrategy<Frame> {
    prop_oneof![
        (any::<u16>(), device(), any::<u64>(), log_hash(), signature(), any::<bool>()).prop_map(
            |(version, device, log_seq, log_hash, proof, stays)| {
                Hello { version, device, log_seq, log_hash, proof, stays }.into()
            }
        ),
        (any::<u16>(), domain(), option::of("[a-z:0-9]{0,40}"), wall())
            .prop_map(|(version, domain, push_address, wall)| Admitted { version, domain, push_address, wall }.into()),
        (request(), name(), bytes(), device(), signature(), option::of(token())).prop_map(
            |(request, name, log, device, proof, invite)| {
                Register { request, name, log, device, proof, invite }.into()
            }
        ),
        (request(), address()).prop_map(|(request, address)| Registered { request, address }.into()),
        (option::of(request()), code(), option::of(any::<u32>()))
            .prop_map(|(request, code, retry_after_ms)| { Refused { request, code, retry_after_ms }.into() }),
        request().prop_map(|request| Done { request }.into()),
        (vec(thread(), 0..5), any::<u64>()).prop_map(|(touches, statuses)| Heartbeat { touches, statuses }.into()),
        (wall(), any::<u64>(), vec(status(), 0..4)).prop_map(|(wall, version, statuses)| HeartbeatAnswer {
            wall,
            version,
            statuses
        }
        .into()),
        Just(Goodbye {}.into()),
        (request(), any::<bool>()).prop_map(|(request, visible)| SetVisible { request, visible }.into()),
    ]
    .boxed()
}

fn status() -> impl Strategy<Value = Status> {
    (account(), any::<bool>()).prop_map(|(account, online)| Status { account, online })
}

fn friendship() -> BoxedStrategy<Frame> {
    let standing =
        prop_oneof![Just(Standing::Asked), Just(Standing::Asking), Just(Standing::Friends), Just(Standing::Blocked)];
    let friend = (account(), domain(), standing, any::<bool>(), wall(), option::of(signed())).prop_map(
        |(account, domain, standing, sees, since, word)| Friend { account, domain, standing, sees, since, word },
    );
    prop_oneof![
        (request(), domain(), signed()).prop_map(|(request, domain, word)| Befriend { request, domain, word }.into()),
        (request(), signed()).prop_map(|(request, word)| PeerBefriend { request, word }.into()),
        (request(), option::of(account())).prop_map(|(request, account)| Decline { request, account }.into()),
        (request(), account(), domain(), any::<bool>()).prop_map(|(request, account, domain, blocked)| Block {
            request,
            account,
            domain,
            blocked
        }
        .into()),
        (request(), any::<u64>()).prop_map(|(request, inbox)| Parted { request, inbox: Sequence::new(inbox) }.into()),
        (request(), account(), any::<bool>()).prop_map(|(request, account, allowed)| LetSee {
            request,
            account,
            allowed
        }
        .into()),
        (request(), option::of(account()), 0..=limits::FRIEND_PAGE_MAX as u16)
            .prop_map(|(request, after, limit)| ListFriends { request, after, limit }.into()),
        (request(), vec(friend, 0..4), any::<bool>()).prop_map(|(request, friends, more)| FriendPage {
            request,
            friends,
            more
        }
        .into()),
        (any::<bool>(), vec((status(), vec(account(), 0..4)), 0..4)).prop_map(|(fresh, changes)| {
            let changes = changes.into_iter().map(|(status, to)| Shown { status, to }).collect();
            PeerPresence { fresh, changes }.into()
        }),
    ]
    .boxed()
}

fn own() -> BoxedStrategy<Frame> {
    let invite =
        (token_hash(), any::<u32>(), wall()).prop_map(|(token, left, expires)| OpenInvite { token, left, expires });
    let row = ("[a-z ]{1,12}", bytes(), bytes()).prop_map(|(kind, key, value)| ExportedRow { kind, key, value });
    let wake = (
        "https://[a-z]{1,9}/",
        bytes().prop_map(|mut key| {
            key.truncate(limits::WAKE_KEY_BYTES);
            key
        }),
        any::<[u8; 16]>(),
    )
        .prop_map(|(url, key, auth)| WakeEndpoint { url, key, auth });
    prop_oneof![
        request().prop_map(|request| ListInvites { request }.into()),
        (request(), vec(invite, 0..4)).prop_map(|(request, invites)| InvitePage { request, invites }.into()),
        (request(), token_hash()).prop_map(|(request, token)| RevokeInvite { request, token }.into()),
        (request(), any::<u64>(), signed()).prop_map(|(request, revision, card)| SetProfile {
            request,
            revision,
            card
        }
        .into()),
        (request(), account(), domain()).prop_map(|(request, account, domain)| FetchProfile {
            request,
            account,
            domain
        }
        .into()),
        (request(), account(), account()).prop_map(|(request, owner, requester)| PeerProfile {
            request,
            owner,
            requester
        }
        .into()),
        (request(), signed()).prop_map(|(request, card)| Profile { request, card }.into()),
        (request(), bytes()).prop_map(|(request, after)| ExportOwn { request, after }.into()),
        (request(), vec(row, 0..4), option::of(bytes().prop_map(ByteVec::from)))
            .prop_map(|(request, rows, next)| Exported { request, rows, next }.into()),
        (request(), account()).prop_map(|(request, account)| DeleteAccount { request, account }.into()),
        (request(), option::of(wake)).prop_map(|(request, endpoint)| SetWake { request, endpoint }.into()),
        (request(), any::<[u8; 16]>()).prop_map(|(request, code)| ConfirmWake { request, code }.into()),
    ]
    .boxed()
}

fn endpoint() -> impl Strategy<Value = String> {
    "[a-z0-9.]{1,40}:[1-9][0-9]{0,3}"
}

fn stamp() -> impl Strategy<Value = Stamp> {
    (any::<u64>(), any::<[u8; 16]>()).prop_map(|(number, token)| Stamp { number, token })
}

fn signed_head() -> impl Strategy<Value = SignedHead> {
    let chain = vec(vec(any::<u8>(), 0..40).prop_map(ByteVec::from), 0..=2);
    (vec(any::<u8>(), 0..100), signature(), chain).prop_map(|(head, signature, chain)| SignedHead {
        head,
        signature,
        chain,
    })
}

fn user() -> BoxedStrategy<Frame> {
    let step = (tree_hash(), vec(tree_hash(), 0..4)).prop_map(|(root, proof)| Step { root, proof });
    let entry = (any::<u64>(), tree_salt(), any::<u64>(), log_hash(), vec(tree_hash(), 0..4))
        .prop_map(|(index, salt, seq, hash, path)| Inclusion { index, salt, seq, hash, path });
    let who =
        prop_oneof![address().prop_map(Who::Address), (account(), domain()).prop_map(|(a, d)| Who::Account(a, d))];
    let hint = (domain(), endpoint(), relay(), option::of(token()))
        .prop_map(|(domain, endpoint, relay, token)| RelayHint { domain, endpoint, relay, token });
    let package = || bytes().prop_map(ByteVec::from);
    prop_oneof![
        (request(), who, option::of(hint)).prop_map(|(request, who, hint)| LookUp { request, who, hint }.into()),
        (request(), address(), bytes()).prop_map(|(request, address, log)| LookedUp { request, address, log }.into()),
        (request(), vec(package(), 0..4), option::of(package())).prop_map(|(request, one_time, last_resort)| {
            let replaces = one_time.len() == 1;
            StockKeyPackages { request, one_time, last_resort, replaces }.into()
        }),
        (option::of(request()), any::<u32>()).prop_map(|(request, left)| Stocked { request, left }.into()),
        (request(), account(), domain(), option::of(token())).prop_map(|(request, account, domain, token)| {
            ClaimKeyPackages { request, account, domain, token }.into()
        }),
        (request(), vec((index(), bytes()), 0..4)).prop_map(|(request, packages)| {
            let packages = packages.into_iter().map(|(device, package)| ClaimedPackage { device, package }).collect();
            ClaimedKeyPackages { request, packages }.into()
        }),
        (request(), token_hash(), 0..=limits::INVITE_USES_MAX, wall())
            .prop_map(|(request, token, uses, expires)| { NewInvite { request, token, uses, expires }.into() }),
        (request(), account(), any::<u64>(), log_hash(), bytes()).prop_map(
            |(request, account, after, hash, entries)| { ExtendLog { request, account, after, hash, entries }.into() }
        ),
        bytes().prop_map(|log| OwnLog { log }.into()),
        (request(), name(), public_key(), signature()).prop_map(|(request, name, key, proof)| Recover {
            request,
            name,
            key,
            proof
        }
        .into()),
        (request(), meeting()).prop_map(|(request, meeting)| OfferLinking { request, meeting }.into()),
        (request(), meeting()).prop_map(|(request, meeting)| JoinLinking { request, meeting }.into()),
        (meeting(), bytes()).prop_map(|(meeting, bytes)| LinkingWords { meeting, bytes }.into()),
        meeting().prop_map(|meeting| LinkingOver { meeting }.into()),
        (request(), index(), bytes()).prop_map(|(request, to, bytes)| TellSibling { request, to, bytes }.into()),
        (index(), bytes()).prop_map(|(from, bytes)| SiblingTold { from, bytes }.into()),
        (thread(), device(), epoch(), vec(any::<u8>(), limits::SIGNAL_BYTES))
            .prop_map(|(thread, by, epoch, sealed)| Signal { thread, by, epoch, sealed }.into()),
        (thread(), account(), any::<u64>(), log_hash()).prop_map(|(thread, account, seq, hash)| LogGrown {
            thread,
            account,
            seq,
            hash
        }
        .into()),
        (request(), domain(), option::of(account()), vec(any::<u64>(), 0..=4))
            .prop_map(|(request, domain, account, from)| FetchTreeHead { request, domain, account, from }.into()),
        (request(), signed_head(), vec(step, 0..=4), option::of(entry)).prop_map(|(request, head, steps, entry)| {
            TreeHead { request, head: Box::new(head), steps, entry: entry.map(Box::new) }.into()
        }),
        (request(), option::of(stamp()), stamp()).prop_map(|(request, after, stamp)| KeepStamp {
            request,
            after,
            stamp
        }
        .into()),
    ]
    .boxed()
}

fn threads() -> BoxedStrategy<Frame> {
    let settings = || (bytes(), wall()).prop_map(|(sealed, quiet_until)| ThreadSettings { sealed, quiet_until });
    let row = (place(), sequence(), any::<u64>(), option::of(tag()), option::of(settings()))
        .prop_map(|(place, head, unread, tag, settings)| ThreadRow { place, head, unread, tag, settings });
    prop_oneof![
        (request(), opening(), tag(), option::of(bytes())).prop_map(|(request, opening, tag, info)| OpenThread {
            request,
            opening,
            tag,
            info: info.map(Into::into)
        }
        .into()),
        (request(), envelope(), option::of(request())).prop_map(|(request, envelope, heard)| Submit {
            request,
            envelope,
            heard
        }
        .into()),
        (request(), sequence()).prop_map(|(request, sequence)| Stored { request, sequence }.into()),
        (request(), thread()).prop_map(|(request, thread)| ThreadExists { request, thread }.into()),
        (request(), thread(), tag()).prop_map(|(request, thread, tag)| TagThread { request, thread, tag }.into()),
        (request(), option::of(place()), 0..=limits::THREAD_PAGE_MAX as u16)
            .prop_map(|(request, after, limit)| ListThreads { request, after, limit }.into()),
        (request(), vec(row, 0..4), any::<bool>())
            .prop_map(|(request, rows, more)| ThreadPage { request, rows, more }.into()),
        (request(), blob()).prop_map(|(request, blob)| FetchBlob { request, blob }.into()),
        (request(), thread(), settings()).prop_map(|(request, thread, settings)| SetThread {
            request,
            thread,
            settings
        }
        .into()),
        (request(), bytes()).prop_map(|(request, bytes)| Blob { request, bytes }.into()),
    ]
    .boxed()
}

fn delivery() -> BoxedStrategy<Frame> {
    let entries = (log(), 0..u64::MAX / 2, vec((1..1_000u64, entry_body()), 0..4), (0..10u64, 0..10u64)).prop_map(
        |(log, after, steps, (beyond, gone))| {
            let mut at = after + gone;
            let entries: Vec<_> = steps
                .into_iter()
                .map(|(step, body)| {
                    at += step;
                    Entry { sequence: Sequence::new(at), body }
                })
                .collect();
            let (after, lost) = (Sequence::new(after), Sequence::new(after + gone));
            let gone = (lost > after).then_some(Gone { after, upto: lost });
            Push { log, after, upto: Sequence::new(at + beyond), entries, gone }.into()
        },
    );
    let acked = (log(), sequence()).prop_map(|(log, upto)| AckedLog { log, upto });
    prop_oneof![
        entries,
        Just(CaughtUp {}.into()),
        vec(acked, 0..5).prop_map(|logs| Acknowledge { logs }.into()),
        envelope().prop_map(|envelope| DirectEnvelope { envelope }.into()),
        envelope_id().prop_map(|envelope| DirectStored { envelope }.into()),
        (envelope_id(), code()).prop_map(|(envelope, code)| DirectRefused { envelope, code }.into()),
    ]
    .boxed()
}

fn federation() -> BoxedStrategy<Frame> {
    let introduction = (account(), endpoint(), any::<[u8; 32]>()).prop_map(|(owner, endpoint, proof)| Introduction {
        owner,
        endpoint,
        proof,
    });
    let body = prop_oneof![
        (device(), opening()).prop_map(|(device, opening)| ForwardBody::Opening(device, opening)),
        (device(), envelope()).prop_map(|(device, envelope)| ForwardBody::Envelope(device, envelope)),
        (accepted(), option::of(arrivals().prop_map(Box::new)))
            .prop_map(|(accepted, arrivals)| ForwardBody::Commit(accepted, arrivals)),
    ];
    let forward = (1..u64::MAX / 2, vec(body, 0..4)).prop_map(|(first, bodies)| {
        let items = bodies.into_iter().zip(first..).map(|(body, number)| ForwardItem { number, body }).collect();
        Forward { items, answered: first - 1 }.into()
    });
    let refusal = (any::<u64>(), code(), option::of(any::<u32>()))
        .prop_map(|(number, code, retry_after_ms)| ForwardRefusal { number, code, retry_after_ms });
    prop_oneof![
        (any::<u16>(), domain(), domain(), option::of(introduction))
            .prop_map(|(version, domain, to, introduction)| PeerHello { version, domain, to, introduction }.into()),
        forward,
        (any::<u64>(), vec(refusal, 0..4)).prop_map(|(upto, refused)| Forwarded { upto, refused }.into()),
        (request(), account(), account(), option::of(token())).prop_map(|(request, account, requester, token)| {
            PeerClaim { request, account, requester, token }.into()
        }),
    ]
    .boxed()
}

fn hub() -> BoxedStrategy<Frame> {
    prop_oneof![
        (request(), commit(), option::of(newcomers())).prop_map(|(request, commit, newcomers)| SubmitCommit {
            request,
            commit: Box::new(commit),
            newcomers
        }
        .into()),
        (request(), device(), commit().prop_map(Box::new), option::of(newcomers())).prop_map(
            |(request, author, commit, newcomers)| { PeerCommit { request, author, commit, newcomers }.into() }
        ),
        (request(), signed_receipt()).prop_map(|(request, receipt)| CommitTaken {
            request,
            receipt: Box::new(receipt)
        }
        .into()),
        (request(), accepted().prop_map(Box::new)).prop_map(|(request, won)| CommitLost { request, won }.into()),
        (request(), thread(), epoch())
            .prop_map(|(request, thread, epoch)| FetchCommit { request, thread, epoch }.into()),
        (request(), accepted().prop_map(Box::new))
            .prop_map(|(request, accepted)| Committed { request, accepted }.into()),
    ]
    .boxed()
}

fn frame() -> impl Strategy<Value = Frame> {
    prop_oneof![reception(), user(), own(), threads(), delivery(), federation(), friendship(), hub()]
}

fn target() -> impl Strategy<Value = Target> {
    (message_id(), device()).prop_map(|(message, author)| Target { message, author })
}

fn content() -> impl Strategy<Value = Content> {
    let candidates = (vec("/ip4/127.0.0.1/udp/[1-9][0-9]{1,3}/quic-v1", 0..4), wall(), any::<bool>())
        .prop_map(|(addresses, at, answer)| Body::Candidates(Candidates { addresses, at, answer }));
    let title = ".{0,40}".prop_map(Body::Title);
    let picture = option::of(vec(any::<u8>(), 0..100)).prop_map(Body::Picture);
    let ask = (thread(), index(), any::<[u8; 16]>())
        .prop_map(|(group, device, token)| Body::Ask(group, device, InviteToken::from_bytes(token)));
    let declined = (thread(), prop_oneof![Just(Declined::Link), Just(Declined::Leave), Just(Declined::Failed)])
        .prop_map(|(group, why)| Body::Declined(group, why));
    let head = (any::<u64>(), log_hash()).prop_map(|(seq, hash)| Body::LogHead(seq, hash));
    let tree_head = signed_head().prop_map(|head| Body::TreeHead(Box::new(head)));
    let receipt = (any::<bool>(), vec(message_id(), 0..4))
        .prop_map(|(read, messages)| Body::Receipt(DeviceReceipt { read, messages }));
    let reaction =
        (target(), ".{0,4}", any::<bool>()).prop_map(|(to, sign, stands)| Body::React(Reaction { to, sign, stands }));
    let repair =
        (device(), vec(any::<u64>(), 0..4)).prop_map(|(author, counters)| Body::Repair(Repair { author, counters }));
    let body = prop_oneof![
        ".{0,80}".prop_map(Body::Text),
        candidates,
        title,
        picture,
        ask,
        declined,
        option::of(leave()).prop_map(|words| Body::Leave(words.map(Box::new))),
        tree_head,
        vec(signed_receipt(), 0..4).prop_map(Body::Receipts),
        receipt,
        (target(), ".{0,80}").prop_map(|(of, text)| Body::Edit(of, text)),
        target().prop_map(Body::Unsend),
        reaction,
        any::<u64>().prop_map(Body::Timer),
        vec(fact(), 0..4).prop_map(Body::Facts),
        repair,
        Just(Body::Gone),
        head,
    ];
    let about = (option::of(target()), vec(account(), 0..3), option::of(any::<u64>()));
    (
        message_id(),
        any::<u64>(),
        any::<u32>(),
        vec(message_id(), 0..=limits::PARENTS_MAX),
        option::of(any::<u64>()),
        body,
        about,
    )
        .prop_map(|(message, millis, count, parents, counter, body, (reply, mentions, lasts_ms))| Content {
            message,
            hlc: Hlc { millis, count },
            parents,
            counter,
            body,
            reply,
            mentions,
            lasts_ms,
        })
}

fn hlc() -> impl Strategy<Value = Hlc> {
    (any::<u64>(), any::<u32>()).prop_map(|(millis, count)| Hlc { millis, count })
}

fn fact() -> impl Strategy<Value = Fact> {
    let known =
        (address(), any::<bool>(), any::<u64>(), log_hash(), option::of(bytes()), option::of(sequence())).prop_map(
            |(address, contact, seq, hash, log, parted)| Known { address, contact, head: (seq, hash), log, parted },
        );
    let stretches = proptest::collection::btree_set(any::<u32>(), 0..8).prop_map(|ends| {
        let ends: Vec<u64> = ends.into_iter().map(u64::from).collect();
        ends.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect::<Vec<_>>()
    });
    let handover = (public_key(), public_key(), vec(any::<u8>(), 0..=limits::HANDOVER_BYTES_MAX))
        .prop_map(|(old, new, sealed)| What::Identity(Handover { old, new, sealed }));
    let what = prop_oneof![
        (account(), known).prop_map(|(account, known)| What::Contact(account, known)),
        (account(), address(), any::<bool>()).prop_map(|(account, at, blocked)| What::Blocked(account, at, blocked)),
        (account(), option::of(public_key())).prop_map(|(account, key)| What::Verified(account, key)),
        (thread(), ".{0,40}").prop_map(|(thread, title)| What::Title(thread, title)),
        (thread(), device(), stretches).prop_map(|(thread, author, read)| What::Read(thread, author, read)),
        (thread(), any::<u64>()).prop_map(|(thread, changes)| What::Settings(thread, changes)),
        handover,
        (index(), option::of(any::<[u8; 32]>())).prop_map(|(device, key)| What::History(device, key)),
        (thread(), hlc(), epoch()).prop_map(|(thread, since, epoch)| What::Late(thread, since, epoch)),
        (thread(), option::of(vec(any::<u8>(), 0..100))).prop_map(|(thread, picture)| What::Picture(thread, picture)),
    ];
    (hlc(), index(), what).prop_map(|(at, by, what)| Fact { at, by, what })
}

fn history() -> impl Strategy<Value = HistoryWords> {
    let place =
        || (hlc(), message_id(), device()).prop_map(|(hlc, message, author)| HistoryPlace { hlc, message, author });
    let sign = (account(), ".{0,4}", place(), any::<bool>()).prop_map(|(by, sign, at, stands)| HistorySign {
        by,
        sign,
        at,
        stands,
    });
    let text = (".{0,40}", option::of((place(), ".{0,40}")), vec(sign, 0..3));
    let about = (option::of(any::<u64>()), option::of(target()), vec(account(), 0..3), any::<bool>());
    let line = (place(), wall(), text, about).prop_map(
        |(place, received, (text, edit, signs), (counter, reply, mentions, unsent))| HistoryLine {
            place,
            received,
            text,
            counter,
            reply,
            mentions,
            unsent,
            edit,
            signs,
        },
    );
    let about = (participants(), option::of(founding()), wall())
        .prop_map(|(participants, founding, updated)| Box::new(HistoryThread { participants, founding, updated }));
    prop_oneof![
        any::<u64>().prop_map(HistoryWords::Threads),
        (any::<u64>(), thread(), option::of(place()), option::of(epoch()))
            .prop_map(|(n, thread, at, epoch)| HistoryWords::Lines(n, thread, at, epoch)),
        (any::<u64>(), vec(thread(), 0..4)).prop_map(|(n, threads)| HistoryWords::ThreadList(n, threads)),
        (any::<u64>(), option::of(about), vec(line, 0..3), option::of(place()))
            .prop_map(|(n, about, lines, next)| HistoryWords::LinePage(n, about, lines, next)),
    ]
}

fn read_one(bytes: &[u8]) -> Result<Option<Frame>, FrameError> {
    let mut decoder = Decoder::new();
    decoder.push(bytes);
    decoder.next_frame()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_frame_reads_back_as_it_was_sent(frame in frame()) {
        let bytes = codec::encode(&frame).unwrap();
        prop_assert_eq!(canonical::check(&bytes[HEADER_BYTES..]), Ok(()));
        prop_assert_eq!(read_one(&bytes).unwrap(), Some(frame));
    }

    #[test]
    fn frames_read_back_however_the_stream_is_cut(frames in vec(frame(), 1..5), cut in 1..50usize) {
        let bytes: Vec<u8> = frames.iter().flat_map(|frame| codec::encode(frame).unwrap()).collect();
        let (mut decoder, mut read) = (Decoder::new(), Vec::new());
        for piece in bytes.chunks(cut) {
            decoder.push(piece);
            while let Some(frame) = decoder.next_frame().unwrap() {
                read.push(frame);
            }
        }
        prop_assert_eq!(read, frames);
        prop_assert_eq!(decoder.pending_bytes(), 0);
    }

    #[test]
    fn a_truncated_frame_is_waited_for_and_a_truncated_body_refused(frame in frame(), cut in any::<prop::sample::Index>()) {
        let bytes = codec::encode(&frame).unwrap();
        let end = cut.index(bytes.len());
        prop_assert_eq!(read_one(&bytes[..end]), Ok(None));
        if end > HEADER_BYTES {
            let mut short = bytes[..end].to_vec();
            short[2..6].copy_from_slice(&((end - HEADER_BYTES) as u32).to_be_bytes());
            prop_assert!(matches!(read_one(&short), Err(FrameError::Malformed(_))));
        }
    }

    #[test]
    fn a_flipped_bit_never_reads_back_as_the_same_frame(frame in frame(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let mut bytes = codec::encode(&frame).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert_ne!(read_one(&bytes), Ok(Some(frame)));
    }

    #[test]
    fn trailing_bytes_are_refused(frame in frame(), extra in vec(any::<u8>(), 1..8)) {
        let mut bytes = codec::encode(&frame).unwrap();
        bytes.extend_from_slice(&extra);
        let length = (bytes.len() - HEADER_BYTES) as u32;
        bytes[2..6].copy_from_slice(&length.to_be_bytes());
        prop_assert!(matches!(read_one(&bytes), Err(FrameError::Malformed(_))));
    }

    #[test]
    fn garbage_is_refused_or_waited_for_but_never_panics(kind in any::<u16>(), body in vec(any::<u8>(), 0..400)) {
        let known = Frame::KINDS.iter().any(|(number, _)| *number == kind % 128);
        let mut bytes = (kind % 128).to_be_bytes().to_vec();
        bytes.extend_from_slice(&(body.len() as u32).to_be_bytes());
        bytes.extend_from_slice(&body);
        match read_one(&bytes) {
            Ok(Some(Frame::Unknown(number))) => prop_assert!(!known && number == kind % 128),
            Ok(Some(frame)) => prop_assert_eq!(codec::encode(&frame).unwrap(), bytes),
            Ok(None) => prop_assert!(false, "a whole frame was not read"),
            Err(error) => prop_assert!(known, "{error}"),
        }
    }

    #[test]
    fn unknown_keys_are_skipped(frame in frame(), value in 0..24u8) {
        // A newer version adds key 23 to the frame's map.
        let bytes = codec::encode(&frame).unwrap();
        let mut body = bytes[HEADER_BYTES..].to_vec();
        prop_assume!(body[0] & 0xe0 == 0xa0 && body[0] < 0xb6);
        body[0] += 1;
        body.extend_from_slice(&[0x17, value]);
        let mut newer = bytes[..2].to_vec();
        newer.extend_from_slice(&(body.len() as u32).to_be_bytes());
        newer.extend_from_slice(&body);
        prop_assert_eq!(read_one(&newer).unwrap(), Some(frame));
    }

    #[test]
    fn a_sealed_content_reads_back(content in content()) {
        let bytes = encode_words(&content);
        prop_assert_eq!(canonical::check(&bytes), Ok(()));
        prop_assert_eq!(decode_words::<Content>(&bytes).unwrap(), content);
    }

    #[test]
    fn words_about_a_history_read_back(words in history()) {
        let bytes = encode_words(&words);
        prop_assert_eq!(canonical::check(&bytes), Ok(()));
        prop_assert_eq!(decode_words::<HistoryWords>(&bytes).unwrap(), words);
    }

    #[test]
    fn garbage_is_no_word_about_a_history(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(words) = decode_words::<HistoryWords>(&bytes) {
            prop_assert_eq!(encode_words(&words), bytes);
        }
    }

    #[test]
    fn garbage_is_no_content(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(content) = decode_words::<Content>(&bytes) {
            prop_assert_eq!(encode_words(&content), bytes);
        }
    }
}

#[test]
fn every_kind_refuses_a_length_over_its_bound_before_reading_it() {
    for (kind, name) in Frame::KINDS {
        let max = Frame::body_bytes_max(*kind);
        for claimed in [max as u32 + 1, u32::MAX] {
            let mut bytes = kind.to_be_bytes().to_vec();
            bytes.extend_from_slice(&claimed.to_be_bytes());
            let refused =
                matches!(read_one(&bytes), Err(FrameError::Oversize { found, .. }) if found == claimed as usize);
            assert!(refused, "{name} took a claim of {claimed} bytes");
        }
    }
}

#[test]
fn the_generators_above_make_every_kind() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..3_000 {
        seen.insert(frame().new_tree(&mut runner).unwrap().current().kind());
    }
    let kinds: std::collections::BTreeSet<u16> = Frame::KINDS.iter().map(|(number, _)| *number).collect();
    assert_eq!(seen, kinds);
}

#[test]
fn lists_over_their_bound_are_refused_by_name() {
    let thread = ThreadId::from_bytes([0; 32]);
    let touches = Frame::from(Heartbeat { touches: vec![thread; limits::TOUCHES_MAX + 1], statuses: 0 });
    let bytes = codec::encode(&touches).unwrap();
    assert!(matches!(read_one(&bytes), Err(FrameError::Bound(_))));

    let entry = |sequence| Entry {
        sequence: Sequence::new(sequence),
        body: EntryBody::Envelope(
            DeviceId { account: AccountId::from_bytes([1; 32]), index: DeviceIndex::FIRST },
            Envelope { thread, epoch: Epoch::new(1), class: Class::Message, body: vec![1] },
        ),
    };
    for (after, upto, entries) in [(0, 9, vec![entry(2), entry(1)]), (2, 9, vec![entry(2)]), (0, 1, vec![entry(2)])] {
        let (after, upto) = (Sequence::new(after), Sequence::new(upto));
        let push = Push { log: LogRef::Inbox, after, upto, entries, gone: None };
        let bytes = codec::encode(&push.into()).unwrap();
        assert!(matches!(read_one(&bytes), Err(FrameError::Bound(_))));
    }
    // What is gone lies within the run, before its first entry, and is something.
    for (gone, fits) in
        [((2, 4), true), ((3, 4), true), ((1, 4), false), ((4, 4), false), ((2, 5), false), ((2, 10), false)]
    {
        let gone = Some(Gone { after: Sequence::new(gone.0), upto: Sequence::new(gone.1) });
        let (after, upto, entries) = (Sequence::new(2), Sequence::new(9), vec![entry(5)]);
        let bytes = codec::encode(&Push { log: LogRef::Inbox, after, upto, entries, gone }.into()).unwrap();
        assert_eq!(read_one(&bytes).is_ok(), fits, "{gone:?}");
        assert!(fits || matches!(read_one(&bytes), Err(FrameError::Bound(_))), "{gone:?}");
    }
}

#[test]
fn a_log_has_one_spelling() {
    let acked = AckedLog { log: LogRef::Inbox, upto: Sequence::new(1) };
    let mut bytes = codec::encode(&Acknowledge { logs: vec![acked] }.into()).unwrap();
    let fields = bytes.iter().position(|byte| *byte == 0x80).unwrap();
    bytes[fields] = 0xa0;
    assert!(matches!(read_one(&bytes), Err(FrameError::Malformed(_))));
}

#[test]
fn refusal_codes_keep_their_numbers() {
    for code in RefusalCode::ALL {
        assert_eq!(RefusalCode::from_number(code.number()), *code);
    }
    assert_eq!(RefusalCode::from_number(9_999), RefusalCode::Other(9_999));
}
