//! Direct: envelopes and addresses from node to node.
//! In order: offer addresses inside the seal, dial (the lower transport key does, so there are not two links), let
//! in contacts' devices alone, take envelopes and answer once they are durable.
//! Rules: docs/protocol/direct.md.

use tracing::debug;
use whimbrel_crypto::{AccountLog, Engine};
use whimbrel_protocol::Frame;
use whimbrel_protocol::direct::{DirectRefused, DirectStored};
use whimbrel_protocol::id::{AccountId, DeviceId, EnvelopeId, LinkId, MessageId, PublicKey, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::message::{Body, Candidates, Content};
use whimbrel_protocol::refusal::RefusalCode;
use whimbrel_protocol::thread::{Class, Envelope};
use whimbrel_protocol::time::Wall;
use whimbrel_storage::StorageError;
use whimbrel_storage::planted::{self, Bug};

use super::receive::{self, Fate};
use super::send;
use crate::api::{CommandError, Event, Output, Path};
use crate::contacts;
use crate::direct;
use crate::outbox::Phase;
use crate::rooms::{Halt, Turn};
use crate::rows::{StateRow, ThreadRow, ThreadState};
use crate::thread;

/// A node is at the other end of a link: only a contact's device may stay.
pub(crate) fn link_up<E: Engine>(t: &mut Turn<'_, E>, link: LinkId, transport: PublicKey) -> Result<(), StorageError> {
    t.rooms.direct.dialing.remove(&transport);
    let device = contacts::by_transport(&t.rows, &transport)?;
    let friend = match &device {
        Some(device) => contacts::is_contact(&t.rows, &device.account)?,
        None => false,
    };
    let (true, false, false, Some(device)) = (friend, t.config.never_direct, t.rooms.direct.is_full(), device) else {
        debug!("a direct link is not wanted");
        t.close(link);
        return Ok(());
    };
    if let Some(old) = t.rooms.direct.up(link, device) {
        // Whoever comes again has lost the former link, even if we have not noticed.
        t.close(old);
        give_up_answers(t, device)?;
    } else {
        t.event(Event::DirectUp(device));
    }
    // What waits for a relay that is out of reach can go this way.
    let threads: Vec<ThreadId> = t.rooms.outbox.lanes.keys().copied().collect();
    for thread in threads {
        let Some(row) = thread::get(&t.rows, &thread)? else { continue };
        if !thread::leaves(&row).any(|leaf| leaf == device) {
            continue;
        }
        if let Some(lane) = t.rooms.outbox.lanes.get_mut(&thread) {
            lane.rephase(|waiting| (waiting.phase == Phase::Ready).then_some(Phase::New));
        }
        send::pump(t, thread)?;
    }
    Ok(())
}

/// A direct link is gone: what waited for its answer goes by the relay at once.
pub(crate) fn link_lost<E: Engine>(t: &mut Turn<'_, E>, link: LinkId) -> Result<(), StorageError> {
    let Some(device) = t.rooms.direct.down(link) else { return Ok(()) };
    t.event(Event::DirectDown(device));
    give_up_answers(t, device)
}

/// An account is no contact any more: its direct links end, and what waited for their answers goes by the relay.
pub(crate) fn part<E: Engine>(t: &mut Turn<'_, E>, account: &AccountId) -> Result<(), StorageError> {
    for (device, link) in t.rooms.direct.links_of(account) {
        t.close(link);
        link_lost(t, link)?;
        debug!(index = ?device.index, "the direct link to somebody who is no contact any more was closed");
    }
    Ok(())
}

/// Devices that their account's log does not name any more lose their direct links.
pub(crate) fn part_with_devices<E: Engine>(t: &mut Turn<'_, E>, log: &AccountLog) -> Result<(), StorageError> {
    for (device, link) in t.rooms.direct.links_of(&log.account()) {
        if log.device(device.index).is_none() {
            t.close(link);
            link_lost(t, link)?;
            debug!(index = ?device.index, "the direct link to a revoked device was closed");
        }
    }
    Ok(())
}

/// None of a node's addresses led to it.
pub(crate) fn dial_failed<E: Engine>(t: &mut Turn<'_, E>, transport: &PublicKey) {
    t.rooms.direct.dialing.remove(transport);
}

/// A frame of a direct link.
pub(crate) fn frame<E: Engine>(t: &mut Turn<'_, E>, link: LinkId, frame: Frame) -> Result<(), StorageError> {
    let Some(device) = t.rooms.direct.device(link) else {
        debug!(frame = frame.name(), "on a link that is not in use");
        return Ok(());
    };
    if t.rooms.reception.outdated {
        // What is for this device is for its newer store; nothing is said to be here.
        return Ok(());
    }
    match frame {
        Frame::DirectEnvelope(words) => envelope(t, link, device, &words.envelope),
        Frame::DirectStored(words) => stored(t, device, words.envelope),
        Frame::DirectRefused(words) => refused(t, words.envelope),
        other => {
            debug!(frame = other.name(), "not expected on a direct link");
            Ok(())
        }
    }
}

/// An envelope came: the answer leaves when what was in it is durable.
fn envelope<E: Engine>(
    t: &mut Turn<'_, E>,
    link: LinkId,
    device: DeviceId,
    envelope: &Envelope,
) -> Result<(), StorageError> {
    let id = envelope.id();
    let row = thread::get(&t.rows, &envelope.thread)?;
    let ready = !t.rooms.threads.unparking.contains(&envelope.thread);
    let member = ready && row.is_some_and(|row| thread::leaves(&row).any(|leaf| leaf == device));
    let fate = if member { receive::open(t, envelope, None, Some(Path::Direct))? } else { Fate::Stranger };
    let code = match fate {
        Fate::Taken | Fate::Seen => {
            t.send(link, DirectStored { envelope: id });
            return Ok(());
        }
        Fate::Stranger => RefusalCode::NotFound,
        Fate::Ahead => RefusalCode::EpochAhead,
        Fate::Unreadable(_) => RefusalCode::Malformed,
        Fate::UnknownOwn => RefusalCode::Unexpected,
    };
    t.send(link, DirectRefused { envelope: id, code });
    Ok(())
}

/// A device has an envelope of ours on its disk.
fn stored<E: Engine>(t: &mut Turn<'_, E>, device: DeviceId, envelope: EnvelopeId) -> Result<(), StorageError> {
    let Some(answers) = t.rooms.direct.answered(&envelope, &device) else { return Ok(()) };
    let (thread, message) = (answers.thread, answers.message);
    let lane = t.rooms.outbox.lanes.get(&thread);
    let waiting = lane.and_then(|lane| {
        let order = lane.find(&envelope)?;
        lane.window.get(&order).map(|waiting| (order, waiting.phase))
    });
    match waiting {
        Some((order, phase)) if !t.config.always_relay_copy => {
            if phase != Phase::Submitted {
                // The relay has no copy and gets none: its listing moves by our word.
                t.rooms.reception.touch(thread);
            }
            send::finish(t, thread, order, StateRow::Delivered)
        }
        _ => message.map_or(Ok(()), |message| send::set_state(t, message, StateRow::Delivered)),
    }
}

/// A device does not take an envelope: the relay copy goes its way.
fn refused<E: Engine>(t: &mut Turn<'_, E>, envelope: EnvelopeId) -> Result<(), StorageError> {
    match t.rooms.direct.answers.remove(&envelope) {
        Some(answers) => end_races(t, answers.thread, &[envelope]),
        None => Ok(()),
    }
}

/// A device will not answer any more.
fn give_up_answers<E: Engine>(t: &mut Turn<'_, E>, device: DeviceId) -> Result<(), StorageError> {
    let mut lost: std::collections::BTreeMap<ThreadId, Vec<EnvelopeId>> = std::collections::BTreeMap::new();
    t.rooms.direct.answers.retain(|envelope, answers| {
        let waits = answers.missing.contains(&device);
        if waits {
            lost.entry(answers.thread).or_default().push(*envelope);
        }
        !waits
    });
    lost.into_iter().try_for_each(|(thread, envelopes)| end_races(t, thread, &envelopes))
}

fn end_races<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId, envelopes: &[EnvelopeId]) -> Result<(), StorageError> {
    if let Some(lane) = t.rooms.outbox.lanes.get_mut(&thread) {
        lane.rephase(|waiting| {
            let races = matches!(waiting.phase, Phase::Racing(_)) && envelopes.contains(&waiting.envelope);
            races.then_some(Phase::Ready)
        });
    }
    send::pump(t, thread)
}

/// Offers our addresses where there is traffic and no link yet.
pub(crate) fn offer_with_traffic<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId) -> Result<(), StorageError> {
    if t.rooms.reception.admitted().is_none() {
        // An offer that waits is worth nothing when it comes.
        return Ok(());
    }
    let Some(row) = thread::get(&t.rows, &thread)? else { return Ok(()) };
    let mut due = false;
    for device in unlinked(t, &row)? {
        due |= t.rooms.direct.may_offer(&device, t.now.monotonic);
    }
    if due { offer(t, thread, row, true) } else { Ok(()) }
}

/// The owner asks for an offer now.
pub(crate) fn offer_now<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId) -> Result<(), Halt> {
    let (thread, row) =
        thread::canonical(&t.rows, &t.rooms.identity.account(), &thread)?.ok_or(CommandError::Unknown)?;
    if t.config.never_direct {
        return Err(CommandError::State("direct links are switched off".to_owned()).into());
    }
    if row.state != ThreadState::Open {
        return Err(CommandError::State("the thread is not open".to_owned()).into());
    }
    if unlinked(t, &row)?.is_empty() { Ok(()) } else { Ok(offer(t, thread, row, true)?) }
}

/// Devices of contacts in a thread small enough, to which no link stands.
fn unlinked<E: Engine>(t: &Turn<'_, E>, row: &ThreadRow) -> Result<Vec<DeviceId>, StorageError> {
    let own = t.rooms.identity.id();
    let mut found = Vec::new();
    if t.config.never_direct || thread::leaves(row).count() > limits::DIRECT_LEAVES_MAX {
        return Ok(found);
    }
    for leaf in thread::leaves(row).filter(|leaf| leaf.account != own.account) {
        if t.rooms.direct.link(&leaf).is_none() && contacts::is_contact(&t.rows, &leaf.account)? {
            found.push(leaf);
        }
    }
    Ok(found)
}

fn offer<E: Engine>(
    t: &mut Turn<'_, E>,
    thread: ThreadId,
    mut row: ThreadRow,
    answer: bool,
) -> Result<(), StorageError> {
    if row.state != ThreadState::Open || t.rooms.direct.listening.is_empty() {
        return Ok(());
    }
    let candidates = direct::offer(&t.rooms.direct.listening, t.now.wall, answer);
    let body = Body::Candidates(candidates);
    let message = MessageId::from_bytes(t.chance.bytes());
    let hlc = thread::tick(&mut t.rows, t.now.wall)?;
    let content = Content::new(message, hlc, body);
    let age_max = limits::CANDIDATE_AGE_MAX.as_millis() as u64;
    let until = Some(Wall::from_millis(t.now.wall.as_millis().saturating_add(age_max)));
    match send::seal(t, thread, &mut row, &content, Class::Control, None, until) {
        Ok(()) => {}
        Err(Halt::Broken(error)) => return Err(error),
        Err(Halt::Command(error)) => {
            debug!(%error, "no addresses offered");
            return Ok(());
        }
    }
    debug!(?thread, answer, addresses = t.rooms.direct.listening.len(), "own addresses offered");
    for leaf in thread::leaves(&row) {
        t.rooms.direct.note_offer(leaf, t.now.monotonic);
    }
    thread::put(&mut t.rows, &thread, &row);
    send::pump(t, thread)
}

/// A device says where it can be dialled. Its own sealed word, young enough, and of a contact: nothing else is dialled.
pub(crate) fn candidates<E: Engine>(
    t: &mut Turn<'_, E>,
    thread: ThreadId,
    author: DeviceId,
    candidates: &Candidates,
) -> Result<(), StorageError> {
    let barred = t.config.never_direct || !contacts::is_contact(&t.rows, &author.account)?;
    let unwanted = (barred && !planted::active(Bug::DialAnybody))
        || !direct::is_fresh(candidates, t.now.wall)
        || t.rooms.direct.link(&author).is_some();
    debug!(device = author.index.get(), unwanted, answer = candidates.answer, "a contact's addresses came");
    if unwanted {
        return Ok(());
    }
    let Some(device) = contacts::device(&t.rows, &author)? else { return Ok(()) };
    let transport = device.transport_key;
    if t.rooms.identity.transport.public() < transport {
        let free = !t.rooms.direct.is_full() && !candidates.addresses.is_empty();
        if free && t.rooms.direct.dialing.insert(transport) {
            debug!(device = author.index.get(), "a contact's device is dialled");
            t.out.push(Output::Dial { transport, addresses: candidates.addresses.clone() });
        }
    } else if candidates.answer
        && t.rooms.direct.may_offer(&author, t.now.monotonic)
        && let Some(row) = thread::get(&t.rows, &thread)?
    {
        // They dial, and need to know where.
        offer(t, thread, row, false)?;
    }
    Ok(())
}
