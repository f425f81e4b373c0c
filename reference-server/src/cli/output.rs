//! Standard output and standard error of the commands.
//!
//! `println!` panics when the reader of a pipe has gone, as `head` does when it has seen enough.

use std::{
    fmt,
    io::{self, Write as _},
};

/// Prints a line to standard output. Returns whether anybody still reads: once the other end of a
/// pipe is closed, lines are dropped, and what the command does and its exit code stay the same.
///
/// # Errors
/// If the output cannot be written for another reason, such as a full disk.
pub(super) fn say(line: impl fmt::Display) -> io::Result<bool> {
    match writeln!(io::stdout(), "{line}") {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

/// Prints a command's error to standard error, if anybody reads it.
pub fn complain(error: &dyn fmt::Display) {
    let _ = writeln!(io::stderr(), "error: {error}");
}
