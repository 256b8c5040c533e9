//! The writer lease: which viewer owns the terminal's size.
//!
//! Every writer may type; only the holder's size counts, so two windows never fight. The first writer gets it, any writer may
//! take it, and when the holder leaves it passes to the writer who has been there longest.
#![deny(clippy::disallowed_methods)]

use uuid::Uuid;

/// Who holds the lease of one session.
#[derive(Debug, Default)]
pub struct Lease {
    /// Writers attached, oldest first. Invariant: `holder` is among them or none.
    writers: Vec<Uuid>,
    holder: Option<Uuid>,
}

impl Lease {
    /// Who holds it.
    pub fn holder(&self) -> Option<Uuid> {
        self.holder
    }

    /// A writer attached. Returns whether the holder changed.
    pub fn handle_attached(&mut self, viewer: Uuid) -> bool {
        if !self.writers.contains(&viewer) {
            self.writers.push(viewer);
        }
        self.hand_over(self.holder.or(Some(viewer)))
    }

    /// A viewer left. Returns whether the holder changed.
    pub fn handle_left(&mut self, viewer: Uuid) -> bool {
        self.writers.retain(|writer| *writer != viewer);
        if self.holder == Some(viewer) { self.hand_over(self.writers.first().copied()) } else { false }
    }

    /// A viewer wants the lease. Returns whether the holder changed; a viewer that is no writer changes nothing.
    pub fn handle_take(&mut self, viewer: Uuid) -> bool {
        self.writers.contains(&viewer) && self.hand_over(Some(viewer))
    }

    /// The holder gives it up: it passes to the next writer, if there is one. Returns whether the holder changed.
    pub fn handle_release(&mut self, viewer: Uuid) -> bool {
        if self.holder != Some(viewer) {
            return false;
        }
        let next = self.writers.iter().find(|writer| **writer != viewer).copied();
        next.is_some() && self.hand_over(next)
    }

    fn hand_over(&mut self, to: Option<Uuid>) -> bool {
        std::mem::replace(&mut self.holder, to) != to
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lease_goes_to_the_first_writer_and_on_to_the_oldest_left() {
        let [a, b, c] = [Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3)];
        let mut lease = Lease::default();
        assert!(lease.handle_attached(a));
        assert!(!lease.handle_attached(b));
        assert!(!lease.handle_attached(c));
        assert!(lease.handle_take(c));
        assert!(!lease.handle_left(b));
        assert!(lease.handle_left(c));
        assert_eq!(lease.holder(), Some(a));
        assert!(!lease.handle_take(b), "who is not attached takes nothing");
        assert!(!lease.handle_release(a), "the last writer keeps it");
        assert!(lease.handle_left(a));
        assert_eq!(lease.holder(), None);
    }
}
