//! Resolve: whom or what somebody means by TO.
//! Owns: the rules of names, beginnings and lists. Never: guesses; two candidates are an error that lists them.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr as _;

use whimbrel_protocol::id::{AccountId, Address, ThreadId};

use crate::failure::{Exit, Failure};

/// A beginning of an id is taken from so many characters on: 16 bits, enough to be typed, rarely two.
const ID_PREFIX_MIN: usize = 4;
/// Candidates an error lists.
const CANDIDATES_MAX: usize = 10;

/// Everybody and everything that can be written to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Book {
    /// Contacts.
    pub(crate) contacts: Vec<(AccountId, Address)>,
    /// Threads, with the others in them.
    pub(crate) threads: Vec<(ThreadId, BTreeSet<AccountId>)>,
    /// Those of them whose members may change, and what they are called; empty: nothing.
    pub(crate) titles: BTreeMap<ThreadId, String>,
}

/// What TO means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Target {
    /// This thread.
    Thread(ThreadId),
    /// The thread of exactly these people.
    People(BTreeSet<AccountId>),
}

impl Book {
    /// Finds out what `to` means.
    pub(crate) fn resolve(&self, to: &str) -> Result<Target, Failure> {
        let parts: Vec<&str> = to.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
        match parts.as_slice() {
            [] => Err(Failure::usage("TO is empty").hint("see whom you can write to: whimbrel contact list")),
            [one] => self.one(one),
            several => several
                .iter()
                .map(|part| match self.one(part)? {
                    Target::People(people) => Ok(people),
                    Target::Thread(_) => Err(Failure::usage("a list names people, not threads")),
                })
                .collect::<Result<Vec<_>, _>>()
                .map(|people| Target::People(people.into_iter().flatten().collect())),
        }
    }

    /// The threads that a target stands for: usually one, none before the first message, two when first messages crossed.
    pub(crate) fn threads_of(&self, target: &Target) -> Vec<ThreadId> {
        self.threads
            .iter()
            .filter(|(thread, others)| match target {
                Target::Thread(wanted) => wanted == thread,
                // A group is meant by its own name: who is in it changes.
                Target::People(people) => people == others && !self.titles.contains_key(thread),
            })
            .map(|(thread, _)| *thread)
            .collect()
    }

    /// What a person is called here: the address, or the head of the account id.
    pub(crate) fn name_of(&self, account: &AccountId) -> String {
        match self.contacts.iter().find(|(known, _)| known == account) {
            Some((_, address)) => address.to_string(),
            None => short(account),
        }
    }

    /// What a thread is called here: its title, or the others in it.
    pub(crate) fn title_of(&self, thread: &ThreadId) -> String {
        if let Some(title) = self.titles.get(thread).filter(|title| !title.is_empty()) {
            return title.clone();
        }
        let people = self.threads.iter().find(|(known, _)| known == thread).map(|(_, people)| people);
        let names: Vec<_> = people.into_iter().flatten().map(|account| self.name_of(account)).collect();
        if names.is_empty() { format!("thread {}", short(thread)) } else { names.join(", ") }
    }

    fn one(&self, text: &str) -> Result<Target, Failure> {
        let text = text.to_lowercase();
        let person = |account: &AccountId| Target::People(BTreeSet::from([*account]));
        let people = |fits: &dyn Fn(&AccountId, &Address) -> bool| -> Vec<(Target, String)> {
            let fitting = self.contacts.iter().filter(|(account, address)| fits(account, address));
            fitting.map(|(account, address)| (person(account), address.to_string())).collect()
        };
        // What is written out in full means that and nothing longer.
        let titled = |fits: &dyn Fn(&str) -> bool| {
            let fitting = self.titles.iter().filter(|(_, title)| fits(&title.to_lowercase()));
            let named = |(thread, title): (&ThreadId, &String)| {
                (Target::Thread(*thread), format!("group {title} ({})", short(thread)))
            };
            fitting.map(named).collect::<Vec<_>>()
        };
        let mut exact = match Address::from_str(&text) {
            Ok(wanted) => people(&|_, address| *address == wanted),
            Err(_) => people(&|_, address| address.name.as_str() == text),
        };
        exact.extend(titled(&|title| !title.is_empty() && title == text));
        if !exact.is_empty() {
            return choose(&text, exact);
        }
        let is_id_prefix = text.len() >= ID_PREFIX_MIN && text.bytes().all(|b| b.is_ascii_hexdigit());
        let starts_id = |id: &dyn ToString| is_id_prefix && id.to_string().starts_with(&text);
        let mut found = people(&|account, address| address.to_string().starts_with(&text) || starts_id(account));
        found.extend(titled(&|title| !title.is_empty() && title.starts_with(&text)));
        for (thread, _) in &self.threads {
            let is_found = found.iter().any(|(target, _)| *target == Target::Thread(*thread));
            if starts_id(thread) && !is_found {
                let name = format!("thread {} with {}", short(thread), self.title_of(thread));
                found.push((Target::Thread(*thread), name));
            }
        }
        choose(&text, found)
    }
}

/// The head of an id, for people.
pub(crate) fn short(id: &impl ToString) -> String {
    id.to_string().chars().take(8).collect()
}

fn choose(text: &str, mut found: Vec<(Target, String)>) -> Result<Target, Failure> {
    if found.len() > 1 {
        let mut names: Vec<_> = found.into_iter().map(|(_, name)| name).collect();
        let more = names.len().saturating_sub(CANDIDATES_MAX);
        names.truncate(CANDIDATES_MAX);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        return Err(Failure::new(Exit::NotFound, "ambiguous", format!("'{text}' may be {}{more}", names.join("; ")))
            .hint("write more of the name, or the whole address"));
    }
    match found.pop() {
        Some((target, _)) => Ok(target),
        None => Err(Failure::new(Exit::NotFound, "not_found", format!("nobody here is called '{text}'"))
            .hint("see whom you can write to: whimbrel contact list; to meet somebody: whimbrel invite new")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn account(byte: u8) -> AccountId {
        AccountId::from_bytes([byte; 32])
    }

    fn book() -> Book {
        let contact = |byte, address: &str| (account(byte), address.parse().unwrap());
        Book {
            contacts: vec![
                contact(0xb0, "bob@a.example"),
                contact(0xb1, "bob@b.example"),
                contact(0xb2, "bobby@b.example"),
                contact(0xca, "carol@a.example"),
            ],
            threads: vec![
                (ThreadId::from_bytes([0x11; 32]), BTreeSet::from([account(0xca)])),
                (ThreadId::from_bytes([0xca; 32]), BTreeSet::from([account(0xca), account(0xb1)])),
            ],
            titles: BTreeMap::new(),
        }
    }

    fn people(bytes: &[u8]) -> Target {
        Target::People(bytes.iter().copied().map(account).collect())
    }

    #[test]
    fn a_whole_address_or_a_unique_beginning_is_one_person() {
        assert_eq!(book().resolve("bob@b.example").unwrap(), people(&[0xb1]));
        assert_eq!(book().resolve("bobb").unwrap(), people(&[0xb2]));
        assert_eq!(book().resolve("Carol").unwrap(), people(&[0xca]));
        assert_eq!(book().resolve("bob@b").unwrap(), people(&[0xb1]));
    }

    #[test]
    fn two_candidates_are_listed_and_none_is_chosen() {
        let failure = book().resolve("bob").unwrap_err();
        assert_eq!((failure.exit, failure.code.as_str()), (Exit::NotFound, "ambiguous"));
        assert!(failure.message.contains("bob@a.example; bob@b.example"), "{failure}");
        assert!(!failure.message.contains("bobby"), "the name written out in full is not a beginning: {failure}");
        assert!(book().resolve("b").unwrap_err().message.contains("bobby@b.example"));
    }

    #[test]
    fn a_thread_is_found_by_the_head_of_its_id() {
        assert_eq!(book().resolve("1111").unwrap(), Target::Thread(ThreadId::from_bytes([0x11; 32])));
        assert_eq!(book().resolve("111").unwrap_err().code, "not_found");
        assert_eq!(book().resolve("caca").unwrap_err().code, "ambiguous");
    }

    #[test]
    fn a_list_is_exactly_these_people_in_any_order() {
        let target = book().resolve("carol, bob@b.example,carol").unwrap();
        assert_eq!(target, people(&[0xb1, 0xca]));
        assert_eq!(book().threads_of(&target), [ThreadId::from_bytes([0xca; 32])]);
        assert!(book().threads_of(&people(&[0xb1])).is_empty());
        assert_eq!(book().resolve("carol,1111").unwrap_err().exit, Exit::Usage);
        assert_eq!(book().resolve("carol,dave").unwrap_err().exit, Exit::NotFound);
    }

    #[test]
    fn nobody_and_nothing_are_told_apart() {
        assert_eq!(book().resolve("dave").unwrap_err().exit, Exit::NotFound);
        assert_eq!(book().resolve(" , ").unwrap_err().exit, Exit::Usage);
    }
}
