//! A relay's end of the transport on loopback, and the home link to it. The test plays the core.

use std::net::Ipv4Addr;

use tokio::sync::mpsc;
use whimbrel_crypto::RelayIdentity;
use whimbrel_protocol::id::RequestId;
use whimbrel_protocol::invite::RelayLink;
use whimbrel_protocol::reception::Done;
use whimbrel_transport::{Endpoint, Identity};

use super::*;
use crate::clock::wall;
use crate::entrance::{Item, entrance};
use crate::outlet::{Outlet, outlet};
use crate::testing::{key, soon};

struct Core {
    words: Outlet<HomeWord>,
    inputs: mpsc::UnboundedReceiver<Input>,
    problem: watch::Receiver<Option<RelayProblem>>,
    task: JoinHandle<()>,
}

fn core() -> Core {
    let (entrance, inlet) = entrance();
    let (words, drain) = outlet();
    let (sender, inputs) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        while let Ok(Item::Input(input)) = inlet.next(None) {
            if sender.send(input).is_err() {
                return;
            }
        }
    });
    let endpoint = Endpoint::bind_dialler(Identity::node(&key(9)).unwrap(), wall).unwrap();
    let (problem_sender, problem) = watch::channel(None);
    let ways = Ways { endpoint, key: std::sync::Arc::new(key(9)), transport: Transport::Quic };
    let task = tokio::spawn(run(ways, drain, entrance, problem_sender));
    Core { words, inputs, problem, task }
}

fn relay(byte: u8) -> (Endpoint, RelayLink) {
    let domain = "a.example".parse().unwrap();
    let identity = RelayIdentity::create(&key(byte), &key(byte + 1), &domain, wall()).unwrap();
    let endpoint = Endpoint::bind((Ipv4Addr::LOCALHOST, 0).into(), Identity::relay(&identity).unwrap(), wall).unwrap();
    let link = RelayLink { domain, endpoint: endpoint.local_address().unwrap().to_string(), relay: identity.id() };
    (endpoint, link)
}

fn done(number: u64) -> Frame {
    Done { request: RequestId::new(number) }.into()
}

impl Core {
    async fn input(&mut self) -> Input {
        soon("an input", self.inputs.recv()).await.unwrap()
    }

    fn connect(&self, to: &RelayLink) {
        self.words.word(HomeWord::Connect(to.clone())).unwrap();
    }

    /// Connects, and says the first frame; the relay knows of the link only then.
    async fn up(&mut self, relay: &Endpoint, to: &RelayLink) -> (LinkId, [u8; 32], Link) {
        self.connect(to);
        let ours = async {
            let Input::LinkUp { link, peer: Peer::Relay { exporter } } = self.input().await else { panic!("no link") };
            self.words.send(HomeWord::Send(link, done(0)), 1).unwrap();
            (link, exporter)
        };
        let theirs = async { relay.accept().await.unwrap().establish().await.unwrap() };
        let ((link, exporter), theirs) = soon("link", async { tokio::join!(ours, theirs) }).await;
        (link, exporter, theirs)
    }
}

#[tokio::test]
async fn frames_go_both_ways_in_order_on_a_proved_link() {
    let (relay, to) = relay(1);
    let mut core = core();
    let (link, exporter, mut theirs) = core.up(&relay, &to).await;
    assert_eq!(theirs.exporter, exporter);
    // More than the sender's own queue holds, in one go.
    let many = 3 * limits::LINK_QUEUE_FRAMES_MAX as u64;
    for number in 1..many {
        core.words.send(HomeWord::Send(link, done(number)), 1).unwrap();
    }
    for number in 0..many {
        assert_eq!(soon("frame", theirs.receiver.next()).await.unwrap(), done(number));
    }
    for number in 0..100 {
        theirs.sender.send(&done(number)).unwrap();
    }
    for number in 0..100 {
        let Input::Frame { link: on, frame } = core.input().await else { panic!("no frame") };
        assert_eq!((on, frame), (link, done(number)));
    }
}

#[tokio::test]
async fn a_link_ended_by_the_core_ends_after_its_last_frame() {
    let (relay, to) = relay(1);
    let mut core = core();
    let (link, _, mut theirs) = core.up(&relay, &to).await;
    for number in 1..50 {
        core.words.send(HomeWord::Send(link, done(number)), 1).unwrap();
    }
    core.words.word(HomeWord::Close(link)).unwrap();
    for number in 0..50 {
        assert_eq!(soon("frame", theirs.receiver.next()).await.unwrap(), done(number));
    }
    soon("end", theirs.receiver.next()).await.unwrap_err();
    assert!(matches!(core.input().await, Input::LinkLost { link: lost } if lost == link));
    assert_eq!(*core.problem.borrow(), None);
}

#[tokio::test]
async fn a_relay_that_goes_away_is_missed_and_found_again() {
    let (relay, to) = relay(1);
    let mut core = core();
    let (link, _, theirs) = core.up(&relay, &to).await;
    theirs.sender.close(CloseCode::Shutdown);
    assert!(matches!(core.input().await, Input::LinkLost { link: lost } if lost == link));
    assert!(matches!(&*core.problem.borrow(), Some(RelayProblem::Lost(reason)) if reason.contains("shutting down")));
    let (again, ..) = core.up(&relay, &to).await;
    assert_ne!(again, link);
    assert_eq!(*core.problem.borrow(), None);
}

#[tokio::test]
async fn another_relay_at_the_address_is_told_apart_from_nobody() {
    let (at, to) = relay(1);
    // Answers whoever knocks, until the test is over.
    tokio::spawn(async move {
        while let Some(incoming) = at.accept().await {
            let _refused = incoming.establish().await;
        }
    });
    let mut core = core();
    core.connect(&RelayLink { relay: relay(5).1.relay, ..to.clone() });
    assert!(matches!(core.input().await, Input::ConnectFailed { .. }));
    assert!(core.problem.borrow().as_ref().unwrap().is_mistrust());
    // Nobody: a name that cannot exist (RFC 6761 §6.4).
    core.connect(&RelayLink { endpoint: "relay.invalid:1".to_owned(), ..to });
    assert!(matches!(core.input().await, Input::ConnectFailed { .. }));
    assert!(matches!(&*core.problem.borrow(), Some(RelayProblem::Unreachable(_))));
}

#[tokio::test]
async fn connecting_anew_drops_the_link_that_stands() {
    let (relay, to) = relay(1);
    let mut core = core();
    let (link, _, _theirs) = core.up(&relay, &to).await;
    core.connect(&to);
    assert!(matches!(core.input().await, Input::LinkLost { link: lost } if lost == link));
    let (new, _) = tokio::join!(core.input(), async { relay.accept().await.unwrap().establish().await });
    assert!(matches!(new, Input::LinkUp { link: new, .. } if new != link));
}

#[tokio::test]
async fn what_is_queued_leaves_before_the_node_does() {
    let (relay, to) = relay(1);
    let mut core = core();
    let (link, _, mut theirs) = core.up(&relay, &to).await;
    for number in 1..500 {
        core.words.send(HomeWord::Send(link, done(number)), 1).unwrap();
    }
    let Core { words, task, .. } = core;
    drop(words);
    for number in 0..500 {
        assert_eq!(soon("frame", theirs.receiver.next()).await.unwrap(), done(number));
    }
    let end = soon("end", theirs.receiver.next()).await;
    assert!(end.is_err());
    soon("leaving", task).await.unwrap();
}
