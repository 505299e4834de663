//! Failure: how a command tells that it did not do what it was asked.
//! Owns: exit codes, the text and JSON forms of errors, the rendering of a mistake in a file.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::json;

/// Exit codes, the same for every program of the house.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// Something failed here.
    Internal = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// There is no such thing.
    NotFound = 3,
    /// In use by another process, or not allowed.
    Locked = 4,
    /// Keys or certificates do not fit together.
    Trust = 5,
    /// Nobody answers.
    Unreachable = 6,
    /// A bound or quota, the disk's included.
    Limit = 7,
}

/// For `--help`.
pub(crate) const EXIT_CODES: &str = "Exit codes:
  0  done; for `run`: told to stop by SIGTERM or SIGINT, everything finished and closed
  1  something failed here; the store, the disk or a socket
  2  the command line or the configuration is wrong
  3  not found: a configuration, identity or folder
  4  in use by another process, or not allowed
  5  trust: keys, certificates and domain do not fit together
  7  no space left
  130  a second signal ended `run` before it was done";

/// One wrong place in a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mistake {
    /// Which file.
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// How many characters are wrong.
    pub width: usize,
    /// The line.
    pub text: String,
    /// What is wrong with it, and what would be right.
    pub message: String,
}

impl Mistake {
    /// The mistake at some bytes of a text.
    pub(crate) fn at(file: &std::path::Path, source: &str, span: std::ops::Range<usize>, message: String) -> Self {
        let before = source.get(..span.start).unwrap_or(source);
        let line = before.matches('\n').count() + 1;
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let text = source.get(line_start..).unwrap_or_default().lines().next().unwrap_or_default().to_owned();
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        let room = text.chars().count().saturating_sub(column - 1);
        let width = source.get(span).unwrap_or_default().lines().next().unwrap_or_default().chars().count();
        Self { file: file.to_owned(), line, column, width: width.min(room).max(1), text, message }
    }
}

impl std::fmt::Display for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let gutter = " ".repeat(self.line.to_string().len());
        writeln!(f, "{}:{}:{}", self.file.display(), self.line, self.column)?;
        writeln!(f, "{gutter} |")?;
        writeln!(f, "{} | {}", self.line, self.text)?;
        writeln!(f, "{gutter} | {}{}", " ".repeat(self.column - 1), "^".repeat(self.width))?;
        write!(f, "{gutter} = {}", self.message)
    }
}

/// Why a command ended with an exit code other than 0.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The process's answer.
    pub exit: Exit,
    /// A word that stays the same.
    pub code: &'static str,
    /// For people.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Where in a file.
    pub mistakes: Vec<Mistake>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, code: &'static str, message: impl Into<String>) -> Self {
        Self { exit, code, message: message.into(), hint: None, mistakes: Vec::new() }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// As text, for the standard error.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for mistake in &self.mistakes {
            let _infallible = writeln!(text, "{mistake}\n");
        }
        let _infallible = writeln!(text, "error: {}", self.message);
        if let Some(hint) = &self.hint {
            let _infallible = writeln!(text, "hint: {hint}");
        }
        text
    }

    /// As one line of JSON, for the standard error with `--json`.
    pub fn json(&self) -> String {
        let mistakes: Vec<_> = self
            .mistakes
            .iter()
            .map(|mistake| {
                json!({
                    "file": mistake.file,
                    "line": mistake.line,
                    "column": mistake.column,
                    "message": mistake.message,
                })
            })
            .collect();
        let mut error = json!({ "code": self.code, "message": self.message, "hint": self.hint });
        if !mistakes.is_empty()
            && let Some(error) = error.as_object_mut()
        {
            error.insert("mistakes".to_owned(), mistakes.into());
        }
        json!({ "error": error }).to_string()
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(Exit::Internal, "internal", format!("{error:#}"))
    }
}
