//! The order of apply, sync and release, and what follows when the store fails.

use std::time::Duration;

use tokio::task::JoinHandle;
use whimbrel_node::api::{Command, CommandError, Event, Input, Output, Reply, Step};
use whimbrel_storage::{Kv, Reads, StorageError};

use crate::direct::DirectOptions;
use crate::handle::{CommandFailure, EventsError, NodeHandle, RuntimeError};
use crate::testing::{Keeper, Scripted, gate, key, run, scripted, soon};

/// Counts commands in the store, and tells the count once it is durable.
fn count(input: Input, reads: &dyn Reads, step: &mut Step) {
    if let Input::Command { ticket, .. } = input {
        let count = reads.get(b"count").unwrap().map_or(0, |value| value[0]) + 1;
        step.batch.put(b"count".to_vec(), vec![count]);
        step.outputs.push(Output::Event(Event::RelayDown(count.to_string())));
        step.outputs.push(Output::Answer { ticket, result: Ok(Reply::Done) });
    }
}

fn counting() -> (std::sync::Arc<NodeHandle>, Keeper) {
    let (store, keeper) = gate();
    (run(scripted(count), store, &key(1), &DirectOptions::Off).into(), keeper)
}

fn ask(node: &std::sync::Arc<NodeHandle>) -> JoinHandle<Result<Reply, CommandFailure>> {
    let node = std::sync::Arc::clone(node);
    tokio::spawn(async move { node.command(Command::Status).await })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outputs_leave_only_after_the_sync_and_in_order() {
    let (node, keeper) = counting();
    let mut events = node.events();
    let asked = ask(&node);
    keeper.sync_began();
    // The batch is applied, the sync has begun, and nothing was told.
    assert_eq!(node.reads().get(b"count").unwrap(), Some(vec![1]));
    let told = tokio::time::timeout(Duration::from_millis(50), events.next()).await;
    assert!(told.is_err() && !asked.is_finished());
    keeper.let_go();
    assert_eq!(soon("answer", asked).await.unwrap().unwrap(), Reply::Done);
    assert_eq!(soon("event", events.next()).await.unwrap(), Event::RelayDown("1".to_owned()));
    assert_eq!(keeper.disk.unsynced(), 0);
    soon("shutdown", node.shutdown()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_during_a_sync_shares_the_next_one() {
    let (node, keeper) = counting();
    let mut events = node.events();
    let first = ask(&node);
    keeper.sync_began();
    let others: Vec<_> = (0..20).map(|_| ask(&node)).collect();
    // A command counts from just before it is queued, so one of them may still miss the next sync.
    soon("queueing", async {
        while node.commands_waiting() < 21 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    keeper.let_go();
    (0..21).for_each(|_| keeper.let_go());
    soon("first", first).await.unwrap().unwrap();
    for other in others {
        soon("other", other).await.unwrap().unwrap();
    }
    assert!(keeper.syncs() <= 3, "20 commands did not share syncs");
    for expected in 1..=21 {
        assert_eq!(soon("event", events.next()).await.unwrap(), Event::RelayDown(expected.to_string()));
    }
    soon("shutdown", node.shutdown()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_between_apply_and_sync_takes_back_only_what_nobody_was_told() {
    let (store, keeper) = gate();
    let node = std::sync::Arc::new(run(scripted(count), store, &key(1), &DirectOptions::Off));
    let mut events = node.events();
    let asked = ask(&node);
    keeper.sync_began();
    assert_eq!(keeper.disk.unsynced(), 1);
    // Here the power goes: the sync fails, and what it should have kept is gone.
    keeper.disk.fail_next_sync(StorageError::Engine("power lost".to_owned()));
    keeper.let_go();
    let failure = soon("answer", asked).await.unwrap().unwrap_err();
    assert!(matches!(failure, CommandFailure::Runtime(RuntimeError::Store(StorageError::Engine(_)))));
    let no_event = soon("end of events", events.next()).await.unwrap_err();
    assert!(matches!(no_event, EventsError::Ended(RuntimeError::Store(_))));
    soon("shutdown", node.shutdown()).await.unwrap_err();
    drop(node);
    keeper.disk.crash(0);
    assert_eq!(Kv::open(keeper.disk.clone(), None).unwrap().get(b"count").unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_is_not_taken_stops_the_node_for_everybody() {
    let (node, keeper) = counting();
    keeper.disk.fail_next_apply(StorageError::Full);
    for _ in 0..2 {
        let failure = soon("answer", node.command(Command::Status)).await.unwrap_err();
        assert!(matches!(failure, CommandFailure::Runtime(RuntimeError::Store(StorageError::Full))), "{failure}");
    }
    assert!(matches!(soon("end", node.ended()).await, RuntimeError::Store(StorageError::Full)));
    assert_eq!(keeper.syncs(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_core_that_cannot_read_stops_the_node_and_nothing_of_its_step_leaves() {
    let script = |input, _: &dyn Reads, step: &mut Step| {
        if let Input::Command { ticket, .. } = input {
            step.outputs.push(Output::Answer { ticket, result: Ok(Reply::Done) });
            step.outputs.push(Output::Broken { reason: "damaged row".to_owned() });
        }
    };
    let (store, _keeper) = gate();
    let node = run(scripted(script), store, &key(1), &DirectOptions::Off);
    let failure = soon("answer", node.command(Command::Status)).await.unwrap_err();
    assert!(matches!(failure, CommandFailure::Runtime(RuntimeError::Store(_))), "{failure}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_core_that_panics_is_told_of_and_leaves_nobody_waiting() {
    let (store, _keeper) = gate();
    let script = |input, _: &dyn Reads, _: &mut Step| assert!(!matches!(input, Input::Command { .. }), "on purpose");
    let node = run(scripted(script), store, &key(1), &DirectOptions::Off);
    let failure = soon("answer", node.command(Command::Status)).await.unwrap_err();
    assert!(matches!(failure, CommandFailure::Runtime(RuntimeError::Crashed)), "{failure}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_command_and_a_shut_down_node_are_told_apart() {
    let script = |input, _: &dyn Reads, step: &mut Step| {
        if let Input::Command { ticket, .. } = input {
            step.outputs.push(Output::Answer { ticket, result: Err(CommandError::OwnInvite) });
        }
    };
    let (store, keeper) = gate();
    let node = run(scripted(script), store, &key(1), &DirectOptions::Off);
    let failure = soon("answer", node.command(Command::Status)).await.unwrap_err();
    assert!(matches!(failure, CommandFailure::Command(CommandError::OwnInvite)));
    // Nothing was written, so nothing is synced.
    assert_eq!(keeper.syncs(), 0);
    soon("shutdown", node.shutdown()).await.unwrap();
    soon("second shutdown", node.shutdown()).await.unwrap();
    let failure = soon("answer", node.command(Command::Status)).await.unwrap_err();
    assert!(matches!(failure, CommandFailure::Runtime(RuntimeError::Stopped)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timeout_comes_when_it_is_asked_for() {
    let script = |input, _: &dyn Reads, step: &mut Step| {
        if matches!(input, Input::Timeout) {
            step.outputs.push(Output::Event(Event::CaughtUp));
        }
    };
    let timeout = Some(whimbrel_protocol::time::Monotonic::from_start(Duration::from_millis(200)));
    let (store, _keeper) = gate();
    let node = run(Scripted { script, timeout }, store, &key(1), &DirectOptions::Off);
    assert_eq!(soon("event", node.events().next()).await.unwrap(), Event::CaughtUp);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_of_events_is_told_how_many_it_missed() {
    let many = whimbrel_protocol::limits::NODE_EVENTS_MAX + 10;
    let script = move |input, _: &dyn Reads, step: &mut Step| {
        if let Input::Command { ticket, .. } = input {
            step.outputs.extend((0..many).map(|_| Output::Event(Event::CaughtUp)));
            step.outputs.push(Output::Answer { ticket, result: Ok(Reply::Done) });
        }
    };
    let (store, _keeper) = gate();
    let node = run(scripted(script), store, &key(1), &DirectOptions::Off);
    let mut events = node.events();
    soon("answer", node.command(Command::Status)).await.unwrap();
    assert!(matches!(soon("event", events.next()).await, Err(EventsError::Lagged { missed: 10 })));
    assert_eq!(soon("event", events.next()).await.unwrap(), Event::CaughtUp);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dial_without_direct_links_fails_at_once() {
    let mut told = None;
    let script = move |input, _: &dyn Reads, step: &mut Step| match input {
        Input::Command { ticket, .. } => {
            told = Some(ticket);
            step.outputs.push(Output::Dial { transport: key(2).public(), addresses: Vec::new() });
        }
        Input::DialFailed { transport } if transport == key(2).public() => {
            if let Some(ticket) = told.take() {
                step.outputs.push(Output::Answer { ticket, result: Ok(Reply::Done) });
            }
        }
        _ => {}
    };
    let (store, _keeper) = gate();
    let node = run(scripted(script), store, &key(1), &DirectOptions::Off);
    assert_eq!(soon("answer", node.command(Command::Status)).await.unwrap(), Reply::Done);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_shut_down_takes_its_leave_first() {
    let (store, _keeper) = gate();
    let script = |input, _: &dyn Reads, step: &mut Step| {
        if matches!(input, Input::Leave) {
            step.outputs.push(Output::Event(Event::CaughtUp));
        }
    };
    let node = run(scripted(script), store, &key(1), &DirectOptions::Off);
    let mut events = node.events();
    soon("shutdown", node.shutdown()).await.unwrap();
    assert_eq!(soon("event", events.next()).await.unwrap(), Event::CaughtUp);
    assert!(matches!(soon("end", events.next()).await, Err(EventsError::Ended(RuntimeError::Stopped))));
}
