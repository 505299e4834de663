//! The real core in the real runtime, without a relay.

use std::path::Path;

use whimbrel_node::views;
use whimbrel_protocol::id::RelayId;
use whimbrel_protocol::invite::RelayLink;

use super::*;
use crate::store::{StoreOptions, create};
use crate::testing::soon;

/// An account on a relay that is not there: its name cannot exist (RFC 6761 §6.4).
fn account(home: &Path) {
    let relay = RelayLink {
        domain: "a.example".parse().unwrap(),
        endpoint: "relay.invalid:1".to_owned(),
        relay: RelayId::from_bytes([1; 32]),
    };
    create(home, "alice".parse().unwrap(), relay, "laptop", StoreOptions::default()).unwrap();
}

fn options(home: &Path) -> Options {
    let direct = DirectOptions::Listen { at: vec!["127.0.0.1:0".parse().unwrap()], allow_loopback: false };
    Options {
        store: StoreAt::Home(home.to_owned(), StoreOptions::default().into()),
        config: Config::default(),
        direct,
        transport: Transport::Quic,
    }
}

#[tokio::test]
async fn a_node_without_an_account_does_not_start() {
    let home = tempfile::tempdir().unwrap();
    let started = NodeRuntime::start(options(home.path())).await;
    assert!(matches!(started, Err(StartError::Store(OpenStoreError::Absent(_)))));
}

#[tokio::test]
async fn a_node_runs_without_its_relay_and_can_be_started_again_at_once() {
    let home = tempfile::tempdir().unwrap();
    account(home.path());
    for _ in 0..3 {
        let node = NodeRuntime::start(options(home.path())).await.unwrap();
        let busy = NodeRuntime::start(options(home.path())).await;
        assert!(matches!(busy, Err(StartError::Store(OpenStoreError::InUse))));
        let mut events = node.events();
        assert!(matches!(soon("event", events.next()).await.unwrap(), Event::RelayDown(_)));
        assert!(matches!(node.relay_problem(), Some(RelayProblem::Unreachable(_))));
        assert!(!soon("status", node.status()).await.unwrap().relay_admitted);
        let refused = soon(
            "invite",
            node.command(Command::NewInvite { uses: 1, holds: std::time::Duration::from_secs(60), group: None }),
        );
        assert!(matches!(refused.await, Err(CommandFailure::Command(CommandError::Unreachable(_)))));
        let reads = node.reads();
        assert!(views::account(&*reads).unwrap().address.is_none());
        soon("shutdown", node.shutdown()).await.unwrap();
        // Whoever still holds the rows does not hold the store.
        assert!(views::account(&*reads).is_err());
        assert!(matches!(soon("end of events", async { while events.next().await.is_ok() {} }).await, ()));
    }
}

#[tokio::test]
async fn a_start_that_fails_leaves_the_store_closed() {
    let home = tempfile::tempdir().unwrap();
    account(home.path());
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let direct = DirectOptions::Listen { at: vec![taken.local_addr().unwrap()], allow_loopback: false };
    let failed = NodeRuntime::start(Options { direct: direct.clone(), ..options(home.path()) }).await;
    assert!(matches!(failed, Err(StartError::Direct(DirectError::Listen { .. }))));
    // Who never wants direct links needs no socket for them.
    let config = Config { never_direct: true, ..Config::default() };
    let node = NodeRuntime::start(Options { direct, config, ..options(home.path()) }).await.unwrap();
    soon("shutdown", node.shutdown()).await.unwrap();
}

#[tokio::test]
async fn a_node_that_is_dropped_ends() {
    let home = tempfile::tempdir().unwrap();
    account(home.path());
    let store = Arc::new(open_store(home.path(), StoreOptions::default()).unwrap());
    let node = NodeRuntime::start(Options { store: StoreAt::Open(Arc::clone(&store)), ..options(home.path()) });
    let node = node.await.unwrap();
    let mut events = node.events();
    drop(node);
    let ended = soon("end of events", async {
        loop {
            if let Err(EventsError::Ended(ended)) = events.next().await {
                return ended;
            }
        }
    });
    assert!(matches!(ended.await, RuntimeError::Stopped));
    store.close().unwrap();
}
