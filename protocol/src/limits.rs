//! Every bound of the house, in one place.
//! A bound without arithmetic beside it is taken from the threat table (docs/threat-model.md).

use std::time::Duration;

/// A person's name at a relay, in bytes.
pub const NAME_BYTES_MAX: usize = 32;
/// A domain, in bytes (RFC 1035 §2.3.4 less the root label).
pub const DOMAIN_BYTES_MAX: usize = 253;

/// A control frame's body, in bytes.
pub const CONTROL_FRAME_BYTES_MAX: usize = 64 * 1024;
/// A sealed body inside an envelope, in bytes.
pub const ENVELOPE_BODY_BYTES_MAX: usize = 256 * 1024 - 1024;
/// A frame that carries one envelope, in bytes.
pub const ENVELOPE_FRAME_BYTES_MAX: usize = 256 * 1024;
/// A frame that carries a commit, Welcome, ratchet tree or a run of entries, in bytes.
pub const LARGE_FRAME_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Entries and bytes of one push frame: it stays well below [`LARGE_FRAME_BYTES_MAX`] with one largest entry on top.
pub const PUSH_ENTRIES_MAX: usize = 256;
/// See [`PUSH_ENTRIES_MAX`].
pub const PUSH_BYTES_MAX: usize = 1024 * 1024;
/// Nested arrays and maps in a frame.
pub const CBOR_DEPTH_MAX: usize = 16;

/// Bytes kept for a connection before it is authenticated.
pub const UNAUTHENTICATED_BYTES_MAX: usize = 64 * 1024;
/// Time to authenticate.
pub const AUTHENTICATION_TIME_MAX: Duration = Duration::from_secs(5);
/// A frame that began has its header after this.
pub const FRAME_HEADER_TIME_MAX: Duration = Duration::from_secs(10);
/// From its header on it may take as long again without a byte, and a second for so many bytes that came.
pub const FRAME_BYTES_PER_SECOND_MIN: u64 = 1_024;
/// Push addresses of a domain: all of them are weighed for each device that comes in.
pub const PUSH_ADDRESSES_MAX: usize = 64;
/// One push address.
pub const PUSH_ADDRESS_BYTES_MAX: usize = 256;
/// Connections a relay accepts at once.
pub const CONNECTIONS_MAX: usize = 16_384;
/// Handshakes waiting at an endpoint; beyond, the source must prove its address first (QUIC Retry, RFC 9000 §8.1.2).
pub const HANDSHAKES_BEFORE_RETRY: usize = 1_000;
/// Handshakes waiting at an endpoint, at most.
pub const HANDSHAKES_MAX: usize = 4_096;
/// Frames waiting to be written to one link; a slower reader falls back to its cursor.
pub const LINK_QUEUE_FRAMES_MAX: usize = 1_024;
/// Bytes waiting to be written to one link: two of the largest frames.
pub const LINK_QUEUE_BYTES_MAX: usize = 2 * LARGE_FRAME_BYTES_MAX;
/// Bytes handed to a stream at once: more than any round trip carries at a receive window of 64 KiB.
pub const LINK_WRITE_BYTES_MAX: usize = 256 * 1024;
/// What a closed link may still take to send what waited in its queue.
pub const LINK_CLOSE_TIME_MAX: Duration = Duration::from_secs(5);
/// Addresses tried for one relay.
pub const RELAY_ADDRESSES_MAX: usize = 8;
/// Between the first attempts at two addresses of one relay (RFC 8305 §5).
pub const RELAY_ADDRESS_DELAY: Duration = Duration::from_millis(250);
/// Requests of one link being served at once; beyond, the relay stops reading it.
pub const LINK_REQUESTS_MAX: usize = 64;
/// A connection without a frame for so long is closed (six heartbeats).
pub const LINK_IDLE_MAX: Duration = Duration::from_secs(60);
/// Between two heartbeats of a node.
pub const HEARTBEAT_EVERY: Duration = Duration::from_secs(10);
/// An answer that takes longer counts as lost.
pub const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// Entries of an account log.
pub const ACCOUNT_LOG_ENTRIES_MAX: usize = 1_024;
/// An account log, in bytes: 1,024 entries of well under 400 bytes fit a large frame many times.
pub const ACCOUNT_LOG_BYTES_MAX: usize = 384 * 1024;
/// Entries added to an account log at once, in bytes: what fits a control frame, before and after a device is let in.
pub const ACCOUNT_LOG_TAIL_BYTES_MAX: usize = CONTROL_FRAME_BYTES_MAX - 1_024;
/// People whose longer account log is looked for at once.
pub const HERALDS_MAX: usize = 1_024;
/// How often somebody's longer account log is asked for before their relay is said to hold it back.
pub const HERALD_ATTEMPTS_MAX: u32 = 8;
/// Threads in which a change of one's own account is said in one step.
pub const HERALDED_AT_ONCE: usize = 16;
/// Devices that wait at a relay at once for one that speaks for their account.
pub const LINKINGS_MAX: usize = 1_024;
/// How long one may wait, and both may talk.
pub const LINKING_TIME_MAX: Duration = Duration::from_secs(600);
/// Words of one frame: they fit a control frame with its own.
pub const LINKING_WORDS_BYTES_MAX: usize = 60 * 1024;
/// What both may say: an account log, and a KeyPackage (2.7 kB) for each of 4,096 threads.
pub const LINKING_BYTES_MAX: usize = 16 * 1024 * 1024;
/// One message, whole: an account log and a little.
pub const LINKING_MESSAGE_BYTES_MAX: usize = 512 * 1024;
/// KeyPackages handed over: one for each thread an account may have.
pub const LINKING_PACKAGES_MAX: usize = ACCOUNT_THREADS_MAX;
/// Of those, in one message: 16 of at most 8 KiB.
pub const LINKING_PACKAGES_AT_ONCE: usize = 16;
/// KeyPackages handed over beyond one for each thread there is: for those that come meanwhile.
pub const LINKING_PACKAGES_SPARE: usize = 16;
/// Changes of groups under way at once, for devices of one's own that come and go.
pub const SIBLING_CHANGES_MAX: usize = 8;
/// Of changes that their relays will not have now, no more than these wait at once.
pub const CHANGES_MAX: usize = 64;
/// Facts that an account's devices hold together: its people twice over, its conversations, and who was read in them.
pub const FACTS_MAX: usize = 65_536;
/// Of these, what was read and what came late: beyond, one of them goes, and the others have their room.
pub const FACTS_PASSING_MAX: usize = 49_152;
/// Facts of one content.
pub const FACTS_AT_ONCE: usize = 64;
/// Of these, so many bytes; one more may go beyond, and all fit an envelope.
pub const FACTS_BYTES_AT_ONCE: usize = 64 * 1024;
/// An account log that is told with a fact, in bytes: some 160 entries. A longer one is asked for.
pub const FACT_LOG_BYTES_MAX: usize = 64 * 1024;
/// Stretches of one device's contents that are known to be read. Beyond, the earliest count as unread elsewhere.
pub const READ_STRETCHES_MAX: usize = 16;
/// An identity key that is handed on, sealed: 32 bytes, a nonce and a tag.
pub const HANDOVER_BYTES_MAX: usize = 64;
/// First and longest wait between two attempts to make a thread of the account's own devices, or to take the rest of them
/// into it: each may use up a KeyPackage of every sibling.
pub const SELF_THREAD_RETRY_MIN: Duration = Duration::from_secs(30);
/// See [`SELF_THREAD_RETRY_MIN`].
pub const SELF_THREAD_RETRY_MAX: Duration = Duration::from_secs(24 * 3_600);
/// How long after a device of one's own could not be taken into a thread that is tried again: its KeyPackages may be used up
/// here, or not be valid yet by a clock that was wrong.
pub const SIBLINGS_AGAIN: Duration = Duration::from_secs(60);
/// How long a member who is no admin leaves it to others to take out of a thread who is off their account, at least.
pub const STRAYS_WAIT: Duration = Duration::from_secs(8);
/// And by how much longer, as chance decides: one of many is enough.
pub const STRAYS_SPREAD: Duration = Duration::from_secs(24);
/// Changes under way at once by which others' devices go that are nobody's of this account.
pub const STRAY_CHANGES_MAX: usize = 16;
/// What relays say of account logs that go on is looked up for so many accounts, and for each so seldom.
pub const HINTS_MAX: usize = 256;
/// See [`HINTS_MAX`].
pub const HINT_AGAIN: Duration = Duration::from_secs(60);
/// A signal, sealed: always so many bytes ([`crate::signal`]).
pub const SIGNAL_BYTES: usize = 256;
/// A signal that somebody writes is said again after so long, if they still do, and not before.
pub const SIGNAL_EVERY: Duration = Duration::from_secs(4);
/// Whoever said that they write, and says nothing more, writes no longer after so long.
pub const SIGNAL_LASTS: Duration = Duration::from_secs(10);
/// A signal that says the same as that device's last is told again after so long, and not before.
pub const SIGNAL_HEARD_EVERY: Duration = Duration::from_secs(1);
/// Threads whose key for signals a node has at hand; each comes with its members.
pub const SIGNAL_KEYS_MAX: usize = 16;
/// Devices of which a node remembers the newest signal, and threads of which it remembers its own.
pub const SIGNAL_AUTHORS_MAX: usize = 4_096;
/// Words from one device to another of its account, sealed: the ids of all conversations fit, and a page of a history.
pub const SIBLING_WORDS_BYTES_MAX: usize = 252 * 1024;
/// Texts of one page of a history.
pub const HISTORY_LINES_AT_ONCE: usize = 128;
/// Of these, so many bytes; none more is begun.
pub const HISTORY_BYTES_AT_ONCE: usize = 48 * 1024;
/// A page with who is in the conversation. One text fits whatever is said beside it; another that does not is on the next page.
pub const HISTORY_PAGE_BYTES_MAX: usize = SIBLING_WORDS_BYTES_MAX - 4 * 1024;
/// Of these, who is in it; more stay behind.
pub const HISTORY_PEOPLE_BYTES_MAX: usize = 48 * 1024;
/// Signs beside one text of a history; more stay behind.
pub const HISTORY_SIGNS_MAX: usize = 256;
/// Between two pages: what a relay passes on is two words each, out of what an account may ask of it.
pub const HISTORY_PAGE_EVERY: Duration = Duration::from_millis(500);
/// First and longest wait before a device that has no history asks again when nobody gives it any.
pub const HISTORY_RETRY_MIN: Duration = Duration::from_secs(5);
/// See [`HISTORY_RETRY_MIN`].
pub const HISTORY_RETRY_MAX: Duration = Duration::from_secs(3_600);
/// Devices of an account.
pub const ACCOUNT_DEVICES_MAX: usize = 10;
/// Devices of an encrypted group.
pub const THREAD_DEVICES_MAX: usize = 1_000;
/// Devices added by one commit.
pub const COMMIT_ADDS_MAX: usize = 100;
/// Admins of a group.
pub const ADMINS_MAX: usize = 32;
/// Policies of a group that a member remembers, by the epoch each began with: what was said in an earlier one is held to that.
pub const POLICIES_MAX: usize = 8;
/// A commit, in bytes: 100 added (2.7 kB each) to 900 whose tree is blank (1.2 MB of path).
pub const COMMIT_BYTES_MAX: usize = 2 * 1024 * 1024;
/// A GroupInfo without the tree, in bytes: 1.5 kB, and room for another suite.
pub const GROUP_INFO_BYTES_MAX: usize = 16 * 1024;
/// Commits of a thread after which its hub writes the public state anew: what it goes through again after a start.
pub const PUBLIC_STATE_COMMITS_MAX: u32 = 32;
/// The same by their bytes, so that large ones are not gone through again by the dozen.
pub const PUBLIC_STATE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// A public state that is saved, at most: one of 1,000 leaves has half of it, and a row holds a third more.
pub const PUBLIC_SAVED_BYTES_MAX: usize = 6 * 1024 * 1024;
/// The tree of an opening, for each of its devices: three times what a device takes.
pub const PUBLIC_TREE_BYTES_PER_DEVICE: usize = 8 * 1024;
/// Places of a tree, blank ones and inner nodes too: those of as many leaves as a thread of the most devices can have come to.
pub const PUBLIC_TREE_PLACES_MAX: usize = 2 * THREAD_DEVICES_MAX.next_power_of_two() - 1;
/// Leaves of all threads whose public state a hub has in memory: some 3 to 5 kB each when written.
pub const PUBLIC_LEAVES_MAX: usize = 8_192;
/// How long a relay keeps a commit, acknowledged or not: who was away for a month catches up.
pub const COMMIT_AGE_MAX: Duration = Duration::from_secs(45 * 24 * 3_600);
/// Commits forgotten with a new one: so many at most, so that a step stays small.
pub const COMMITS_FORGOTTEN_MAX: usize = 64;
/// Commits by which one device replaces its own leaf from without, that a hub takes in a day for one thread.
pub const REJOINS_PER_DAY: usize = 3;
/// How long a day of them is.
pub const REJOINS_DAY: Duration = Duration::from_secs(24 * 3_600);
/// After a commit of that kind is refused for being one too many, when to try again.
pub const REJOIN_RETRY_AFTER: Duration = Duration::from_secs(3_600);
/// Threads whose commits a device follows in public at once, having one that it cannot apply. Each takes a few MB at most.
pub const REJOINS_MAX: usize = 4;
/// An entry of an epoch that ended longer ago than this is refused: its readers may have dropped the keys.
pub const EPOCH_AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);
/// What is of an epoch that a relay has not reached is offered to it again after this: the commit is on its way.
pub const EPOCH_AHEAD_RETRY_AFTER: Duration = Duration::from_secs(2);
/// So often in a row a change of a group is asked for, in some four minutes, before its member is told that it is missing.
pub const MISSING_TOLD_AFTER: u32 = 8;
/// A commit that its hub has and that has not come with the log is handed in again after this.
pub const COMMIT_WAIT: Duration = Duration::from_secs(30);
/// What somebody signs who leaves a group.
pub const LEAVE_BYTES_MAX: usize = 128;
/// Relays that were of a group, remembered while something may still wait for them.
pub const FORMER_RELAYS_MAX: usize = 64;
/// Threads of an account in which it is said that devices of theirs were revoked: those of the newest entries.
pub const LOG_GROWN_THREADS_MAX: usize = 512;
/// Threads of an account.
pub const ACCOUNT_THREADS_MAX: usize = 4_096;
/// Threads in one page of a listing.
pub const THREAD_PAGE_MAX: usize = 100;

/// One-time KeyPackages a device keeps at its relay.
pub const KEY_PACKAGES_MAX: usize = 32;
/// Below so many the device stocks up again.
pub const KEY_PACKAGES_REFILL_BELOW: usize = 16;
/// A KeyPackage, in bytes: 2.7 kB in the hybrid suite, with room for extensions.
pub const KEY_PACKAGE_BYTES_MAX: usize = 8 * 1024;
/// Open invites of one account.
pub const INVITES_MAX: usize = 256;
/// Open invitations to register at a relay.
pub const REGISTRATION_INVITES_MAX: usize = 4_096;
/// Uses of one invite.
pub const INVITE_USES_MAX: u32 = 1_000;
/// Links into groups that a device has made and that are not over.
pub const PASSES_MAX: usize = 64;
/// People who came by such links and are not taken in yet, of one device.
pub const ASKS_MAX: usize = 1_024;
/// People who were taken out of a group since one of its links was made, and cannot use that: one more ends the link.
pub const BARRED_MAX: usize = 256;
/// How often it is tried to take somebody in who came by a link: five seconds after the first time, then twice as long, a minute
/// at most; an hour and a half altogether.
pub const ASK_ATTEMPTS_MAX: u32 = 90;
/// Groups that this device has a link into and waits to be taken in.
pub const WISHES_MAX: usize = 64;
/// Rows of an account's list: friends, requests both ways, and whom it keeps away.
pub const FRIENDS_MAX: usize = 4_096;
/// Requests that wait for an account's answer.
pub const FRIENDS_ASKING_MAX: usize = 50;
/// Requests an account may make in a day.
pub const FRIEND_REQUESTS_PER_DAY: u32 = 20;
/// When to ask again for what is over the day's share.
pub const FRIEND_REQUESTS_RETRY_AFTER: Duration = Duration::from_secs(3_600);
/// Rows in one page of the list: of the largest, half a megabyte.
pub const FRIEND_PAGE_MAX: usize = 256;
/// A note with a request, in characters and bytes.
pub const NOTE_CHARS_MAX: usize = 200;
/// See [`NOTE_CHARS_MAX`].
pub const NOTE_BYTES_MAX: usize = 4 * NOTE_CHARS_MAX;
/// A signed word about friendship, in bytes: ids, an address and a note.
pub const FRIENDSHIP_WORD_BYTES_MAX: usize = 2_048;
/// What a person wants to be called, in bytes: 64 characters of any script.
pub const DISPLAY_BYTES_MAX: usize = 256;
/// A profile card, in bytes: ids, a name and a line.
pub const CARD_BYTES_MAX: usize = 2_048;
/// Statuses in one answer to a heartbeat: 46 KiB of them; more follow with the next.
pub const PRESENCE_STATUSES_MAX: usize = 1_024;
/// Accounts named in one frame of statuses between relays: 46 KiB of them.
pub const PRESENCE_ACCOUNTS_MAX: usize = 1_024;
/// Accounts named by what one peer relay told of its users: 8 MiB of memory.
pub const PEER_PRESENCE_MAX: usize = 65_536;
/// Longest wait between two attempts to reach a peer relay that is to be told of statuses alone.
pub const PRESENCE_REACH_MAX: Duration = Duration::from_secs(600);
/// Silent for so long: offline (six heartbeats).
pub const PRESENCE_OFFLINE_AFTER: Duration = LINK_IDLE_MAX;
/// An owner's sealed settings of one thread, in bytes: 100 of them fit a page of the listing.
pub const THREAD_SETTINGS_BYTES_MAX: usize = 256;
/// Bytes of an owner's own name for a thread: with the other settings it fits what is sealed.
pub const THREAD_LABEL_BYTES_MAX: usize = 128;
/// What a group is called, in bytes.
pub const TITLE_BYTES_MAX: usize = 256;
/// A group's picture, in bytes: some 256 x 256 points.
pub const PICTURE_BYTES_MAX: usize = 32 * 1024;
/// The address of a push service, in bytes.
pub const WAKE_URL_BYTES_MAX: usize = 1_024;
/// An uncompressed P-256 key (RFC 8291 §2.1).
pub const WAKE_KEY_BYTES: usize = 65;
/// Between two wake-ups of a device.
pub const WAKE_EVERY: Duration = Duration::from_secs(30);
/// Between two wake-ups of a device that did not come back after the first.
pub const WAKE_UNANSWERED: Duration = Duration::from_secs(15 * 60);
/// Devices a relay remembers to have woken.
pub const WAKE_DEVICES_MAX: usize = 65_536;
/// Logs a relay remembers the sleepers of.
pub const WAKE_LOGS_MAX: usize = 4_096;
/// Wake-ups waiting to be sent, and those sent or waiting to be tried again at once.
pub const WAKE_QUEUE_MAX: usize = 4_096;
/// See [`WAKE_QUEUE_MAX`].
pub const WAKE_WAITING_MAX: usize = 1_024;
/// Push services a relay talks to at once: each for [`WAKE_SEND_TIME_MAX`] at the most, so 20 a second of the slowest.
pub const WAKE_SENDS_MAX: usize = 64;
/// What one attempt to hand over a wake-up may take, from the name's look-up to the answer.
pub const WAKE_SEND_TIME_MAX: Duration = Duration::from_secs(3);
/// What is read of a push service's answer, in bytes.
pub const WAKE_ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Further attempts after an answer that asks for them, and the longest wait before one.
pub const WAKE_RETRIES_MAX: usize = 2;
/// See [`WAKE_RETRIES_MAX`].
pub const WAKE_RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// How long a push service keeps a wake-up for a device it does not reach; what it wakes for waits much longer.
pub const WAKE_TTL: Duration = Duration::from_secs(24 * 3_600);
/// How long a relay's word to a push service holds (RFC 8292 §2 allows a day).
pub const WAKE_TOKEN_AGE: Duration = Duration::from_secs(12 * 3_600);
/// Links that are polled over HTTPS.
pub const POLL_LINKS_MAX: usize = 4_096;
/// How long a challenge to open one holds.
pub const POLL_CHALLENGE_AGE_MAX: Duration = Duration::from_secs(60);
/// How long a call waits for a frame: less than what networks between allow a silent connection.
pub const POLL_WAIT_MAX: Duration = Duration::from_secs(25);
/// The body that opens a link, in bytes: three short words.
pub const POLL_WORDS_BYTES_MAX: usize = 1_024;
/// The body of a call of a device that is let in, in bytes: one of the largest frames and some small ones. Before, it is
/// [`UNAUTHENTICATED_BYTES_MAX`].
pub const POLL_BODY_BYTES_MAX: usize = LARGE_FRAME_BYTES_MAX + UNAUTHENTICATED_BYTES_MAX;
/// Bodies above [`UNAUTHENTICATED_BYTES_MAX`] that are received at once: 260 MiB of them.
pub const POLL_BODIES_MAX: usize = 64;
/// What a body may take to come.
pub const POLL_BODY_TIME_MAX: Duration = Duration::from_secs(20);
/// Bytes of frames after which an answer ends; it has one frame at least.
pub const POLL_ANSWER_BYTES: usize = LINK_WRITE_BYTES_MAX;
/// What opening such a link may take a node: a connection and two calls.
pub const POLL_OPEN_TIME_MAX: Duration = Duration::from_secs(10);
/// A node that would rather have QUIC tries that first for so long before it opens a link over HTTPS beside it: two lost
/// first packets.
pub const POLL_AFTER: Duration = Duration::from_secs(2);
/// And it ends a link over HTTPS after so long, to try QUIC again: networks change.
pub const POLL_LINK_AGE_MAX: Duration = Duration::from_secs(3_600);
/// Calls in a row that may come to nothing before a node gives the link up, and the wait after the first of them.
pub const POLL_RETRIES_MAX: u32 = 4;
/// See [`POLL_RETRIES_MAX`].
pub const POLL_RETRY_DELAY: Duration = Duration::from_millis(250);
/// How long a node waits for the end of a call that a newer one has overtaken.
pub const POLL_OVERTAKEN_TIME_MAX: Duration = Duration::from_secs(5);
/// Frames a node has taken out of a polled link's queue that the relay may not have yet.
pub const POLL_PENDING_FRAMES_MAX: usize = LINK_QUEUE_FRAMES_MAX;
/// What an answer may have, in bytes: frames up to [`POLL_ANSWER_BYTES`], and the one that goes beyond.
pub const POLL_ANSWER_MAX: usize = POLL_ANSWER_BYTES + LARGE_FRAME_BYTES_MAX + CONTROL_FRAME_BYTES_MAX;
/// What a node's HTTP reads ahead.
pub const POLL_BUFFER_BYTES_MAX: usize = 64 * 1024;
/// HTTP connections a relay has at one of its addresses.
pub const HTTP_CONNECTIONS_MAX: usize = 4_096;
/// Of those, how many may come from one network: 128 devices that poll, with a call that waits and one that does not each.
pub const HTTP_CONNECTIONS_OF_ONE_MAX: usize = 256;
/// What a request's head may have, in bytes, and how long it may take to come, the wait for it included.
pub const HTTP_HEADER_BYTES_MAX: usize = 16 * 1024;
/// See [`HTTP_HEADER_BYTES_MAX`].
pub const HTTP_HEADER_TIME_MAX: Duration = Duration::from_secs(30);
/// An HTTP connection ends with its request after so long: whoever does not read its answers keeps none for longer.
pub const HTTP_CONNECTION_AGE_MAX: Duration = Duration::from_secs(600);
/// After a connection could not be taken, before the next is tried.
pub const HTTP_ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// What a heartbeat counts where a log acknowledged counts one: it is answered.
pub const HEARTBEAT_TOKENS: u32 = 16;
/// Token buckets a relay keeps that are not full: of accounts, for each of messages, requests, signs and touches.
pub const RATE_ACCOUNT_BUCKETS_MAX: usize = 65_536;
/// Of networks that links come from; see [`RATE_ACCOUNT_BUCKETS_MAX`].
pub const RATE_SOURCE_BUCKETS_MAX: usize = 65_536;
/// Of peers, for each of items, requests, friend requests and signs.
pub const RATE_PEER_BUCKETS_MAX: usize = PEERS_MAX;
/// Of pairs of claimer and owner: claims that were answered within the hour.
pub const RATE_CLAIM_BUCKETS_MAX: usize = 65_536;
/// Full buckets of a kind that go with each call.
pub const RATE_SWEEP_MAX: usize = 4;
/// A relay says so often on a link to a peer that it is there, while the peer was told of somebody: three times within
/// [`LINK_IDLE_MAX`].
pub const PEER_BEAT_EVERY: Duration = Duration::from_secs(20);
/// Of an hourly rate of so many tokens at most, no hour sees more than these; when each was taken is remembered. A greater
/// one is a bucket alone, which may give twice as many in the first hour.
pub const RATE_EXACT_MAX: u32 = 64;
/// Between two looks for what waited too long, and logs looked at each time: 100,000 logs in under two days.
pub const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// A relay lets entries go by its wall clock once that has gone like its other clock for so long, or for as long as it
/// holds them if that is less.
pub const SWEEP_CLOCK_SURE: Duration = Duration::from_secs(24 * 3_600);
/// See [`SWEEP_EVERY`].
pub const SWEEP_LOGS: usize = 64;
/// Rows added up at once when a relay counts what it holds, for whoever runs it.
pub const HELD_ROWS: usize = 1_024;
/// A count of what a relay holds rests so many times as long as it took: it costs a twentieth of a core at most.
pub const HELD_REST: u32 = 20;
/// How long a challenge to an endpoint may take.
pub const WAKE_CHALLENGE_AGE_MAX: Duration = Duration::from_secs(600);
/// Rows in one part of an export.
pub const EXPORT_ROWS_MAX: usize = 256;
/// The place at which a part of an export ends: a key.
pub const EXPORT_PLACE_BYTES_MAX: usize = 384;
/// Rows of a deleted account taken away by one command.
pub const PURGE_ROWS_MAX: usize = 1_024;
/// How long a relay holds what nobody fetched, unless its operator chooses less: authors say it again for as long.
pub const HOLD_AGE_MAX: Duration = Duration::from_secs(30 * 24 * 3_600);
/// The least an operator may choose, to try things: ten times what an acknowledgement may wait to be written.
pub const HOLD_AGE_MIN: Duration = Duration::from_secs(10);
/// How long an invite holds when its maker names no time.
pub const INVITE_AGE_DEFAULT: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Entries of a log at one relay.
pub const LOG_ENTRIES_MAX: u64 = 10_000;
/// Bytes of a log at one relay.
pub const LOG_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How many times as much a log may hold when a peer forwards, so that two full relays do not wait for each other.
pub const LOG_FORWARDED_SHARE: u64 = 2;
/// Envelopes an author device may have unacknowledged in one thread; the relay remembers at least as many ids.
pub const AUTHOR_WINDOW: usize = 256;
/// Envelope ids of a log's tail a relay remembers to drop a second copy: several author windows.
pub const LOG_IDS_REMEMBERED: usize = 4_096;
/// Envelope ids a relay keeps at hand over all logs, beside those on its disk: 16 MiB of them.
pub const RECENT_IDS_CACHED: usize = 262_144;
/// Rows a relay's writer keeps at hand, in bytes: what every message asks for of some 30,000 threads.
pub const HOT_BYTES_CACHED: usize = 16 * 1024 * 1024;
/// Entries dropped by one trim; what is more goes with the next.
pub const TRIM_ENTRIES_MAX: u64 = 1_024;
/// Entries a full log of a larger thread drops at once: who lacks them is asked of up to 2,000 members, once for all of them.
pub const PUSH_OUT_ENTRIES_MAX: u64 = 64;
/// Invitations dropped by one trim: each may take a Welcome and a tree with it, [`LARGE_FRAME_BYTES_MAX`] together.
pub const TRIM_INVITATIONS_MAX: usize = 16;
/// Cursors move in a relay's memory and are written so much later, many at once; a crash costs a redelivery.
pub const CURSOR_WRITE_DELAY: Duration = Duration::from_secs(1);
/// Cursors waiting to be written; beyond, they are written at once.
pub const CURSORS_DIRTY_MAX: usize = 4_096;
/// Commands of one group of a relay's store: where sends per sync stop growing (measured at 256 senders).
pub const GROUP_COMMANDS_MAX: usize = 256;
/// A commit that has not come back for so long will not: a disk may stall for ten seconds, and one that is busy for
/// several times as long; a relay whose commits hang answers nobody and must end.
pub const COMMIT_TIME_MAX: Duration = Duration::from_secs(60);
/// Calls waiting for a store's writer: several groups, so that it never runs dry.
pub const COMMITS_WAITING_MAX: usize = 4 * GROUP_COMMANDS_MAX;
/// Bytes written by one batch of a relay's store, from the second command on.
pub const GROUP_BYTES_MAX: usize = 16 * 1024 * 1024;
/// When to try again what was refused because something is full: about as long as a reader needs to come back.
pub const FULL_RETRY_AFTER: Duration = Duration::from_secs(60);
/// When to try again what a relay had no room to serve now.
pub const BUSY_RETRY_AFTER: Duration = Duration::from_secs(1);
/// Logs acknowledged by one frame.
pub const ACK_LOGS_MAX: usize = 1_024;
/// Acknowledgements wait for company so long.
pub const ACK_DELAY: Duration = Duration::from_millis(100);
/// Thread touches in one heartbeat.
pub const TOUCHES_MAX: usize = 1_024;

/// Items of one federation frame, and how many a link may have unacknowledged.
pub const FORWARD_ITEMS_MAX: usize = 128;
/// Outbound rows waiting for one peer relay: 256 MiB of 1 KiB rows.
pub const PEER_QUEUE_ROWS_MAX: u64 = 262_144;
/// First and longest wait between two attempts to reach a peer relay.
pub const PEER_BACKOFF_MIN: Duration = Duration::from_secs(1);
/// See [`PEER_BACKOFF_MIN`].
pub const PEER_BACKOFF_MAX: Duration = Duration::from_secs(3_600);
/// Envelopes named by one notice that they were not delivered.
pub const UNDELIVERED_MAX: usize = 256;
/// Requests waiting for one peer relay's answer.
pub const PEER_REQUESTS_MAX: usize = 1_024;
/// Peer relays a relay knows.
pub const PEERS_MAX: usize = 4_096;
/// Peer relays a relay knows by people's links alone, hinted or introduced: half of all, so that links never take the
/// room of what the operator lists.
pub const PEERS_BY_LINK_MAX: usize = PEERS_MAX / 2;
/// Of those, by the links of one account: most people's friends live at a few relays.
pub const PEERS_PER_ACCOUNT_MAX: usize = 32;
/// A relay's `host:port`, in bytes: a name of 253, a port, and brackets.
pub const ENDPOINT_BYTES_MAX: usize = 300;

/// A text message, in bytes.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;
/// Parents a message names.
pub const PARENTS_MAX: usize = 8;
/// Sizes a sealed content is padded to; above the last, multiples of it.
pub const PADDING_BUCKETS: [usize; 3] = [288, 1_024, 4_096];
/// Messages out of order per sender that still open (docs/adr, MLS ratchet tolerances).
pub const RATCHET_OUT_OF_ORDER: u32 = 1_024;
/// Messages of one sender that may be skipped.
pub const RATCHET_FORWARD: u32 = 20_000;
/// A wall clock further ahead than this never moves ours.
pub const CLOCK_AHEAD_MAX: Duration = Duration::from_secs(120);
/// A certificate's dates are judged with this tolerance.
pub const CERTIFICATE_TOLERANCE: Duration = Duration::from_secs(48 * 3_600);

/// How long the relay copy waits for the direct path to answer.
pub const DIRECT_RACE: Duration = Duration::from_millis(300);
/// Largest thread whose envelopes may travel directly alone.
pub const DIRECT_LEAVES_MAX: usize = 8;
/// A direct address older than this is not dialled.
pub const CANDIDATE_AGE_MAX: Duration = Duration::from_secs(60);
/// Addresses of one candidate.
pub const CANDIDATE_ADDRESSES_MAX: usize = 8;
/// One address of a candidate, in bytes.
pub const CANDIDATE_ADDRESS_BYTES_MAX: usize = 256;
/// Between two offers of direct addresses to the same device.
pub const CANDIDATE_EVERY: Duration = Duration::from_secs(60);
/// Direct links of one node.
pub const DIRECT_LINKS_MAX: usize = 256;

/// Messages waiting in a node's outbox.
pub const OUTBOX_MAX: usize = 100_000;
/// What waits to leave a device that was taken off its account is told of so much at a time.
pub const OUTBOX_SLICE: usize = 512;
/// First and longest wait between two attempts to reach the home relay.
pub const RELAY_BACKOFF_MIN: Duration = Duration::from_millis(500);
/// See [`RELAY_BACKOFF_MIN`].
pub const RELAY_BACKOFF_MAX: Duration = Duration::from_secs(60);

/// Between two keep-alives of a direct link: home routers forget a UDP mapping after 30 s (RFC 4787 §4.3 lets them
/// after 120 s).
pub const DIRECT_KEEP_ALIVE: Duration = Duration::from_secs(25);
/// A direct link without an envelope for so long is given up; what remains costs one packet per keep-alive.
pub const DIRECT_UNUSED_MAX: Duration = Duration::from_secs(3_600);
/// Direct links that strangers may hold, out of [`DIRECT_LINKS_MAX`]: the rest is for those we dial.
pub const DIRECT_LINKS_INBOUND_MAX: usize = 192;
/// Envelopes unanswered on one direct link, each way.
pub const DIRECT_REQUESTS_MAX: usize = 32;
/// Envelopes waiting for one direct link; beyond, they go by the relay: one author window of each of four threads.
pub const DIRECT_WAITING_MAX: usize = 1_024;
/// Unread bytes of one stream and of one direct link: 256 links hold at most 64 MiB.
pub const DIRECT_STREAM_WINDOW_BYTES: u32 = 64 * 1024;
/// See [`DIRECT_STREAM_WINDOW_BYTES`].
pub const DIRECT_LINK_WINDOW_BYTES: u32 = 256 * 1024;

/// Inputs waiting for a node's core, counted by the greatest size of their kind: 1,024 control frames or 16 pushes.
pub const NODE_INPUT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Inputs of a node made durable by one sync.
pub const NODE_GROUP_INPUTS_MAX: usize = 256;
/// Frames of a node waiting to be written, in bytes; beyond, the link is given up. An author window of small envelopes
/// in each of 256 threads fits.
pub const NODE_OUTPUT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Commands of a node's owner that wait for their answer.
pub const NODE_COMMANDS_MAX: usize = 1_024;
/// Events kept for a reader of a node's events that is slow; beyond, it is told how many it missed.
pub const NODE_EVENTS_MAX: usize = 1_024;

/// Entries, and bytes of them, a node keeps for threads it has not joined yet (docs/threat-model.md, "Resources").
pub const PARKED_ENTRIES_MAX: u64 = 10_000;
/// See [`PARKED_ENTRIES_MAX`].
pub const PARKED_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How often a node asks its relay in vain for the change that leads to an entry's epoch, until the entry holds up nothing any
/// more that is behind it: with the pauses between, half a minute.
pub const AHEAD_ASKED_MAX: u32 = 3;
/// Of these, so many of one thread wait on; what is beyond is told as unreadable.
pub const AHEAD_ENTRIES_MAX: usize = 64;
/// How often a node tells its owner that their relay shows, as their account log, what is none.
pub const FORGED_LOG_TOLD_EVERY: Duration = Duration::from_secs(24 * 3_600);
/// Rows of the unread index dropped by one read mark; those left lie before the mark, count no more, and go with the
/// next one: a batch of under a megabyte.
pub const UNREAD_DROPPED_MAX: usize = 16_384;
/// Records of unreadable entries a node keeps for a thread; beyond, they are only counted.
pub const UNREADABLE_RECORDS_MAX: u64 = 1_024;
/// Threads a node is joining at once: each may hold a Welcome and a tree of 4 MiB.
pub const JOININGS_MAX: usize = 16;
/// Invitations whose Welcome and tree a node keeps while it cannot join yet, as large as those; of others the relay keeps
/// them, for as long as they are not acknowledged.
pub const INVITATION_BODIES_MAX: usize = 16;
/// Commands of a node that wait for the relay's answers; an owner has two hands.
pub const COMMANDS_WAITING_MAX: usize = 64;
/// Threads of exactly the same people a node knows as one: two cross, more are a peer's doing.
pub const THREAD_ALIASES_MAX: usize = 16;
/// A refused request that may pass later is tried again after this, when the relay names no time.
pub const RETRY_DELAY: Duration = Duration::from_secs(5);
/// A last-resort KeyPackage is replaced after this time.
pub const LAST_RESORT_AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Envelope ids of others are remembered so long; a message's own id for as long as its text.
pub const ENVELOPE_IDS_AGE_MAX: Duration = Duration::from_secs(45 * 24 * 3_600);
/// Frames of one link that could not be read before a node ends it.
pub const MALFORMED_FRAMES_MAX: u32 = 16;
/// Envelopes a node awaits direct answers for: sixteen author windows. Beyond, envelopes go by the relay.
pub const DIRECT_ANSWERS_MAX: usize = 4_096;
/// Entries taken from a log before they are acknowledged without waiting for [`ACK_DELAY`].
pub const ACK_ENTRIES: usize = 64;
/// Envelopes a node has unacknowledged at its relay, all threads together: half of what a link queues.
pub const SUBMITS_MAX: usize = LINK_QUEUE_FRAMES_MAX / 2;

/// What an owner calls a device, in bytes.
pub const DEVICE_LABEL_BYTES_MAX: usize = 64;
/// A certificate, in bytes: ours are under 500.
pub const CERTIFICATE_BYTES_MAX: usize = 2_048;
/// How long a relay's online certificate holds.
pub const CERTIFICATE_ONLINE_AGE: Duration = Duration::from_secs(90 * 24 * 3_600);
/// A stock of KeyPackages is replaced when the oldest is as old as this: who is handed one has weeks left to use it.
pub const KEY_PACKAGE_STOCK_AGE_MAX: Duration = Duration::from_secs(60 * 24 * 3_600);
/// A stock made by a clock that was ahead of the present one by more than this is replaced: half of what verifiers allow.
pub const KEY_PACKAGE_STOCK_AHEAD_MAX: Duration = Duration::from_secs(24 * 3_600);
/// How long a node goes on asking for those who are taken into a group, when its relay takes its requests slowly: 100 people
/// are 200 requests, of which an account has 600 at once and ten a second after that.
pub const GATHERING_TIME_MAX: Duration = Duration::from_secs(600);
/// How long a KeyPackage holds: the library's default leaf lifetime, 12 weeks.
pub const KEY_PACKAGE_AGE_MAX: Duration = Duration::from_secs(84 * 24 * 3_600);
/// Epochs of a thread set aside for late messages.
pub const PAST_EPOCHS_MAX: usize = 512;
/// A thread with a relay that the peer does not know is offered to it again after this: an operator has to act first.
pub const UNKNOWN_DOMAIN_RETRY_AFTER: Duration = Duration::from_secs(600);
/// An envelope of a thread that the receiving relay does not know is offered to it again after this: the opening comes
/// from the creator's relay, and need not be the first to arrive.
pub const UNKNOWN_THREAD_RETRY_AFTER: Duration = Duration::from_secs(30);
/// How long the opening may take before the authors are told: longer than two relays may be apart and still catch up.
pub const UNKNOWN_THREAD_WAIT_MAX: Duration = Duration::from_secs(4 * 24 * 3_600);
/// Threads a relay remembers a peer not to know. Beyond, one begins to wait anew.
pub const UNKNOWN_THREADS_MAX: usize = 16_384;

/// Leaves of the largest thread in which receipts are given: each goes to every leaf, so they cost the square.
pub const RECEIPT_LEAVES_MAX: usize = 32;
/// A receipt leaves after a time drawn between these two, together with what else is owed in the thread by then: when it
/// leaves tells a relay little about which message it is for.
pub const RECEIPT_DELAY_MIN: Duration = Duration::from_secs(1);
/// See [`RECEIPT_DELAY_MIN`].
pub const RECEIPT_DELAY_MAX: Duration = Duration::from_secs(5);
/// Contents named by one receipt: a kilobyte of ids.
pub const RECEIPT_MESSAGES_MAX: usize = 64;
/// What is stored and that somebody has not said to have is sealed again after this, and each time after four times as
/// long: about ten times before [`MESSAGE_AGE_MAX`].
pub const RESEND_AFTER_MIN: Duration = Duration::from_secs(120);
/// See [`RESEND_AFTER_MIN`].
pub const RESEND_AFTER_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Contents of a thread sealed again at one time, the oldest first: whoever is away for long gets a log no fuller by more.
pub const RESEND_MESSAGES_MAX: usize = 8;
/// An author is told that a message was not delivered after this.
pub const MESSAGE_AGE_MAX: Duration = Duration::from_secs(30 * 24 * 3_600);
/// Contents of one device that a reader asks for at one time.
pub const REPAIR_COUNTERS_MAX: usize = 64;
/// What is missing may still be on another way for so long before it is asked for; then it is asked for after twice as
/// long each time.
pub const REPAIR_AFTER: Duration = Duration::from_secs(10);
/// So often: for about a day.
pub const REPAIR_ATTEMPTS_MAX: u32 = 13;
/// Stretches of a device's counters that a reader knows apart. Beyond, the oldest gap counts as never to be filled.
pub const COUNTER_STRETCHES_MAX: usize = 64;
/// Accounts named in one text.
pub const MENTIONS_MAX: usize = 64;
/// A sign beside a message, in bytes: an emoji of many joined code points.
pub const REACTION_BYTES_MAX: usize = 64;
/// Signs of one account beside one message that are shown; which ones is a matter of their clocks.
pub const REACTIONS_SHOWN_MAX: usize = 8;
/// The longest time a text can be set to last.
pub const LASTS_MAX: Duration = Duration::from_secs(365 * 24 * 3_600);
/// Texts whose time is over that are removed in one step.
pub const VANISH_STEP_MAX: usize = 256;
/// A member is answered what it misses at most so often.
pub const REPAIR_ANSWER_EVERY: Duration = Duration::from_secs(5);
/// Members remembered to have been answered lately.
pub const REPAIR_ANSWERED_MAX: usize = 4_096;
/// The longest passphrase, in bytes: longer than anybody types, and a file somebody named by mistake is told from one.
pub const PASSPHRASE_BYTES_MAX: usize = 1024;

/// The most memory that opening a key file may take, in KiB: sixteen times what ours asks for.
pub const KDF_MEMORY_KIB_MAX: u32 = 1024 * 1024;

/// The most passes over that memory.
pub const KDF_PASSES_MAX: u32 = 16;

/// The most lanes.
pub const KDF_LANES_MAX: u32 = 16;

/// The most work a backup may ask for, as a power of two of scrypt's rounds: 1 GiB of memory.
pub const BACKUP_WORK_MAX: u8 = 20;

/// The records of a backup, in bytes: some two million messages. It is made and read in memory.
pub const BACKUP_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// The file they are sealed in: sixteen bytes more for every 64 KiB, and what stands before them.
pub const BACKUP_FILE_BYTES_MAX: usize = BACKUP_BYTES_MAX + BACKUP_BYTES_MAX / 4096 + 1024;

/// What a relay signs of its tree, in bytes: ours are under 64.
pub const TREE_HEAD_BYTES_MAX: usize = 128;

/// Nodes of one proof out of a relay's tree: a tree of 2^63 leaves is no deeper.
pub const TREE_PROOF_MAX: usize = 64;

/// Earlier heads that one request asks the present one to be led to from.
pub const TREE_STEPS_MAX: usize = 4;

/// A node looks at its own entry in its relay's tree this often, and at those of people whose log changed when it did.
pub const AUDIT_EVERY: Duration = Duration::from_secs(3_600);

/// Between two questions about one relay's tree, so that neither a member who tells of many heads nor a long list of contacts uses
/// up what the device may ask.
pub const AUDIT_PAUSE: Duration = Duration::from_secs(1);

/// A head that a relay signed so long ago is not its newest. Twice how far clocks and certificates may be apart.
pub const TREE_HEAD_AGE_MAX: Duration = Duration::from_secs(2 * CERTIFICATE_TOLERANCE.as_secs());

/// What a relay does not show of its tree is asked for again so often before its owner is told.
pub const AUDIT_ATTEMPTS_MAX: u32 = 8;

/// Relays whose tree heads a node keeps. Beyond, those of further relays are not followed.
pub const TREE_HEADS_MAX: usize = 1_024;

/// Heads of one relay, told by friends, that wait to be held against its tree.
pub const TREE_HEADS_TOLD_MAX: usize = 8;

/// A thread is told the newest head of one's relay at most so often, and only when something is said there.
pub const TREE_HEAD_TOLD_EVERY: Duration = Duration::from_secs(3_600);

/// Receipts of the newest commits that a node keeps of each thread: who tells of one is seldom further behind.
pub const RECEIPTS_KEPT_MAX: usize = 8;

/// Threads whose commits a node remembers as the newest, to tell others of them.
pub const RECEIPTS_RECENT_MAX: usize = 64;

/// Commit receipts told at once: with their certificates, about a kilobyte each.
pub const RECEIPTS_TOLD_AT_ONCE: usize = 4;

/// A conversation is told of commit receipts at most so often, and only when something is said there.
pub const RECEIPTS_TOLD_EVERY: Duration = Duration::from_secs(3_600);

/// Signatures that a thread of a process remembers to be valid, so as not to check them again: a megabyte or two.
pub const SIGNATURES_REMEMBERED: usize = 16_384;
