//! The binary `whimbrel`: commands, daemon, demo.
//! Owns: what people type and see. Never: a rule of the protocol; those are in the cores.
//! Map: `args` (grammar), `config`, `commands` and `init` (what is asked), `seat` (of whom), `desk` and `errands` (what is
//! done), `words` and `shown` (what comes back),
//! `local` (the node in this process), `vault` (the key of its store), `daemon` and `socket`, `sanitize` and `output` (the screen), `demo`.

mod about;
mod account;
mod args;
mod backup;
mod clock;
mod commands;
mod config;
mod daemon;
mod demo;
mod desk;
mod errands;
mod failure;
mod groups;
mod init;
mod local;
mod output;
mod resolve;
mod sanitize;
mod seat;
mod shown;
mod signal;
mod socket;
mod vault;
mod words;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use args::{Cli, Command};
use config::Settings;
use failure::Failure;
use output::Screen;
use words::Request;

/// The whole program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return not_parsed(&error),
    };
    match cli.command {
        Command::Relay { tethered, arguments } => return relay(tethered, arguments),
        Command::StoreProbe { dir } => return ExitCode::from(whimbrel_storage_runtime::open_probe(&dir)),
        _ => {}
    }
    let mut screen = Screen { json: cli.global.json, quiet: cli.global.quiet };
    log_to_stderr(cli.global.verbose, &cli.command);
    vault::no_core_files();
    match run(cli, &mut screen) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            screen.fail(&failure);
            ExitCode::from(failure.exit.code())
        }
    }
}

fn run(cli: Cli, screen: &mut Screen) -> Result<(), Failure> {
    match cli.command {
        Command::Help { topic } => return help(*screen, &topic),
        Command::Version => return commands::version(*screen),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::internal(format!("cannot start: {error}")))?;
    let result = runtime.block_on(async {
        if let Command::Demo(demo) = cli.command {
            return demo::run(*screen, demo).await;
        }
        let settings = Settings::read(&cli.global)?;
        screen.json = settings.json;
        let screen = *screen;
        match cli.command {
            Command::Init(command) => init::init(&settings, screen, command).await,
            Command::Invite(args::Invite::New { uses, expires, group }) => {
                commands::invite_new(&settings, screen, uses, expires, group).await
            }
            Command::Group(args::Group::Link { group, uses, expires }) => {
                commands::invite_new(&settings, screen, uses, expires, Some(group)).await
            }
            Command::Group(args::Group::Picture { group, file, save, remove }) => {
                commands::group_picture(&settings, screen, group, (file.as_deref(), save.as_deref(), remove)).await
            }
            Command::Join { link } => commands::join(&settings, screen, &link).await,
            Command::Send(command) => commands::send(&settings, screen, command).await,
            Command::Inbox(command) => commands::inbox(&settings, screen, command.peek).await,
            Command::Log(command) => commands::log(&settings, screen, command).await,
            Command::Status => commands::simple(&settings, screen, Request::Status).await,
            Command::Id(args::Id::Show) => commands::simple(&settings, screen, Request::Me).await,
            Command::Id(args::Id::Rotate) => account::renew(&settings, screen, true).await,
            Command::Id(args::Id::Recovery) => account::renew(&settings, screen, false).await,
            Command::Id(args::Id::Recover(command)) => account::recover(&settings, screen, command).await,
            Command::Device(command) => account::device(&settings, screen, command).await,
            Command::Contact(args::Contact::List { blocked: false, all: false }) => {
                commands::simple(&settings, screen, Request::Contacts).await
            }
            Command::Account(args::Account::Export { file }) => commands::export(&settings, screen, &file).await,
            command @ Command::Contact(args::Contact::Verify { .. } | args::Contact::Show { .. }) => {
                let qr = matches!(command, Command::Contact(args::Contact::Verify { qr: true, .. }));
                commands::verify(&settings, screen, commands::errand(screen, command)?, qr).await
            }
            command @ (Command::Contact(_)
            | Command::Request(_)
            | Command::Presence { .. }
            | Command::Profile(_)
            | Command::Chat(_)
            | Command::Edit { .. }
            | Command::Unsend { .. }
            | Command::React { .. }
            | Command::Typing { .. }
            | Command::MarkRead { .. }
            | Command::Group(_)
            | Command::Account(_)
            | Command::Wake(_)
            | Command::Invite(_)) => {
                let errand = commands::errand(screen, command)?;
                commands::simple(&settings, screen, Request::Errand(errand)).await
            }
            Command::Backup(command) => backup::backup(&settings, screen, command).await,
            Command::Unlock { duration } => vault::unlock(&settings, screen, duration).await,
            Command::Lock => vault::lock(&settings, screen).await,
            Command::Passphrase(command) => vault::passphrase(&settings, screen, command).await,
            Command::Daemon(args::Daemon::Run) => daemon::run(&settings, screen).await,
            Command::Demo(_)
            | Command::Help { .. }
            | Command::Version
            | Command::Relay { .. }
            | Command::StoreProbe { .. } => Ok(()),
        }
    });
    // A resolver or another blocking call that still runs must not keep the process.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    result
}

/// Help goes to standard output; mistakes to standard error, as JSON when that was asked for.
fn not_parsed(error: &clap::Error) -> ExitCode {
    let wants_json = std::env::args_os().any(|argument| argument == "--json");
    if error.exit_code() == 0 || !wants_json {
        // Nobody reads it: nothing to be done.
        let _ = error.print();
        return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
    }
    let text = error.render().to_string();
    let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
    Screen { json: true, quiet: false }.fail(&Failure::usage(message).hint("whimbrel help"));
    ExitCode::from(2)
}

fn help(screen: Screen, topic: &[String]) -> Result<(), Failure> {
    let mut command = Cli::command();
    command.build();
    if let [topic] = topic
        && topic == "exit-codes"
    {
        return screen.print(failure::EXIT_CODES.trim_end());
    }
    for word in topic {
        let found = command.find_subcommand(word).filter(|found| !found.is_hide_set()).cloned();
        command = found.ok_or_else(|| {
            Failure::usage(format!("there is no help on '{}'", topic.join(" "))).hint("whimbrel help")
        })?;
    }
    screen.print(command.render_long_help().to_string().trim_end())
}

/// `whimbrel-relay` under another name. Tethered, it is told to end as soon as nobody holds the other end of its
/// standard input: its parent is gone.
fn relay(tethered: bool, arguments: Vec<OsString>) -> ExitCode {
    if tethered {
        std::thread::spawn(|| {
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM);
        });
    }
    let program = std::iter::once(OsString::from("whimbrel relay"));
    whimbrel_relay_runtime::cli::main_within(&["relay".into()], program.chain(arguments))
}

/// Only what this house writes: libraries below may write addresses. Texts, keys and tokens have no way into a log, for
/// their types show nothing when they are formatted.
fn log_to_stderr(verbose: u8, command: &Command) {
    use tracing_subscriber::filter::EnvFilter;
    let level = match verbose {
        0 if matches!(command, Command::Daemon(_)) => "warn",
        0 => return,
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let filter = EnvFilter::builder().parse_lossy(format!("whimbrel={level}"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
}
