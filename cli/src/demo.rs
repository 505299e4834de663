//! Demo: the whole system on one machine, told as it happens.
//! Owns: the script, its deadlines, and cleaning up whatever happens. Never: takes a node's word for what arrived
//! (`ledger` counts what people asked for and what they were shown).
//! Map: `relays` (child processes), `people` (nodes), `ledger` (counting), `story` (lines and table).

mod ledger;
mod people;
mod relays;
mod story;

use std::io::{IsTerminal as _, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use whimbrel_node::{Command, Reply};
use whimbrel_protocol::id::{AccountId, ThreadId};
use whimbrel_protocol::limits;

use crate::args;
use crate::clock;
use crate::failure::{Exit, Failure};
use crate::local::Heard;
use crate::output::{Screen, to_json};
use crate::signal;
use crate::words::path_name;
use ledger::{Ledger, millis};
use people::{Cast, Person};
use relays::Relay;
use story::{Outcome, Story};

/// Messages that wait for Bob.
const HELD: usize = 100;
/// Messages each way over each path that are timed, one after another: of 50 latencies p99 is the longest.
const EACH_WAY: usize = 25;
/// Texts of the user's own.
const OWN_TEXTS_MAX: usize = 100;
/// Standard input, at most.
const STDIN_BYTES_MAX: usize = 16 * limits::TEXT_BYTES_MAX;
/// How long standard input may say nothing before the demo begins without more.
const STDIN_SILENCE_MAX: Duration = Duration::from_secs(1);
/// One step of the story.
const STEP: Duration = Duration::from_secs(15);
/// All of it; a minute is promised.
const WHOLE: Duration = Duration::from_secs(55);

/// Everybody and everything in the story.
struct Stage {
    a: Relay,
    b: Relay,
    alice: Person,
    bob: Person,
    carol: Person,
    cast: Cast,
}

/// Tells the story and judges it.
pub(crate) async fn run(screen: Screen, command: args::Demo) -> Result<(), Failure> {
    let own = own_texts(screen, command.message).await?;
    let temp = tempfile::Builder::new()
        .prefix("whimbrel-demo-")
        .tempdir()
        .map_err(|error| Failure::internal(format!("no temporary folder: {error}")))?;
    let mut story = Story::begin(screen.json, screen.quiet);
    let ledger = Arc::new(Ledger::default());
    let played = tokio::select! {
        played = whole(&mut story, &ledger, temp.path(), &own) => played,
        () = signal::stop() => Err(Failure::interrupted()),
    };
    // Interrupted before the stage was cleared: its relays are killed as it is dropped, and their tether is cut.
    if command.keep {
        story.tell(&format!("kept: {}", temp.keep().display()));
    }
    played?;
    let outcome = Outcome::of(&ledger.balance(), story.took());
    screen.print(&if screen.json { to_json(&outcome) } else { format!("\n{}", outcome.table()) })?;
    if outcome.ok { Ok(()) } else { Err(Failure::internal("not everything arrived as it must: see the numbers")) }
}

/// Sets the stage, plays, and clears the stage whatever happened.
async fn whole(story: &mut Story, ledger: &Arc<Ledger>, dir: &Path, own: &[String]) -> Result<(), Failure> {
    let mut stage = step("two relays and three people are made", Stage::set(dir, ledger)).await?;
    let played = tokio::select! {
        played = timeout(WHOLE, play(story, ledger, &mut stage, own)) => {
            played.unwrap_or_else(|_| Err(Failure::internal(format!("the demo took longer than {} s", WHOLE.as_secs()))))
        }
        () = signal::stop() => Err(Failure::interrupted()),
    };
    let played = played.map_err(|failure| stage.explain(failure));
    let cleared = stage.clear().await;
    played.and(cleared)
}

async fn play(story: &mut Story, ledger: &Ledger, stage: &mut Stage, own: &[String]) -> Result<(), Failure> {
    let Stage { a, b, alice, bob, carol, cast } = stage;

    story.chapter("Two relays, three people");
    for relay in [&mut *a, &mut *b] {
        let pid = step("a relay starts", relay.start()).await?;
        story.tell(&format!("relay {} runs at {} (process {pid})", relay.domain, relay.link.endpoint));
    }
    for (person, relay, direct) in [(&mut *alice, &*a, true), (&mut *carol, a, false), (&mut *bob, b, false)] {
        step("a person registers", person.come(direct, cast, STEP)).await?;
        story.tell(&format!("{} lives at {} now", person.name, relay.domain));
    }

    story.chapter("They meet");
    let with_carol = step("Carol accepts Alice's invite", meet(story, alice, carol)).await?;
    let with_bob = step("Bob accepts Alice's invite", meet(story, alice, bob)).await?;

    story.chapter("Through one relay: Alice and Carol");
    converse(story, ledger, alice, carol, with_carol, own, EACH_WAY).await?;

    story.chapter("Across two relays: Alice and Bob");
    converse(story, ledger, alice, bob, with_bob, own, EACH_WAY).await?;

    story.chapter("Bob goes away, and his relay crashes");
    step("Bob goes away", bob.leave()).await?;
    story.tell("Bob's node ends; his store stays");
    let before = ledger.shown_to(bob.name);
    for number in 1..=HELD {
        step("Alice writes to Bob, who is away", alice.say(bob, with_bob, &format!("held {number} of {HELD}"))).await?;
    }
    step("Alice's relay stores all of it", settled(alice, |status| status.queued == 0)).await?;
    story.tell(&format!("{HELD} messages for Bob are on her relay's disk"));
    step("relay b is killed", b.kill()).await?;
    story.tell(&format!("relay {} is killed (SIGKILL)", b.domain));
    let begin = clock::now();
    let pid = step("relay b starts again", b.start()).await?;
    let took = millis(clock::now().saturating_duration_since(begin));
    story.tell(&format!(
        "relay {} runs again on the same folder and port (process {pid}), ready after {took:.0} ms",
        b.domain
    ));

    story.chapter("Bob comes back");
    let begin = clock::now();
    step("Bob comes back", bob.come(true, cast, STEP)).await?;
    story.tell("Bob's node runs again on its store");
    let arrived = step("Bob gets what was held", shown(ledger, bob, before + HELD)).await?;
    let took = clock::now().saturating_duration_since(begin);
    story.message(path_name(arrived.0.path), &format!("Bob reads all {HELD}, the last: \"{}\"", arrived.0.text), took);

    story.chapter("From node to node");
    step("Alice and Bob find a direct path", async {
        alice.node()?.command(Command::OfferDirect { thread: with_bob }).await?;
        settled(alice, |status| has_direct(&status.direct, bob.account)).await?;
        settled(bob, |status| has_direct(&status.direct, alice.account)).await
    })
    .await?;
    story.tell("Alice and Bob have a direct link; its addresses came over their encrypted thread");
    converse(story, ledger, alice, bob, with_bob, own, EACH_WAY).await?;

    story.chapter("No relay at all");
    for relay in [&mut *a, &mut *b] {
        let in_order = step("a relay stops", relay.stop()).await?;
        let how = if in_order { "stops" } else { "had to be killed" };
        story.tell(&format!("relay {} {how}", relay.domain));
    }
    converse(story, ledger, alice, bob, with_bob, &[], EACH_WAY / 5).await
}

/// An invite goes from hand to hand, and both know each other.
async fn meet(story: &Story, host: &Person, guest: &Person) -> Result<ThreadId, Failure> {
    let begin = clock::now();
    let mut events = host.node()?.events();
    let invite = host.invite().await?;
    story.tell(&format!("{} makes an invite, {} accepts it", host.name, guest.name));
    let thread = guest.accept(invite).await?;
    loop {
        if host.knows(&guest.account, &thread)? {
            break;
        }
        if let Heard::End(failure) = events.next().await {
            return Err(failure);
        }
    }
    story.message(
        "",
        &format!("{} and {} have an encrypted thread", host.name, guest.name),
        clock::now().saturating_duration_since(begin),
    );
    Ok(thread)
}

/// First a word each way, then texts of the user's own, then many one after another.
async fn converse(
    story: &Story,
    ledger: &Ledger,
    one: &Person,
    two: &Person,
    thread: ThreadId,
    own: &[String],
    each_way: usize,
) -> Result<(), Failure> {
    for (from, to) in [(one, two), (two, one)] {
        say(story, ledger, from, to, thread, &format!("Hello {}, {} here", to.name, from.name), true).await?;
    }
    for text in own {
        say(story, ledger, one, two, thread, text, true).await?;
    }
    let mut waits = Vec::new();
    let mut paths = std::collections::BTreeSet::new();
    for number in 1..=each_way {
        for (from, to) in [(one, two), (two, one)] {
            let text = format!("{} to {}, {number} of {each_way}", from.name, to.name);
            let (path, wait) = say(story, ledger, from, to, thread, &text, false).await?;
            paths.insert(path);
            waits.push(wait);
        }
    }
    waits.sort_unstable();
    let middle = waits.get(waits.len() / 2).copied().unwrap_or_default();
    let paths = paths.into_iter().collect::<Vec<_>>().join("+");
    story.message(&paths, &format!("{each_way} more each way, one after another; half of them within"), middle);
    Ok(())
}

async fn say(
    story: &Story,
    ledger: &Ledger,
    from: &Person,
    to: &Person,
    thread: ThreadId,
    text: &str,
    tell: bool,
) -> Result<(&'static str, Duration), Failure> {
    let what = format!("{} writes to {}", from.name, to.name);
    let count = ledger.shown_to(to.name) + 1;
    step(&what, from.say(to, thread, text)).await?;
    let (seen, latency) = step(&what, shown(ledger, to, count)).await?;
    let path = path_name(seen.path);
    if tell {
        story.message(path, &format!("{} to {}: \"{}\"", seen.from, seen.to, seen.text), latency);
    }
    Ok((path, latency))
}

async fn shown(ledger: &Ledger, to: &Person, count: usize) -> Result<(ledger::Seen, Duration), Failure> {
    let missed = || Failure::internal("events were missed: the ledger would prove nothing");
    ledger.wait_shown(to.name, count).await.ok_or_else(missed)
}

/// Waits until a node says so.
async fn settled(person: &Person, wanted: impl Fn(&whimbrel_node::api::Status) -> bool) -> Result<(), Failure> {
    let node = person.node()?;
    let mut events = node.events();
    loop {
        match node.command(Command::Status).await? {
            Reply::Status(status) if wanted(&status) => return Ok(()),
            _ => {}
        }
        if let Heard::End(failure) = events.next().await {
            return Err(failure);
        }
    }
}

fn has_direct(direct: &[whimbrel_protocol::id::DeviceId], with: AccountId) -> bool {
    direct.iter().any(|device| device.account == with)
}

/// One step, with a deadline and its name in what goes wrong.
async fn step<T>(what: &str, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    match timeout(STEP, work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(failure)) => {
            let message = format!("the demo stopped at \"{what}\": {}", failure.message);
            Err(Failure { message, ..failure })
        }
        Err(_) => {
            let message = format!("the demo stopped at \"{what}\": not done after {} s", STEP.as_secs());
            Err(Failure::new(Exit::Internal, "demo_step", message).hint("run it again with -vv for the log"))
        }
    }
}

impl Stage {
    async fn set(dir: &Path, ledger: &Arc<Ledger>) -> Result<Self, Failure> {
        let cast = Cast::default();
        let a = Relay::init("a.example", dir.join("relay-a")).await?;
        let b = Relay::init("b.example", dir.join("relay-b")).await?;
        a.pin(&b)?;
        b.pin(&a)?;
        let person = |name, relay: &Relay, folder: &str| {
            Person::new(name, relay.link.clone(), dir.join(folder), Arc::clone(ledger), &cast)
        };
        let alice = person("Alice", &a, "alice").await?;
        let bob = person("Bob", &b, "bob").await?;
        let carol = person("Carol", &a, "carol").await?;
        Ok(Self { a, b, alice, bob, carol, cast })
    }

    /// Adds what the relays wrote last, unless they only were interrupted.
    fn explain(&self, mut failure: Failure) -> Failure {
        if failure.exit != Exit::Interrupted {
            for relay in [&self.a, &self.b] {
                let tail = relay.log_tail();
                if !tail.trim().is_empty() {
                    failure.message.push_str(&format!("\nrelay {} wrote:\n{}", relay.domain, tail.trim_end()));
                }
            }
        }
        failure
    }

    async fn clear(&mut self) -> Result<(), Failure> {
        let Self { a, b, alice, bob, carol, .. } = self;
        let leave = async |person: &mut Person| {
            let left = timeout(STEP, person.leave()).await;
            left.unwrap_or_else(|_| Err(Failure::internal(format!("{}'s node does not end", person.name))))
        };
        // Each says goodbye to relays that may be gone, and waits a moment for their answer.
        let left = tokio::join!(leave(alice), leave(bob), leave(carol));
        let stopped = tokio::join!(a.stop(), b.stop());
        left.0.and(left.1).and(left.2).and(stopped.0.map(drop)).and(stopped.1.map(drop))
    }
}

/// Texts from the command line and the lines of standard input.
async fn own_texts(screen: Screen, mut texts: Vec<String>) -> Result<Vec<String>, Failure> {
    let (input, ended) = piped().await?;
    let input = String::from_utf8(input).map_err(|_| Failure::usage("standard input is not UTF-8 text"))?;
    texts.extend(input.lines().map(str::to_owned));
    texts.retain(|text| !text.trim().is_empty());
    if !ended && !texts.is_empty() {
        screen.hint("standard input stays open: only what has come so far is sent");
    }
    if let Some(text) = texts.iter().find(|text| text.len() > limits::TEXT_BYTES_MAX) {
        let message = format!("a text has at most {} bytes, one has {} or more", limits::TEXT_BYTES_MAX, text.len());
        return Err(Failure::new(Exit::Limit, "too_large", message).hint("send it in several messages"));
    }
    if texts.len() > OWN_TEXTS_MAX {
        return Err(Failure::new(Exit::Limit, "too_many", format!("the demo takes at most {OWN_TEXTS_MAX} texts")));
    }
    Ok(texts)
}

/// What is piped in, and whether that was all. Somebody may have left us a pipe that stays silent and never closes, as some
/// runners do: a moment without a byte ends the wait. A closed standard input is an empty one.
async fn piped() -> Result<(Vec<u8>, bool), Failure> {
    let mut input = Vec::new();
    if std::io::stdin().is_terminal() {
        return Ok((input, true));
    }
    let (sender, mut pieces) = mpsc::channel(1);
    // Not a task: a read that never returns must not keep the runtime.
    std::thread::spawn(move || {
        let mut piece = vec![0; limits::TEXT_BYTES_MAX];
        while let Ok(length @ 1..) = std::io::stdin().lock().read(&mut piece) {
            let bytes = piece.get(..length).unwrap_or_default().to_vec();
            if sender.blocking_send(bytes).is_err() {
                return;
            }
        }
    });
    loop {
        match timeout(STDIN_SILENCE_MAX, pieces.recv()).await {
            Ok(Some(piece)) => input.extend(piece),
            Ok(None) => return Ok((input, true)),
            Err(_) => return Ok((input, false)),
        }
        if input.len() > STDIN_BYTES_MAX {
            return Err(Failure::new(
                Exit::Limit,
                "too_large",
                format!("the demo reads at most {STDIN_BYTES_MAX} bytes"),
            ));
        }
    }
}
