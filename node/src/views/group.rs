//! What is beside a group: its picture, and links into it that this device made. Owns: nothing. Never: shows what leads in, which
//! is in the link alone.

use whimbrel_protocol::id::{ThreadId, TokenHash};
use whimbrel_protocol::time::Wall;
use whimbrel_storage::{Reads, StorageError};

use crate::rows::{self, PassRow, PictureRow, Space};

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

/// The picture of a group, if it has one: bytes of a [`whimbrel_protocol::picture::Format`], as their author made them.
///
/// # Errors
/// The store's.
pub fn picture(reads: &dyn Reads, thread: &ThreadId) -> Result<Option<Vec<u8>>, StorageError> {
    Ok(rows::get::<PictureRow>(reads, &rows::picture_key(thread))?.and_then(|row| row.bytes))
}
