//! Output: the two streams of a command.
//! Owns: what goes to standard output (results, nothing else) and to standard error (failures, hints), as text or JSON.
//! Never: prints what others wrote without [`sanitize`], colours (nothing here needs them), a spinner.

use std::io::{self, Write as _};

use serde::Serialize;
use serde_json::json;

use crate::failure::{Exit, Failure};
use crate::sanitize;

/// Version of every JSON object printed.
pub(crate) const JSON_VERSION: u32 = 1;

/// Something to print.
pub(crate) trait Show: Serialize {
    /// As text for people, without the last line end; already sanitised.
    fn text(&self) -> String;
}

/// Where a command prints.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Screen {
    pub(crate) json: bool,
    pub(crate) quiet: bool,
}

#[derive(Serialize)]
struct Versioned<'v, T: ?Sized> {
    v: u32,
    #[serde(flatten)]
    value: &'v T,
}

impl Screen {
    /// Prints one result and makes sure it left.
    ///
    /// # Errors
    /// Nobody reads standard output any more, or it is full: what was to be printed must not count as seen.
    pub(crate) fn show(&self, thing: &impl Show) -> Result<(), Failure> {
        let text = if self.json { to_json(thing) } else { thing.text() };
        self.print(&text)
    }

    /// Prints a line as it is.
    ///
    /// # Errors
    /// As for [`Self::show`].
    pub(crate) fn print(&self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        writeln!(out, "{text}")
            .and_then(|()| out.flush())
            .map_err(|error| Failure::new(Exit::Internal, "output", format!("standard output: {}", error.kind())))
    }

    /// Says something useful that is no result.
    pub(crate) fn hint(&self, text: &str) {
        if !self.quiet {
            // Nobody reads it: nothing to be done, nothing is lost.
            let _ = writeln!(io::stderr().lock(), "{}", sanitize::block(text, "  "));
        }
    }

    /// Says why the command failed.
    pub(crate) fn fail(&self, failure: &Failure) {
        let text = if self.json {
            let error = json!({ "code": failure.code, "message": failure.message, "hint": failure.hint });
            sanitize::json_line(&json!({ "v": JSON_VERSION, "error": error })).unwrap_or_default()
        } else {
            let mut text = format!("error: {}", sanitize::block(&failure.message, "  "));
            if let Some(hint) = &failure.hint {
                text.push_str(&format!("\nhint: {}", sanitize::block(hint, "  ")));
            }
            text
        };
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}

/// One line of JSON with its version.
pub(crate) fn to_json(value: &impl Serialize) -> String {
    // Every value printed is made of structs with named fields, which JSON can hold.
    sanitize::json_line(&Versioned { v: JSON_VERSION, value }).unwrap_or_default()
}
