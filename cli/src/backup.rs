//! Backup: `backup create|check|restore`.
//! Owns: what is asked for and said. Never: the file or its format (`whimbrel_node_runtime`).

use std::path::{Path, PathBuf};

use serde::Serialize;
use whimbrel_crypto::backup::BackupError;
use whimbrel_node::backup::Summary;
use whimbrel_node_runtime::{BackupFailure, check_backup, create_backup, restore_backup};
use whimbrel_protocol::id::{AccountId, Address};

use crate::args;
use crate::clock;
use crate::config::Settings;
use crate::failure::{Exit, Failure};
use crate::local::{self, blocking};
use crate::output::{Screen, Show};
use crate::vault;

/// Rounds of scrypt for a guess, as a power of two: 128 MiB, about half a second.
const WORK: u8 = 17;

/// What is in a backup.
#[derive(Serialize)]
struct Shown {
    #[serde(rename = "type")]
    kind: &'static str,
    file: String,
    account: AccountId,
    address: Option<Address>,
    /// When it was made, as it says.
    made_ms: u64,
    contacts: u64,
    threads: u64,
    messages: u64,
}

impl Show for Shown {
    fn text(&self) -> String {
        let Self { kind, contacts, threads, messages, .. } = self;
        let whose = self.address.as_ref().map_or_else(|| self.account.to_string(), Address::to_string);
        let made = clock::rfc3339(whimbrel_protocol::time::Wall::from_millis(self.made_ms));
        let done = match *kind {
            "backup_create" => "written",
            "backup_restore" => "restored",
            _ => "whole",
        };
        format!("{done}: {whose} of {made}, {contacts} contacts, {threads} chats, {messages} messages")
    }
}

pub(crate) async fn backup(settings: &Settings, screen: Screen, command: args::Backup) -> Result<(), Failure> {
    let (kind, file, summary) = match command {
        args::Backup::Create { file, backup_passphrase_file } => {
            let (home, access) = (settings.home.clone(), local::access(settings).await?);
            let made = with(file.clone(), backup_passphrase_file, true, move |file, passphrase| {
                create_backup(&home, access, passphrase, WORK, file)
            });
            ("backup_create", file, made.await?)
        }
        args::Backup::Check { file, backup_passphrase_file } => {
            let read = with(file.clone(), backup_passphrase_file, false, check_backup);
            ("backup_check", file, read.await?)
        }
        args::Backup::Restore { file, backup_passphrase_file } => {
            let (home, access) = (settings.home.clone(), local::access(settings).await?);
            let back = with(file.clone(), backup_passphrase_file, false, move |file, passphrase| {
                restore_backup(&home, access, passphrase, file)
            });
            ("backup_restore", file, back.await?)
        }
    };
    let Summary { account, address, made, contacts, threads, messages } = summary;
    let (file, made_ms) = (file.display().to_string(), made.as_millis());
    screen.show(&Shown { kind, file, account, address, made_ms, contacts, threads, messages })
}

async fn with(
    file: PathBuf,
    passphrase_file: Option<PathBuf>,
    new: bool,
    work: impl FnOnce(&Path, &whimbrel_crypto::seal::wrap::Passphrase) -> Result<Summary, BackupFailure> + Send + 'static,
) -> Result<Summary, Failure> {
    blocking(move || {
        let passphrase = vault::passphrase_of(passphrase_file.as_deref(), new)?;
        work(&file, &passphrase).map_err(failure)
    })
    .await
}

fn failure(error: BackupFailure) -> Failure {
    let message = error.to_string();
    match error {
        BackupFailure::Sealed(BackupError::Refused) => {
            Failure::new(Exit::Locked, "wrong_passphrase", message).hint("nothing was changed; try again")
        }
        BackupFailure::Sealed(BackupError::Unknown)
        | BackupFailure::Records(whimbrel_node::backup::ReadError::Newer { .. }) => {
            Failure::new(Exit::Usage, "backup_newer", message).hint("nothing was changed; a newer version may read it")
        }
        BackupFailure::Sealed(_) | BackupFailure::Records(_) => {
            Failure::new(Exit::Trust, "backup_altered", message).hint("nothing was changed; use another copy of it")
        }
        BackupFailure::OtherAccount => Failure::new(Exit::Usage, "other_account", message)
            .hint("nothing was changed; restore it in the profile of its own account"),
        BackupFailure::Open(error) => local::open_failure(error),
        BackupFailure::Store(error) => local::store_failure(&error),
        BackupFailure::File { .. } => Failure::usage(message),
        BackupFailure::TooLarge | BackupFailure::Create(whimbrel_node::backup::CreateError::TooLarge) => {
            Failure::new(Exit::Limit, "too_large", message)
        }
        _ => Failure::internal(message),
    }
}
