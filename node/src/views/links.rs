//! Links into groups that this device made, as they are shown. Owns: nothing. Never: shows what leads in, which is in the link alone.

use whimbrel_protocol::id::{ThreadId, TokenHash};
use whimbrel_protocol::time::Wall;
use whimbrel_storage::{Reads, StorageError};

use crate::rows::{self, PassRow, Space};

/// A link into a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupLink {
    /// Names it; the invite in it has the same.
    pub token: TokenHash,
    /// Where it leads.
    pub group: ThreadId,
    /// Until when.
    pub until: Wall,
    /// How many more it takes in.
    pub left: u32,
}

/// All that this device made and keeps.
///
/// # Errors
/// The store's.
pub fn group_links(reads: &dyn Reads) -> Result<Vec<GroupLink>, StorageError> {
    let mut links = Vec::new();
    rows::each(reads, &rows::space(Space::Pass), |(key, value)| {
        let PassRow { group, until, uses: left, .. } = rows::decode(&key, &value)?;
        links.extend(rows::id_in_key(&key).map(|token| {
            let token = TokenHash::from_bytes(token);
            GroupLink { token, group, until, left }
        }));
        Ok(())
    })?;
    Ok(links)
}
