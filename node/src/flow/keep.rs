//! Keep: somebody's account log is here, the first one or a longer one.
//! In order: keep it with its devices; what a revoked device had ends, a direct link at once and its leaves in our
//! threads as soon as they can be changed; the relay's tree has to show the same; the owner is told of another key.
//! Never: judges a log.

use whimbrel_crypto::{Engine, Relation};
use whimbrel_storage::{Reads, StorageError};

use super::{direct, strays};
use crate::api::Event;
use crate::contacts::{self, Person};
use crate::rooms::Turn;
use crate::rows::{self, AuditRow, ContactRow};
use crate::timers::Timer;

impl<E: Engine> Turn<'_, E> {
    /// [`contacts::keep`], and tells the owner when a key they compared is another now.
    pub(crate) fn keep(&mut self, person: &Person, contact: bool) -> Result<(), StorageError> {
        let account = person.log.account();
        let key = rows::contact_key(&account);
        let changed = |rows: &dyn Reads| -> Result<bool, StorageError> {
            Ok(rows::get::<ContactRow>(rows, &key)?.is_some_and(|row| row.key_changed()))
        };
        let before = changed(&self.rows)?;
        let known = contacts::known(&self.rows, &account)?;
        let head = known.as_ref().map(|known| known.log.head());
        // While something was looked up a longer one may have come another way.
        let longer =
            known.filter(|known| matches!(person.log.relation(&known.log), Relation::Shorter | Relation::Superseded));
        let person = longer.as_ref().unwrap_or(person);
        contacts::keep(&mut self.rows, person, contact)?;
        if head.is_some_and(|head| head != person.log.head()) {
            direct::part_with_devices(self, &person.log)?;
            strays::revoked(self, &account)?;
        }
        // What a relay shows of a contact has to be what it shows to everybody.
        let (seq, hash) = person.log.head();
        let audit_key = rows::audit_key(&account);
        let audited: Option<AuditRow> = rows::get(&self.rows, &audit_key)?;
        let contact = rows::get::<ContactRow>(&self.rows, &key)?.is_some_and(|row| row.contact);
        if contact && audited.is_none_or(|audited| (audited.seq, audited.hash) != (seq, hash)) {
            rows::put(&mut self.rows, audit_key, &AuditRow { seq, hash, found: None, missing: false });
            self.rooms.audit.want(&person.address.domain, Some(account), self.now.monotonic);
            self.rooms.timers.set(Timer::Audit, self.now.monotonic);
        }
        if !before && changed(&self.rows)? {
            tracing::warn!("the identity key of a verified contact has changed");
            self.event(Event::KeyChanged { account, address: person.address.clone() });
        }
        Ok(())
    }
}
