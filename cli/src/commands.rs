//! Commands: what each one asks, and how its answer looks.
//! Owns: reading standard input, headings, marking as read what was printed. Never: touches the node itself.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use qrcode::QrCode;
use qrcode::render::unicode;
use serde::Serialize;
use whimbrel_protocol::id::{InviteToken, ThreadId};
use whimbrel_protocol::limits;

use crate::about::AboutErrand;
use crate::args;
use crate::clock;
use crate::config::Settings;
use crate::desk::LOG_MESSAGES_MAX;
use crate::failure::{Exit, Failure};
use crate::groups::GroupErrand;
use crate::output::{Screen, Show, to_json};
use crate::sanitize;
use crate::seat::seated;
use crate::shown::{Done, PictureShown};
use crate::words::{ChatChange, Errand, Item, Mark, Request, Verdict, Which};

/// What `log` prints when nobody says how much: about a screen.
const LOG_MESSAGES_DEFAULT: usize = 50;
/// Characters of a message's id that are printed: one in four billion pairs looks the same.
const IDS_SHOWN: usize = 8;

/// Asks one thing and prints what comes.
pub(crate) async fn simple(settings: &Settings, screen: Screen, request: Request) -> Result<(), Failure> {
    seated(settings, async |seat| seat.ask(settings, request.clone(), |item| screen.show(&item)).await).await
}

pub(crate) async fn invite_new(
    settings: &Settings,
    screen: Screen,
    uses: u32,
    expires: std::time::Duration,
    group: Option<String>,
) -> Result<(), Failure> {
    if expires.as_secs() == 0 {
        return Err(Failure::usage("--expires is less than a second"));
    }
    let expires_ms = u64::try_from(expires.as_millis()).unwrap_or(u64::MAX);
    let leads = group.is_some();
    simple(settings, screen, Request::NewInvite { uses, expires_ms, group }).await?;
    if !screen.json {
        screen.hint(match leads {
            true => {
                "pass it on by a way you trust; they run: whimbrel join -   (or: whimbrel init --name NAME --invite -)"
            }
            false => "pass it on by a way you trust; they run: whimbrel init --name NAME --invite -",
        });
    }
    Ok(())
}

pub(crate) async fn send(settings: &Settings, screen: Screen, command: args::Send) -> Result<(), Failure> {
    let text = text_of(command.text)?;
    let args::Send { to, reply, mention, wait, .. } = command;
    simple(settings, screen, Request::Send { to, text, reply, mentions: mention, wait }).await
}

pub(crate) async fn join(settings: &Settings, screen: Screen, link: &str) -> Result<(), Failure> {
    let link = link_of(screen, link, "an invite")?;
    simple(settings, screen, Request::Accept { link }).await
}

pub(crate) async fn log(settings: &Settings, screen: Screen, command: args::Log) -> Result<(), Failure> {
    let since = match &command.since {
        None => None,
        Some(text) => Some(clock::parse_since(text, clock::wall()).ok_or_else(|| {
            Failure::usage(format!("--since: '{text}' is neither a time nor a duration"))
                .hint("write 2026-07-31, 2026-07-31T12:00:00Z or 2h")
        })?),
    };
    let args::Log { chat, number, follow, ids, blocked, typing, .. } = command;
    let number = number.unwrap_or(if since.is_some() { LOG_MESSAGES_MAX } else { LOG_MESSAGES_DEFAULT });
    let request = Request::Log { chat, number, since, follow, blocked, typing };
    seated(settings, async |seat| {
        seat.ask(settings, request.clone(), |item| match &item {
            Item::Message(message) if ids && !screen.json => {
                let id: String = message.message.to_string().chars().take(IDS_SHOWN).collect();
                screen.print(&format!("{id}  {}", message.text()))
            }
            _ => screen.show(&item),
        })
        .await
    })
    .await
}

/// Prints unread messages under a heading per chat, then marks them: what could not be printed stays unread.
pub(crate) async fn inbox(settings: &Settings, screen: Screen, peek: bool) -> Result<(), Failure> {
    seated(settings, async |seat| {
        let mut marks: BTreeMap<ThreadId, Mark> = BTreeMap::new();
        let mut heading = String::new();
        let synced = seat
            .ask(settings, Request::Inbox, |item| {
                let Item::Message(message) = &item else { return screen.show(&item) };
                if screen.json {
                    screen.show(&item)?;
                } else {
                    if heading != message.chat {
                        let line =
                            format!("{}{}", if heading.is_empty() { "" } else { "\n" }, sanitize::line(&message.chat));
                        screen.print(&line)?;
                        heading.clone_from(&message.chat);
                    }
                    // Between two people the heading says who it is.
                    let text = if message.from == message.chat { message.said() } else { message.text() };
                    screen.print(&format!("  {}", sanitize::indent(&text, "  ")))?;
                }
                marks.insert(message.thread, Mark { thread: message.thread, upto: message.message });
                Ok(())
            })
            .await;
        if marks.is_empty() && synced.is_ok() && !screen.json {
            screen.hint("nothing new");
        }
        if !peek && !marks.is_empty() {
            let marks = marks.into_values().collect();
            seat.ask(settings, Request::MarkRead { marks }, |_| Ok(())).await?;
        }
        synced
    })
    .await
}

/// Shows or compares keys; as a picture, too, when that is asked for and people look.
pub(crate) async fn verify(settings: &Settings, screen: Screen, errand: Errand, qr: bool) -> Result<(), Failure> {
    seated(settings, async |seat| {
        seat.ask(settings, Request::Errand(errand.clone()), |item| {
            screen.show(&item)?;
            match &item {
                Item::Keys(keys) if qr && !screen.json => screen.print(&picture(&keys.scannable)?),
                _ => Ok(()),
            }
        })
        .await
    })
    .await
}

/// A QR code (ISO/IEC 18004) for a dark terminal, two rows of it to a line.
pub(crate) fn picture(text: &str) -> Result<String, Failure> {
    let code = QrCode::new(text).map_err(Failure::internal)?;
    Ok(code
        .render::<unicode::Dense1x2>()
        .dark_color(unicode::Dense1x2::Light)
        .light_color(unicode::Dense1x2::Dark)
        .build())
}

/// What a command about people, invites, cards, chats or the own account asks.
pub(crate) fn errand(screen: Screen, command: args::Command) -> Result<Errand, Failure> {
    use args::{
        Account, Chat, Contact, Friends, Group, Invite, Presence, Profile, Role, Switch, Tell, Visibility, Wake, Whose,
    };
    let chat = |chat, change| Errand::SetChat { chat, change };
    Ok(match command {
        args::Command::Contact(contact) => match contact {
            Contact::List { blocked: true, .. } => Errand::Friends { which: Which::Blocked },
            Contact::List { .. } => Errand::Friends { which: Which::All },
            Contact::Remove { who } => Errand::RemoveFriend { who },
            Contact::Block { who } => Errand::Block { who, blocked: true },
            Contact::Unblock { who } => Errand::Block { who, blocked: false },
            Contact::Show { who } | Contact::Verify { who, number: None, yes: false, undo: false, .. } => {
                Errand::Keys { who }
            }
            Contact::History { who } => Errand::KeyHistory { who },
            Contact::Verify { who, number: Some(number), .. } => {
                let number = if number == "-" { read_stdin(1024)? } else { number };
                Errand::Verify { who, how: Verdict::Number(number) }
            }
            Contact::Verify { who, undo: true, .. } => Errand::Verify { who, how: Verdict::Open },
            Contact::Verify { who, .. } => Errand::Verify { who, how: Verdict::Same },
            Contact::LetSee { who, allowed } => Errand::LetSee { who, allowed: allowed == Switch::On },
        },
        args::Command::Request(request) => match request {
            Friends::Send { who, note } => Errand::Befriend { who, note },
            Friends::List => Errand::Friends { which: Which::Requests },
            Friends::Accept { who } => Errand::AcceptFriend { who },
            Friends::Decline { who, .. } => Errand::DeclineFriend { who },
        },
        args::Command::Presence { what } => match what {
            None | Some(Presence::Show) => Errand::Presence,
            Some(Presence::Set { state }) => Errand::SetVisible { visible: state == Visibility::Visible },
        },
        args::Command::Profile(profile) => match profile {
            Profile::Show { who } => Errand::Profile { who },
            Profile::Set { name, about } => Errand::SetProfile { display: name, about },
        },
        args::Command::Chat(change) => match change {
            Chat::List => Errand::Chats,
            Chat::Mute { chat: which, duration: None } => chat(which, ChatChange::Mute),
            Chat::Mute { chat: which, duration: Some(duration) } => {
                let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
                chat(which, ChatChange::MuteForMs(ms))
            }
            Chat::Unmute { chat: which } => chat(which, ChatChange::Unmute),
            Chat::Label { chat: which, label } => chat(which, ChatChange::Label(label)),
            Chat::Archive { chat: which } => chat(which, ChatChange::Archived(true)),
            Chat::Unarchive { chat: which } => chat(which, ChatChange::Archived(false)),
            Chat::Pin { chat: which } => chat(which, ChatChange::Pinned(true)),
            Chat::Unpin { chat: which } => chat(which, ChatChange::Pinned(false)),
            Chat::Timer { chat, lasts } => {
                let lasts_ms = u64::try_from(lasts.unwrap_or_default().as_millis()).unwrap_or(u64::MAX);
                Errand::About(AboutErrand::Timer { chat, lasts_ms })
            }
            Chat::Receipts { chat: which, tell } => {
                let tells = match tell {
                    Tell::On => Some(true),
                    Tell::Off => Some(false),
                    Tell::Default => None,
                };
                chat(which, ChatChange::ReadReceipts(tells))
            }
        },
        args::Command::Edit { chat, message, text } => {
            Errand::About(AboutErrand::Edit { chat, message, text: text_of(text)? })
        }
        args::Command::Typing { chat, stop } => Errand::About(AboutErrand::Typing { chat, writes: !stop }),
        args::Command::Unsend { chat, message } => Errand::About(AboutErrand::Unsend { chat, message }),
        args::Command::React { chat, message, sign, remove } => {
            Errand::About(AboutErrand::React { chat, message, sign, stands: !remove })
        }
        args::Command::MarkRead { chat } => Errand::About(AboutErrand::Read { chat }),
        args::Command::Group(group) => Errand::Group(match group {
            Group::New { title, people } => GroupErrand::New { title, people },
            Group::List => GroupErrand::List,
            Group::Show { group } => GroupErrand::Show { group },
            Group::Add { group, people } => GroupErrand::Add { group, people },
            Group::Remove { group, people } => GroupErrand::Remove { group, people },
            Group::Leave { group } => GroupErrand::Leave { group },
            Group::Role { group, role, people } => GroupErrand::Role { group, admin: role == Role::Admin, people },
            Group::Policy { group, add, rename } => {
                let who = |whose: Whose| whose == Whose::Members;
                GroupErrand::Policy { group, members_add: add.map(who), members_rename: rename.map(who) }
            }
            Group::Rename { group, title } => GroupErrand::Rename { group, title },
            Group::Rekey { group } => GroupErrand::Rekey { group },
            Group::Link { .. } | Group::Picture { .. } => return Err(Failure::internal("no errand")),
        }),
        args::Command::Account(Account::Delete { yes_delete }) => Errand::DeleteAccount { name: yes_delete },
        args::Command::Account(Account::Export { .. }) => Errand::Export,
        args::Command::Wake(wake) => match wake {
            Wake::Set { url, key, auth } => {
                let key = base64url(&key).filter(|key| key.len() == limits::WAKE_KEY_BYTES);
                let key = key.ok_or_else(|| Failure::usage("--key: no P-256 key in base64url"))?;
                let auth = base64url(&auth).and_then(|auth| auth.try_into().ok());
                let auth = auth.ok_or_else(|| Failure::usage("--auth: no 16 bytes in base64url"))?;
                if !url.starts_with("https://") {
                    return Err(Failure::usage("the address must begin with https://"));
                }
                Errand::SetWake { url, key, auth }
            }
            Wake::Confirm { code } => {
                let bytes = code.parse::<InviteToken>().ok().map(|token| *token.as_bytes());
                let bytes = bytes.or_else(|| base64url(&code).and_then(|code| code.try_into().ok()));
                Errand::ConfirmWake { code: bytes.ok_or_else(|| Failure::usage("this is no code of 16 bytes"))? }
            }
            Wake::Off => Errand::WakeOff,
        },
        args::Command::Invite(Invite::Revoke { invite }) => {
            let invite = if invite == "-" { link_of(screen, "-", "a person")? } else { invite };
            Errand::RevokeInvite { invite }
        }
        args::Command::Invite(_) => Errand::Invites,
        _ => return Err(Failure::internal("no errand")),
    })
}

/// Base64url (RFC 4648 §5), with or without padding.
fn base64url(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0u32, 0u32);
    for character in text.trim_end_matches('=').bytes() {
        let value = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'-' | b'+' => 62,
            b'_' | b'/' => 63,
            _ => return None,
        };
        (held, bits) = ((held << 6) | u32::from(value), bits + 6);
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from((held >> bits) & 0xff).ok()?);
            held &= (1 << bits) - 1;
        }
    }
    // What is left over are zeros of the last byte, or something was cut off.
    (bits < 6 && held == 0).then_some(bytes)
}

/// What `account export` prints.
#[derive(Serialize)]
struct Exported {
    #[serde(rename = "type")]
    kind: &'static str,
    file: String,
    rows: u64,
}

impl Show for Exported {
    fn text(&self) -> String {
        format!("{} rows in {}", self.rows, self.file)
    }
}

/// A new file that its owner alone reads.
fn new_file(file: &Path) -> Result<std::fs::File, Failure> {
    let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    made.map_err(|error| not_written(file, &error))
}

fn not_written(file: &Path, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::AlreadyExists => {
            Failure::usage(format!("{} exists", file.display())).hint("name a file that does not")
        }
        _ => Failure::internal(format!("{}: {error}", file.display())),
    }
}

/// Writes everything the relay keeps to a new file, for its owner's eyes; half of it is none.
pub(crate) async fn export(settings: &Settings, screen: Screen, file: &Path) -> Result<(), Failure> {
    let failed = |error| not_written(file, &error);
    let mut out = io::BufWriter::new(new_file(file)?);
    let mut rows = 0;
    let exported = seated(settings, async |seat| {
        seat.ask(settings, Request::Errand(Errand::Export), |item| {
            rows += 1;
            writeln!(out, "{}", to_json(&item)).map_err(failed)
        })
        .await
    })
    .await;
    let written = exported.and_then(|()| {
        out.flush().and_then(|()| out.get_ref().sync_all()).map_err(failed)?;
        screen.show(&Exported { kind: "exported", file: file.display().to_string(), rows })
    });
    if written.is_err() {
        // Nobody takes a part for the whole.
        let _ = std::fs::remove_file(file);
    }
    written
}

/// Gives a group a picture, takes it away, or writes it to a file that does not exist yet.
pub(crate) async fn group_picture(
    settings: &Settings,
    screen: Screen,
    group: String,
    (file, save, remove): (Option<&Path>, Option<&Path>, bool),
) -> Result<(), Failure> {
    let ask = |errand| Request::Errand(Errand::Group(errand));
    let Some(save) = save else {
        let picture = match file {
            Some(file) if !remove => Some(picture_in(file)?),
            _ => None,
        };
        return simple(settings, screen, ask(GroupErrand::Picture { group, picture })).await;
    };
    let mut shown = None;
    seated(settings, async |seat| {
        seat.ask(settings, ask(GroupErrand::ShowPicture { group: group.clone() }), |item| {
            if let Item::Picture(picture) = item {
                shown = Some(picture);
            }
            Ok(())
        })
        .await
    })
    .await?;
    let bytes = shown.as_ref().and_then(PictureShown::bytes).ok_or_else(|| Failure::internal("no picture came"))?;
    let mut made = new_file(save)?;
    let written = made.write_all(&bytes).and_then(|()| made.sync_all()).map_err(|error| not_written(save, &error));
    if written.is_err() {
        let _ = std::fs::remove_file(save);
    }
    written?;
    screen.show(&Item::Done(Done { done: format!("written to {}", save.display()) }))
}

/// A file's bytes, as far as a picture may go and one more: what is too long is said to be.
fn picture_in(file: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |error: io::Error| Failure::usage(format!("{}: {error}", file.display()));
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(file).map_err(failed)?;
    opened.take(limits::PICTURE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

#[derive(Serialize)]
struct Version {
    #[serde(rename = "type")]
    kind: &'static str,
    version: &'static str,
    protocol: u16,
}

impl Show for Version {
    fn text(&self) -> String {
        format!("whimbrel {}, protocol {}", self.version, self.protocol)
    }
}

pub(crate) fn version(screen: Screen) -> Result<(), Failure> {
    let protocol = whimbrel_protocol::VERSION;
    screen.show(&Version { kind: "version", version: env!("CARGO_PKG_VERSION"), protocol })
}

/// The text of a message: the argument, or standard input.
fn text_of(argument: Option<String>) -> Result<String, Failure> {
    let text = match argument {
        Some(text) if text != "-" => text,
        None if io::stdin().is_terminal() => {
            return Err(Failure::usage("there is no text")
                .hint("whimbrel send TO 'text', or pipe it in: … | whimbrel send TO -"));
        }
        _ => {
            let text = read_stdin(limits::TEXT_BYTES_MAX)?;
            // The line end that every tool adds is not part of what was said.
            text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text)).to_owned()
        }
    };
    match text.len() {
        0 => Err(Failure::new(Exit::Usage, "empty", "the text is empty")
            .hint("standard input was closed or empty; give a text")),
        1..=limits::TEXT_BYTES_MAX => Ok(text),
        _ => Err(too_large()),
    }
}

/// A link from the command line or standard input.
pub(crate) fn link_of(screen: Screen, argument: &str, what: &str) -> Result<String, Failure> {
    if argument != "-" {
        screen.hint(
            "warning: a link on the command line can be read by others on this machine; use '-' and standard input",
        );
        return Ok(argument.to_owned());
    }
    let text = read_stdin(4 * 1024)?;
    let text = text.trim();
    if text.is_empty() {
        return Err(Failure::new(Exit::Usage, "empty", format!("standard input holds no link to {what}"))
            .hint("pipe it in: echo 'whimbrel:…' | whimbrel init --name NAME --invite -"));
    }
    Ok(text.to_owned())
}

/// Recovery words from standard input. They never stand on a command line, where others could read them.
pub(crate) fn read_words(screen: Screen) -> Result<String, Failure> {
    if io::stdin().is_terminal() {
        screen.hint("type the 24 recovery words, then Ctrl-D");
    }
    read_stdin(1024)
}

/// Standard input to its end; a little more than `bytes_max` is enough to know that it is too much.
pub(crate) fn read_stdin(bytes_max: usize) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let bound = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(3);
    io::stdin().lock().take(bound).read_to_end(&mut bytes).map_err(|error| {
        Failure::usage(format!("standard input: {error}")).hint("give the text as an argument, or pipe it in")
    })?;
    if bytes.len() > bytes_max.saturating_add(2) {
        return Err(too_large());
    }
    String::from_utf8(bytes).map_err(|_| Failure::usage("standard input is not UTF-8 text"))
}

fn too_large() -> Failure {
    Failure::new(Exit::Limit, "too_large", format!("a text has at most {} bytes", limits::TEXT_BYTES_MAX))
        .hint("send it in several messages")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64url_is_read_as_browsers_print_it() {
        // RFC 4648 §10.
        for (text, bytes) in [("", ""), ("Zg", "f"), ("Zg==", "f"), ("Zm8", "fo"), ("Zm9vYmFy", "foobar")] {
            assert_eq!(base64url(text).as_deref(), Some(bytes.as_bytes()), "{text}");
        }
        assert_eq!(base64url("-_8"), Some(vec![0xfb, 0xff]));
        for wrong in ["Z", "Zh", "Zg!", "Zm9vY"] {
            assert_eq!(base64url(wrong), None, "{wrong}");
        }
    }
}
