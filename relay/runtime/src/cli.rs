//! Cli: the commands of `whimbrel-relay`.
//! Owns: arguments, what is printed where, exit codes. Standard output is data only; everything else goes to the
//! standard error. Never: prompts, or a panic instead of an error.

mod invite;
mod stores;

use std::ffi::OsString;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use serde_json::{Value, json};
use tracing_subscriber::EnvFilter;
use whimbrel_crypto::RelayIdentity;
use whimbrel_protocol::id::Domain;
use whimbrel_protocol::limits;
use whimbrel_relay::store::kv::SCHEMA;
use whimbrel_storage::{MemoryKv, StorageError, look_at};
use whimbrel_storage_runtime::{DiskKv, EngineKind, Options, ProbeCommand, open_probe};
use whimbrel_transport::BindError;

use crate::config::LogFormat;
use crate::failure::EXIT_CODES;
use crate::init::{self, Init};
use crate::{Exit, Failure, Ready, RelayKv, RunError, Settings, clock, config, identity};

/// What a signal that ends a process without its consent comes to.
const INTERRUPTED: i32 = 130;
const DAY_SECS: u64 = 24 * 3_600;
/// From here on `check` warns that the online certificate should be renewed.
const RENEW_BEFORE_DAYS: u64 = 21;

/// A Whimbrel relay: finds people, keeps threads, holds messages for those away.
#[derive(Parser, Debug)]
#[command(name = "whimbrel-relay", version, after_help = EXIT_CODES)]
struct Cli {
    /// Print data and errors as JSON, one object per line.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Make keys, certificates and a configuration in a new folder; print the relay's link.
    Init {
        /// The domain served: people here are NAME@DOMAIN. It cannot change later.
        domain: Domain,
        /// The folder to make; must not hold anything yet.
        #[arg(long)]
        dir: PathBuf,
        /// UDP address to listen on; port 0 takes any free port.
        #[arg(long, value_name = "ADDR", default_value = "[::]:4433")]
        listen: SocketAddr,
        /// What others dial, if that is not DOMAIN with the port listened on.
        #[arg(long, value_name = "HOST:PORT", value_parser = endpoint)]
        public: Option<String>,
    },
    /// Find every mistake in a configuration, the identity and the store, without starting anything.
    #[command(after_help = EXIT_CODES)]
    Check {
        #[command(flatten)]
        config: Config,
        /// Read the whole store as well: every row, its checksum, what rows say of each other. Exits with 1 when
        /// something is damaged or missing, and changes nothing.
        #[arg(long)]
        store: bool,
    },
    /// Copy the store into a fresh one, while the relay serves or is stopped: the backup, and the way to get space back.
    /// Every row is read back and compared.
    #[command(after_help = EXIT_CODES, group(clap::ArgGroup::new("where").required(true)))]
    Export {
        #[command(flatten)]
        config: Config,
        /// The folder to make the copy in; must not hold anything yet. To restore, put it in the place of `store` in the
        /// data folder.
        #[arg(long, value_name = "DIR", group = "where")]
        into: Option<PathBuf>,
        /// Put the copy in the store's place, which gives the space back, while the relay is stopped.
        #[arg(long, group = "where")]
        in_place: bool,
    },
    /// Move the store to another engine, while the relay is stopped. What was interrupted goes on where it stood; every
    /// row is read back and compared before the new store takes the old one's place, and the old one is kept.
    #[command(after_help = EXIT_CODES)]
    Migrate {
        #[command(flatten)]
        config: Config,
        /// The engine to move to: `sled:` or `fjall:`.
        #[arg(long, value_name = "URL")]
        to: EngineKind,
    },
    /// The operator's invitations to register, for `registration = "invite"`; whether the relay runs or not.
    #[command(subcommand, after_help = EXIT_CODES)]
    Invite(invite::Invite),
    /// Run the relay until SIGTERM or SIGINT.
    #[command(after_help = EXIT_CODES)]
    Run(Config),
    /// Print the relay's link: what people need for `whimbrel init --relay`.
    Link(Config),
    /// Replace the online key and certificate, which are good for 90 days; the relay stays who it is.
    Renew {
        #[command(flatten)]
        config: Config,
        /// The offline key that `init` made.
        #[arg(long, value_name = "FILE")]
        offline_key: PathBuf,
    },
    /// Open a store on trial and exit: what `run` and `check` do first with a store that was not closed.
    #[command(hide = true)]
    StoreProbe {
        /// The store's folder.
        dir: PathBuf,
    },
}

#[derive(Args, Debug)]
struct Config {
    /// The configuration file that `init` made.
    #[arg(long = "config", value_name = "FILE", env = "WHIMBREL_RELAY_CONFIG")]
    file: PathBuf,
}

fn endpoint(text: &str) -> Result<String, String> {
    if config::is_endpoint(text) {
        Ok(text.to_owned())
    } else {
        Err("expected a host and port such as relay.example:4433".to_owned())
    }
}

/// Runs one command line, the program's name first, and answers how the process is to exit.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    main_within(&[], args)
}

/// As [`main`], for a program in which the relay is one of several: `prefix` are the arguments that lead it here, so
/// that it can start itself again for a trial open of the store.
pub fn main_within(prefix: &[OsString], args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.collect();
    // Asked before the arguments are known to be right.
    let json = args.iter().any(|arg| arg == "--json");
    let outcome = match Cli::try_parse_from(args) {
        Ok(cli) => dispatch(cli, prefix),
        Err(asked) if !asked.use_stderr() => {
            print(&asked.to_string());
            return ExitCode::SUCCESS;
        }
        Err(error) if json => {
            let text = error.to_string();
            let (message, hint) = text.split_once("\n\n").unwrap_or((&text, ""));
            Err(Failure::new(Exit::Usage, "usage", message.trim_start_matches("error: ").trim()).hint(hint.trim()))
        }
        Err(error) => {
            eprint!("{error}");
            return ExitCode::from(Exit::Usage as u8);
        }
    };
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            if json {
                eprintln!("{}", failure.json());
            } else {
                eprint!("{}", failure.text());
            }
            ExitCode::from(failure.exit as u8)
        }
    }
}

fn dispatch(cli: Cli, prefix: &[OsString]) -> Result<ExitCode, Failure> {
    let json = cli.json;
    match cli.command {
        Command::Init { domain, dir, listen, public } => {
            let made = init::init(&Init { domain, dir, listen, advertise: public })?;
            print_made(&made, json);
        }
        Command::Check { config, store: false } => check(&config.file, prefix, json)?,
        Command::Check { config, store: true } => stores::check(&config.file, prefix, json)?,
        Command::Export { config, into, .. } => stores::export(&config.file, into.as_deref(), prefix, json)?,
        Command::Migrate { config, to } => stores::migrate(&config.file, to, prefix, json)?,
        Command::Invite(invite) => invite::run(invite, prefix, json)?,
        Command::Run(config) => run(&config.file, prefix, json)?,
        Command::Link(config) => {
            let (settings, identity) = load(&config.file)?;
            let link = settings.link(&identity, &settings.listen).ok_or_else(|| {
                Failure::new(Exit::NotFound, "no_link", "the port is chosen at each start, so no link holds for long")
                    .hint("`run --json` prints the link of this run; or name a port in [listen]")
            })?;
            output(json, &link.to_string(), json!({ "v": 1, "link": link.to_string() }));
        }
        Command::Renew { config, offline_key } => {
            let (settings, _) = load(&config.file)?;
            let identity = init::renew(&settings, &offline_key)?;
            let days = days_left(&identity)?;
            let text = format!("renewed: good for {days} days from now; restart the relay to use it");
            output(json, &text, json!({ "v": 1, "relay": identity.id(), "days_left": days }));
        }
        Command::StoreProbe { dir } => return Ok(ExitCode::from(open_probe(&dir))),
    }
    Ok(ExitCode::SUCCESS)
}

fn print(text: &str) {
    // A reader that went away is no failure of ours.
    let _reader_gone = std::io::stdout().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush());
}

fn output(json: bool, text: &str, value: Value) {
    if json { print(&format!("{value}\n")) } else { print(&format!("{text}\n")) }
}

fn print_made(made: &init::Made, json: bool) {
    let link = made.settings.link(&made.identity, &made.settings.listen).map(|link| link.to_string());
    let text = link.clone().unwrap_or_else(|| "The port is chosen at each start: `run` tells the link.".to_owned());
    let value = json!({
        "v": 1,
        "domain": made.settings.domain,
        "relay": made.identity.id(),
        "link": link,
        "config": made.settings.file,
        "offline_key": made.offline_key,
    });
    output(json, &text, value);
    if !json {
        eprintln!("made {}", made.settings.file.display());
        eprintln!(
            "Move {} to a safe place off this machine: it proves who this relay is, and only `renew` needs it.",
            made.offline_key.display()
        );
        eprintln!("next: whimbrel-relay run --config {}", made.settings.file.display());
    }
}

/// Configuration and identity, checked against each other.
fn load(file: &Path) -> Result<(Settings, RelayIdentity), Failure> {
    let settings = Settings::load(file)?;
    let identity = identity::load(&settings.identity_dir())?;
    settings.check_identity(&identity)?;
    Ok((settings, identity))
}

/// Days the online certificate is good for; what is over counts as none.
fn days_left(identity: &RelayIdentity) -> Result<u64, Failure> {
    let until = identity.online_until().context("the online certificate has no end")?;
    Ok(until.as_secs().saturating_sub(clock::wall().as_secs()) / DAY_SECS)
}

fn is_over(identity: &RelayIdentity) -> Result<bool, Failure> {
    let until = identity.online_until().context("the online certificate has no end")?;
    Ok(clock::wall().as_secs() > until.as_secs() + limits::CERTIFICATE_TOLERANCE.as_secs())
}

fn check(file: &Path, prefix: &[OsString], json: bool) -> Result<(), Failure> {
    let (settings, identity) = load(file)?;
    let renew = "`whimbrel-relay renew --config FILE --offline-key FILE` makes a new one";
    if is_over(&identity)? {
        return Err(Failure::new(Exit::Trust, "certificate", "the online certificate is over").hint(renew));
    }
    for address in &settings.listen {
        // Bound and let go again; a port taken by the running relay is what the store says more clearly.
        match std::net::UdpSocket::bind(address) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {}
            Err(source) => return Err(bind_failure(&BindError::Socket { address: *address, source })),
        }
    }
    for address in settings.https.iter().chain(&settings.metrics) {
        match std::net::TcpListener::bind(address) {
            Err(source) if source.kind() != std::io::ErrorKind::AddrInUse => {
                return Err(bind_failure(&BindError::Socket { address: *address, source }));
            }
            Ok(_) | Err(_) => {}
        }
    }
    let store = if settings.store_dir().exists() && !settings.in_memory {
        // Older rows stay as they are until a start.
        let store = open_store(&settings, Options { schema: None, ..store_options(&settings, prefix)? })?;
        let looked = look_at(&store, &SCHEMA).and_then(|_| store.size_on_disk());
        store.close().context("the store was opened but not closed")?;
        Some(looked.map_err(|error| store_failure(&settings, &error))?)
    } else {
        None
    };
    let days = days_left(&identity)?;
    let mut warnings = Vec::new();
    if days < RENEW_BEFORE_DAYS {
        warnings.push(format!("the online certificate ends in {days} days; {renew}"));
    }
    if identity::is_exposed(&settings.identity_dir()) {
        warnings.push(format!("{}: the online key can be read by others", settings.identity_dir().display()));
    }
    if settings.in_memory {
        warnings.push("the store is in memory: nothing outlives the relay's process".to_owned());
    }
    let link = settings.link(&identity, &settings.listen).map(|link| link.to_string());
    let store_text = match store {
        Some(bytes) => format!("{bytes} bytes, opens"),
        None if settings.in_memory => "in memory".to_owned(),
        None => "new, made at the first start".to_owned(),
    };
    let text = format!(
        "config    ok, {}\nidentity  ok, {} for {}, online certificate good for {days} days\nstore     {store_text}\n\
         link      {}",
        settings.file.display(),
        identity.id(),
        settings.domain,
        link.as_deref().unwrap_or("told at each start: the port is not fixed"),
    );
    for warning in &warnings {
        eprintln!("warning: {warning}");
    }
    let value = json!({
        "v": 1,
        "domain": settings.domain,
        "relay": identity.id(),
        "link": link,
        "certificate_days_left": days,
        "store_bytes": store,
        "warnings": warnings,
    });
    output(json, &text, value);
    Ok(())
}

fn open_store(settings: &Settings, options: Options) -> Result<DiskKv, Failure> {
    identity::make_dir(&settings.data_dir)?;
    let held = crate::stores::hold(settings)?;
    crate::stores::finish_exchange(settings, &held)?;
    DiskKv::open(&settings.store_dir(), options).map_err(|error| store_failure(settings, &error))
}

fn store_options(settings: &Settings, prefix: &[OsString]) -> Result<Options, Failure> {
    let program = std::env::current_exe().context("cannot find the running program")?;
    let args = prefix.iter().cloned().chain(["store-probe".into()]).collect();
    Ok(Options {
        engine: settings.engine,
        cache_bytes: settings.cache_bytes,
        reserve: settings.reserve,
        size: settings.size,
        schema: Some(&SCHEMA),
        probe: Some(ProbeCommand { program, args }),
        tolerate: false,
    })
}

fn store_failure(settings: &Settings, error: &StorageError) -> Failure {
    let dir = settings.store_dir();
    let message = format!("{}: {error}", dir.display());
    match error {
        StorageError::InUse => Failure::new(Exit::Locked, "store_in_use", message)
            .hint("a relay with this data folder runs already; stop it first"),
        StorageError::Damaged { .. } | StorageError::LostTail { .. } | StorageError::DoesNotOpen { .. } => {
            Failure::new(Exit::Internal, "store_damaged", message).hint(format!(
                "nothing was changed; move {} away, put a backup in its place and start again",
                dir.display()
            ))
        }
        StorageError::WrongEngine { found, .. } => Failure::new(Exit::Usage, "store_engine", message)
            .hint(format!("nothing was touched; write url = \"{found}:\", or `whimbrel-relay migrate --to` the other")),
        StorageError::WrongRows { .. } => Failure::new(Exit::Usage, "store_rows", message)
            .hint("nothing was touched; `data_dir` names another folder"),
        StorageError::TooNew { .. } => Failure::new(Exit::Usage, "store_version", message)
            .hint("nothing was touched; a newer whimbrel-relay wrote it: run that one"),
        StorageError::Full => Failure::new(Exit::Limit, "disk_full", message).hint("free some space on that disk"),
        _ => Failure::new(Exit::Internal, "store", message),
    }
}

fn bind_failure(error: &BindError) -> Failure {
    let BindError::Socket { source, .. } = error else {
        return Failure::new(Exit::Internal, "tls", error.to_string());
    };
    match source.kind() {
        std::io::ErrorKind::AddrInUse => Failure::new(Exit::Locked, "address_in_use", error.to_string())
            .hint("another process listens there; choose another port in [listen]"),
        std::io::ErrorKind::PermissionDenied => Failure::new(Exit::Locked, "address_not_allowed", error.to_string())
            .hint("ports below 1024 need a privilege; give it to the service, or take a higher port"),
        std::io::ErrorKind::AddrNotAvailable => Failure::new(Exit::Usage, "address_not_here", error.to_string())
            .hint("[listen] public names addresses of this machine; what others dial is `advertise`"),
        _ => Failure::new(Exit::Internal, "socket", error.to_string()),
    }
}

fn run_failure(settings: &Settings, error: RunError) -> Failure {
    match error {
        RunError::Bind(error) => bind_failure(&error),
        RunError::Store(error) => store_failure(settings, &error)
            .hint("everything acknowledged is on the disk; look after the disk, then start again"),
        other => Failure::from(anyhow::Error::new(other)),
    }
}

fn run(file: &Path, prefix: &[OsString], json: bool) -> Result<(), Failure> {
    let (settings, identity) = load(file)?;
    log_to_stderr(&settings);
    // Half a relay is worse than none: the supervisor starts it again, and the store proves itself at the open.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
    whimbrel_transport::install();
    if is_over(&identity)? {
        tracing::error!("the online certificate is over: nobody will take it; see `whimbrel-relay renew`");
    } else if days_left(&identity)? < RENEW_BEFORE_DAYS {
        tracing::warn!(days = days_left(&identity)?, "the online certificate ends soon; see `whimbrel-relay renew`");
    }
    let store = if settings.in_memory {
        tracing::warn!("the store is in memory: nothing outlives this process");
        RelayKv::Memory(MemoryKv::in_memory().map_err(|error| store_failure(&settings, &error))?)
    } else {
        RelayKv::Disk(Box::new(open_store(&settings, store_options(&settings, prefix)?)?))
    };
    // One a core: more of them wake each other for every message (docs/adr/0016-the-hot-path-by-its-profile.md). Whatever
    // waits for the disk longer than a read has the store's thread.
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .context("cannot start threads")?;
    runtime.block_on(async {
        let stop = told_to_stop().context("cannot listen for signals")?;
        let ready = |ready: Ready| announce(&settings, &ready, json);
        crate::run(&settings, &identity, store, stop, ready).await.map_err(|error| run_failure(&settings, error))
    })
}

fn announce(settings: &Settings, ready: &Ready, json: bool) {
    let link = ready.link.as_ref().map(ToString::to_string);
    if json {
        let line = json!({
            "v": 1,
            "event": "ready",
            "domain": settings.domain,
            "link": link,
            "listen": ready.listen,
            "https": ready.https,
            "metrics": ready.metrics,
        });
        print(&format!("{line}\n"));
    } else {
        eprintln!("ready: {}", link.as_deref().unwrap_or(settings.domain.as_str()));
    }
}

fn log_to_stderr(settings: &Settings) {
    let filter = EnvFilter::new(format!("warn,whimbrel={}", settings.log_level.word()));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let installed = match settings.log_format {
        LogFormat::Text => lines.with_ansi(false).try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
    if installed.is_err() {
        eprintln!("warning: log lines go where they went before");
    }
}

/// Resolves at the first SIGTERM or SIGINT. A second one ends the process where it stands.
#[cfg(unix)]
fn told_to_stop() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut either = async move || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    Ok(async move {
        either().await;
        tokio::spawn(async move {
            either().await;
            std::process::exit(INTERRUPTED);
        });
    })
}

/// Resolves at the first Ctrl-C. A second one ends the process where it stands.
#[cfg(not(unix))]
fn told_to_stop() -> std::io::Result<impl Future<Output = ()>> {
    let either = || async { tokio::signal::ctrl_c().await.is_ok() };
    Ok(async move {
        if !either().await {
            std::future::pending::<()>().await;
        }
        tokio::spawn(async move {
            if either().await {
                std::process::exit(INTERRUPTED);
            }
        });
    })
}
