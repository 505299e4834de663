//! What a relay took and whoever it was for never had, through its process and real sockets: its author is told.

use std::collections::BTreeSet;

use whimbrel_protocol::friendship::Act;
use whimbrel_protocol::id::EnvelopeId;
use whimbrel_protocol::limits;
use whimbrel_protocol::push::{EntryBody, Gone, LogRef, Undelivered};
use whimbrel_protocol::reception::Heartbeat;
use whimbrel_protocol::{Frame, RefusalCode};
use whimbrel_transport::CloseCode;

use super::Place;
use super::services::{Client, LOG, bodies, friends_here};

/// Heartbeats after which what is waited for does not come any more. Nothing is measured by it.
const BEATS_MAX: usize = 30;

impl Client {
    /// Says something, which the relay answers for.
    async fn stores(&mut self, body: &[u8]) -> EnvelopeId {
        let answer = self.say(body).await;
        assert!(matches!(answer, Frame::Stored(_)), "{answer:?}");
        EnvelopeId::of(body)
    }

    /// What it was told is not delivered, once these are named: it beats until then.
    async fn told_of(&mut self, envelopes: &BTreeSet<EnvelopeId>) -> Vec<Undelivered> {
        for _ in 0..BEATS_MAX {
            loop {
                let told = self.told_so_far();
                let named: BTreeSet<EnvelopeId> = told.iter().flat_map(|words| words.envelopes.clone()).collect();
                if named.is_superset(envelopes) {
                    return told;
                }
                match tokio::time::timeout(limits::HEARTBEAT_EVERY, self.link.receiver.next()).await {
                    Ok(frame) => self.heard.push(frame.unwrap()),
                    Err(_) => break,
                }
            }
            let answer = self.ask(Heartbeat::default()).await;
            assert!(matches!(answer, Frame::HeartbeatAnswer(_)), "{answer:?}");
        }
        panic!("nothing came of {envelopes:?}: {:?}", self.told_so_far());
    }

    fn told_so_far(&self) -> Vec<Undelivered> {
        let pushed = self.heard.iter().filter_map(|frame| match frame {
            Frame::Push(run) if run.log == LogRef::Inbox => Some(&run.entries),
            _ => None,
        });
        let notice = |body: &EntryBody| match body {
            EntryBody::Undelivered(words) => Some(words.clone()),
            _ => None,
        };
        pushed.flatten().filter_map(|entry| notice(&entry.body)).collect()
    }

    /// What it was told is gone from the log since it came back.
    fn gone_so_far(&self) -> Vec<(u64, u64)> {
        let run = |frame: &Frame| match frame {
            Frame::Push(run) if run.log == LOG => run.gone.map(|Gone { after, upto }| (after.get(), upto.get())),
            _ => None,
        };
        self.heard.iter().filter_map(run).collect()
    }

    /// The log as far as it was pushed since the device came back.
    fn log_so_far(&self) -> BTreeSet<EnvelopeId> {
        let pushed = self.heard.iter().filter_map(|frame| match frame {
            Frame::Push(run) if run.log == LOG => Some(run.entries.as_slice()),
            _ => None,
        });
        pushed.flat_map(bodies).map(|body| EnvelopeId::of(&body)).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t04_what_a_device_that_stays_away_never_had_is_told_to_its_author_by_the_relay_that_took_it() {
    let place = Place::new("a.example");
    let running = place.start();
    let (mut alice, mut bob) = friends_here(&running.link).await;
    let read = alice.stores(b"read").await;
    for who in [&mut alice, &mut bob] {
        assert_eq!(bodies(&who.entries(LOG, 1).await), [b"read"]);
        who.acknowledge(LOG, 1);
        // Answered after the word before it: the relay knows, and writes it at the latest when it ends.
        who.friends().await;
        who.link.sender.close(CloseCode::Done);
    }
    running.signal("TERM");
    let (code, said) = running.end();
    assert_eq!(code, Some(0), "{said}");

    // Bob stays away from here on, for longer than the least that a relay may hold.
    place.edit("hold = \"30 days\"", "hold = \"10 s\"");
    let running = place.start();
    alice.come_back(&running.link).await;
    let lost = BTreeSet::from([alice.stores(b"never read").await, alice.stores(b"nor this").await]);
    let told = alice.told_of(&lost).await;
    let named: Vec<EnvelopeId> = told.iter().flat_map(|words| words.envelopes.clone()).collect();
    assert_eq!((named.iter().copied().collect(), named.len()), (lost, 2), "each once, and not {read:?}");
    for words in &told {
        assert_eq!((words.code, words.domain.as_str()), (RefusalCode::Expired, "a.example"));
    }
    bob.come_back(&running.link).await;
    assert_eq!(bob.log_so_far(), BTreeSet::new(), "told as not delivered, and then delivered");
    assert_eq!(bob.gone_so_far(), [(1, 3)], "the one after what he had, and the other");
    let again = alice.stores(b"again").await;
    bob.entries(LOG, 1).await;
    assert_eq!(bob.log_so_far(), BTreeSet::from([again]), "what is said now arrives");
}

#[tokio::test]
async fn t04_what_a_full_log_of_three_pushes_out_before_all_had_it_is_told_to_its_author() {
    const HELD: usize = 16;
    const SAID: u8 = 24;
    let place = Place::new("a.example");
    place.edit("log_entries = 10000", &format!("log_entries = {HELD}"));
    let running = place.start();
    let mut alice = Client::join(1, &running.link, "alice").await;
    let mut bob = Client::join(2, &running.link, "bob").await;
    let mut carol = Client::join(3, &running.link, "carol").await;
    for other in [&mut bob, &mut carol] {
        let asked = alice.tell("a.example", Act::Request, &other.person, "a.example").await;
        let agreed = other.tell("a.example", Act::Accept, &alice.person, "a.example").await;
        assert!(matches!((&asked, &agreed), (Frame::Done(_), Frame::Done(_))), "{asked:?} {agreed:?}");
    }
    let people = [alice.person_copy(), bob.person_copy(), carol.person_copy()];
    let opened = alice.open(&[(&people[0], "a.example"), (&people[1], "a.example"), (&people[2], "a.example")]).await;
    assert!(matches!(opened, Frame::Stored(_)), "{opened:?}");
    carol.link.sender.close(CloseCode::Done);
    let mut said = Vec::new();
    for n in 1..=SAID {
        said.push(alice.stores(&[n]).await);
        // Bob reads all of it, and the inbox has room for the news.
        bob.entries(LOG, usize::from(n)).await;
        bob.acknowledge(LOG, u64::from(n));
    }
    let lost: BTreeSet<EnvelopeId> = said[..usize::from(SAID) - HELD].iter().copied().collect();
    let told = alice.told_of(&lost).await;
    for words in &told {
        assert_eq!((words.code, words.domain.as_str()), (RefusalCode::Full, "a.example"));
    }
    let named: Vec<EnvelopeId> = told.into_iter().flat_map(|words| words.envelopes).collect();
    assert_eq!((named.iter().copied().collect(), named.len()), (lost, usize::from(SAID) - HELD), "each once");
    carol.come_back(&running.link).await;
    let had: BTreeSet<EnvelopeId> = said[usize::from(SAID) - HELD..].iter().copied().collect();
    assert_eq!(carol.log_so_far(), had, "nothing is lost without a word");
    let gone = u64::from(SAID) - HELD as u64;
    assert_eq!(carol.gone_so_far(), [(0, gone)], "she is told, too");
    // She did not say that she heard it, and the relay dies; then she does.
    running.kill();
    let running = place.start();
    for expected in [vec![(0, gone)], Vec::new()] {
        carol.come_back(&running.link).await;
        assert_eq!(carol.gone_so_far(), expected);
        carol.acknowledge(LOG, u64::from(SAID));
        // Answered after the word before it.
        carol.friends().await;
        carol.link.sender.close(CloseCode::Done);
    }
}
