//! People: the arguments about contacts, requests, presence and cards.
//! Owns: their words. Never: a rule of any other command.

use clap::{Subcommand, ValueEnum};

#[derive(Subcommand, Debug)]
pub(crate) enum Contact {
    /// List the people you can write to
    List {
        /// Those you keep away instead, as your relay has them
        #[arg(long, conflicts_with = "all")]
        blocked: bool,
        /// Everybody your relay has on your list, and whether this device can prove it
        #[arg(long)]
        all: bool,
    },
    /// Be friends no longer; or take a request of yours back
    Remove {
        /// Contact, address or account
        who: String,
    },
    /// Keep somebody away; they are not told
    Block {
        /// Contact, address or account
        who: String,
    },
    /// Keep somebody away no longer
    Unblock {
        /// Contact, address or account
        who: String,
    },
    /// Show somebody's keys: the safety number, when they changed, their devices
    Show {
        /// Contact, address or account
        who: String,
    },
    /// Show every key somebody has had: since when, and whether you verified it
    History {
        /// Contact, address or account
        who: String,
    },
    /// Compare keys with somebody, so that nobody can stand between you
    ///
    /// Without more it shows the safety number. Read it to each other, or send it by another way; it is the same at both
    /// ends. If it is, mark them with --yes, or hand over what the other one sees and let it be compared here.
    Verify {
        /// Contact, address or account
        who: String,
        /// Number the other one sees, or what their picture holds; - reads it from standard input
        #[arg(long, value_name = "DIGITS|-", conflicts_with_all = ["yes", "undo"])]
        number: Option<String>,
        /// They are the same: you compared them
        #[arg(long, conflicts_with = "undo")]
        yes: bool,
        /// Verified no longer
        #[arg(long)]
        undo: bool,
        /// Show the number as a picture to be scanned, too
        #[arg(long)]
        qr: bool,
    },
    /// Whether a contact may see when you are there
    LetSee {
        /// Contact, address or account
        who: String,
        /// on or off
        #[arg(value_enum)]
        allowed: Switch,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Switch {
    /// they may
    On,
    /// they may not
    Off,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Friends {
    /// Ask somebody to be friends
    ///
    /// Once they accept, both can write without an invite. Running it again does no harm.
    Send {
        /// Their address (name@domain), or the account of somebody known here
        #[arg(value_name = "ADDRESS|ACCOUNT")]
        who: String,
        /// A line to them, at most 200 characters; relays can read it
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
    },
    /// List the requests that wait, yours and theirs
    List,
    /// Say yes to a request
    Accept {
        /// Who asks
        who: String,
    },
    /// Take a request off the list; whoever asked is not told
    Decline {
        /// Who asks
        #[arg(required_unless_present = "all")]
        who: Option<String>,
        /// All requests there are
        #[arg(long, conflicts_with = "who")]
        all: bool,
    },
}

#[derive(Subcommand, Debug)]
pub(crate) enum Presence {
    /// Show which contacts are there, as far as they let it be seen
    Show,
    /// Show yourself to your contacts, or to nobody; kept until you change it
    Set {
        /// visible or invisible
        #[arg(value_enum)]
        state: Visibility,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Visibility {
    /// contacts see when you are there
    Visible,
    /// nobody does
    Invisible,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Profile {
    /// Show a card: yours, or a contact's
    Show {
        /// Contact, address or account [default: you]
        who: Option<String>,
    },
    /// Put up what your contacts are shown of you; relays can read it
    Set {
        /// What you want to be called
        #[arg(long, value_name = "TEXT", required_unless_present = "about")]
        name: Option<String>,
        /// A line about yourself; an empty one takes it away
        #[arg(long, value_name = "TEXT")]
        about: Option<String>,
    },
}
