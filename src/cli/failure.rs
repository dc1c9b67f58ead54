//! What went wrong, as one line and an exit code.

use std::fmt;
use std::process::ExitCode;

/// Exit codes (sysexits(3)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// `EX_USAGE`: the command line is wrong.
    Usage = 64,
    /// `EX_DATAERR`: what was given is not what it has to be.
    Data = 65,
    /// `EX_NOINPUT`: what is to be read is not there.
    NoInput = 66,
    /// `EX_UNAVAILABLE`: the node cannot be reached, or refuses.
    Unavailable = 69,
    /// `EX_SOFTWARE`: something answered as it should not.
    Software = 70,
    /// `EX_OSERR`: the system refuses something it should not.
    OsError = 71,
    /// `EX_CANTCREAT`: the name is taken, or cannot be made.
    CannotCreate = 73,
    /// `EX_IOERR`: a file cannot be read or written.
    Io = 74,
    /// `EX_TEMPFAIL`: not now; try again.
    TryAgain = 75,
    /// `EX_NOPERM`: not allowed.
    NoPermission = 77,
    /// `EX_CONFIG`: the configuration is wrong.
    Config = 78,
}

/// Why a command did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Failure {
    pub exit: Exit,
    /// One line each: what failed, on what, what to do.
    pub message: String,
}

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    #[must_use]
    pub fn code(&self) -> ExitCode {
        ExitCode::from(self.exit as u8)
    }
}

/// Each line with the program's name before it.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = self.message.lines();
        write!(f, "litefs-py: {}", lines.next().unwrap_or_default())?;
        lines.try_for_each(|line| write!(f, "\nlitefs-py: {line}"))
    }
}
