//! What is to be written to the PTY: typing of viewers, each byte once, and the terminal's own answers.
#![deny(clippy::disallowed_methods)]

use std::collections::{BTreeMap, VecDeque};

use bytes::{Buf, Bytes};
use rexec_shared::ledger::{InputLedger, LedgerError};
use rexec_shared::limits::LEDGERS_MAX;
use uuid::Uuid;

/// The viewer id is another key's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotItsKey;

/// One viewer's input stream, kept while the viewer is away.
#[derive(Debug)]
struct Account {
    /// The key it belongs to.
    cnf: String,
    ledger: InputLedger,
    /// When it was used last, in arrivals.
    used: u64,
}

/// A run of bytes of one origin; `None` is the terminal itself.
type Chunk = (Option<Uuid>, Bytes);

/// Input of one session, accepted and not yet written, and the accounts of it.
#[derive(Debug, Default)]
pub(super) struct Input {
    accounts: BTreeMap<Uuid, Account>,
    /// Bounded by the ledgers: a viewer has at most its window in it.
    queue: VecDeque<Chunk>,
    arrivals: u64,
}

impl Input {
    /// Whether no viewer ever arrived.
    pub(super) fn is_unused(&self) -> bool {
        self.accounts.is_empty()
    }

    /// A viewer arrives with a key; returns the byte from which it sends again: the first that is not in the PTY. What was taken and still waits for
    /// the PTY is sent twice by that and taken once, and both ends count the same bytes against the window. Accounts of viewers that are not `here` give way, the
    /// longest unused first.
    pub(super) fn handle_arrived(
        &mut self,
        viewer: Uuid,
        cnf: &str,
        seq: u64,
        here: impl Fn(Uuid) -> bool,
    ) -> Result<u64, NotItsKey> {
        self.arrivals += 1;
        let used = self.arrivals;
        if let Some(account) = self.accounts.get_mut(&viewer) {
            account.used = used;
            return if account.cnf == cnf { Ok(account.ledger.acknowledged()) } else { Err(NotItsKey) };
        }
        while self.accounts.len() >= LEDGERS_MAX {
            let away = self.accounts.iter().filter(|(id, _)| !here(**id));
            let Some(oldest) = away.min_by_key(|(_, account)| account.used).map(|(id, _)| *id) else { break };
            self.accounts.remove(&oldest);
        }
        self.accounts.insert(viewer, Account { cnf: cnf.to_owned(), ledger: InputLedger::new(seq), used });
        Ok(seq)
    }

    /// Takes an `Input` frame. `Ok(true)`: there was nothing new in it and the viewer should be told where it stands.
    pub(super) fn handle_input(&mut self, viewer: Uuid, seq: u64, bytes: Bytes) -> Result<bool, LedgerError> {
        let Some(account) = self.accounts.get_mut(&viewer) else { return Ok(false) };
        let new = account.ledger.handle_input(seq, bytes)?;
        if new.is_empty() {
            return Ok(true);
        }
        self.queue.push_back((Some(viewer), new));
        Ok(false)
    }

    /// Queues bytes of the terminal's own.
    pub(super) fn push_own(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.queue.push_back((None, bytes));
        }
    }

    /// Whether anything waits to be written.
    pub(super) fn is_pending(&self) -> bool {
        !self.queue.is_empty()
    }

    /// What `InputAck.seq` says to the viewer now.
    pub(super) fn acknowledged(&self, viewer: Uuid) -> Option<u64> {
        self.accounts.get(&viewer).map(|account| account.ledger.acknowledged())
    }

    /// Writes up to about `budget` bytes with `write`, which says how many it took, and tells `wrote` whose they were.
    /// Returns false when `write` took less than it was given.
    pub(super) fn write(
        &mut self,
        mut budget: usize,
        mut write: impl FnMut(&[u8]) -> usize,
        mut wrote: impl FnMut(Uuid),
    ) -> bool {
        while budget > 0 {
            let Some((origin, bytes)) = self.queue.front_mut() else { return true };
            let len = write(bytes).min(bytes.len());
            bytes.advance(len);
            budget = budget.saturating_sub(len);
            let (origin, done) = (*origin, bytes.is_empty());
            if let Some(viewer) = origin.filter(|_| len > 0) {
                if let Some(account) = self.accounts.get_mut(&viewer) {
                    account.ledger.handle_written(len);
                }
                wrote(viewer);
            }
            if !done {
                return false;
            }
            self.queue.pop_front();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rexec_shared::limits::INPUT_WINDOW;

    const A: Uuid = Uuid::from_u128(1);

    #[test]
    fn st_05_a_viewer_id_belongs_to_the_key_that_used_it_first() {
        let mut input = Input::default();
        assert_eq!(input.handle_arrived(A, "key", 7, |_| false), Ok(7));
        assert_eq!(input.handle_arrived(A, "other", 7, |_| false), Err(NotItsKey));
        assert_eq!(input.handle_arrived(A, "key", 0, |_| false), Ok(7), "the account outlives the stream");
    }

    #[test]
    fn a_viewer_back_with_a_full_window_in_the_queue_may_send_that_window_again() {
        let mut input = Input::default();
        input.handle_arrived(A, "key", 0, |_| false).unwrap();
        let window = Bytes::from(vec![0; INPUT_WINDOW as usize]);
        assert_eq!(input.handle_input(A, 0, window.clone()), Ok(false));
        assert_eq!(input.handle_arrived(A, "key", 0, |_| false), Ok(0));
        assert_eq!(input.handle_input(A, 0, window), Ok(true), "nothing in it is new");
    }

    #[test]
    fn what_a_viewer_typed_twice_is_written_once_and_acknowledged_when_written() {
        let mut input = Input::default();
        input.handle_arrived(A, "key", 0, |_| false).unwrap();
        assert_eq!(input.handle_input(A, 0, Bytes::from_static(b"abc")), Ok(false));
        assert_eq!(input.handle_input(A, 0, Bytes::from_static(b"abcde")), Ok(false));
        assert_eq!(input.handle_input(A, 0, Bytes::from_static(b"abc")), Ok(true));
        assert_eq!(input.acknowledged(A), Some(0));
        let mut written = Vec::new();
        let all = input.write(
            100,
            |bytes| {
                written.extend_from_slice(&bytes[..2]);
                2
            },
            |viewer| assert_eq!(viewer, A),
        );
        assert!(!all);
        assert_eq!(input.acknowledged(A), Some(2));
        assert!(input.write(
            100,
            |bytes| {
                written.extend_from_slice(bytes);
                bytes.len()
            },
            |_| {}
        ));
        assert_eq!(
            (written.as_slice(), input.acknowledged(A), input.is_pending()),
            (&b"abcde"[..], Some(5), false)
        );
    }

    #[test]
    fn accounts_of_viewers_long_gone_give_way_and_those_of_viewers_here_do_not() {
        let mut input = Input::default();
        let here = |id: Uuid| id == A;
        input.handle_arrived(A, "key", 0, here).unwrap();
        for id in 2..=(LEDGERS_MAX as u128 + 10) {
            input.handle_arrived(Uuid::from_u128(id), "key", 0, here).unwrap();
        }
        assert_eq!(input.accounts.len(), LEDGERS_MAX);
        assert!(input.accounts.contains_key(&A) && !input.accounts.contains_key(&Uuid::from_u128(2)));
    }

    #[test]
    fn input_beyond_the_window_is_refused_while_nothing_is_written() {
        let mut input = Input::default();
        input.handle_arrived(A, "key", 0, |_| false).unwrap();
        let window = Bytes::from(vec![0; INPUT_WINDOW as usize]);
        assert_eq!(input.handle_input(A, 0, window), Ok(false));
        assert_eq!(input.handle_input(A, INPUT_WINDOW, Bytes::from_static(b"x")), Err(LedgerError::Overrun));
    }
}
