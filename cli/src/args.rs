//! The command line: names, flags and their help.
//! Owns: the grammar (docs: `whimbrel help`). Never: decides what a command does.

mod people;

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use whimbrel_protocol::limits;

pub(crate) use self::people::{Contact, Friends, Presence, Profile, Switch, Visibility};

/// Chat that is always end-to-end encrypted, over relays that talk to each other and directly where the network lets it.
///
/// Two people are talking after four commands: `init`, `invite new`, `init --invite -`, `send`.
/// Results go to standard output, everything else to standard error.
#[derive(Parser, Debug)]
#[command(name = "whimbrel", version, disable_help_subcommand = true, arg_required_else_help = true)]
#[command(max_term_width = 100, after_help = "See also: whimbrel help exit-codes")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags every command takes. Each has an environment twin; a flag wins over it, and it over the configuration file.
#[derive(Args, Debug, Default)]
pub(crate) struct Global {
    /// Folder of the profile's data [default: $XDG_DATA_HOME/whimbrel]
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
        env = "WHIMBREL_HOME",
        value_name = "DIR",
        hide_env = true
    )]
    pub(crate) home: Option<PathBuf>,
    /// Which of several identities to use
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
        env = "WHIMBREL_PROFILE",
        value_name = "NAME",
        hide_env = true
    )]
    pub(crate) profile: Option<String>,
    /// File with the passphrase of the sealed store, on its first line
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
        env = "WHIMBREL_PASSPHRASE_FILE",
        value_name = "FILE",
        hide_env = true
    )]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Print JSON: one object, or one per line; errors as JSON on standard error
    #[arg(long, global = true, help_heading = "Global options", env = "WHIMBREL_JSON", hide_env = true, value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) json: bool,
    /// How long to wait for relays and people, such as 5s or 2m [default: 15s]
    #[arg(long, global = true, help_heading = "Global options", env = "WHIMBREL_TIMEOUT", value_name = "DURATION", hide_env = true, value_parser = humantime::parse_duration)]
    pub(crate) timeout: Option<Duration>,
    /// No hints on standard error
    #[arg(short, long, global = true, help_heading = "Global options", env = "WHIMBREL_QUIET", hide_env = true, conflicts_with = "verbose", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) quiet: bool,
    /// Log to standard error: -v what happens, -vv details, -vvv everything
    #[arg(short, long, global = true, help_heading = "Global options", action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    Init(Init),
    /// Links that let somebody reach you
    #[command(subcommand)]
    Invite(Invite),
    /// Accept an invite, or a link into a group, with the identity that exists
    Join {
        /// The link; '-' reads it from standard input
        #[arg(value_name = "LINK|-")]
        link: String,
    },
    Send(Send),
    Inbox(Inbox),
    Log(Log),
    /// Put another text in place of one of yours
    Edit {
        /// Contact, several contacts with commas between, or thread
        chat: String,
        /// The message: a beginning of its id, as `log --ids` shows it
        #[arg(value_name = "ID")]
        message: String,
        /// The new text; '-' or nothing reads standard input
        #[arg(value_name = "TEXT|-")]
        text: Option<String>,
    },
    /// Take a text of yours back, from every device that hears of it
    Unsend {
        /// As for edit
        chat: String,
        /// As for edit
        #[arg(value_name = "ID")]
        message: String,
    },
    /// Put a sign beside a message
    React {
        /// As for edit
        chat: String,
        /// As for edit
        #[arg(value_name = "ID")]
        message: String,
        /// The sign, such as an emoji
        sign: String,
        /// Take it away again
        #[arg(long)]
        remove: bool,
    },
    /// Tell whoever is there that you are writing in a chat
    ///
    /// It holds for ten seconds, or until your message comes; nothing of it is kept. Whoever follows the chat with
    /// `log --follow --typing` sees it. Say it again while you write: it goes out every four seconds at most. In a group everybody
    /// who is there hears it; between two, only a friend whom you let see that you are there.
    Typing {
        /// As for edit
        chat: String,
        /// That you stopped
        #[arg(long)]
        stop: bool,
    },
    /// Mark everything in a chat as read
    #[command(visible_alias = "read")]
    MarkRead {
        /// As for edit
        chat: String,
    },
    /// How things are: daemon, relay, path to each contact, queue, unread
    Status,
    /// Your own identity
    #[command(subcommand)]
    Id(Id),
    /// The devices that speak for you
    #[command(subcommand)]
    Device(Device),
    /// People you can write to
    #[command(subcommand)]
    Contact(Contact),
    /// Requests to be friends, yours and theirs
    #[command(subcommand)]
    Request(Friends),
    /// Who is there; whether you are shown to be
    Presence {
        #[command(subcommand)]
        what: Option<Presence>,
    },
    /// What you and others say of themselves
    #[command(subcommand)]
    Profile(Profile),
    /// Your conversations, and what you keep of each
    #[command(subcommand)]
    Chat(Chat),
    /// Groups whose members may change
    #[command(subcommand)]
    Group(Group),
    /// What the relay keeps of you, and its end
    #[command(subcommand)]
    Account(Account),
    /// Where this device is told that something waits
    #[command(subcommand)]
    Wake(Wake),
    /// A sealed file of account, people, settings and text: made, checked, put back
    #[command(subcommand)]
    Backup(Backup),
    /// Open the sealed store for the commands to come: the kernel keeps its key until `lock`, the time-out, or a restart
    Unlock {
        /// For how long, such as 8h [default: until lock or restart]
        #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
        duration: Option<Duration>,
    },
    /// Close it again: end the daemon and have the kernel forget the key
    Lock,
    /// The passphrase that seals the store on this machine
    #[command(subcommand)]
    Passphrase(Passphrase),
    /// Keep connected in the background; other commands then go through it
    #[command(subcommand)]
    Daemon(Daemon),
    Demo(Demo),
    /// Version of program and protocol
    Version,
    /// Explain a command or a topic (exit-codes)
    Help {
        /// Command or topic
        topic: Vec<String>,
    },
    /// Run a relay: whimbrel-relay inside this binary
    #[command(hide = true, disable_help_flag = true)]
    Relay {
        /// End when standard input does
        #[arg(long)]
        tethered: bool,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
    /// Try to open a store and say by the exit status whether it can be
    #[command(hide = true)]
    StoreProbe {
        dir: PathBuf,
    },
}

/// Create an identity, register it at a relay, print the recovery words once
///
/// Makes an identity in the profile's folder, registers its name at a relay and prints the 24 recovery words, which are
/// kept nowhere. With an invite it also makes the contact: the next command can be `send`.
///
/// If it is interrupted, or the name is taken, run it again.
#[derive(Args, Debug)]
pub(crate) struct Init {
    /// Name to be known by: a-z, 0-9, '.', '_' and '-'
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// The relay to live at: its link (whimbrel-relay:…) [default: the inviter's relay]
    #[arg(long, value_name = "LINK", required_unless_present = "invite")]
    pub(crate) relay: Option<String>,
    /// The invite to accept: '-' reads it from standard input, which keeps it out of the process list
    #[arg(long, value_name = "LINK|-")]
    pub(crate) invite: Option<String>,
    /// The relay's invitation to register, where its operator gives them out: 32 hexadecimal characters
    #[arg(long, value_name = "TOKEN|-")]
    pub(crate) registration: Option<String>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Invite {
    /// Make an invite and print its link; pass it on by a way you trust
    New {
        /// How many people may use it
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(limits::INVITE_USES_MAX)))]
        uses: u32,
        /// How long it holds, such as 2h or 7days
        #[arg(long, value_name = "DURATION", default_value = "7days", value_parser = humantime::parse_duration)]
        expires: Duration,
        /// Whoever uses it is taken into this group, too: the same as `group link`
        #[arg(long, value_name = "GROUP")]
        group: Option<String>,
    },
    /// List the invites that can still be used
    List,
    /// Take an invite back; whoever used it stays a contact
    Revoke {
        /// Its id as `invite list` shows it, or a beginning of that; or its link ('-' reads it from standard input)
        #[arg(value_name = "ID|LINK|-")]
        invite: String,
    },
}

/// Send a text to a person, a group of people, or into a thread
///
/// TO is a contact's name, address or a unique beginning of it, or the beginning of a thread's id; several
/// people, separated by commas, mean the thread of exactly these people.
///
/// The message is on this machine's disk before anything is sent. When the relay cannot be reached it stays queued, and the
/// next command, or `daemon run`, sends it.
#[derive(Args, Debug)]
pub(crate) struct Send {
    /// Contact, several contacts with commas between, or thread
    #[arg(value_name = "TO")]
    pub(crate) to: String,
    /// The text; '-' or nothing reads standard input
    #[arg(value_name = "TEXT|-")]
    pub(crate) text: Option<String>,
    /// Reply to a message of that chat: a beginning of its id, as `log --ids` shows it
    #[arg(long, value_name = "ID")]
    pub(crate) reply: Option<String>,
    /// Name a contact in it, who ought to notice; can be given several times
    #[arg(long, value_name = "CONTACT")]
    pub(crate) mention: Vec<String>,
    /// Do not end before the message is there: at the relay, or at every device
    #[arg(long, value_enum, value_name = "STATE")]
    pub(crate) wait: Option<Wait>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Wait {
    /// on the disk of a relay, or of every device
    Stored,
    /// on the disk of every device, by their word
    Delivered,
    /// read on some device, where that is told
    Read,
}

/// Fetch what is new, print unread messages by chat, mark them read
///
/// What could not be printed stays unread. When the relay cannot be reached, what is here already is printed.
#[derive(Args, Debug)]
pub(crate) struct Inbox {
    /// Leave the messages unread
    #[arg(long)]
    pub(crate) peek: bool,
}

/// Print a chat's history, or follow it
///
/// The oldest message comes first. CHAT is chosen as TO of `send`.
#[derive(Args, Debug)]
pub(crate) struct Log {
    /// Contact, several contacts with commas between, or thread
    #[arg(value_name = "CHAT")]
    pub(crate) chat: String,
    /// Only the newest N messages [default: 50, or all of them with --since]
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) number: Option<usize>,
    /// Only messages since a time (2026-07-31, 2026-07-31T12:00:00Z) or for a duration (2h)
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Go on printing messages as they come
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// With --follow: also say who is writing
    #[arg(long, requires = "follow")]
    pub(crate) typing: bool,
    /// Print the beginning of each message's id first
    #[arg(long)]
    pub(crate) ids: bool,
    /// Show what people you blocked say in groups
    #[arg(long)]
    pub(crate) blocked: bool,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Id {
    /// Print your address, account and device
    Show,
    /// Put another identity key in the place of yours, by the recovery words
    ///
    /// The 24 words are read from standard input. New ones are printed first: write them down before you go on. Contacts who
    /// compared keys with you are told that your key changed.
    Rotate,
    /// Get other recovery words, by the ones you have
    ///
    /// The 24 words are read from standard input; the new ones are printed first.
    Recovery,
    /// Make this empty profile a device of your account by the recovery words alone
    ///
    /// For when no other device is at hand; otherwise link one: whimbrel device --help. The devices you had are taken off
    /// the account. The 24 words are read from standard input; new ones are printed first. Contacts who compared keys with you are told that your key changed.
    Recover(Recover),
}

#[derive(Args, Debug)]
pub(crate) struct Recover {
    /// Your name at the relay
    #[arg(long, value_name = "NAME")]
    pub(crate) name: String,
    /// The relay you live at: its link (whimbrel-relay:…)
    #[arg(long, value_name = "LINK")]
    pub(crate) relay: String,
    /// Leave the devices you had on the account; what people write goes to them until they are revoked
    #[arg(long)]
    pub(crate) keep_others: bool,
    /// What this device is called
    #[arg(long, value_name = "TEXT", default_value = "recovered device")]
    pub(crate) label: String,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Device {
    /// Make this empty profile a device of yours, with the word of another one
    ///
    /// It shows a code, good for ten minutes and once: type it in at a device of yours, with `whimbrel device approve -`.
    /// Whoever has the code and gets it approved is you, so show it to nobody else.
    Link {
        /// The relay you live at: its link (whimbrel-relay:…)
        #[arg(long, value_name = "LINK")]
        relay: String,
        /// What this device is called; your contacts can see it
        #[arg(long, value_name = "TEXT", default_value = "another device")]
        label: String,
    },
    /// Make the device that shows this code one of yours
    ///
    /// It gets into your conversations, and reads what is said in them from then on.
    Approve {
        /// The code; '-' reads it from standard input, which keeps it out of the process list
        #[arg(value_name = "CODE|-")]
        code: String,
        /// It gets no say in your account: it can neither link nor revoke devices
        #[arg(long)]
        limited: bool,
    },
    /// List the devices that speak for you
    List,
    /// Call a device something else; your contacts can see it
    Rename {
        /// Its number or name
        device: String,
        /// The new name, at most 64 bytes
        label: String,
    },
    /// Take a device off your account: it is served no more, and leaves your conversations
    Revoke {
        /// Its number or name
        device: String,
    },
}

#[derive(Subcommand, Debug)]
pub(crate) enum Chat {
    /// List your conversations: pinned ones first, then the newest, archived ones last
    List,
    /// Let nobody wake you for a chat
    Mute {
        /// Contact, several contacts with commas between, or thread
        chat: String,
        /// For how long, such as 8h [default: until unmuted]
        #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
        duration: Option<Duration>,
    },
    /// Be woken for it again
    Unmute {
        /// As for mute
        chat: String,
    },
    /// Give a chat a name of your own; none takes it away
    Label {
        /// As for mute
        chat: String,
        /// The name; only your own devices can read it
        label: Option<String>,
    },
    /// Put a chat away
    Archive {
        /// As for mute
        chat: String,
    },
    /// Take it out again
    Unarchive {
        /// As for mute
        chat: String,
    },
    /// Put a chat first
    Pin {
        /// As for mute
        chat: String,
    },
    /// Put it back among the others
    Unpin {
        /// As for mute
        chat: String,
    },
    /// Let texts in a chat go by themselves after a time, on every device; none: they stay
    ///
    /// It holds for everybody's texts from then on; in a group its admin decides. Each device counts from when it came.
    Timer {
        /// As for mute
        chat: String,
        /// For how long, such as 1h or 7days
        #[arg(value_name = "DURATION", value_parser = humantime::parse_duration)]
        lasts: Option<Duration>,
    },
    /// Tell others when you have read what they wrote in a chat
    Receipts {
        /// As for mute
        chat: String,
        /// on, off, or as your configuration says
        #[arg(value_enum)]
        tell: Tell,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Tell {
    /// they are told
    On,
    /// they are not
    Off,
    /// as `read_receipts` in the configuration says
    Default,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Role {
    /// takes people in and out, and says who else is an admin
    Admin,
    /// as everybody is who was taken in
    Member,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Whose {
    /// admins alone
    Admins,
    /// everybody in it
    Members,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Group {
    /// Make a group of people you know; you are its first admin
    #[command(visible_alias = "create")]
    New {
        /// What it is called
        title: String,
        /// Contacts, with spaces or commas between
        #[arg(required = true, value_name = "PEOPLE")]
        people: Vec<String>,
    },
    /// List your groups and who is in each
    List,
    /// Show who is in a group
    #[command(visible_alias = "members")]
    Show {
        /// Its title, or the beginning of its id
        group: String,
    },
    /// Take contacts in; they read what is said from then on (admins, or everybody: see `policy`)
    Add {
        /// Its title, or the beginning of its id
        group: String,
        /// Contacts
        #[arg(required = true, value_name = "PEOPLE")]
        people: Vec<String>,
    },
    /// Take people out; they read nothing that is said from then on (admins)
    Remove {
        /// Its title, or the beginning of its id
        group: String,
        /// Names, addresses or the beginnings of accounts
        #[arg(required = true, value_name = "PEOPLE")]
        people: Vec<String>,
    },
    /// Ask to be taken out; an admin's device does it, or a member's if none is there
    Leave {
        /// Its title, or the beginning of its id
        group: String,
    },
    /// Make people admins, or members again (admins)
    Role {
        /// Its title, or the beginning of its id
        group: String,
        /// What they are from now on
        role: Role,
        /// Names, addresses or the beginnings of accounts; your own, too
        #[arg(required = true, value_name = "PEOPLE")]
        people: Vec<String>,
    },
    /// Say who may do what (admins); without options, show it
    Policy {
        /// Its title, or the beginning of its id
        group: String,
        /// Who takes people in
        #[arg(long, value_name = "WHO")]
        add: Option<Whose>,
        /// Who says what it is called
        #[arg(long, value_name = "WHO")]
        rename: Option<Whose>,
    },
    /// Call it something else (admins, or everybody: see `policy`)
    Rename {
        /// Its title, or the beginning of its id
        group: String,
        /// What it is called from now on
        title: String,
    },
    /// Give it a picture, take that away, or write it to a file (giving one: admins, or everybody: see `policy`)
    Picture {
        /// Its title, or the beginning of its id
        group: String,
        /// A png, jpeg or webp of at most 32 KiB
        #[arg(value_name = "FILE", required_unless_present_any = ["save", "remove"])]
        file: Option<PathBuf>,
        /// Write its picture to this new file
        #[arg(long, value_name = "FILE", conflicts_with = "file")]
        save: Option<PathBuf>,
        /// Take its picture away
        #[arg(long, conflicts_with_all = ["file", "save"])]
        remove: bool,
    },
    /// Make a link into the group and print it; this device takes in whoever comes by it, while you may take people in
    ///
    /// Whoever uses it becomes a contact of yours, asks this device, and is taken in while it is running. Take it back with
    /// `invite revoke`. Whoever is taken out of the group cannot come back by it.
    Link {
        /// Its title, or the beginning of its id
        group: String,
        /// How many people it takes in
        #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=i64::from(limits::INVITE_USES_MAX)))]
        uses: u32,
        /// How long it holds, such as 2h or 7days
        #[arg(long, value_name = "DURATION", default_value = "7days", value_parser = humantime::parse_duration)]
        expires: Duration,
    },
    /// Renew this device's keys: what was stolen of it before is worth nothing after
    Rekey {
        /// Its title, or the beginning of its id
        group: String,
    },
}

#[derive(Subcommand, Debug)]
pub(crate) enum Account {
    /// Write everything the relay keeps of you to a new file, one JSON object per line
    Export {
        /// The file; it must not exist
        file: PathBuf,
    },
    /// Delete the account at its relay, for good: nobody gets the name again
    Delete {
        /// Your own name, to be sure
        #[arg(long, value_name = "NAME")]
        yes_delete: String,
    },
}

#[derive(Subcommand, Debug)]
pub(crate) enum Wake {
    /// Name a push service's address for this device (Web Push or UnifiedPush); a code is sent there
    Set {
        /// The address: https://…
        url: String,
        /// The subscription's key (p256dh), base64url as browsers print it
        #[arg(long, value_name = "P256DH")]
        key: String,
        /// The subscription's secret (auth), base64url
        #[arg(long, value_name = "AUTH")]
        auth: String,
    },
    /// Confirm the address with the code that came there
    Confirm {
        /// The code, base64url or hexadecimal
        code: String,
    },
    /// Be woken no more
    Off,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Backup {
    /// Write a backup to a new file and read it back; it holds the key that signs for the account, and nothing of groups
    Create {
        /// The file; it must not exist
        file: PathBuf,
        /// File with the backup's own passphrase, on its first line [default: asked for]
        #[arg(long, value_name = "FILE")]
        backup_passphrase_file: Option<PathBuf>,
    },
    /// Read a backup to its end and say what is in it
    #[command(visible_alias = "verify")]
    Check {
        /// The file
        file: PathBuf,
        /// File with its passphrase, on its first line [default: asked for]
        #[arg(long, value_name = "FILE")]
        backup_passphrase_file: Option<PathBuf>,
    },
    /// Put a backup back into the profile of the same account; what is there stays
    Restore {
        /// The file
        file: PathBuf,
        /// File with its passphrase, on its first line [default: asked for]
        #[arg(long, value_name = "FILE")]
        backup_passphrase_file: Option<PathBuf>,
    },
}

#[derive(Subcommand, Debug)]
pub(crate) enum Passphrase {
    /// Seal a store that is not: it is copied, read back and put in the old one's place
    ///
    /// What the disk keeps of deleted files is not overwritten. A new identity is sealed from the beginning when `init` is
    /// given --passphrase-file.
    Set,
    /// Change the passphrase
    Change {
        /// File with the new passphrase, on its first line [default: asked for]
        #[arg(long, value_name = "FILE")]
        new_passphrase_file: Option<PathBuf>,
    },
    /// Read every row of the sealed store and say whether one was changed, taken away or put back
    Check,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Daemon {
    /// Run in the foreground until SIGTERM or Ctrl-C
    Run,
}

/// Show the whole system at work on this machine: two relays, three people, three paths
///
/// Starts two relays as processes of their own and three people on real stores in a temporary folder, and tells what
/// happens, line by line: relay path, two relays, an absence with a crash, the direct path, no relay at all.
/// Exits with 0 only if nothing was lost, nothing shown twice, and all three paths carried messages.
#[derive(Args, Debug)]
pub(crate) struct Demo {
    /// A text of yours to send along the way (may be repeated; lines on standard input are taken too)
    #[arg(long, value_name = "TEXT")]
    pub(crate) message: Vec<String>,
    /// Keep the temporary folder and print where it is
    #[arg(long)]
    pub(crate) keep: bool,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_grammar_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_flags_are_taken_before_and_after_the_command() {
        for line in [["whimbrel", "--json", "status"], ["whimbrel", "status", "--json"]] {
            assert!(Cli::try_parse_from(line).unwrap().global.json);
        }
    }

    #[test]
    fn a_message_that_looks_like_a_flag_needs_two_dashes() {
        assert!(Cli::try_parse_from(["whimbrel", "send", "bob", "--hi"]).is_err());
        assert!(Cli::try_parse_from(["whimbrel", "send", "bob", "--", "--hi"]).is_ok());
    }

    #[test]
    fn init_needs_a_relay_or_an_invite() {
        assert!(Cli::try_parse_from(["whimbrel", "init", "--name", "alice"]).is_err());
        assert!(Cli::try_parse_from(["whimbrel", "init", "--name", "alice", "--invite", "-"]).is_ok());
    }

    #[test]
    fn an_invite_has_one_use_and_a_week_unless_told() {
        let Command::Invite(Invite::New { uses, expires, group: None }) =
            Cli::try_parse_from(["whimbrel", "invite", "new"]).unwrap().command
        else {
            unreachable!("parsed as another command")
        };
        assert_eq!((uses, expires), (1, limits::INVITE_AGE_DEFAULT));
        assert!(Cli::try_parse_from(["whimbrel", "invite", "new", "--uses", "0"]).is_err());
    }
}
