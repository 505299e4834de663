//! Commands: what each one asks, and how its answer looks.
//! Owns: reading standard input, headings, marking as read what was printed. Never: touches the node itself.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Read as _};

use serde::Serialize;
use whimbrel_protocol::id::ThreadId;
use whimbrel_protocol::limits;

use crate::args;
use crate::clock;
use crate::config::Settings;
use crate::desk::LOG_MESSAGES_MAX;
use crate::failure::{Exit, Failure};
use crate::output::{Screen, Show};
use crate::sanitize;
use crate::seat::seated;
use crate::words::{Item, Mark, Request};

/// What `log` prints when nobody says how much: about a screen.
const LOG_MESSAGES_DEFAULT: usize = 50;

/// Asks one thing and prints what comes.
pub(crate) async fn simple(settings: &Settings, screen: Screen, request: Request) -> Result<(), Failure> {
    seated(settings, async |seat| seat.ask(settings, request.clone(), |item| screen.show(&item)).await).await
}

pub(crate) async fn invite_new(
    settings: &Settings,
    screen: Screen,
    uses: u32,
    expires: std::time::Duration,
) -> Result<(), Failure> {
    if expires.as_secs() == 0 {
        return Err(Failure::usage("--expires is less than a second"));
    }
    let expires_ms = u64::try_from(expires.as_millis()).unwrap_or(u64::MAX);
    simple(settings, screen, Request::NewInvite { uses, expires_ms }).await?;
    if !screen.json {
        screen.hint("pass it on by a way you trust; they run: whimbrel init --name NAME --invite -");
    }
    Ok(())
}

pub(crate) async fn send(settings: &Settings, screen: Screen, command: args::Send) -> Result<(), Failure> {
    let text = text_of(command.text)?;
    simple(settings, screen, Request::Send { to: command.to, text, wait: command.wait }).await
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
    let args::Log { chat, number, follow, .. } = command;
    let number = number.unwrap_or(if since.is_some() { LOG_MESSAGES_MAX } else { LOG_MESSAGES_DEFAULT });
    simple(settings, screen, Request::Log { chat, number, since, follow }).await
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

/// Standard input to its end; a little more than `bytes_max` is enough to know that it is too much.
fn read_stdin(bytes_max: usize) -> Result<String, Failure> {
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
