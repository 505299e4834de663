//! Check: whether the rows fit together, beyond each being as it was written.
//! Owns: the counts that rows keep of other rows, and the rows that others name. Never: changes a row.
//! Limits: [`PROBLEMS_NAMED_MAX`].

use whimbrel_protocol::push::EntryBody;
use whimbrel_storage::{Order, Reads, StorageError};

use super::rows::{self, CursorRow, EntryRow, LogRow, OwnerRow, StockRow, ThreadMeta, space};
use crate::store::Account;

/// How many problems are named; the check goes on and counts.
const PROBLEMS_NAMED_MAX: usize = 64;
/// Rows read at once.
const PAGE: usize = 64;

/// What does not fit.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Problems {
    /// The first of them, each in a sentence.
    pub named: Vec<String>,
    /// How many there are.
    pub count: u64,
}

impl Problems {
    fn note(&mut self, key: &[u8], what: &str) {
        self.count += 1;
        if self.named.len() < PROBLEMS_NAMED_MAX {
            let first = key.first().copied().unwrap_or(0);
            let id: String = key.iter().skip(1).take(8).map(|byte| format!("{byte:02x}")).collect();
            self.named.push(format!("{} {id}: {what}", super::space_name(first)));
        }
    }

    fn expect(&mut self, key: &[u8], what: &str, counted: u64, found: u64) {
        if counted != found {
            self.note(key, &format!("{counted} {what} counted, {found} there"));
        }
    }
}

/// Reads every row that keeps a count or names another, and compares.
///
/// # Errors
/// The engine failed. A damaged row is a problem, not an error.
pub fn check(reads: &dyn Reads) -> Result<Problems, StorageError> {
    let mut check = Check { reads, problems: Problems::default() };
    check.accounts()?;
    check.owners()?;
    check.stocks()?;
    check.threads()?;
    check.logs()?;
    check.cursors()?;
    check.queues()?;
    Ok(check.problems)
}

struct Check<'r> {
    reads: &'r dyn Reads,
    problems: Problems,
}

impl Check<'_> {
    /// Shows `visit` every row of a space. What is damaged is noted, and the rest of its page passed over.
    fn each(
        &mut self,
        prefix: &[u8],
        mut visit: impl FnMut(&mut Self, &[u8], &[u8]) -> Result<(), StorageError>,
    ) -> Result<u64, StorageError> {
        let (mut from, to, mut count) = (prefix.to_vec(), rows::end(prefix), 0);
        loop {
            let page = match self.reads.scan(&from, &to, Order::Ascending, PAGE) {
                Ok(page) => page,
                Err(StorageError::Damaged { what, .. }) => {
                    self.problems.note(&from, &format!("cannot be read from here on: {what}"));
                    return Ok(count);
                }
                Err(error) => return Err(error),
            };
            let full = page.len() == PAGE;
            for (key, value) in page {
                count += 1;
                match visit(self, &key, &value) {
                    Err(StorageError::Damaged { what, .. }) => self.problems.note(&key, &what),
                    other => other?,
                }
                from = rows::after(&key);
            }
            if !full {
                return Ok(count);
            }
        }
    }

    fn count(&mut self, prefix: &[u8]) -> Result<u64, StorageError> {
        self.each(prefix, |_, _, _| Ok(()))
    }

    fn there(&self, key: &[u8]) -> Result<bool, StorageError> {
        Ok(self.reads.get(key)?.is_some())
    }

    fn accounts(&mut self) -> Result<(), StorageError> {
        self.each(&[space::ACCOUNT], |check, key, value| {
            let account: Account = rows::read(key, value)?;
            let holder = check.reads.get(&rows::name(&account.name))?;
            if !holder.is_some_and(|holder| holder.ends_with(key.get(1..).unwrap_or_default())) {
                check.problems.note(key, "its name is not its own");
            }
            for (needed, what) in [
                (beside(space::ACCOUNT_LOG, key), "its log is missing"),
                (rows::log(account.inbox), "its inbox is missing"),
            ] {
                if !check.there(&needed)? {
                    check.problems.note(key, what);
                }
            }
            Ok(())
        })?;
        Ok(())
    }

    fn owners(&mut self) -> Result<(), StorageError> {
        let (mut threads, mut invites) = (0, 0);
        self.each(&[space::OWNER], |check, key, value| {
            let row: OwnerRow = rows::read(key, value)?;
            threads += u64::from(row.threads);
            invites += u64::from(row.invites);
            let found = check.count(&beside(space::ROW, key))?;
            check.problems.expect(key, "threads", row.threads.into(), found);
            let found = check.count(&beside(space::INVITE, key))?;
            check.problems.expect(key, "invites", row.invites.into(), found);
            Ok(())
        })?;
        self.total(space::ROW, "thread rows", threads)?;
        self.total(space::INVITE, "invites", invites)
    }

    fn stocks(&mut self) -> Result<(), StorageError> {
        let mut packages = 0;
        self.each(&[space::STOCK], |check, key, value| {
            let left = u64::from(rows::read::<StockRow>(key, value)?.left());
            packages += left;
            let found = check.count(&beside(space::PACKAGE, key))?;
            check.problems.expect(key, "KeyPackages", left, found);
            Ok(())
        })?;
        self.total(space::PACKAGE, "KeyPackages", packages)
    }

    fn threads(&mut self) -> Result<(), StorageError> {
        self.each(&[space::THREAD], |check, key, value| {
            let thread: ThreadMeta = rows::read(key, value)?;
            if !check.there(&rows::log(thread.log))? {
                check.problems.note(key, "its log is missing");
            }
            Ok(())
        })?;
        Ok(())
    }

    fn logs(&mut self) -> Result<(), StorageError> {
        let mut entries = 0;
        self.each(&[space::LOG], |check, key, value| {
            let log: LogRow = rows::read(key, value)?;
            entries += log.entries();
            let (mut last, mut bodies) = (None, Vec::new());
            let found = check.each(&beside(space::ENTRY, key), |_, key, value| {
                let entry: EntryRow = rows::read(key, value)?;
                last = Some((rows::sequence_of(key)?, entry.total));
                if let EntryBody::Invitation(invitation) = entry.body {
                    bodies.extend([invitation.welcome, invitation.tree]);
                }
                Ok(())
            })?;
            check.problems.expect(key, "entries", log.entries(), found);
            if last.is_some_and(|(sequence, total)| {
                (sequence, total.bytes, total.messages) != (log.head, log.total.bytes, log.total.messages)
            }) {
                check.problems.note(key, "its head does not fit its last entry");
            }
            for body in bodies {
                if !check.there(&rows::blob(body))? {
                    check.problems.note(key, "the body of an invitation is missing");
                }
            }
            Ok(())
        })?;
        self.total(space::ENTRY, "entries", entries)
    }

    fn cursors(&mut self) -> Result<(), StorageError> {
        self.each(&[space::CURSOR], |check, key, value| {
            let cursor: CursorRow = rows::read(key, value)?;
            let log = [&[space::LOG], key.get(17..).unwrap_or_default()].concat();
            match rows::get::<LogRow>(check.reads, &log)? {
                None => check.problems.note(key, "its log is missing"),
                Some(log) if cursor.upto > log.head => check.problems.note(key, "beyond the head of its log"),
                Some(_) => {}
            }
            Ok(())
        })?;
        Ok(())
    }

    fn queues(&mut self) -> Result<(), StorageError> {
        let mut waiting = 0;
        self.each(&[space::WAITING], |check, key, value| {
            let counted: u64 = rows::read(key, value)?;
            waiting += counted;
            let found = check.count(&beside(space::OUTBOUND, key))?;
            check.problems.expect(key, "outbound rows", counted, found);
            Ok(())
        })?;
        self.total(space::OUTBOUND, "outbound rows", waiting)
    }

    /// Compares all rows of a space with the sum of what is counted: a row that belongs to nobody shows here.
    fn total(&mut self, space: u8, what: &str, counted: u64) -> Result<(), StorageError> {
        let found = self.count(&[space])?;
        self.problems.expect(&[space], what, counted, found);
        Ok(())
    }
}

/// The prefix of the rows in another space that belong to the owner of this key.
fn beside(space: u8, key: &[u8]) -> Vec<u8> {
    [&[space], key.get(1..).unwrap_or_default()].concat()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use whimbrel_storage::{Batch, MemoryKv, OrderedKv};

    use super::*;
    use crate::store::contract;

    #[test]
    fn rows_that_fit_have_no_problem_and_each_that_is_taken_away_is_one() {
        let whole = || {
            let kv = std::sync::Arc::new(MemoryKv::in_memory().unwrap());
            contract::fill(&crate::store::KvStore::over(kv.clone()));
            kv
        };
        assert_eq!(check(&*whole()).unwrap(), Problems::default());
        for space in [
            space::NAME,
            space::ACCOUNT_LOG,
            space::INVITE,
            space::PACKAGE,
            space::LOG,
            space::ENTRY,
            space::ROW,
            space::BLOB,
            space::OUTBOUND,
            space::WAITING,
        ] {
            let kv = whole();
            let (key, _) = rows::scan(&*kv, &[space], 1).unwrap().remove(0);
            let mut batch = Batch::new();
            batch.delete(key);
            kv.apply(&batch).unwrap();
            let problems = check(&*kv).unwrap();
            assert!(
                problems.count > 0 && !problems.named.is_empty(),
                "{} {problems:?}",
                super::super::space_name(space)
            );
        }
    }
}
