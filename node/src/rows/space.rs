//! Spaces: which kinds of rows a node keeps, by the first byte of their keys. Owns: the table. Never: knows what is in a row.

#[cfg(doc)]
use super::*;

/// First byte of a key; zero is the store's own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Space {
    /// Own account: one row, [`AccountRow`].
    Account = b'a',
    /// [`ContactRow`] by account.
    Contact = b'c',
    /// [`DeviceRow`] by device: verified, of everybody we share a thread with.
    Device = b'd',
    /// [`EnvelopeRow`] by envelope id: what was opened or sealed here.
    Envelope = b'e',
    /// The threads of exactly these people, ascending, by participants tag: the first is the one to write to.
    Tag = b'g',
    /// Nothing, by participants tag and thread: openings that failed with words in them. They are read with the threads of
    /// [`Space::Tag`], and never written to.
    Failed = 43,
    /// [`MessageRow`] by thread, clock, message id and author: the history in display order.
    History = b'h',
    /// The place in the history by message id and author: shows a message once.
    Message = b'i',
    /// [`ParkedRow`] by thread and number: entries that came before the thread was joined, or wait for a change of it.
    Parked = b'k',
    /// [`OpeningRow`] by thread: openings the relay has not confirmed.
    Opening = b'n',
    /// [`OutboxRow`] by thread and order.
    Outbox = b'o',
    /// [`whimbrel_protocol::id::Sequence`] by log: everything up to here is durable here.
    Place = b'p',
    /// The node's own settings and clocks: [`Single`].
    Single = b's',
    /// [`ThreadRow`] by thread.
    Thread = b't',
    /// [`UnreadableRow`] by thread and number.
    Unreadable = b'u',
    /// [`PlaceRow`] by thread and arrival: others' messages that are not marked read, in the order they came.
    Unread = b'v',
    /// [`InvitationRow`] by its Welcome: added to a thread, not joined yet. Not by thread, for a forged one must not
    /// stand in the way of the genuine.
    Invitation = b'w',
    /// Welcome and tree of an invitation, by its Welcome and which of the two: fetched, and not joined by yet.
    Fetched = b'z',
    /// [`DeviceId`] by transport key.
    Transport = b'x',
    /// [`FriendRow`] by account.
    Friend = b'f',
    /// [`WordRow`] by the word's hash: words about friendship that are not proved yet.
    Word = b'q',
    /// [`CardRow`] by account: profile cards, as proved.
    Card = b'j',
    /// [`SettingsRow`] by thread.
    Settings = b'l',
    /// [`ChangeRow`] by thread: at most one of a group is under way.
    Change = b'y',
    /// [`HeraldRow`] by account: people whose account log is longer than the one here, by their own word.
    Herald = b'A',
    /// A KeyPackage that a sibling handed over, by device and number; bytes.
    Package = b'B',
    /// [`OwedRow`] by thread and message id: receipts that have not left.
    Owed = 30,
    /// [`AwaitedRow`] by thread and counter: own contents that somebody has not said to have; and [`ResendRow`] by thread.
    Awaited = 31,
    /// [`SaidRow`] by thread and counter: own contents that are counted.
    Said = 32,
    /// By what can be told of an own envelope without opening it ([`whimbrel_crypto::SealMark`]): empty.
    Mark = 33,
    /// What was said about messages, by thread and message: [`EditRow`], that it was taken back, [`ReactionRow`].
    Told = 34,
    /// By thread and device: [`CountRow`], [`GapRow`]; by time: [`VanishRow`]; by thread: [`DroppedRow`].
    Count = 35,
    /// What the account's devices hold together, by what it is about: [`whimbrel_protocol::siblings::Fact`].
    Fact = 36,
    /// A history on its way here: [`HistoryRow`], and [`HistoryThreadRow`] by number.
    Transfer = 37,
    /// [`ReceiptsRow`] by thread.
    Receipts = 38,
    /// One row, [`RecentRow`].
    Recent = 39,
    /// [`ReceiptsToldRow`] by thread.
    ReceiptsTold = 40,
    /// What gives a thread's hub away, by thread: [`whimbrel_crypto::receipt::Contradiction`].
    Contradiction = 41,
    /// [`PassRow`] by the hash of its token: links into groups that this device made.
    Pass = 44,
    /// [`AskRow`] by group and account: who came by one of them, and is not in yet.
    Ask = 45,
    /// [`WishRow`] by group: links into groups that this device came by.
    Wish = 46,
    /// [`PictureRow`] by thread.
    Picture = 47,
    /// [`TreeRow`] by domain.
    Tree = 48,
    /// [`AuditRow`] by account.
    Audit = 49,
    /// [`TreeToldRow`] by thread.
    TreeTold = 50,
    /// When an identity key was compared, by account and key: [`Wall`].
    Compared = 51,
    /// One row, [`StampRow`]: how far this store has come, as the relay was told.
    Stamp = 53,
}

#[cfg(test)]
pub(crate) const SPACES: [Space; 47] = [
    Space::Account,
    Space::Contact,
    Space::Device,
    Space::Envelope,
    Space::Tag,
    Space::Failed,
    Space::History,
    Space::Message,
    Space::Parked,
    Space::Opening,
    Space::Outbox,
    Space::Place,
    Space::Single,
    Space::Thread,
    Space::Unreadable,
    Space::Unread,
    Space::Invitation,
    Space::Fetched,
    Space::Transport,
    Space::Friend,
    Space::Word,
    Space::Card,
    Space::Settings,
    Space::Change,
    Space::Herald,
    Space::Package,
    Space::Owed,
    Space::Awaited,
    Space::Said,
    Space::Mark,
    Space::Told,
    Space::Count,
    Space::Fact,
    Space::Transfer,
    Space::Receipts,
    Space::Recent,
    Space::ReceiptsTold,
    Space::Contradiction,
    Space::Pass,
    Space::Ask,
    Space::Wish,
    Space::Picture,
    Space::Tree,
    Space::Audit,
    Space::TreeTold,
    Space::Compared,
    Space::Stamp,
];
