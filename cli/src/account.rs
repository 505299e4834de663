//! Account: the owner's own devices and keys: recovery words, and which devices speak for the account.
//! Owns: when new words are shown (before they hold, for what is not written down cannot be made up for), which device
//! DEVICE means. Never: keeps recovery words; changes the account but through its node.

use serde::{Deserialize, Serialize};
use whimbrel_node::views::{self, OwnDevice};
use whimbrel_node::{Command, Reply};
use whimbrel_node_runtime::{Access, DirectOptions, FirstError, RecoveryPhrase, fresh_recovery};
use whimbrel_protocol::id::{AccountId, Address, DeviceIndex};
use whimbrel_protocol::{RefusalCode, limits};

use crate::args;
use crate::clock;
use crate::commands::{picture, read_stdin, read_words, simple};
use crate::config::Settings;
use crate::desk::{Desk, unexpected};
use crate::failure::{Exit, Failure};
use crate::init::{name_of, numbered, relay_link};
use crate::local::{self, Found, Home, Local};
use crate::output::{Screen, Show};
use crate::sanitize;
use crate::seat::seated;
use crate::shown::Done;
use crate::signal;
use crate::socket::Client;
use crate::vault;
use crate::words::{Errand, HistoryShown, Item, Request};

/// What is asked about the owner's own account.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AccountErrand {
    /// Puts another identity key in the place of this one; both are recovery words.
    Rotate { words: String, next: String },
    /// Other recovery words in the place of these.
    SetRecovery { words: String, next: String },
    /// The account's devices.
    Devices,
    /// Calls one something else.
    Rename { device: String, label: String },
    /// Takes one off the account.
    Revoke { device: String },
    /// Makes the device that shows this code one of the account's.
    Approve { code: String, limited: bool },
}

/// A device of the owner.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct DeviceShown {
    pub(crate) device: u32,
    pub(crate) label: String,
    /// Whether it is this one.
    pub(crate) this: bool,
    /// Of this one: whether it can link and revoke others.
    pub(crate) full: Option<bool>,
    /// In how many conversations it is.
    pub(crate) chats: usize,
    /// Of how many.
    pub(crate) of: usize,
    /// Of this one: how far it is with what was said before it came; absent: it has all of it.
    pub(crate) history: Option<HistoryShown>,
}

impl Show for DeviceShown {
    fn text(&self) -> String {
        let marks = match (self.this, self.full) {
            (true, Some(false)) => "  (this one, limited)",
            (true, _) => "  (this one)",
            _ => "",
        };
        let behind = match self.chats < self.of {
            true => format!("  in {} of {} chats", self.chats, self.of),
            false => String::new(),
        };
        let history = match &self.history {
            Some(history) => format!("  history: {}", history.text()),
            None => String::new(),
        };
        format!("{}  {}{marks}{behind}{history}", self.device, sanitize::line(&self.label))
    }
}

/// Recovery words, before anything commits to them.
#[derive(Serialize)]
struct RecoveryShown {
    #[serde(rename = "type")]
    kind: &'static str,
    recovery: Vec<&'static str>,
}

impl Show for RecoveryShown {
    fn text(&self) -> String {
        format!(
            "New recovery words. Write them down now: they are shown once and kept nowhere. They hold once this command says \
             that it is done; until then the old ones do.\n{}\n",
            numbered(&self.recovery)
        )
    }
}

impl Desk<'_> {
    pub(crate) async fn account_errand(&self, errand: AccountErrand) -> Result<(), Failure> {
        match errand {
            AccountErrand::Rotate { words, next } => {
                self.relay().await?;
                let (words, next) = (phrase(&words)?, phrase(&next)?.recovery_hash());
                self.done(Command::RotateIdentity { words, next }, "the account has another key; the new words hold")
                    .await
            }
            AccountErrand::SetRecovery { words, next } => {
                self.relay().await?;
                let (words, next) = (phrase(&words)?, phrase(&next)?.recovery_hash());
                self.done(Command::SetRecovery { words, next }, "the new words hold; the old ones are worth nothing")
                    .await
            }
            AccountErrand::Devices => {
                // What a sibling changed is with the relay; without it, what is known here is shown.
                if let Err(failure) = self.relay().await {
                    self.hint(&format!("as known here: {}", failure.message)).await?;
                }
                self.devices().await
            }
            AccountErrand::Rename { device, label } => {
                self.relay().await?;
                let index = self.device(&device)?.index;
                self.command(Command::RenameDevice { index, label }).await?;
                self.devices().await
            }
            AccountErrand::Approve { code, limited } => self.approve(&code, limited).await,
            AccountErrand::Revoke { device } => {
                self.relay().await?;
                let found = self.device(&device)?;
                let done = format!("{} is off the account", sanitize::line(&found.label));
                self.done(Command::RevokeDevice(found.index), &done).await
            }
        }
    }

    /// Approves a device, and stays until it is in the conversations and has what was said in them, or the time is up.
    async fn approve(&self, code: &str, limited: bool) -> Result<(), Failure> {
        let code = code.parse().map_err(|error| {
            Failure::new(Exit::Usage, "bad_code", format!("{error}"))
                .hint("the new device shows it: whimbrel device link")
        })?;
        self.caught_up().await?;
        let before: Vec<DeviceIndex> = self.own_devices()?.into_iter().map(|device| device.index).collect();
        match self.command(Command::ApproveDevice { code, limited }).await {
            Ok(Reply::Done) => {}
            Ok(other) => return Err(unexpected(&other)),
            Err(failure) if failure.exit == Exit::NotFound => {
                return Err(failure.hint("no device waits with this code; its code is good for ten minutes and once"));
            }
            Err(failure) => return Err(failure),
        }
        let is_new = |device: &OwnDevice| !before.contains(&device.index);
        loop {
            let waits = |device: &OwnDevice| device.threads < device.of || device.wants_history != Some(false);
            let behind = self.own_devices()?.into_iter().find(|device| is_new(device) && waits(device));
            let Some(device) = behind else { break };
            if clock::now() >= self.deadline() {
                let done = match device.threads < device.of {
                    true => format!(
                        "it is in {} of {} chats; the rest follows with the next commands",
                        device.threads, device.of
                    ),
                    false => "what was said before reaches it while both devices run".to_owned(),
                };
                self.hint(&done).await?;
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        }
        self.devices().await
    }

    fn own_devices(&self) -> Result<Vec<OwnDevice>, Failure> {
        views::devices(self.reads()).map_err(Failure::internal)
    }

    async fn done(&self, command: Command, done: &str) -> Result<(), Failure> {
        match self.command(command).await? {
            Reply::Done => self.item(Item::Done(Done { done: done.to_owned() })).await,
            other => Err(unexpected(&other)),
        }
    }

    async fn devices(&self) -> Result<(), Failure> {
        let own = self.own()?;
        let here = views::history(self.reads()).map_err(Failure::internal)?.map(HistoryShown::from);
        for OwnDevice { index, label, this, threads: chats, of, .. } in self.own_devices()? {
            let (full, history) = (this.then_some(own.full), here.filter(|_| this));
            self.item(Item::Device(DeviceShown { device: index.get(), label, this, full, chats, of, history })).await?;
        }
        Ok(())
    }

    /// The device somebody means: by its number, or by what it is called.
    fn device(&self, text: &str) -> Result<OwnDevice, Failure> {
        let devices = self.own_devices()?;
        let number = text.parse::<u32>().ok().map(DeviceIndex::new);
        if let Some(found) = devices.iter().find(|device| Some(device.index) == number) {
            return Ok(found.clone());
        }
        let wanted = text.trim().to_lowercase();
        let mut fitting = devices.into_iter().filter(|device| device.label.to_lowercase() == wanted);
        let hint = "see your devices: whimbrel device list";
        match (fitting.next(), fitting.next()) {
            (Some(device), None) => Ok(device),
            (Some(_), Some(_)) => {
                Err(Failure::new(Exit::NotFound, "ambiguous", format!("several devices are called '{text}'"))
                    .hint(hint))
            }
            (None, _) => Err(Failure::new(Exit::NotFound, "not_found", format!("no device is '{text}'")).hint(hint)),
        }
    }
}

/// Reads recovery words; what is wrong with them is said without repeating any.
fn phrase(text: &str) -> Result<RecoveryPhrase, Failure> {
    RecoveryPhrase::parse(text).map_err(|error| {
        Failure::new(Exit::Usage, "bad_words", format!("no recovery words: {error}"))
            .hint("all 24, in order, with spaces between")
    })
}

/// Changes the identity key, or only the words, by the words on standard input. The new ones are shown first: a change that
/// holds, and whose words nobody saw, could never be made up for.
pub(crate) async fn renew(settings: &Settings, screen: Screen, identity: bool) -> Result<(), Failure> {
    let words = read_words(screen)?;
    phrase(&words)?;
    let next = fresh_recovery().map_err(Failure::internal)?;
    screen.show(&RecoveryShown { kind: "recovery", recovery: next.words().collect() })?;
    let next = next.words().collect::<Vec<_>>().join(" ");
    let errand = match identity {
        true => AccountErrand::Rotate { words, next },
        false => AccountErrand::SetRecovery { words, next },
    };
    let asked = seated(settings, async |seat| {
        let request = Request::Errand(Errand::Account(errand.clone()));
        seat.ask(settings, request, |item| screen.show(&item)).await
    });
    asked.await.map_err(|failure| match failure.exit {
        Exit::Unreachable | Exit::Interrupted | Exit::Internal => failure.hint(
            "keep both sheets: the change may be handed in with the next command; `whimbrel id recovery` with the new \
             words says whether they hold, and puts others in their place",
        ),
        _ => failure.hint("nothing changed: the old words hold, the new ones are worth nothing"),
    })
}

/// Before anything is shown that a label nobody takes would make worthless.
fn check_label(label: &str) -> Result<(), Failure> {
    if label.is_empty() || label.len() > limits::DEVICE_LABEL_BYTES_MAX || label.chars().any(char::is_control) {
        let max = limits::DEVICE_LABEL_BYTES_MAX;
        return Err(Failure::usage(format!("a device's label has 1 to {max} bytes and no control characters")));
    }
    Ok(())
}

/// What `id recover` prints at its end.
#[derive(Serialize)]
struct Recovered {
    #[serde(rename = "type")]
    kind: &'static str,
    address: Address,
    account: AccountId,
    device: u32,
}

impl Show for Recovered {
    fn text(&self) -> String {
        format!("address  {}\naccount  {}\ndevice   {}", self.address, self.account, self.device)
    }
}

/// Makes this empty profile a device of an account by its recovery words.
pub(crate) async fn recover(settings: &Settings, screen: Screen, command: args::Recover) -> Result<(), Failure> {
    check_label(&command.label)?;
    let relay = relay_link(&command.relay)?;
    let name = name_of(&command.name)?;
    if Client::connect(settings).await?.is_some() {
        return Err(Failure::new(Exit::Locked, "exists", "a daemon runs for this profile: it has an identity already"));
    }
    match local::look(settings).await? {
        // A linking that nobody approved is worth nothing.
        Found::Nothing | Found::Unfinished { .. } | Found::Joining { linking: true, .. } => {
            let words = phrase(&read_words(screen)?)?;
            let found = tokio::select! {
                found = whimbrel_node_runtime::find_account(&relay, name, &words) => found.map_err(first_failure)?,
                () = signal::stop() => return Err(Failure::interrupted()),
            };
            let next = fresh_recovery().map_err(Failure::internal)?;
            screen.show(&RecoveryShown { kind: "recovery", recovery: next.words().collect() })?;
            local::recover(settings, found, &words, &next, (&command.label, !command.keep_others)).await?;
        }
        Found::Joining { .. } => screen.hint("going on with an interrupted run; its new words are not shown again"),
        Found::Registered { address } => {
            return Err(Failure::new(Exit::Locked, "exists", format!("this profile is {address} already"))
                .hint("choose another --home or --profile"));
        }
    }
    let local = Local::open(settings, DirectOptions::Off).await?;
    let deadline = clock::now() + settings.timeout;
    let admitted = tokio::select! {
        admitted = local.wait_home(deadline, |home| matches!(home, Home::Up | Home::CaughtUp)) => admitted,
        () = signal::stop() => Err(Failure::interrupted()),
    };
    let own = views::account(local.reads());
    local.close().await?;
    admitted.map_err(|failure| match failure.exit {
        Exit::Unreachable | Exit::Interrupted => failure.hint("run the same command again: it goes on from here"),
        _ => failure.hint("nothing was done: the old words hold; run it again"),
    })?;
    let own = own.map_err(Failure::internal)?;
    let address = own.address.ok_or_else(|| Failure::internal("an account without an address"))?;
    screen.show(&Recovered { kind: "recovered", address, account: own.account, device: own.device.index.get() })
}

/// What a device that waits shows.
#[derive(Serialize)]
struct CodeShown {
    #[serde(rename = "type")]
    kind: &'static str,
    code: String,
}

impl Show for CodeShown {
    fn text(&self) -> String {
        format!("code  {}\n\nOn a device of yours, within ten minutes: whimbrel device approve -", self.code)
    }
}

/// Makes this empty profile a device of the account whose other device approves it.
async fn link(settings: &Settings, screen: Screen, relay: &str, label: &str) -> Result<(), Failure> {
    check_label(label)?;
    let relay = relay_link(relay)?;
    if Client::connect(settings).await?.is_some() {
        return Err(Failure::new(Exit::Locked, "exists", "a daemon runs for this profile: it has an identity already"));
    }
    match local::look(settings).await? {
        Found::Nothing | Found::Unfinished { .. } => {}
        // A run that was interrupted may have been approved all the same.
        Found::Joining { .. } => match admitted(settings).await {
            Ok((linked, history)) => {
                screen.show(&linked)?;
                told_history(screen, history);
                return Ok(());
            }
            Err(failure) if matches!(failure.exit, Exit::Interrupted | Exit::Unreachable) => return Err(failure),
            Err(_) => screen.hint("an earlier run was not approved to its end; beginning anew"),
        },
        Found::Registered { address } => {
            return Err(Failure::new(Exit::Locked, "exists", format!("this profile is {address} already"))
                .hint("choose another --home or --profile"));
        }
    }
    let access = Access { options: local::store_options(settings.store), key: vault::new_key(settings).await? };
    let waiting = whimbrel_node_runtime::offer_linking(&relay, label).await.map_err(first_failure)?;
    let code = waiting.code().to_string();
    screen.show(&CodeShown { kind: "code", code: code.clone() })?;
    if !screen.json && !screen.quiet {
        screen.print(&picture(&code.replace('-', ""))?)?;
    }
    let linked = tokio::select! {
        linked = waiting.linked(&settings.home, access) => linked.map(drop).map_err(first_failure),
        () = signal::stop() => Err(Failure::interrupted()),
    };
    linked?;
    let (linked, history) =
        admitted(settings).await.map_err(|failure| failure.hint("run the same command again: it goes on from here"))?;
    screen.show(&linked)?;
    told_history(screen, history);
    Ok(())
}

/// What was said before and is not here yet, the owner hears of.
fn told_history(screen: Screen, history: Option<HistoryShown>) {
    if let Some(history) = history {
        let text = history.text();
        screen
            .hint(&format!("what was said before: {text}; the rest comes while this device and another of yours run"));
    }
}

/// Lets the relay take this device in for the first time, and another device of the owner give it what was said before, as
/// long as there is time for it.
async fn admitted(settings: &Settings) -> Result<(Recovered, Option<HistoryShown>), Failure> {
    let local = Local::open(settings, DirectOptions::Off).await?;
    let deadline = clock::now() + settings.timeout;
    let admitted = tokio::select! {
        admitted = local.wait_home(deadline, |home| matches!(home, Home::CaughtUp)) => admitted,
        () = signal::stop() => Err(Failure::interrupted()),
    };
    let mut history = views::history(local.reads());
    while admitted.is_ok() && matches!(history, Ok(Some(_))) && clock::now() < deadline {
        tokio::select! {
            () = tokio::time::sleep(std::time::Duration::from_millis(25)) => {}
            () = signal::stop() => break,
        }
        history = views::history(local.reads());
    }
    let own = views::account(local.reads());
    local.close().await?;
    admitted?;
    let history = history.map_err(Failure::internal)?.map(HistoryShown::from);
    let own = own.map_err(Failure::internal)?;
    let address = own.address.ok_or_else(|| Failure::internal("an account without an address"))?;
    Ok((Recovered { kind: "linked", address, account: own.account, device: own.device.index.get() }, history))
}

/// What went wrong before there was a device.
pub(crate) fn first_failure(error: FirstError) -> Failure {
    match error {
        FirstError::Exists(address) => {
            Failure::new(Exit::Locked, "exists", format!("this profile is {address} already"))
                .hint("choose another --home or --profile")
        }
        FirstError::Relay(problem) if problem.is_mistrust() => Failure::new(Exit::Trust, "relay_untrusted", problem)
            .hint("nothing was sent to it; compare the link with the relay's operator before you go on"),
        FirstError::Relay(problem) => {
            Failure::new(Exit::Unreachable, "relay_unreachable", problem).hint("check the network, then try again")
        }
        FirstError::Refused(RefusalCode::NotAuthenticated) => Failure::refused(RefusalCode::NotAuthenticated)
            .hint("the words are not this account's, or nobody has that name there"),
        FirstError::Refused(code) => Failure::refused(code),
        FirstError::Silent => local::late(),
        FirstError::Declined => {
            Failure::new(Exit::Locked, "declined", FirstError::Declined).hint("begin anew: whimbrel device link")
        }
        FirstError::Linking(error) => {
            Failure::new(Exit::Trust, "linking", error).hint("nothing was kept; begin anew: whimbrel device link")
        }
        FirstError::Untrusted(why) => Failure::new(Exit::Trust, "untrusted", why),
        FirstError::Log(error) => Failure::new(Exit::Usage, "account_log", error)
            .hint("an account has at most 10 devices; without --keep-others there is room"),
        FirstError::Open(error) => local::open_failure(error),
        FirstError::Write(error) => local::store_failure(&error),
        other => Failure::internal(other),
    }
}

/// What a command about devices asks.
pub(crate) async fn device(settings: &Settings, screen: Screen, command: args::Device) -> Result<(), Failure> {
    let errand = match command {
        args::Device::List => AccountErrand::Devices,
        args::Device::Rename { device, label } => {
            check_label(&label)?;
            AccountErrand::Rename { device, label }
        }
        args::Device::Revoke { device } => AccountErrand::Revoke { device },
        args::Device::Approve { code, limited } => {
            let code = if code == "-" { read_stdin(256)? } else { code };
            AccountErrand::Approve { code, limited }
        }
        args::Device::Link { relay, label } => return link(settings, screen, &relay, &label).await,
    };
    simple(settings, screen, Request::Errand(Errand::Account(errand))).await
}
