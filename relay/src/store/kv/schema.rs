//! Schema: which version of the rows this program reads and writes, and what operators call their spaces.
//! Owns: the version, the steps from older ones. A change of a row's meaning raises the version and adds its step here.

use whimbrel_storage::Schema;

use super::rows::space;

/// The rows of a relay.
pub const SCHEMA: Schema = Schema { name: "relay", version: 1, steps: &[] };

/// What the rows are whose keys begin with this byte.
pub const fn space_name(first: u8) -> &'static str {
    match first {
        0 => "version",
        space::NAME => "names",
        space::ACCOUNT => "accounts",
        space::ACCOUNT_LOG => "account logs",
        space::OWNER => "counts by account",
        space::STOCK => "KeyPackage counts",
        space::PACKAGE => "KeyPackages",
        space::LAST_RESORT => "last-resort KeyPackages",
        space::CONSENT => "consents",
        space::INVITE => "invites",
        space::THREAD => "threads",
        space::LOG => "logs",
        space::ENTRY => "entries",
        space::TAIL => "envelope ids",
        space::MEMBER => "members",
        space::CURSOR => "cursors",
        space::ROW => "thread rows",
        space::TAG => "participants tags",
        space::BLOB => "large bodies",
        space::OUTBOUND => "outbound rows",
        space::WAITING => "outbound counts",
        space::PIN => "pins of peers",
        space::LINKED => "count of peers by links",
        _ => "unknown",
    }
}
