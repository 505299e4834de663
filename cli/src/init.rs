//! Init: a new identity, registered, and its first contact.
//! Owns: the order of steps, and what is left when one of them fails. Never: keeps the recovery words anywhere.
//!
//! Until the account is handed to the relay nothing of it is worth keeping, and a refusal leaves an empty folder behind.
//! From then on it may be registered though no answer came, or the process was killed: the next run goes on with it.

use serde::Serialize;
use whimbrel_node_runtime::DirectOptions;
use whimbrel_protocol::id::{AccountId, Address, InviteToken, Name};
use whimbrel_protocol::invite::{Invite, RelayLink};

use crate::args;
use crate::clock;
use crate::commands::link_of;
use crate::config::Settings;
use crate::desk;
use crate::failure::{Exit, Failure};
use crate::local::{self, Found, Local};
use crate::output::{Screen, Show};
use crate::seat::Seat;
use crate::signal;
use crate::socket::Client;
use crate::vault;
use crate::words::{Item, Met, Request};

/// What `init` prints.
#[derive(Serialize)]
struct Made {
    #[serde(rename = "type")]
    kind: &'static str,
    address: Address,
    account: AccountId,
    /// 24 words; absent when an earlier run, which was interrupted, made the identity.
    recovery: Option<Vec<&'static str>>,
    /// Who was met by the invite.
    contact: Option<Met>,
}

impl Show for Made {
    fn text(&self) -> String {
        let mut text = format!("address  {}\naccount  {}", self.address, self.account);
        if let Some(words) = &self.recovery {
            text.push_str("\n\nRecovery words. Write them down now: they are shown once and kept nowhere.\n");
            text.push_str(&numbered(words));
        }
        text
    }
}

/// The words in four columns, numbered row by row.
pub(crate) fn numbered(words: &[&str]) -> String {
    let mut text = String::new();
    for (number, word) in (1..).zip(words) {
        let end = if number % 4 == 0 { "\n" } else { "" };
        text.push_str(&format!("  {number:>2} {word:<9}{end}"));
    }
    let lines: Vec<_> = text.lines().map(str::trim_end).collect();
    lines.join("\n")
}

pub(crate) async fn init(settings: &Settings, screen: Screen, command: args::Init) -> Result<(), Failure> {
    // Everything that can be wrong in what was typed is found before anything is made.
    let relay = command.relay.as_deref().map(relay_link).transpose()?;
    let invite = match &command.invite {
        Some(link) => Some(link_of(screen, link, "a person")?.parse::<Invite>().map_err(desk::bad_invite)?),
        None => None,
    };
    let registration = match &command.registration {
        Some(_) if command.registration.as_deref() == Some("-") && command.invite.as_deref() == Some("-") => {
            return Err(Failure::usage("standard input holds one of --invite and --registration"));
        }
        Some(token) => {
            let token = link_of(screen, token, "a relay")?;
            let parsed = token.trim().parse::<InviteToken>();
            Some(parsed.map_err(|error| Failure::usage(format!("--registration: {error}")))?)
        }
        None => None,
    };
    let settings =
        &Settings { node: whimbrel_node::Config { registration, ..settings.node.clone() }, ..settings.clone() };
    let relay = match (relay, &invite) {
        (Some(relay), _) => relay,
        (None, Some(invite)) => invite.relay_link(),
        (None, None) => return Err(Failure::usage("no relay").hint("give --relay LINK or --invite -")),
    };
    let name = command.name.as_deref().map(name_of).transpose()?;
    if Client::connect(settings).await?.is_some() {
        return Err(Failure::new(Exit::Locked, "exists", "a daemon runs for this profile: it has an identity already")
            .hint("choose another --home or --profile; to accept an invite: whimbrel join -"));
    }
    let recovery = match local::look(settings).await? {
        Found::Registered { address } | Found::Joining { address, .. } => {
            return registered(settings, screen, &address, name, invite).await;
        }
        Found::Unfinished { name: before, relay: there, .. }
            if there == relay && name.as_ref().is_none_or(|name| *name == before) =>
        {
            screen.hint("going on with the identity of an interrupted run; its recovery words are not shown again");
            None
        }
        Found::Unfinished { .. } | Found::Nothing => {
            let name = name.map_or_else(user_name, Ok)?;
            let key = vault::new_key(settings).await?;
            Some(local::create(&settings.home, settings.store, key, name, relay).await?.recovery)
        }
    };
    let words = recovery.as_ref().map(|phrase| phrase.words().collect::<Vec<_>>());
    let local = Local::open(settings, DirectOptions::Off).await?;
    let registered = tokio::select! {
        registered = local.registered(clock::now() + settings.timeout) => registered,
        () = signal::stop() => Err(Failure::interrupted()),
    };
    let (address, account) = match registered {
        Ok(registered) => registered,
        Err(failure) => {
            local.close().await?;
            // Only now is it certain whether the account was ever handed in.
            if matches!(local::look(settings).await?, Found::Nothing | Found::Unfinished { asked: false, .. }) {
                // Nothing half written: the next run starts from nothing.
                if words.is_some() {
                    local::clear(&settings.home)?;
                }
                return Err(failure);
            }
            if let Some(words) = &words {
                screen.print(&format!(
                    "Recovery words of the identity that is not registered yet:\n{}",
                    numbered(words)
                ))?;
            }
            return Err(
                failure.hint("run the same command again: it goes on with the same identity and the same words")
            );
        }
    };
    let mut made = Made { kind: "init", address, account, recovery: words, contact: None };
    // People see the words before anything else can go wrong; programs get one object, whatever happens next.
    if !screen.json {
        screen.show(&made)?;
    }
    let Some(invite) = invite else {
        local.close().await?;
        return if screen.json { screen.show(&made) } else { Ok(()) };
    };
    let mut seat = Seat::Here(Box::new(local));
    let mut met = None;
    let accepted = tokio::select! {
        accepted = seat.ask(settings, Request::Accept { link: invite.to_string() }, |item| {
            if let Item::Met(contact) = item {
                met = Some(contact);
            }
            Ok(())
        }) => accepted,
        () = signal::stop() => Err(Failure::interrupted()),
    };
    if screen.json {
        made.contact.clone_from(&met);
        screen.show(&made)?;
    } else if let Some(met) = &met {
        screen.print(&format!("\n{}", met.text()))?;
    }
    if let Seat::Here(local) = seat {
        local.close().await?;
    }
    accepted.map_err(|failure| {
        let hint = failure.hint.clone().unwrap_or_else(|| "try again".to_owned());
        failure.hint(format!(
            "the identity is made and registered, the invite is not accepted yet: {hint}; again: whimbrel join -"
        ))
    })
}

/// The profile has an identity: only an invite can still be accepted, by the same command run again.
async fn registered(
    settings: &Settings,
    screen: Screen,
    address: &Address,
    name: Option<Name>,
    invite: Option<Invite>,
) -> Result<(), Failure> {
    match invite {
        Some(invite) if name.is_none_or(|name| name == address.name) => {
            screen.hint(&format!("{address} exists; accepting the invite"));
            crate::commands::simple(settings, screen, Request::Accept { link: invite.to_string() }).await
        }
        _ => Err(Failure::new(Exit::Locked, "exists", format!("this profile is {address} already"))
            .hint("choose another --home or --profile; to accept an invite: whimbrel join -")),
    }
}

pub(crate) fn relay_link(text: &str) -> Result<RelayLink, Failure> {
    text.parse().map_err(|error| {
        Failure::new(Exit::Usage, "bad_link", format!("--relay: {error}"))
            .hint("a relay's link looks like whimbrel-relay:domain?at=host:port#…; its operator has it")
    })
}

pub(crate) fn name_of(text: &str) -> Result<Name, Failure> {
    text.parse().map_err(|error| Failure::usage(format!("--name: {error}")))
}

fn user_name() -> Result<Name, Failure> {
    let user = std::env::var("USER").unwrap_or_default().to_lowercase();
    user.parse().map_err(|_| Failure::usage("no name").hint("give --name NAME"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recovery_words_are_numbered_in_reading_order() {
        let words = ["abandon", "ability", "able", "about", "above"];
        assert_eq!(numbered(&words), "   1 abandon     2 ability     3 able        4 about\n   5 above");
    }
}
