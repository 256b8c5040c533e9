//! One direction of a bad network: what becomes of each packet, and when. No clock, no dice: both are given.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// How a direction treats its packets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// Every packet arrives this much later.
    pub delay: Duration,
    /// And up to this much more, each by its own luck; so packets overtake each other.
    pub jitter: Duration,
    /// Part of the packets that is lost, 0 to 1.
    pub loss: f64,
    /// Bytes a second; none is no limit.
    pub rate: Option<u64>,
    /// Bytes that wait for their turn at most when there is a rate; beyond it packets are lost.
    pub queue: usize,
}

impl Default for Shape {
    fn default() -> Self {
        Self { delay: Duration::ZERO, jitter: Duration::ZERO, loss: 0.0, rate: None, queue: 256 * 1024 }
    }
}

impl Shape {
    /// Half of a round trip, and this loss.
    pub fn half_of(rtt: Duration, loss: f64) -> Self {
        Self { delay: rtt / 2, loss, ..Self::default() }
    }
}

/// A direction and the packets under way in it.
#[derive(Debug, Default)]
pub struct Line {
    /// What happens to packets from now on.
    pub shape: Shape,
    is_cut: bool,
    /// When the rate lets the next packet begin.
    free_at: Option<Instant>,
    /// By time of arrival, then by number.
    under_way: BinaryHeap<Reverse<(Instant, u64, Vec<u8>)>>,
    numbered: u64,
}

impl Line {
    /// A packet comes in. `luck` decides its loss and `spread` its jitter, both in 0..1.
    pub fn handle_packet(&mut self, packet: &[u8], now: Instant, luck: f64, spread: f64) {
        if self.is_cut || luck < self.shape.loss {
            return;
        }
        let Some(sent) = self.through_the_rate(packet.len(), now) else { return };
        let arrives = sent + self.shape.delay + self.shape.jitter.mul_f64(spread.clamp(0.0, 1.0));
        self.numbered += 1;
        self.under_way.push(Reverse((arrives, self.numbered, packet.to_vec())));
    }

    /// The next packet whose time has come.
    pub fn poll_packet(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.poll_timeout()? > now {
            return None;
        }
        self.under_way.pop().map(|Reverse((_, _, packet))| packet)
    }

    /// When the next packet arrives.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.under_way.peek().map(|Reverse((arrives, ..))| *arrives)
    }

    /// Loses everything, what is under way too.
    pub fn cut(&mut self) {
        self.is_cut = true;
        self.under_way.clear();
    }

    /// Ends the cut.
    pub fn mend(&mut self) {
        self.is_cut = false;
    }

    /// When the last byte of the packet has left, or nothing when the queue is full.
    fn through_the_rate(&mut self, length: usize, now: Instant) -> Option<Instant> {
        let Some(rate) = self.shape.rate else { return Some(now) };
        let begins = self.free_at.map_or(now, |free| free.max(now));
        let takes = |bytes: usize| Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
        if begins.saturating_duration_since(now) > takes(self.shape.queue) {
            return None;
        }
        let ends = begins + takes(length);
        self.free_at = Some(ends);
        Some(ends)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_perfect_line_keeps_order_and_a_slow_one_delays() {
        let now = Instant::now();
        let mut line = Line::default();
        line.handle_packet(b"a", now, 0.5, 0.5);
        line.handle_packet(b"b", now, 0.5, 0.0);
        assert_eq!(line.poll_packet(now).as_deref(), Some(&b"a"[..]));
        assert_eq!(line.poll_packet(now).as_deref(), Some(&b"b"[..]));
        line.shape.delay = 10 * MS;
        line.handle_packet(b"c", now, 0.5, 0.5);
        assert_eq!(line.poll_packet(now + 9 * MS), None);
        assert_eq!(line.poll_timeout(), Some(now + 10 * MS));
        assert_eq!(line.poll_packet(now + 10 * MS).as_deref(), Some(&b"c"[..]));
    }

    #[test]
    fn jitter_lets_packets_overtake_and_loss_takes_its_part() {
        let now = Instant::now();
        let mut line =
            Line { shape: Shape { jitter: 10 * MS, loss: 0.2, ..Shape::default() }, ..Line::default() };
        line.handle_packet(b"late", now, 0.9, 1.0);
        line.handle_packet(b"early", now, 0.9, 0.1);
        line.handle_packet(b"lost", now, 0.1, 0.0);
        assert_eq!(line.poll_packet(now + 10 * MS).as_deref(), Some(&b"early"[..]));
        assert_eq!(line.poll_packet(now + 10 * MS).as_deref(), Some(&b"late"[..]));
        assert_eq!(line.poll_packet(now + 10 * MS), None);
    }

    #[test]
    fn a_rate_spaces_packets_out_and_drops_what_the_queue_cannot_hold() {
        let now = Instant::now();
        let shape = Shape { rate: Some(100_000), queue: 2_000, ..Shape::default() };
        let mut line = Line { shape, ..Line::default() };
        for _ in 0..10 {
            line.handle_packet(&[0; 1_000], now, 0.5, 0.0);
        }
        let arrived: Vec<_> =
            std::iter::from_fn(|| line.under_way.pop()).map(|Reverse((at, ..))| at - now).collect();
        assert_eq!(arrived, [10 * MS, 20 * MS, 30 * MS], "one under way, two waiting");
    }

    #[test]
    fn a_cut_takes_what_is_under_way() {
        let now = Instant::now();
        let mut line = Line { shape: Shape { delay: MS, ..Shape::default() }, ..Line::default() };
        line.handle_packet(b"a", now, 0.5, 0.0);
        line.cut();
        line.handle_packet(b"b", now, 0.5, 0.0);
        line.mend();
        assert_eq!(line.poll_packet(now + MS), None);
        line.handle_packet(b"c", now, 0.5, 0.0);
        assert_eq!(line.poll_packet(now + MS).as_deref(), Some(&b"c"[..]));
    }
}
