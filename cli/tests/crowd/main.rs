//! A group of many devices, through a relay's process and real sockets: made in commits of 100, used, and halved.
//! Owns: the story. The nodes are whole ones, each with its core's thread and its link, with their rows in memory; the
//! relay is the program. `tests/crowd` runs it with 500 devices, the suite with as many as [`DEVICES`] says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

#[allow(dead_code, reason = "shared with the tests of the commands, which use more of it")]
#[path = "../cli/stage.rs"]
mod stage;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use whimbrel_crypto::{Chance, Seed};
use whimbrel_node::api::{Command, Config, Reply};
use whimbrel_node::views::{self, Page, Standing, Thread};
use whimbrel_node_runtime::{
    CommandFailure, DirectOptions, Events, EventsError, NodeHandle, NodeRuntime, Options, StoreAt, Transport,
};
use whimbrel_protocol::id::{AccountId, ThreadId};
use whimbrel_protocol::invite::RelayLink;
use whimbrel_protocol::limits;
use whimbrel_protocol::time::{Monotonic, Now, Wall};
use whimbrel_storage::{Kv, MemoryEngine, OrderedKv as _};

/// Devices in the group, its admin's among them, unless `WHIMBREL_CROWD` names another number.
const DEVICES: usize = 24;
/// Reached only when something is broken: 500 nodes share this machine's cores.
const PATIENCE: Duration = Duration::from_secs(1_200);
/// How many join the relay at once.
const AT_ONCE: usize = 50;

/// One person's node.
struct Person {
    account: AccountId,
    node: NodeHandle,
    events: Events,
}

impl Person {
    async fn new(number: usize, relay: &RelayLink, wall: Wall) -> Self {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&(number as u64).to_be_bytes());
        let mut chance = Chance::from_seed(Seed::from_bytes(seed));
        let now = Now { monotonic: Monotonic::default(), wall };
        let name = format!("person{number}").parse().unwrap();
        let created = whimbrel_node::identity::create(name, relay.clone(), "test", &mut chance, now).unwrap();
        let rows = Kv::open(MemoryEngine::new(), None).unwrap();
        rows.apply(&created.batch).unwrap();
        let config = Config { never_direct: true, ..Config::default() };
        let store = StoreAt::Lent(Arc::new(rows));
        let options = Options { store, config, direct: DirectOptions::Off, transport: Transport::Quic };
        let node = NodeRuntime::start(options).await.unwrap();
        Self { account: created.account, events: node.events(), node }
    }

    async fn ask(&self, command: Command) -> Reply {
        self.node.command(command).await.unwrap()
    }

    /// Waits until what is in the store is as `wanted` says; everything that changes it is told as an event.
    async fn until(&mut self, what: &str, wanted: impl Fn(&NodeHandle) -> bool) {
        let happens = async {
            while !wanted(&self.node) {
                match self.events.next().await {
                    Ok(_) | Err(EventsError::Lagged { .. }) => {}
                    Err(error) => panic!("{what}: {error}"),
                }
            }
        };
        tokio::time::timeout(PATIENCE, happens).await.unwrap_or_else(|_| panic!("{what}: did not happen"));
    }

    async fn is_among(&mut self, group: ThreadId, others: usize) {
        let among = |node: &NodeHandle| {
            thread(node, group).is_some_and(|row| row.standing == Standing::Open && row.people.len() == others)
        };
        self.until(&format!("among {others} others"), among).await;
    }

    async fn reads(&mut self, group: ThreadId, text: &str) {
        self.until(text, |node| texts(node, group).iter().any(|one| one == text)).await;
    }
}

fn thread(node: &NodeHandle, group: ThreadId) -> Option<Thread> {
    views::thread(&*node.reads(), &group).unwrap()
}

fn texts(node: &NodeHandle, group: ThreadId) -> Vec<String> {
    let lines = views::messages(&*node.reads(), &group, Page::Newest, 16).unwrap();
    lines.into_iter().map(|line| line.message.text).collect()
}

/// CPU seconds of this process, all nodes together.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit(')').next().unwrap();
    let ticks = |at: usize| after_name.split_whitespace().nth(at).unwrap().parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1_024
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_of_many_devices_is_made_used_and_halved() {
    let devices = std::env::var("WHIMBREL_CROWD").map_or(DEVICES, |number| number.parse().unwrap());
    assert!((4..=limits::THREAD_DEVICES_MAX).contains(&devices));
    let home = tempfile::tempdir().unwrap();
    let running = stage::Relay::start("a.example", &home.path().join("relay"));
    let relay: RelayLink = running.link.parse().unwrap();
    // The present as the file tells it that the relay wrote.
    let written = std::fs::metadata(&running.config).unwrap().modified().unwrap();
    let since = written.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let wall = Wall::from_millis(u64::try_from(since.as_millis()).unwrap());
    let mut people = Vec::new();
    let said = |what: &str, begun: f64| println!("{what}: {:.2} CPU s, {} MiB", cpu() - begun, resident_mib());

    // Everybody comes to be a contact of the first.
    let begun = cpu();
    people.push(Person::new(0, &relay, wall).await);
    let uses = u32::try_from(devices).unwrap();
    let Reply::Invite(invite) =
        people[0].ask(Command::NewInvite { uses, holds: Duration::from_secs(3_600), group: None }).await
    else {
        panic!("an invite");
    };
    let numbers: Vec<usize> = (1..devices).collect();
    for some in numbers.chunks(AT_ONCE) {
        let mut joining = tokio::task::JoinSet::new();
        for number in some {
            let (relay, invite, number) = (relay.clone(), invite.clone(), *number);
            joining.spawn(async move {
                let person = Person::new(number, &relay, wall).await;
                person.ask(Command::AcceptInvite(invite)).await;
                person
            });
        }
        people.extend(joining.join_all().await);
    }
    let all: Vec<AccountId> = people[1..].iter().map(|person| person.account).collect();
    let wanted: BTreeSet<AccountId> = all.iter().copied().collect();
    let known = |node: &NodeHandle| {
        let contacts = views::contacts(&*node.reads()).unwrap();
        wanted.iter().all(|account| contacts.iter().any(|contact| contact.account == *account))
    };
    people[0].until("everybody is a contact", known).await;
    said(&format!("{devices} nodes, of whom {} are contacts of one", all.len()), begun);

    // Made, in commits of 100.
    let begun = cpu();
    let mut batches = all.chunks(limits::COMMIT_ADDS_MAX);
    let first = batches.next().unwrap().to_vec();
    let Reply::Group { thread: group } =
        people[0].ask(Command::CreateGroup { title: "everybody".to_owned(), people: first.clone() }).await
    else {
        panic!("a group");
    };
    people[0].is_among(group, first.len()).await;
    for batch in batches {
        people[0].ask(Command::AddMembers { thread: group, people: batch.to_vec() }).await;
    }
    for person in &mut people {
        person.is_among(group, devices - 1).await;
    }
    said("made", begun);

    // Used, by the first and by the last that came.
    let begun = cpu();
    for (author, text) in [(0, "from the first"), (devices - 1, "from the last")] {
        people[author].ask(Command::Send { thread: group, text: text.to_owned() }).await;
        for person in &mut people {
            person.reads(group, text).await;
        }
    }
    said("two texts, read by everybody", begun);

    // Halved: who goes reads no more, and is told so.
    let begun = cpu();
    let gone = all[..devices / 2].to_vec();
    people[0].ask(Command::RemoveMembers { thread: group, people: gone.clone() }).await;
    let (mut stay, mut go): (Vec<_>, Vec<_>) = people.into_iter().partition(|person| !gone.contains(&person.account));
    let others = stay.len() - 1;
    for person in &mut stay {
        person.is_among(group, others).await;
    }
    let left = |node: &NodeHandle| thread(node, group).is_some_and(|row| row.standing == Standing::Left);
    for person in &mut go {
        person.until("out of the group", left).await;
        let refused = person.node.command(Command::Send { thread: group, text: "too late".to_owned() }).await;
        assert!(matches!(refused, Err(CommandFailure::Command(_))), "{refused:?}");
    }
    said("halved", begun);
    let begun = cpu();
    let epoch = thread(&stay[0].node, group).unwrap().epoch;
    stay[1].ask(Command::Send { thread: group, text: "among ourselves".to_owned() }).await;
    for person in &mut stay {
        person.reads(group, "among ourselves").await;
        assert_eq!(texts(&person.node, group), ["from the first", "from the last", "among ourselves"]);
        assert_eq!(thread(&person.node, group).unwrap().epoch, epoch);
    }
    said("one more text", begun);
    for person in &go {
        assert_eq!(texts(&person.node, group), ["from the first", "from the last"]);
    }
    for person in stay.iter().chain(&go) {
        person.node.shutdown().await.unwrap();
    }
}
