//! Invite: the operator's invitations to register.
//! Owns: arguments and words. The store is asked directly, or through the relay that has it open.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use clap::Subcommand;
use serde_json::json;
use whimbrel_protocol::id::{InviteToken, TokenHash};
use whimbrel_protocol::limits;
use whimbrel_relay::Registration;
use whimbrel_relay::store::KvStore;

use super::{Config, load, open_store, output, store_failure, store_options};
use crate::disk::RelayDisk;
use crate::invites::{self, InviteAnswer, InviteQuestion};
use crate::{Exit, Failure, RelayKv, Settings, clock};

#[derive(Subcommand, Debug)]
pub(super) enum Invite {
    /// Make one and print its token, which is kept nowhere: whoever has it may register.
    New {
        #[command(flatten)]
        config: Config,
        /// How many accounts may come in by it.
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(limits::INVITE_USES_MAX)))]
        uses: u32,
        /// How long it holds: 7d, 12h, 30min.
        #[arg(long, value_name = "TIME", default_value = "7d", value_parser = duration)]
        expires: Duration,
    },
    /// List the open ones: the hash of the token, how many may still come in, until when.
    List(Config),
    /// Take one back.
    Revoke {
        #[command(flatten)]
        config: Config,
        /// Its token, or the hash that `list` prints.
        #[arg(value_parser = hash)]
        token: TokenHash,
    },
}

fn duration(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if time < Duration::from_secs(1) { Err("expected at least 1s".to_owned()) } else { Ok(time) }
}

fn hash(text: &str) -> Result<TokenHash, String> {
    if let Ok(token) = text.parse::<InviteToken>() {
        return Ok(token.hash());
    }
    text.parse().map_err(|_| "expected a token of 32 hexadecimal digits, or a hash of 64".to_owned())
}

pub(super) fn run(invite: Invite, prefix: &[OsString], json: bool) -> Result<(), Failure> {
    match invite {
        Invite::New { config, uses, expires } => new(&config.file, (uses, expires), prefix, json),
        Invite::List(config) => list(&config.file, prefix, json),
        Invite::Revoke { config, token } => revoke(&config.file, token, prefix, json),
    }
}

fn new(file: &Path, (uses, expires): (u32, Duration), prefix: &[OsString], json: bool) -> Result<(), Failure> {
    let (settings, _) = load(file)?;
    let mut bytes = [0; InviteToken::LEN];
    getrandom::fill(&mut bytes).context("no randomness from the operating system")?;
    let token = InviteToken::from_bytes(bytes);
    let question = InviteQuestion::New { hash: token.hash(), uses, holds_secs: expires.as_secs() };
    let InviteAnswer::Done { expires_ms: Some(expires_ms) } = ask(&settings, question, prefix)? else {
        return Err(unexpected());
    };
    let value = json!({ "v": 1, "token": token, "hash": token.hash(), "uses": uses, "expires_ms": expires_ms });
    output(json, &token.to_string(), value);
    if settings.registration != Registration::Invite {
        eprintln!("warning: [relay] registration is not \"invite\": nobody needs this token now");
    }
    Ok(())
}

fn list(file: &Path, prefix: &[OsString], json: bool) -> Result<(), Failure> {
    let (settings, _) = load(file)?;
    let InviteAnswer::Open(open) = ask(&settings, InviteQuestion::List, prefix)? else {
        return Err(unexpected());
    };
    let until = |ms| humantime::format_rfc3339_seconds(std::time::SystemTime::UNIX_EPOCH + Duration::from_millis(ms));
    let line = |invite: &invites::Invite| format!("{} {} {}", invite.hash, invite.left, until(invite.expires_ms));
    let lines: Vec<String> = open.iter().map(line).collect();
    if json || !lines.is_empty() {
        output(json, &lines.join("\n"), json!({ "v": 1, "invites": open }));
    }
    Ok(())
}

fn revoke(file: &Path, token: TokenHash, prefix: &[OsString], json: bool) -> Result<(), Failure> {
    let (settings, _) = load(file)?;
    ask(&settings, InviteQuestion::Revoke { hash: token }, prefix)?;
    output(json, "revoked", json!({ "v": 1, "revoked": token }));
    Ok(())
}

fn unexpected() -> Failure {
    Failure::new(
        Exit::Internal,
        "invite",
        "the running relay answered something else; is it of this version?".to_owned(),
    )
}

/// Asks the relay that runs, or the store when none does.
fn ask(settings: &Settings, question: InviteQuestion, prefix: &[OsString]) -> Result<InviteAnswer, Failure> {
    let answer = match ask_running(settings, &question)? {
        Some(answer) => answer,
        None => ask_store(settings, question, prefix)?,
    };
    match answer {
        InviteAnswer::NotFound => {
            Err(Failure::new(Exit::NotFound, "no_invite", "there is no such invitation".to_owned())
                .hint("used up, over, or taken back already; `whimbrel-relay invite list` shows the open ones"))
        }
        InviteAnswer::Full(why) => Err(Failure::new(Exit::Limit, "full", why)),
        InviteAnswer::Failed(why) => Err(Failure::new(Exit::Internal, "store", why)),
        answer => Ok(answer),
    }
}

#[cfg(unix)]
fn ask_running(settings: &Settings, question: &InviteQuestion) -> Result<Option<InviteAnswer>, Failure> {
    use crate::control::{self, Answer, Question};
    let asked = control::ask(&settings.data_dir, &Question::Invite(question.clone()));
    match asked.context("cannot ask the running relay")? {
        None => Ok(None),
        Some(Answer::Invite(answer)) => Ok(Some(answer)),
        Some(Answer::Failed(why)) => Err(Failure::new(Exit::Internal, "invite", why)),
        Some(Answer::Copied(_)) => Err(unexpected()),
    }
}

#[cfg(not(unix))]
fn ask_running(_: &Settings, _: &InviteQuestion) -> Result<Option<InviteAnswer>, Failure> {
    Ok(None)
}

fn ask_store(settings: &Settings, question: InviteQuestion, prefix: &[OsString]) -> Result<InviteAnswer, Failure> {
    let store = RelayKv::Disk(Box::new(open_store(settings, store_options(settings, prefix)?)?));
    let (disk, writer) = RelayDisk::start(store).context("cannot start the store's thread")?;
    let runtime = tokio::runtime::Builder::new_current_thread().build().context("cannot wait for the store")?;
    let store = KvStore::new(disk);
    let answer = runtime.block_on(invites::answer(&store, question, clock::wall()));
    drop(store);
    let closed = writer.end().and_then(RelayKv::close);
    closed.map_err(|error| store_failure(settings, &error))?;
    Ok(answer)
}
