//! The postman, who stands for any outside system: what he has done, no database can take back.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// Delivers letters, and writes each delivery into his round book.
#[derive(Debug)]
pub struct Postman {
    round_book: File,
}

impl Postman {
    /// The postman whose round book is the file at `path`; it is begun where it is missing, else continued.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn with_round_book(path: &Path) -> io::Result<Self> {
        let round_book = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self { round_book })
    }

    /// Delivers a letter: one line, `letter key recipient`. A line is one write, so those of several threads do not mix.
    pub(crate) fn deliver(&self, letter_id: &str, recipient: &str, key: &str) -> io::Result<()> {
        (&self.round_book).write_all(format!("{letter_id} {key} {recipient}\n").as_bytes())
    }
}
