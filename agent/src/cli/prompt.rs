//! Reads a secret from the terminal without showing it.

use std::io::{self, BufRead, ErrorKind};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use super::say::{say, say_in_place};

/// Longest secret read, bytes.
const SECRET_MAX: usize = 4096;

/// Puts the terminal back, however the reading ends.
struct Silence {
    before: Termios,
}

impl Silence {
    /// Signals are off as well: a Ctrl-C that ended us here would leave a terminal that shows nothing.
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
        Ok(Self { before })
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.before);
        say("");
    }
}

/// Asks and reads one line.
pub(super) fn secret(question: &str) -> io::Result<String> {
    let _silence = Silence::begin()?;
    say_in_place(question);
    read_line(io::stdin().lock())
}

fn read_line(input: impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    for byte in input.bytes() {
        match byte? {
            b'\r' | b'\n' => break,
            0x03 | 0x04 | 0x1c => return Err(io::Error::new(ErrorKind::Interrupted, "nothing was entered")),
            0x08 | 0x7f => drop(line.pop()),
            byte if line.len() < SECRET_MAX => line.push(byte),
            _ => {}
        }
    }
    String::from_utf8(line).map_err(|_| ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_at_enter_can_be_mended_and_given_up() {
        assert_eq!(read_line(&b"rexex\x7fc\rmore"[..]).unwrap(), "rexec");
        assert_eq!(read_line(&b"rex\x03"[..]).unwrap_err().kind(), ErrorKind::Interrupted);
        assert_eq!(read_line(&vec![b'a'; 10_000][..]).unwrap().len(), SECRET_MAX);
    }
}
