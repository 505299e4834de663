//! Sanitiser: what others wrote, made safe for a terminal.
//! Owns: the rule of which characters may reach a screen, for plain text and for JSON.
//! Never: changes what is stored or what a program reads from `--json`; only how it is shown.
//!
//! A message can carry escape sequences (which move the cursor, set the clipboard or the window's title), bidirectional
//! controls (which turn the order of a line round, Unicode TR 9) and characters of no width (which hide). Each is shown as
//! a visible sign instead of being dropped, so that a reader sees that something was there.

use std::io;

use serde::Serialize;
use serde_json::ser::Formatter;

/// Stands for a character that has no sign of its own.
const REPLACEMENT: char = '\u{fffd}';

/// One line: line ends and tabs are shown as signs too.
pub(crate) fn line(text: &str) -> String {
    clean(text, false)
}

/// Several lines: every line after the first is indented, so that no text can pose as an entry of its own.
pub(crate) fn block(text: &str, indent: &str) -> String {
    let text = text.replace("\r\n", "\n");
    clean(&text, true).replace('\t', "    ").replace('\n', &format!("\n{indent}"))
}

/// Moves text that is clean already to the right.
pub(crate) fn indent(text: &str, indent: &str) -> String {
    text.replace('\n', &format!("\n{indent}"))
}

fn clean(text: &str, layout: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    let mut before = None;
    while let Some(character) = characters.next() {
        let joins = character == '\u{200d}' && is_emoji(before) && is_emoji(characters.peek().copied());
        out.push(match character {
            '\n' | '\t' if layout => character,
            _ if joins || !is_hostile(character) => character,
            _ => sign(character),
        });
        before = Some(character);
    }
    out
}

/// Whether a character may do something to a terminal other than stand there.
fn is_hostile(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}'                           // Mongolian selectors and vowel separator
            | '\u{200b}'..='\u{200f}'                           // zero width, left-to-right and right-to-left marks
            | '\u{2028}'..='\u{202e}'                           // line and paragraph separators, embeddings, overrides
            | '\u{2060}'..='\u{206f}'                           // joiners, isolates, deprecated formats
            | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff9}'..='\u{fffb}'                           // interlinear annotation
            | '\u{1d173}'..='\u{1d17a}'                         // musical formats
            | '\u{e0000}'..='\u{e0fff}') // tags and supplementary selectors
}

/// A joiner of zero width is wanted between these: 👩‍🚀 is three characters.
fn is_emoji(character: Option<char>) -> bool {
    matches!(
        character,
        Some('\u{fe0f}' | '\u{2190}'..='\u{21ff}' | '\u{2600}'..='\u{27bf}' | '\u{1f000}'..='\u{1faff}')
    )
}

fn sign(character: char) -> char {
    match character {
        '\0'..='\u{1f}' => char::from_u32(0x2400 + u32::from(character)).unwrap_or(REPLACEMENT),
        '\u{7f}' => '\u{2421}',
        _ => REPLACEMENT,
    }
}

/// One line of JSON whose strings read back exactly as they were; hostile characters leave as escapes (RFC 8259, section 7).
///
/// # Errors
/// The value has a map whose keys are no strings.
pub(crate) fn json_line(value: &impl Serialize) -> serde_json::Result<String> {
    let mut bytes = Vec::new();
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, SafeJson))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

struct SafeJson;

impl Formatter for SafeJson {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(is_hostile) {
            let (safe, hostile) = rest.split_at(at);
            writer.write_all(safe.as_bytes())?;
            let mut characters = hostile.chars();
            if let Some(character) = characters.next() {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
            rest = characters.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_escape_sequence_becomes_visible_signs() {
        assert_eq!(line("\u{1b}]52;c;aGk=\u{7}"), "␛]52;c;aGk=␇");
        assert_eq!(line("\u{9b}2J\u{7f}"), "\u{fffd}2J␡");
    }

    #[test]
    fn text_direction_cannot_be_turned() {
        assert_eq!(line("abc\u{202e}fdp.exe"), "abc\u{fffd}fdp.exe");
    }

    #[test]
    fn a_second_line_cannot_pose_as_an_entry() {
        assert_eq!(block("hi\nbob@b.example: pay me", "  "), "hi\n  bob@b.example: pay me");
        assert_eq!(block("a\r\nb\rc", "  "), "a\n  b␍c");
        assert_eq!(line("hi\nthere"), "hi␊there");
    }

    #[test]
    fn ordinary_writing_passes_unchanged() {
        for text in ["Grüße, Živa", "שלום", "你好", "👩\u{200d}🚀 ❤\u{fe0f}", "e\u{301}"] {
            assert_eq!(line(text), text);
        }
        assert_eq!(line("a\u{200d}b"), "a\u{fffd}b");
    }

    proptest! {
        #[test]
        fn nothing_hostile_leaves_in_any_form(text in any::<String>()) {
            let wanted_joiner = |c: char| c == '\u{200d}';
            prop_assert!(line(&text).chars().all(|c| !is_hostile(c) || wanted_joiner(c)));
            prop_assert!(block(&text, "  ").chars().all(|c| c == '\n' || !is_hostile(c) || wanted_joiner(c)));
            prop_assert!(json_line(&text).unwrap().chars().all(|c| !is_hostile(c)));
        }

        #[test]
        fn only_controls_of_the_terminal_and_of_layout_are_replaced(text in "[ -~à-ÿ一-龠]*") {
            prop_assert_eq!(line(&text), text);
        }

        #[test]
        fn json_reads_back_as_it_was(text in any::<String>()) {
            prop_assert_eq!(serde_json::from_str::<String>(&json_line(&text).unwrap()).unwrap(), text);
        }

        #[test]
        fn every_later_line_is_indented(text in any::<String>()) {
            prop_assert!(block(&text, "  ").split('\n').skip(1).all(|line| line.starts_with("  ")));
        }
    }
}
