//! What is to be written to the PTY: typing of viewers, each byte once, and the terminal's own answers.
#![deny(clippy::disallowed_methods)]

use std::collections::{BTreeMap, VecDeque};

use bytes::{Buf, Bytes, BytesMut};
use rexec_shared::ledger::{InputLedger, LedgerError};
use rexec_shared::limits::LEDGERS_MAX;
use thiserror::Error;
use uuid::Uuid;

/// The terminal's own bytes waiting for the PTY: a program that asks and never reads, or a viewer that ends files nobody reads, gets no more above this.
const OWN_MAX: usize = 4 * 1024;
/// Input of one origin is gathered in runs of about this, bytes: a keystroke alone would cost many times its size.
const RUN_MAX: usize = 4 * 1024;
/// What `Eof` types: the terminal's VEOF.
const EOF: &[u8] = b"\x04";

/// Why a viewer that arrives is not taken for the one whose id it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum ArrivalError {
    /// It has another key.
    #[error("the viewer id belongs to another key")]
    OtherKey,
    /// What it sent on a stream that it has given up came after what it sent on a newer one.
    #[error("this viewer came back on a newer stream")]
    Older,
}

/// One viewer's input stream, kept while the viewer is away.
#[derive(Debug)]
struct Account {
    /// The key it belongs to.
    cnf: String,
    ledger: InputLedger,
    /// The newest of its streams.
    attempt: u64,
    /// When it was used last, in arrivals.
    used: u64,
}

impl Account {
    /// The viewer is back, if it is the viewer and this its newest stream.
    fn handle_arrived(&mut self, cnf: &str, attempt: u64, used: u64) -> Result<u64, ArrivalError> {
        if self.cnf != cnf {
            return Err(ArrivalError::OtherKey);
        }
        if attempt < self.attempt {
            return Err(ArrivalError::Older);
        }
        (self.attempt, self.used) = (attempt, used);
        Ok(self.ledger.acknowledged())
    }
}

/// A run of bytes of one origin; `None` is the terminal itself.
type Run = (Option<Uuid>, BytesMut);

/// Input of one session, accepted and not yet written, and the accounts of it.
#[derive(Debug, Default)]
pub(super) struct Input {
    accounts: BTreeMap<Uuid, Account>,
    /// Bounded by the ledgers, of which a viewer has at most its window in it, and by [`OWN_MAX`].
    queue: VecDeque<Run>,
    /// Bytes of the terminal's own in the queue.
    own: usize,
    arrivals: u64,
}

impl Input {
    /// Whether no viewer ever arrived.
    pub(super) fn is_unused(&self) -> bool {
        self.accounts.is_empty()
    }

    /// A viewer arrives with a key, on its stream number `attempt`; returns the byte from which it sends again: the first that is not in the PTY. What was taken and still waits for
    /// the PTY is sent twice by that and taken once, and both ends count the same bytes against the window. Accounts of viewers that are not `here` give way, the
    /// longest unused first.
    pub(super) fn handle_arrived(
        &mut self,
        viewer: Uuid,
        cnf: &str,
        attempt: u64,
        seq: u64,
        here: impl Fn(Uuid) -> bool,
    ) -> Result<u64, ArrivalError> {
        self.arrivals += 1;
        let used = self.arrivals;
        if let Some(account) = self.accounts.get_mut(&viewer) {
            return account.handle_arrived(cnf, attempt, used);
        }
        while self.accounts.len() >= LEDGERS_MAX {
            let away = self.accounts.iter().filter(|(id, _)| !here(**id));
            let Some(oldest) = away.min_by_key(|(_, account)| account.used).map(|(id, _)| *id) else { break };
            self.accounts.remove(&oldest);
        }
        let (cnf, ledger) = (cnf.to_owned(), InputLedger::new(seq));
        self.accounts.insert(viewer, Account { cnf, ledger, attempt, used });
        Ok(seq)
    }

    /// Takes an `Input` frame. `Ok(true)`: there was nothing new in it and the viewer should be told where it stands.
    pub(super) fn handle_input(&mut self, viewer: Uuid, seq: u64, bytes: Bytes) -> Result<bool, LedgerError> {
        let Some(account) = self.accounts.get_mut(&viewer) else { return Ok(false) };
        let new = account.ledger.handle_input(seq, bytes)?;
        if new.is_empty() {
            return Ok(true);
        }
        self.push(Some(viewer), new);
        Ok(false)
    }

    /// Queues answers of the terminal, whole or, while [`OWN_MAX`] wait, not at all.
    pub(super) fn push_replies(&mut self, replies: String) {
        if !replies.is_empty() && self.own < OWN_MAX {
            self.own += replies.len();
            self.push(None, Bytes::from(replies));
        }
    }

    /// Queues an end of file. One that would follow another that still waits is the same one.
    pub(super) fn push_eof(&mut self) {
        let waits = self.queue.back().is_some_and(|(origin, run)| origin.is_none() && run.ends_with(EOF));
        if !waits && self.own < OWN_MAX {
            self.own += EOF.len();
            self.push(None, Bytes::from_static(EOF));
        }
    }

    fn push(&mut self, from: Option<Uuid>, bytes: Bytes) {
        match self.queue.back_mut() {
            Some((origin, run)) if *origin == from && run.len() + bytes.len() <= RUN_MAX => {
                run.extend_from_slice(&bytes)
            }
            Some(_) | None => self.queue.push_back((from, BytesMut::from(bytes))),
        }
    }

    /// Bytes that wait to be written.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.queue.iter().map(|(_, run)| run.len()).sum()
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
            if origin.is_none() {
                self.own = self.own.saturating_sub(len);
            }
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
        assert_eq!(input.handle_arrived(A, "key", 0, 7, |_| false), Ok(7));
        assert_eq!(input.handle_arrived(A, "other", 1, 7, |_| false), Err(ArrivalError::OtherKey));
        assert_eq!(input.handle_arrived(A, "key", 0, 0, |_| false), Ok(7), "the account outlives the stream");
    }

    #[test]
    fn of_two_streams_of_a_viewer_the_one_begun_later_counts_in_whatever_order_they_come() {
        let mut input = Input::default();
        assert_eq!(input.handle_arrived(A, "key", 2, 0, |_| false), Ok(0));
        assert_eq!(input.handle_arrived(A, "key", 1, 0, |_| false), Err(ArrivalError::Older));
        assert_eq!(input.handle_arrived(A, "other", 9, 0, |_| false), Err(ArrivalError::OtherKey));
        assert_eq!(
            input.handle_arrived(A, "key", 3, 0, |_| false),
            Ok(0),
            "another key's number counts for nothing"
        );
    }

    #[test]
    fn a_viewer_that_numbers_nothing_comes_back_as_ever() {
        let mut input = Input::default();
        assert_eq!(input.handle_arrived(A, "key", 0, 0, |_| false), Ok(0));
        assert_eq!(input.handle_arrived(A, "key", 0, 0, |_| false), Ok(0));
    }

    #[test]
    fn a_viewer_back_with_a_full_window_in_the_queue_may_send_that_window_again() {
        let mut input = Input::default();
        input.handle_arrived(A, "key", 0, 0, |_| false).unwrap();
        let window = Bytes::from(vec![0; INPUT_WINDOW as usize]);
        assert_eq!(input.handle_input(A, 0, window.clone()), Ok(false));
        assert_eq!(input.handle_arrived(A, "key", 0, 0, |_| false), Ok(0));
        assert_eq!(input.handle_input(A, 0, window), Ok(true), "nothing in it is new");
    }

    #[test]
    fn what_a_viewer_typed_twice_is_written_once_and_acknowledged_when_written() {
        let mut input = Input::default();
        input.handle_arrived(A, "key", 0, 0, |_| false).unwrap();
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
        input.handle_arrived(A, "key", 0, 0, here).unwrap();
        for id in 2..=(LEDGERS_MAX as u128 + 10) {
            input.handle_arrived(Uuid::from_u128(id), "key", 0, 0, here).unwrap();
        }
        assert_eq!(input.accounts.len(), LEDGERS_MAX);
        assert!(input.accounts.contains_key(&A) && !input.accounts.contains_key(&Uuid::from_u128(2)));
    }

    #[test]
    fn input_beyond_the_window_is_refused_while_nothing_is_written() {
        let mut input = Input::default();
        input.handle_arrived(A, "key", 0, 0, |_| false).unwrap();
        let window = Bytes::from(vec![0; INPUT_WINDOW as usize]);
        assert_eq!(input.handle_input(A, 0, window), Ok(false));
        assert_eq!(input.handle_input(A, INPUT_WINDOW, Bytes::from_static(b"x")), Err(LedgerError::Overrun));
    }

    /// Writes everything; what was written.
    fn drain(input: &mut Input) -> Vec<u8> {
        let mut written = Vec::new();
        let write = |bytes: &[u8]| {
            written.extend_from_slice(bytes);
            bytes.len()
        };
        assert!(input.write(usize::MAX, write, |_| {}));
        written
    }

    #[test]
    fn out_05_answers_that_nobody_reads_are_dropped_whole_above_a_limit() {
        let mut input = Input::default();
        for _ in 0..100_000 {
            input.push_replies("\x1b[1;1R".to_owned());
        }
        let written = drain(&mut input);
        assert!((OWN_MAX..OWN_MAX + 6).contains(&written.len()), "{}", written.len());
        assert!(written.chunks(6).all(|reply| reply == b"\x1b[1;1R"), "no answer is cut");
        input.push_replies("\x1b[0n".to_owned());
        assert_eq!(drain(&mut input), b"\x1b[0n", "who reads again is answered again");
    }

    #[test]
    fn out_05_ends_of_file_that_nobody_reads_are_one() {
        let mut input = Input::default();
        (0..100_000).for_each(|_| input.push_eof());
        assert_eq!(drain(&mut input), EOF);
        input.handle_arrived(A, "key", 0, 0, |_| false).unwrap();
        for seq in 0..100_000 {
            input.handle_input(A, seq, Bytes::from_static(b"x")).unwrap();
            input.push_eof();
        }
        assert_eq!(drain(&mut input).len(), 100_000 + OWN_MAX, "between typing they count and are bounded");
    }

    #[test]
    fn out_05_keystrokes_that_nobody_reads_are_gathered() {
        let mut input = Input::default();
        input.handle_arrived(A, "key", 0, 0, |_| false).unwrap();
        for seq in 0..INPUT_WINDOW {
            input.handle_input(A, seq, Bytes::from_static(b"x")).unwrap();
        }
        assert!(input.queue.len() <= INPUT_WINDOW as usize / RUN_MAX);
        assert_eq!(drain(&mut input).len(), INPUT_WINDOW as usize);
    }
}
