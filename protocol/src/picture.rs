//! Pictures that people give their groups: which bytes are one.
//! Owns: formats, told by how they begin, and the bound. Never: decodes one; displays do, which must hold out against any.
//! Rules: docs/protocol/message.md.

use std::fmt;

use crate::frame::Bound;
use crate::limits;

/// What a picture is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// Portable Network Graphics (RFC 2083).
    Png,
    /// JPEG (ISO/IEC 10918).
    Jpeg,
    /// WebP (RFC 9649).
    Webp,
}

impl Format {
    /// By how the bytes begin; nothing: they are no picture.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some(Self::Png),
            [0xff, 0xd8, 0xff, ..] => Some(Self::Jpeg),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Self::Webp),
            _ => None,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Png => "png",
            Self::Jpeg => "jpeg",
            Self::Webp => "webp",
        })
    }
}

/// Holds a picture to its bound; what is no picture is for whoever shows it to leave out.
///
/// # Errors
/// It is longer than [`limits::PICTURE_BYTES_MAX`].
pub(crate) fn check(picture: Option<&[u8]>) -> Result<(), Bound> {
    Bound::bytes("picture", picture.map_or(0, <[u8]>::len), limits::PICTURE_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_told_by_how_it_begins_and_nothing_else_is_one() {
        for (bytes, format) in [
            (&b"\x89PNG\r\n\x1a\nrest"[..], Some(Format::Png)),
            (b"\xff\xd8\xff\xe0", Some(Format::Jpeg)),
            (b"RIFF\0\0\0\0WEBPVP8 ", Some(Format::Webp)),
            (b"RIFF\0\0\0\0WAVE", None),
            (b"<svg onload='x'>", None),
            (b"\x89PNG", None),
            (b"", None),
        ] {
            assert_eq!(Format::of(bytes), format, "{bytes:?}");
        }
        assert!(check(Some(&[0; limits::PICTURE_BYTES_MAX])).is_ok());
        assert!(check(Some(&[0; limits::PICTURE_BYTES_MAX + 1])).is_err());
        assert!(check(None).is_ok());
    }
}
