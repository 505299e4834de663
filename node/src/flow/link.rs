//! Link: another device becomes one of the account's, by this one's hand.
//! In order: meet it at the relay, make the channel by the code, offer it a place, take its keys into a log that nobody has
//! yet, grant it what it needs, keep the KeyPackages it hands over, and only then hand the log in. Until the relay has it,
//! nothing has changed; from then on the threads follow (`siblings`).
//! Never: grants anything to whoever does not know the code; a second linking beside the first.
//! Limits: `limits::LINKING_TIME_MAX`, `limits::LINKING_PACKAGES_MAX`. Rules: docs/protocol/devices.md.

use tracing::info;
use whimbrel_crypto::{AccountLog, Engine, LinkingCode, LinkingError, LinkingHandshake, TransportProof};
use whimbrel_protocol::frame::encode_words;
use whimbrel_protocol::id::{DeviceId, DeviceIndex, MeetingId};
use whimbrel_protocol::limits;
use whimbrel_protocol::linking::{Grant, JoinLinking, LinkingMessage, LinkingOver, LinkingWords, NewDevice, Packages};
use whimbrel_storage::StorageError;
use zeroize::Zeroizing;

use super::account;
use crate::api::{CommandError, Ticket};
use crate::linking::{Approving, Progress as Stage, read};
use crate::requests::Purpose;
use crate::rooms::{Halt, Turn};
use crate::rows::{self, ExtensionRow, Single};
use crate::thread;
use crate::timers::Timer;

/// Approves the device that shows this code.
pub(crate) fn approve<E: Engine>(
    t: &mut Turn<'_, E>,
    ticket: Ticket,
    code: &LinkingCode,
    limited: bool,
) -> Result<(), Halt> {
    account::signer(t)?;
    if t.rooms.user.linking.is_some() || account::extension(t)?.is_some() {
        return Err(CommandError::State("another change of the account is under way".to_owned()).into());
    }
    if t.rooms.identity.log.devices().count() >= limits::ACCOUNT_DEVICES_MAX {
        let max = limits::ACCOUNT_DEVICES_MAX;
        return Err(CommandError::State(format!("an account has at most {max} devices; revoke one first")).into());
    }
    let handshake = LinkingHandshake::approver(code, t.chance).map_err(failed)?;
    let meeting = code.meeting();
    t.rooms.user.linking = Some(Approving { ticket, meeting, limited, stage: Stage::Joining(handshake) });
    t.rooms.timers.set(Timer::Linking, t.now.monotonic.plus(limits::LINKING_TIME_MAX));
    t.ask(Purpose::JoinLinking, |request| JoinLinking { request, meeting });
    Ok(())
}

fn failed(error: LinkingError) -> CommandError {
    CommandError::Untrusted(error.to_string())
}

/// The relay brought us together: we speak first.
pub(crate) fn joined<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    let Some(mut linking) = t.rooms.user.linking.take() else { return Ok(()) };
    let meeting = linking.meeting;
    let Stage::Joining(mut handshake) = std::mem::replace(&mut linking.stage, Stage::Ended) else {
        t.rooms.user.linking = Some(linking);
        return Ok(());
    };
    match handshake.write() {
        Ok(bytes) => {
            linking.stage = Stage::Shaking(handshake);
            t.rooms.user.linking = Some(linking);
            say(t, meeting, vec![bytes]);
            Ok(())
        }
        Err(error) => {
            t.rooms.user.linking = Some(linking);
            end(t, failed(error))
        }
    }
}

fn say<E: Engine>(t: &mut Turn<'_, E>, meeting: MeetingId, pieces: Vec<Vec<u8>>) {
    if let Some(link) = t.rooms.reception.admitted() {
        pieces.into_iter().for_each(|bytes| t.send(link, LinkingWords { meeting, bytes }));
    }
}

/// Words of the device that is to come.
pub(crate) fn heard<E: Engine>(t: &mut Turn<'_, E>, words: &LinkingWords) -> Result<(), StorageError> {
    let Some(mut linking) = t.rooms.user.linking.take() else { return Ok(()) };
    // What is with the relay is decided there; nothing more is expected of the other.
    if linking.meeting != words.meeting || matches!(linking.stage, Stage::HandedIn(_)) {
        t.rooms.user.linking = Some(linking);
        return Ok(());
    }
    let stage = std::mem::replace(&mut linking.stage, Stage::Ended);
    let next = advance(t, &linking, stage, &words.bytes);
    t.rooms.user.linking = Some(linking);
    match next {
        Ok(stage) => {
            if let Some(linking) = &mut t.rooms.user.linking {
                linking.stage = stage;
            }
            Ok(())
        }
        Err(Halt::Command(error)) => end(t, error),
        Err(Halt::Broken(error)) => Err(error),
    }
}

fn advance<E: Engine>(t: &mut Turn<'_, E>, linking: &Approving, stage: Stage, bytes: &[u8]) -> Result<Stage, Halt> {
    let meeting = linking.meeting;
    match stage {
        Stage::Shaking(mut handshake) => {
            handshake.read(bytes).map_err(failed)?;
            let mut channel = handshake.finish().map_err(failed)?;
            let id = t.rooms.identity.id();
            let device = DeviceId { account: id.account, index: t.rooms.identity.log.next_index() };
            let offer = encode_words(&LinkingMessage::Offer(device.account, device.index));
            let said = channel.seal(&offer).map_err(failed)?;
            say(t, meeting, said);
            Ok(Stage::Offered(channel, device))
        }
        Stage::Offered(mut channel, device) => match read(&mut channel, bytes).map_err(failed)? {
            None => Ok(Stage::Offered(channel, device)),
            Some(LinkingMessage::Keys(keys)) => {
                let log = grown(t, device, &keys)?;
                let words = Zeroizing::new(encode_words(&grant(t, linking, &log)?));
                let said = channel.seal(&words).map_err(failed)?;
                say(t, meeting, said);
                Ok(Stage::Granted { channel, log: Box::new(log), device, packages: 0 })
            }
            Some(_) => Err(failed(LinkingError::Words).into()),
        },
        Stage::Granted { mut channel, log, device, packages } => match read(&mut channel, bytes).map_err(failed)? {
            None => Ok(Stage::Granted { channel, log, device, packages }),
            Some(LinkingMessage::Packages(some)) => {
                let packages = keep(t, device, packages, &some)?;
                if !some.last {
                    return Ok(Stage::Granted { channel, log, device, packages });
                }
                info!(packages, "a new device has handed over what its threads take");
                hand_in(t, linking.ticket, &log)?;
                Ok(Stage::HandedIn(channel))
            }
            Some(_) => Err(failed(LinkingError::Words).into()),
        },
        Stage::Joining(_) | Stage::HandedIn(_) | Stage::Ended => Err(failed(LinkingError::Words).into()),
    }
}

/// The account's log with the newcomer in it; the log itself checks its keys.
fn grown<E: Engine>(t: &mut Turn<'_, E>, device: DeviceId, keys: &NewDevice) -> Result<AccountLog, Halt> {
    let identity = account::signer(t)?;
    let hlc = thread::tick(&mut t.rows, t.now.wall)?;
    let proof = TransportProof::received(keys.transport_key, keys.proof);
    let mut log = t.rooms.identity.log.clone();
    log.add_device(&identity, device.index, keys.device_key, proof, &keys.label, hlc)
        .map_err(|error| CommandError::Untrusted(error.to_string()))?;
    Ok(log)
}

/// What the newcomer is granted. A limited device gets no say in the account.
fn grant<E: Engine>(t: &Turn<'_, E>, linking: &Approving, log: &AccountLog) -> Result<LinkingMessage, Halt> {
    let identity = account::signer(t)?;
    let threads = t.rooms.threads.known.saturating_add(limits::LINKING_PACKAGES_SPARE);
    let packages = u32::try_from(threads.min(limits::LINKING_PACKAGES_MAX)).unwrap_or(u32::MAX);
    Ok(LinkingMessage::Grant(Box::new(Grant {
        log: log.bytes(),
        identity_key: (!linking.limited).then(|| *identity.secret_bytes()),
        participants_key: *t.rooms.identity.participants.secret_bytes(),
        name: t.rooms.identity.name().clone(),
        packages,
    })))
}

/// Keeps KeyPackages; gives how many there are now.
fn keep<E: Engine>(t: &mut Turn<'_, E>, device: DeviceId, before: u32, some: &Packages) -> Result<u32, Halt> {
    let mut number = before;
    for package in &some.packages {
        if number as usize >= limits::LINKING_PACKAGES_MAX {
            return Err(failed(LinkingError::Words).into());
        }
        t.rows.put(rows::package_key(&device, number), package.to_vec());
        number = number.saturating_add(1);
    }
    Ok(number)
}

/// The log goes to the relay, as any change of it.
fn hand_in<E: Engine>(t: &mut Turn<'_, E>, ticket: Ticket, log: &AccountLog) -> Result<(), Halt> {
    if account::extension(t)?.is_some() {
        return Err(CommandError::State("another change of the account is under way".to_owned()).into());
    }
    // One entry more than there was; should the own log have grown meanwhile, the relay refuses it as any that goes on
    // otherwise.
    let after = log.head().0.saturating_sub(1);
    let row = ExtensionRow { log: log.bytes(), identity_key: None, first: false, after };
    rows::put(&mut t.rows, rows::single_key(Single::Extension), &row);
    t.rooms.user.extending = Some(ticket);
    account::submit(t)?;
    Ok(())
}

/// The relay has the log, or will not have it: the newcomer is told.
pub(crate) fn decided<E: Engine>(t: &mut Turn<'_, E>, added: bool) -> Result<(), StorageError> {
    let handed_in = t.rooms.user.linking.as_ref().is_some_and(|one| matches!(one.stage, Stage::HandedIn(_)));
    if !handed_in {
        // The linking is forgotten, by a restart or for its time: what it left is of no use if it was refused.
        return if added || t.rooms.user.linking.is_some() { Ok(()) } else { forget_packages(t) };
    }
    let Some(Approving { meeting, stage: Stage::HandedIn(mut channel), .. }) = t.rooms.user.linking.take() else {
        return Ok(());
    };
    t.rooms.timers.clear(Timer::Linking);
    match channel.seal(&encode_words(&LinkingMessage::Added)) {
        Ok(said) if added => say(t, meeting, said),
        _ => over(t, meeting),
    }
    if added { Ok(()) } else { forget_packages(t) }
}

fn over<E: Engine>(t: &mut Turn<'_, E>, meeting: MeetingId) {
    if let Some(link) = t.rooms.reception.admitted() {
        t.send(link, LinkingOver { meeting });
    }
}

/// The other one has had enough, or is gone.
pub(crate) fn left<E: Engine>(t: &mut Turn<'_, E>, words: &LinkingOver) -> Result<(), StorageError> {
    match &t.rooms.user.linking {
        Some(linking) if linking.meeting == words.meeting && !matches!(linking.stage, Stage::HandedIn(_)) => {
            end(t, CommandError::Unreachable("the other device is gone; nothing was changed".to_owned()))
        }
        _ => Ok(()),
    }
}

/// Nothing comes of it. What is with the relay already is decided there.
pub(crate) fn end<E: Engine>(t: &mut Turn<'_, E>, error: CommandError) -> Result<(), StorageError> {
    let Some(Approving { ticket, meeting, stage, .. }) = t.rooms.user.linking.take() else { return Ok(()) };
    t.rooms.timers.clear(Timer::Linking);
    if matches!(stage, Stage::HandedIn(_)) {
        return Ok(());
    }
    over(t, meeting);
    t.answer(ticket, Err(error));
    forget_packages(t)
}

/// It took too long.
pub(crate) fn late<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    end(t, CommandError::Unreachable("the other device did not answer in time; nothing was changed".to_owned()))
}

/// KeyPackages of devices that the log does not name are of no use.
pub(crate) fn forget_packages<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    let log = t.rooms.identity.log.clone();
    forget_those(t, |index| index.is_none_or(|index| log.device(index).is_none()))
}

/// A device was revoked: nobody is to be taken in by what it handed over.
pub(crate) fn forget_former<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    let log = t.rooms.identity.log.clone();
    forget_those(t, |index| index.is_some_and(|index| log.former(index).is_some()))
}

fn forget_those<E: Engine>(
    t: &mut Turn<'_, E>,
    whose: impl Fn(Option<DeviceIndex>) -> bool,
) -> Result<(), StorageError> {
    let mut strange = Vec::new();
    rows::each(&t.rows, &rows::space(rows::Space::Package), |(key, _)| {
        if whose(rows::package_device(&key)) {
            strange.push(key);
        }
        Ok(())
    })?;
    strange.into_iter().for_each(|key| t.rows.delete(key));
    Ok(())
}
