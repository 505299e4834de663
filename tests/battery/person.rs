//! A person: a real node, with its real core, keys and groups, on a real relay, in a conversation with Bob. Alice's node is
//! killed, or loses its power, again and again while both write; what she was told and shown must be in her history, once, and what either was
//! told is queued must reach the other, once.
//! Owns: the relay's process, Bob's node, Alice's process, what must be there afterwards.
//!
//! Lines: `t` the conversation began, `a TEXT` queued for good, `x TEXT` shown, `n COUNT` how many of Bob's texts there are,
//! `end`. The parent adds `b TEXT`: said by Bob, and there in the end.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use whimbrel_node::api::{self, Config, Event, Reply};
use whimbrel_node::views::{self, Page, Place as At};
use whimbrel_node_runtime::{
    CommandFailure, DirectOptions, EventsError, NodeHandle, NodeRuntime, Options, StoreAt, StoreOptions, Transport,
    create, open_store,
};
use whimbrel_protocol::id::ThreadId;
use whimbrel_protocol::invite::{Invite, RelayLink};
use whimbrel_storage::{Reads, StorageError};
use whimbrel_storage_runtime::EngineKind;

use crate::chance::Chance;
use crate::child::{Found, Load, Place, probe, say, start_load, verify as verify_by_child};
use crate::crash::{STORE_FAILED, weak_power};
use crate::{Plan, Verdict};

/// Rounds of one conversation.
const EPISODE: u64 = 10;
/// What Alice's process is to do besides: meet Bob and end; or say nothing more and take what comes.
const MEET: u64 = 1;
const LISTEN: u64 = 2;
/// Until everything has arrived everywhere, at the end of a conversation.
const PATIENCE: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(50);
/// Between two texts of Bob's.
const PACE: Duration = Duration::from_millis(10);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

async fn start(home: &Path, options: StoreOptions) -> Result<NodeHandle, String> {
    let (store, config) =
        (StoreAt::Home(home.to_owned(), options.into()), Config { never_direct: true, ..Config::default() });
    let started =
        NodeRuntime::start(Options { store, config, direct: DirectOptions::Off, transport: Transport::default() })
            .await;
    started.map_err(|error| error.to_string())
}

/// Has a node do something, again until it can.
async fn insist(node: &NodeHandle, command: &api::Command) -> Reply {
    let begun = Instant::now();
    loop {
        match node.command(command.clone()).await {
            Ok(reply) => return reply,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{command:?}: {error}"),
        }
        tokio::time::sleep(POLL).await;
    }
}

fn the_thread(reads: &dyn Reads) -> Result<Option<ThreadId>, StorageError> {
    Ok(views::threads(reads)?.first().map(|thread| thread.thread))
}

/// How often each text is in a history.
fn history(reads: &dyn Reads, thread: &ThreadId) -> Result<BTreeMap<String, u64>, StorageError> {
    let (mut texts, mut page) = (BTreeMap::new(), Page::Oldest);
    loop {
        let lines = views::messages(reads, thread, page, 100)?;
        let Some(last) = lines.last() else { return Ok(texts) };
        page = Page::After(At::of(&last.message));
        for line in lines {
            *texts.entry(line.message.text).or_default() += 1;
        }
    }
}

fn of_bob(texts: &BTreeMap<String, u64>) -> usize {
    texts.keys().filter(|text| text.starts_with("bob ")).count()
}

/// Alice's process.
pub(crate) fn load(load: &Load) {
    runtime().block_on(async {
        let node = match start(&load.dir, load.options()).await {
            Ok(node) => node,
            Err(error) => return say(&format!("error {error}")),
        };
        let mut events = node.events();
        tokio::spawn(async move {
            loop {
                match events.next().await {
                    Ok(Event::Shown(message)) if message.text.starts_with("bob ") => {
                        say(&format!("x {}", message.text))
                    }
                    Ok(_) | Err(EventsError::Lagged { .. }) => {}
                    Err(_) => return,
                }
            }
        });
        if load.operations == MEET {
            let invite = fs::read_to_string(load.dir.with_file_name("invite")).unwrap();
            insist(&node, &api::Command::AcceptInvite(invite.parse::<Invite>().unwrap())).await;
            node.shutdown().await.unwrap();
            return say("end");
        }
        let reads = node.reads();
        let thread = the_thread(&*reads).unwrap().unwrap();
        say("t");
        for number in 0_u64.. {
            if load.operations == LISTEN {
                say(&format!("n {}", of_bob(&history(&*reads, &thread).unwrap())));
                tokio::time::sleep(POLL * 4).await;
                continue;
            }
            let text = format!("alice {} {number} {}", load.round, "-".repeat(usize::try_from(number % 700).unwrap()));
            match node.command(api::Command::Send { thread, text: text.clone() }).await {
                Ok(_) => say(&format!("a {text}")),
                // Too much waits already.
                Err(CommandFailure::Command(_)) => tokio::time::sleep(POLL).await,
                Err(error) => {
                    say(&format!("failed {error}"));
                    std::process::exit(STORE_FAILED[0]);
                }
            }
        }
    });
}

/// Reads what is left of Alice's.
pub(crate) fn verify(engine: EngineKind, dir: &Path, lines: &str) -> Found {
    let mut found = Found::default();
    let store = match open_store(dir, StoreOptions { engine, probe: Some(probe()), ..StoreOptions::default() }) {
        Ok(store) => store,
        Err(error) => return Found { error: Some(error.to_string()), ..found },
    };
    let texts = the_thread(&store).and_then(|thread| history(&store, &thread.unwrap()));
    match texts {
        Ok(texts) => compare(&texts, lines.lines().filter_map(text_of), "Alice", &mut found),
        Err(error) => found.named(error.to_string()),
    }
    found
}

fn text_of(line: &str) -> Option<&str> {
    line.split_once(' ').filter(|(word, _)| ["a", "x", "b"].contains(word)).map(|(_, text)| text)
}

/// Everything that was told is there, and nothing is there twice.
fn compare<'t>(texts: &BTreeMap<String, u64>, told: impl Iterator<Item = &'t str>, whose: &str, found: &mut Found) {
    for text in told.filter(|text| !texts.contains_key(*text)) {
        found.lost(format!("{whose} lacks {text:.24}"));
    }
    for (text, _) in texts.iter().filter(|(_, times)| **times > 1) {
        found.torn(format!("{whose} has {text:.24} twice"));
    }
}

/// The relay's process; ends with its handle.
struct Relay(Child);

impl Drop for Relay {
    fn drop(&mut self) {
        let _gone_already = self.0.kill().and_then(|()| self.0.wait());
    }
}

fn relay(dir: &Path) -> (Relay, RelayLink) {
    let program = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("relay").stdin(Stdio::null()).stderr(Stdio::null());
        command
    };
    let made = program().args(["init", "a.example", "--listen", "127.0.0.1:0", "--json", "--dir"]).arg(dir).output();
    assert!(made.unwrap().status.success(), "no relay was made");
    let mut child = program()
        .args(["run", "--json", "--config"])
        .arg(dir.join("relay.toml"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ready: Value = serde_json::from_str(&line).expect("the relay is not ready");
    (Relay(child), ready["link"].as_str().unwrap().parse().unwrap())
}

/// Bob, who writes and reads and is never killed.
struct Bob {
    node: Arc<NodeHandle>,
    said: Arc<Mutex<Vec<String>>>,
    writes: Arc<AtomicBool>,
}

impl Bob {
    async fn come(home: &Path, link: RelayLink) -> Self {
        create(home, "bob".parse().unwrap(), link, "phone", StoreOptions::default()).unwrap();
        let node = Arc::new(start(home, StoreOptions::default()).await.unwrap());
        Self { node, said: Arc::default(), writes: Arc::default() }
    }

    async fn invite(&self) -> Invite {
        let holds = Duration::from_secs(3_600);
        let Reply::Invite(invite) = insist(&self.node, &api::Command::NewInvite { uses: 9, holds, group: None }).await
        else {
            panic!("no invite");
        };
        invite
    }

    /// Waits for the conversation and writes from then on.
    async fn write(&self) -> ThreadId {
        let reads = self.node.reads();
        let thread = loop {
            if let Some(thread) = the_thread(&*reads).unwrap() {
                break thread;
            }
            tokio::time::sleep(POLL).await;
        };
        self.writes.store(true, Ordering::Relaxed);
        let (node, said, writes) = (Arc::clone(&self.node), Arc::clone(&self.said), Arc::clone(&self.writes));
        tokio::spawn(async move {
            for number in 0_u64.. {
                let text = format!("bob {number} {}", "-".repeat(usize::try_from(number % 500).unwrap()));
                if !writes.load(Ordering::Relaxed) {
                    return;
                }
                if node.command(api::Command::Send { thread, text: text.clone() }).await.is_ok() {
                    said.lock().unwrap().push(text);
                }
                tokio::time::sleep(PACE).await;
            }
        });
        thread
    }
}

#[derive(Default)]
struct Totals {
    rounds: u64,
    acked: u64,
    lost: u64,
    torn: u64,
    unopened: u64,
}

impl Totals {
    fn add(&mut self, found: Found, round: u64, notes: &mut Vec<String>) {
        self.lost += found.lost + found.named;
        self.torn += found.torn;
        self.unopened += u64::from(found.error.is_some());
        notes.extend(found.notes.into_iter().chain(found.error).map(|note| format!("round {round}: {note}")));
    }
}

pub(crate) fn run(plan: Plan, power: Option<&Path>) -> Verdict {
    let runtime = runtime();
    let mut totals = Totals::default();
    for first in (plan.from..plan.from + plan.rounds).step_by(usize::try_from(EPISODE).unwrap()) {
        let end = (first + EPISODE).min(plan.from + plan.rounds);
        let mut place = Place::new();
        let notes = runtime.block_on(conversation(plan, (first..end, power), &mut place, &mut totals));
        if !notes.is_empty() {
            eprintln!("{notes:#?}\n  kept in {}", place.keep().display());
        }
    }
    let Totals { rounds, acked, lost, torn, unopened } = totals;
    Verdict {
        counts: vec![("rounds", rounds), ("acked", acked), ("lost", lost), ("torn", torn), ("unopened", unopened)],
        kept: lost + torn + unopened == 0 && acked > 0,
        seconds: 0,
    }
}

async fn conversation(
    plan: Plan,
    (rounds, power): (std::ops::Range<u64>, Option<&Path>),
    place: &mut Place,
    totals: &mut Totals,
) -> Vec<String> {
    let mut notes = Vec::new();
    let (_relay, link) = relay(&place.beside("relay"));
    let bob = Bob::come(&place.beside("bob"), link.clone()).await;
    fs::write(place.beside("invite"), bob.invite().await.to_string()).unwrap();
    let options = StoreOptions { engine: plan.engine, ..StoreOptions::default() };
    create(&place.dir(), "alice".parse().unwrap(), link, "laptop", options).unwrap();
    let alice = |round, operations, place: &Place, environment: &[(&str, OsString)]| {
        start_load(&Load { operations, ..Load::new(plan, &place.dir(), round) }, environment, place)
    };
    let met = alice(rounds.start, MEET, place, &[]).end(drop);
    assert!(met.success(), "Alice and Bob did not meet: {met}");
    let thread = bob.write().await;

    for round in rounds.clone() {
        let mut chance = Chance::of(&[plan.seed, round, 6]);
        let wanted = 1 + chance.skewed(11);
        let sync_fails = power.is_some() && round % 5 == 4;
        let environment = power.map(|preload| weak_power(preload, place, &mut chance, (round, sync_fails)));
        let mut running = alice(round, 0, place, &environment.unwrap_or_default());
        let mut told = 0;
        while told < wanted {
            let Some(line) = running.next() else { break };
            // A node whose sync fails at its start says so, too.
            if line.starts_with("error ") && !sync_fails {
                totals.unopened += 1;
                notes.push(format!("round {round}: {line}"));
            }
            told += u64::from(text_of(&line).is_some());
            place.ledger.push_str(&(line + "\n"));
        }
        running.kill();
        running.end(|line| {
            told += u64::from(text_of(&line).is_some());
            place.ledger.push_str(&(line + "\n"));
        });
        totals.rounds += 1;
        totals.acked += told;
        totals.add(verify_by_child(plan, &place.dir(), &place.ledger, false, place), round, &mut notes);
    }

    // Nobody writes any more: everything arrives.
    bob.writes.store(false, Ordering::Relaxed);
    tokio::time::sleep(POLL * 4).await;
    let said = bob.said.lock().unwrap().clone();
    let alices: Vec<String> =
        place.ledger.lines().filter_map(|line| line.strip_prefix("a ")).map(str::to_owned).collect();
    let (reads, begun) = (bob.node.reads(), Instant::now());
    let mut running = alice(rounds.end, LISTEN, place, &[]);
    while let Some(line) = running.next() {
        let texts = history(&*reads, &thread).unwrap();
        let all_hers = line.strip_prefix("n ").is_some_and(|count| count == said.len().to_string());
        if (all_hers && alices.iter().all(|text| texts.contains_key(text))) || begun.elapsed() > PATIENCE {
            break;
        }
    }
    running.kill();
    running.end(drop);
    let mut found = Found::default();
    compare(&history(&*reads, &thread).unwrap(), alices.iter().map(String::as_str), "Bob", &mut found);
    totals.add(found, rounds.end, &mut notes);
    let ledger = said.iter().fold(place.ledger.clone(), |ledger, text| ledger + "b " + text + "\n");
    totals.add(verify_by_child(plan, &place.dir(), &ledger, true, place), rounds.end, &mut notes);
    bob.node.shutdown().await.unwrap();
    notes
}
