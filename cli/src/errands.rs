//! Errands: requests about people, invites, cards, chats and the own account, carried out on an open node.
//! Owns: whom WHO means where nobody need be a contact. Never: prints; believes the relay where something was proved.

use std::collections::BTreeMap;
use std::time::Duration;

use whimbrel_node::api::SettingsChange;
use whimbrel_node::views::{self, Friendship};
use whimbrel_node::{Command, Reply};
use whimbrel_protocol::friendship::Standing;
use whimbrel_protocol::id::{AccountId, Address, TokenHash};
use whimbrel_protocol::invite::Invite;
use whimbrel_protocol::time::Wall;
use whimbrel_protocol::user::{Card, Who};
use whimbrel_protocol::wake::WakeEndpoint;

use crate::clock;
use crate::desk::{Desk, unexpected};
use crate::failure::{Exit, Failure};
use crate::resolve::{Book, Target};
use crate::shown::{
    CardShown, ChatShown, Done, FriendShown, KeyShown, KeysShown, OpenInviteShown, PresenceShown, RowShown, hex,
    log_name,
};
use crate::words::{ChatChange, Errand, Item, Verdict, Which, trust_name};

/// Characters of an invite's id that are enough to name it.
const INVITE_PREFIX_MIN: usize = 8;

/// Among whom somebody is looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    /// Those who ask to be friends.
    Asking,
    /// Everybody.
    All,
}

impl Desk<'_> {
    pub(crate) async fn errand(&self, errand: Errand) -> Result<(), Failure> {
        match errand {
            Errand::Befriend { who, note } => {
                self.relay().await?;
                let who = self.anybody(&who)?;
                self.friend(Command::Befriend { who, note }).await
            }
            Errand::AcceptFriend { who } => {
                self.caught_up().await?;
                let account = match self.among(&who, Known::Asking) {
                    // Accepted before: said again, it does no harm.
                    Err(failure) if failure.code == "not_found" => self.among(&who, Known::All)?,
                    found => found?,
                };
                self.friend(Command::AcceptFriend(account)).await
            }
            Errand::RemoveFriend { who } => {
                self.relay().await?;
                let account = self.among(&who, Known::All)?;
                self.friend(Command::RemoveFriend(account)).await
            }
            Errand::DeclineFriend { who } => {
                self.caught_up().await?;
                let account = match who {
                    None => None,
                    Some(who) => Some(match who.parse() {
                        Ok(account) => account,
                        Err(_) => self.among(&who, Known::Asking)?,
                    }),
                };
                self.plain(Command::DeclineFriend(account), "declined").await
            }
            Errand::Block { who, blocked } => {
                self.relay().await?;
                let who = self.anybody(&who)?;
                self.friend(Command::Block { who, blocked }).await
            }
            Errand::LetSee { who, allowed } => {
                self.relay().await?;
                let account = self.among(&who, Known::All)?;
                let now = if allowed { "shown when you are there" } else { "not shown when you are there" };
                self.plain(Command::LetSee { account, allowed }, now).await
            }
            Errand::Keys { who } => {
                let account = self.somebody(&who).await?;
                self.keys(account).await
            }
            Errand::KeyHistory { who } => {
                let account = self.somebody(&who).await?;
                for key in KeyShown::of(self.keys_of(account)?.history) {
                    self.item(Item::Key(key)).await?;
                }
                Ok(())
            }
            Errand::Verify { who, how } => self.verify(&who, how).await,
            Errand::Friends { which } => self.friends(which).await,
            Errand::Presence => self.presence().await,
            Errand::SetVisible { visible } => {
                self.relay().await?;
                self.plain(Command::SetVisible(visible), if visible { "visible" } else { "invisible" }).await
            }
            Errand::Invites => {
                let (links, book) = (self.read(views::group_links)?, self.book()?);
                for (token, left, expires) in self.open_invites().await? {
                    let link = links.iter().find(|link| link.token == token);
                    let group = link.map(|link| book.title_of(&link.group));
                    let left = link.map_or(left, |link| link.left);
                    let expires = clock::rfc3339(expires);
                    let shown = OpenInviteShown { id: token.to_string(), left, expires, group };
                    self.item(Item::OpenInvite(shown)).await?;
                }
                Ok(())
            }
            Errand::RevokeInvite { invite } => self.revoke(&invite).await,
            Errand::SetProfile { display, about } => self.set_profile(display, about).await,
            Errand::Profile { who } => self.profile(who).await,
            Errand::Chats => self.chats().await,
            Errand::SetChat { chat, change } => self.set_chat(&chat, change).await,
            Errand::Group(errand) => self.group(errand).await,
            Errand::Account(errand) => self.account_errand(errand).await,
            Errand::About(errand) => self.about(errand).await,
            Errand::Export => self.export().await,
            Errand::DeleteAccount { name } => self.delete(&name).await,
            Errand::SetWake { url, key, auth } => {
                self.relay().await?;
                let endpoint = WakeEndpoint { url, key, auth };
                self.plain(
                    Command::SetWake(Some(endpoint)),
                    "a code was sent there; confirm it with: whimbrel wake confirm CODE",
                )
                .await
            }
            Errand::WakeOff => {
                self.relay().await?;
                self.plain(Command::SetWake(None), "no wake-ups").await
            }
            Errand::ConfirmWake { code } => {
                self.relay().await?;
                self.plain(Command::ConfirmWake(code), "confirmed").await
            }
        }
    }

    /// Somebody's keys, as proved here.
    async fn keys(&self, account: AccountId) -> Result<(), Failure> {
        let keys = self.keys_of(account)?;
        let shown = KeysShown {
            account,
            address: keys.address,
            number: keys.number.to_string(),
            scannable: keys.number.scannable(),
            trust: trust_name(keys.trust).to_owned(),
            keys: KeyShown::of(keys.history),
            devices: keys.devices.into_iter().map(|(index, label)| (index.get(), label)).collect(),
            log: log_name(keys.log).to_owned(),
            relay_two_faces: keys.two_faces,
        };
        self.item(Item::Keys(shown)).await
    }

    fn keys_of(&self, account: AccountId) -> Result<views::Keys, Failure> {
        self.read(|reads| views::keys(reads, &account))?
            .ok_or_else(|| Failure::new(Exit::NotFound, "not_found", "their keys are not known here yet"))
    }

    async fn verify(&self, who: &str, how: Verdict) -> Result<(), Failure> {
        let account = self.somebody(who).await?;
        let keys = self.keys_of(account)?;
        let verified = match how {
            Verdict::Open => false,
            Verdict::Same => true,
            Verdict::Number(number) if keys.number.matches(&number) => true,
            Verdict::Number(_) => {
                return Err(Failure::new(
                    Exit::Trust,
                    "number_differs",
                    "the safety numbers differ; nobody was verified",
                )
                .hint("one of you may have mistyped, or somebody stands between you: compare them face to face"));
            }
        };
        match self.command(Command::Verify { account, verified }).await? {
            Reply::Done => self.keys(account).await,
            other => Err(unexpected(&other)),
        }
    }

    async fn plain(&self, command: Command, done: &str) -> Result<(), Failure> {
        match self.command(command).await? {
            Reply::Done => self.item(Item::Done(Done { done: done.to_owned() })).await,
            other => Err(unexpected(&other)),
        }
    }

    async fn friend(&self, command: Command) -> Result<(), Failure> {
        let Reply::Friend { account, address, standing } = self.command(command).await? else {
            return Err(Failure::internal("an answer that does not fit its command"));
        };
        let known = self.read(views::friends)?.into_iter().find(|friend| friend.account == account);
        let shown = FriendShown {
            account,
            domain: address.domain.to_string(),
            address: Some(address),
            standing: name_of(standing).to_owned(),
            sees: standing == Some(Standing::Friends),
            since: clock::rfc3339(known.map_or_else(clock::wall, |friend| friend.since)),
            note: None,
            verified: true,
        };
        self.item(Item::Friend(shown)).await
    }

    async fn friends(&self, which: Which) -> Result<(), Failure> {
        self.caught_up().await?;
        let Reply::Friends(list) = self.command(Command::Friends).await? else {
            return Err(Failure::internal("an answer that does not fit its command"));
        };
        let known: BTreeMap<AccountId, views::Friend> =
            self.read(views::friends)?.into_iter().map(|friend| (friend.account, friend)).collect();
        let contacts: BTreeMap<AccountId, Address> =
            self.read(views::contacts)?.into_iter().map(|contact| (contact.account, contact.address)).collect();
        for friend in list {
            let wanted = match which {
                Which::Requests => matches!(friend.standing, Standing::Asked | Standing::Asking),
                Which::Blocked => friend.standing == Standing::Blocked,
                Which::All => true,
            };
            if !wanted {
                continue;
            }
            let proved = known.get(&friend.account).filter(|known| known.address.domain == friend.domain);
            let contact = contacts.get(&friend.account);
            let verified = match friend.standing {
                Standing::Friends => contact.is_some(),
                Standing::Asked => proved.is_some_and(|known| known.friendship == Friendship::Asked),
                Standing::Asking => proved.is_some_and(|known| known.friendship == Friendship::Asking),
                Standing::Blocked => proved.is_some_and(|known| known.friendship == Friendship::Blocked),
            };
            let shown = FriendShown {
                account: friend.account,
                address: proved.map(|known| &known.address).or(contact).cloned(),
                domain: friend.domain.to_string(),
                standing: name_of(Some(friend.standing)).to_owned(),
                sees: friend.standing == Standing::Friends && friend.sees,
                since: clock::rfc3339(friend.since),
                note: proved.and_then(|known| known.note.clone()),
                verified,
            };
            self.item(Item::Friend(shown)).await?;
        }
        Ok(())
    }

    async fn presence(&self) -> Result<(), Failure> {
        self.caught_up().await?;
        let Reply::Presence(online) = self.command(Command::Presence).await? else {
            return Err(Failure::internal("an answer that does not fit its command"));
        };
        for contact in self.read(views::contacts)? {
            let online = online.contains(&contact.account);
            let shown = PresenceShown { contact: contact.address, account: contact.account, online };
            self.item(Item::Presence(shown)).await?;
        }
        Ok(())
    }

    async fn open_invites(&self) -> Result<Vec<(TokenHash, u32, Wall)>, Failure> {
        self.relay().await?;
        match self.command(Command::Invites).await? {
            Reply::Invites(invites) => {
                Ok(invites.into_iter().map(|invite| (invite.token, invite.left, invite.expires)).collect())
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn revoke(&self, invite: &str) -> Result<(), Failure> {
        let token = match invite.parse::<Invite>() {
            Ok(invite) => invite.token.hash(),
            Err(_) if invite.len() >= INVITE_PREFIX_MIN => {
                let open = self.open_invites().await?.into_iter().map(|(token, ..)| token);
                let mut fitting = open.filter(|token| token.to_string().starts_with(&invite.to_lowercase()));
                match (fitting.next(), fitting.next()) {
                    (Some(token), None) => token,
                    (Some(_), Some(_)) => {
                        return Err(Failure::new(Exit::NotFound, "ambiguous", "several invites begin like this")
                            .hint("write more of the id"));
                    }
                    (None, _) => {
                        return Err(Failure::new(Exit::NotFound, "not_found", "no open invite has this id")
                            .hint("see them: whimbrel invite list"));
                    }
                }
            }
            Err(_) => return Err(Failure::usage("neither an invite's link nor its id").hint("whimbrel invite list")),
        };
        self.relay().await?;
        self.plain(Command::RevokeInvite(token), "revoked").await
    }

    async fn set_profile(&self, display: Option<String>, about: Option<String>) -> Result<(), Failure> {
        self.relay().await?;
        let own = self.own()?;
        let before = self.read(|reads| views::card(reads, &own.account))?;
        let display = display
            .or_else(|| before.as_ref().map(|card| card.display.clone()))
            .unwrap_or_else(|| own.name.to_string());
        let about = about.or_else(|| before.and_then(|card| card.about)).filter(|about| !about.is_empty());
        match self.command(Command::SetProfile { display, about }).await? {
            Reply::Profile(card) => self.card(card, own.address).await,
            other => Err(unexpected(&other)),
        }
    }

    async fn profile(&self, who: Option<String>) -> Result<(), Failure> {
        let (account, address) = match who {
            None => {
                self.relay().await?;
                let own = self.own()?;
                (own.account, own.address)
            }
            Some(who) => {
                self.caught_up().await?;
                let account = self.among(&who, Known::All)?;
                (account, self.read(|reads| views::address(reads, &account))?)
            }
        };
        match self.command(Command::Profile(account)).await {
            Ok(Reply::Profile(card)) => self.card(card, address).await,
            Ok(other) => Err(unexpected(&other)),
            Err(failure) if failure.code == "not_found" => {
                Err(failure.hint("they have no card, or none for you: only friends are shown one"))
            }
            Err(failure) => Err(failure),
        }
    }

    async fn card(&self, card: Card, address: Option<Address>) -> Result<(), Failure> {
        let Card { account, revision, display, about } = card;
        self.item(Item::Profile(CardShown { account, address, display, about, revision })).await
    }

    async fn chats(&self) -> Result<(), Failure> {
        let book = self.book()?;
        let now = clock::wall();
        let mut chats = Vec::new();
        for thread in self.read(views::threads)? {
            let settings = self.read(|reads| views::settings(reads, &thread.thread))?;
            chats.push(ChatShown {
                thread: thread.thread,
                chat: book.title_of(&thread.thread),
                label: settings.label,
                unread: thread.unread,
                pinned: settings.pinned,
                archived: settings.archived,
                muted_until: (settings.muted_until > now).then(|| clock::rfc3339(settings.muted_until)),
                kept: settings.kept,
                read_receipts: settings.read_receipts,
            });
        }
        // Newest first as they came; pinned ones before, archived ones after.
        chats.sort_by_key(|chat| (!chat.pinned, chat.archived));
        for chat in chats {
            self.item(Item::Chat(chat)).await?;
        }
        Ok(())
    }

    async fn set_chat(&self, chat: &str, change: ChatChange) -> Result<(), Failure> {
        let target = self.resolve(chat).await?;
        let book = self.book()?;
        let threads = book.threads_of(&target);
        let Some(thread) = threads.first().copied() else {
            return Err(Failure::new(Exit::NotFound, "not_found", "there is no chat with exactly these people yet")
                .hint("a chat begins with its first message: whimbrel send"));
        };
        let change = match change {
            ChatChange::MuteForMs(ms) => {
                SettingsChange::MutedUntil(Wall::from_millis(clock::wall().as_millis().saturating_add(ms)))
            }
            // The end of every calendar.
            ChatChange::Mute => SettingsChange::MutedUntil(Wall::from_millis(253_402_300_799_000)),
            ChatChange::Unmute => SettingsChange::MutedUntil(Wall::default()),
            ChatChange::Label(label) => SettingsChange::Label(label),
            ChatChange::Archived(archived) => SettingsChange::Archived(archived),
            ChatChange::Pinned(pinned) => SettingsChange::Pinned(pinned),
            ChatChange::ReadReceipts(tells) => SettingsChange::ReadReceipts(tells),
        };
        match self.command(Command::SetThread { thread, change }).await? {
            Reply::Done => {}
            other => return Err(unexpected(&other)),
        }
        self.wait_kept(&thread).await?;
        let settings = self.read(|reads| views::settings(reads, &thread))?;
        let unread = self.read(|reads| views::unread(reads, &thread))?;
        let muted = settings.muted_until > clock::wall();
        self.item(Item::Chat(ChatShown {
            thread,
            chat: book.title_of(&thread),
            label: settings.label,
            unread,
            pinned: settings.pinned,
            archived: settings.archived,
            muted_until: muted.then(|| clock::rfc3339(settings.muted_until)),
            kept: settings.kept,
            read_receipts: settings.read_receipts,
        }))
        .await
    }

    /// Gives the relay a moment to keep it; it is durable here already, and a later command hands it in.
    async fn wait_kept(&self, thread: &whimbrel_protocol::id::ThreadId) -> Result<(), Failure> {
        if self.relay().await.is_err() {
            return self.hint("kept on this device; the relay is out of reach and gets it with the next command").await;
        }
        for _ in 0..40 {
            if self.read(|reads| views::settings(reads, thread))?.kept {
                break;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        Ok(())
    }

    async fn export(&self) -> Result<(), Failure> {
        self.relay().await?;
        let mut after = Vec::new();
        loop {
            let Reply::Exported { rows, next } = self.command(Command::Export { after: after.clone() }).await? else {
                return Err(Failure::internal("an answer that does not fit its command"));
            };
            for row in rows {
                let shown = RowShown { kind: row.kind, key: hex(&row.key), value: hex(&row.value) };
                self.item(Item::Row(shown)).await?;
            }
            match next {
                None => return Ok(()),
                Some(next) if next <= after => {
                    return Err(Failure::internal("the relay's export goes round in circles"));
                }
                Some(next) => after = next,
            }
        }
    }

    async fn delete(&self, name: &str) -> Result<(), Failure> {
        let own = self.own()?;
        let address =
            own.address.ok_or_else(|| Failure::new(Exit::Locked, "not_registered", "nothing is registered"))?;
        if name != address.name.as_str() && name != address.to_string() {
            return Err(Failure::usage(format!("this account is {address}; nothing was deleted"))
                .hint(format!("to delete it for good: whimbrel account delete --yes-delete {}", address.name)));
        }
        self.relay().await?;
        self.plain(Command::DeleteAccount, "deleted at the relay; what is on this machine stays until you remove it")
            .await
    }

    /// Somebody who is known here, or an address that the relay is asked about.
    fn anybody(&self, who: &str) -> Result<Who, Failure> {
        let text = who.trim().to_lowercase();
        if let Ok(account) = text.parse::<AccountId>() {
            let known = self.read(|reads| views::address(reads, &account))?;
            let friends = self.read(views::friends)?.into_iter().find(|friend| friend.account == account);
            return match known.or(friends.map(|friend| friend.address)) {
                Some(address) => Ok(Who::Account(account, address.domain)),
                None => Err(Failure::new(Exit::NotFound, "not_found", "no relay is known that has this account")
                    .hint("give the address: name@domain")),
            };
        }
        match text.parse::<Address>() {
            Ok(address) => match self.among(&text, Known::All) {
                Ok(account) => Ok(Who::Account(account, address.domain)),
                Err(_) => Ok(Who::Address(address)),
            },
            Err(_) => {
                let account = self.among(&text, Known::All)?;
                self.anybody(&account.to_string())
            }
        }
    }

    /// Somebody known here, or who has come in since the last time we were connected.
    async fn somebody(&self, who: &str) -> Result<AccountId, Failure> {
        match self.among(who, Known::All) {
            Err(failure) if failure.code == "not_found" => match self.caught_up().await {
                Ok(()) => self.among(who, Known::All),
                Err(_) => Err(failure),
            },
            other => other,
        }
    }

    /// Somebody known here: a contact, or one of those a word passed with.
    fn among(&self, who: &str, known: Known) -> Result<AccountId, Failure> {
        let friends = self.read(views::friends)?.into_iter();
        let wanted = friends.filter(|friend| known == Known::All || friend.friendship == Friendship::Asking);
        let mut people: BTreeMap<AccountId, Address> = wanted.map(|friend| (friend.account, friend.address)).collect();
        if known == Known::All {
            people.extend(self.read(views::contacts)?.into_iter().map(|contact| (contact.account, contact.address)));
        }
        let book = Book { contacts: people.into_iter().collect(), ..Book::default() };
        match book.resolve(who)? {
            Target::People(people) if people.len() == 1 => {
                people.into_iter().next().ok_or_else(|| Failure::usage("one person is meant"))
            }
            _ => Err(Failure::usage("one person is meant")),
        }
    }
}

fn name_of(standing: Option<Standing>) -> &'static str {
    match standing {
        None => "none",
        Some(Standing::Asked) => "asked",
        Some(Standing::Asking) => "asking",
        Some(Standing::Friends) => "friends",
        Some(Standing::Blocked) => "blocked",
    }
}
