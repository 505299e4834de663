//! Written: what the store remembers of the rows it wrote last, so that it need not read them to replace or remove them.
//! Owns: their checksums and lengths, one place a hash; the bound.
//! Never: a value, or a row of another run; where a row is not remembered, the engine is asked.

/// How many rows there is room for: those that a busy relay writes in a few seconds.
const PLACES: usize = 32 * 1024;
/// Rows with longer keys are not remembered.
const KEY_BYTES_MAX: usize = 40;

/// What the running totals need to know of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) checksum: u32,
    /// Bytes of the whole value.
    pub(crate) len: usize,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    key: [u8; KEY_BYTES_MAX],
    /// Zero: nobody's. No caller's row has an empty key that is worth remembering.
    key_len: u8,
    checksum: u32,
    len: u32,
}

/// The rows written last; of two with the same hash, the later.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// Empty until the first row.
    places: Vec<Place>,
}

impl Written {
    /// Takes out what is remembered of a row.
    pub(crate) fn take(&mut self, key: &[u8]) -> Option<Header> {
        let place = self.places.get_mut(place_of(key)?)?;
        let (here, _) = place.key.split_at_checked(usize::from(place.key_len))?;
        if here != key {
            return None;
        }
        place.key_len = 0;
        Some(Header { checksum: place.checksum, len: usize::try_from(place.len).ok()? })
    }

    /// A row was written, and is to be forgotten again if that fails.
    pub(crate) fn remember(&mut self, key: &[u8], header: Header) {
        if self.places.is_empty() {
            self.places = vec![Place { key: [0; KEY_BYTES_MAX], key_len: 0, checksum: 0, len: 0 }; PLACES];
        }
        let (Ok(key_len), Ok(len)) = (u8::try_from(key.len()), u32::try_from(header.len)) else { return };
        if let Some(place) = place_of(key).and_then(|place| self.places.get_mut(place))
            && let Some((here, _)) = place.key.split_at_mut_checked(key.len())
        {
            here.copy_from_slice(key);
            (place.key_len, place.checksum, place.len) = (key_len, header.checksum, len);
        }
    }

    /// Drops everything: what is in the engine may be something else.
    pub(crate) fn forget(&mut self) {
        self.places = Vec::new();
    }
}

fn place_of(key: &[u8]) -> Option<usize> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return None;
    }
    usize::try_from(crc32fast::hash(key)).ok().map(|hash| hash % PLACES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_remembered_once_under_its_own_key_alone() {
        let mut written = Written::default();
        assert_eq!(written.take(b"key"), None);
        let header = |n: u32| Header { checksum: n, len: 7 };
        for key in 0..100_000_u32 {
            written.remember(&key.to_be_bytes(), header(key));
        }
        let found = (0..100_000_u32).filter_map(|key| written.take(&key.to_be_bytes()).map(|row| (key, row)));
        let found: Vec<_> = found.collect();
        assert!(found.iter().all(|(key, row)| *row == header(*key)), "another row's");
        assert!(found.len() > PLACES / 2 && found.len() <= PLACES, "{}", found.len());
        assert!((0..100_000_u32).all(|key| written.take(&key.to_be_bytes()).is_none()), "taken out before");

        written.remember(b"key", header(1));
        written.remember(b"key", header(2));
        assert_eq!(written.take(b"ke"), None);
        assert_eq!(written.take(b"key"), Some(header(2)));
        for key in [&[][..], &[7; KEY_BYTES_MAX + 1], &[7; 384]] {
            written.remember(key, header(3));
            assert_eq!(written.take(key), None, "not worth it");
        }
        written.remember(b"key", header(1));
        written.forget();
        assert_eq!(written.take(b"key"), None);
    }
}
