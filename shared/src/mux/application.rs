//! What the application does with streams. Nothing here waits: what cannot be done now is told by an event when it can.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{CONTROL, End, Mux, OpenError, Outcome, Read, Stream, StreamId, Write};
use crate::close::CloseCode;

impl Mux {
    /// Opens a stream.
    pub fn open(&mut self) -> Result<StreamId, OpenError> {
        if self.end.is_some() {
            return Err(OpenError::Ended);
        }
        let id = self.next_ours.ok_or(OpenError::Ended)?;
        if self.open_ours >= self.side.streams_max() {
            return Err(OpenError::Full);
        }
        self.next_ours = id.checked_add(2);
        self.open_ours += 1;
        self.streams.insert(id, Stream::new(true, StreamId(id) == CONTROL));
        self.refresh(id);
        Ok(StreamId(id))
    }

    /// The next stream that the peer has opened.
    pub fn accept(&mut self) -> Option<StreamId> {
        let id = self.incoming.pop_front()?;
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.is_accepted = true;
            stream.obey_stop();
        }
        self.refresh(id);
        Some(StreamId(id))
    }

    /// Queues a chunk whole, or not at all.
    pub fn write(&mut self, id: StreamId, bytes: &Bytes) -> Write {
        let has_ended = self.end.is_some();
        let Some(stream) = self.streams.get_mut(&id.0) else { return Write::Ended };
        if let Some(code) = stream.send.stopped() {
            return Write::Stopped(code);
        }
        if !stream.send.is_open() {
            return Write::Ended;
        }
        if has_ended {
            return Write::Lost;
        }
        if !stream.send.write(bytes.clone()) {
            return Write::Full;
        }
        self.refresh(id.0);
        Write::Taken
    }

    /// Ends our half after what was written. False when it has ended already.
    pub fn finish(&mut self, id: StreamId) -> bool {
        let Some(stream) = self.streams.get_mut(&id.0).filter(|stream| stream.send.is_open()) else {
            return false;
        };
        stream.send.finish();
        self.refresh(id.0);
        true
    }

    /// Abandons our half and what of it was not sent. No effect once it has ended.
    pub fn reset(&mut self, id: StreamId, code: CloseCode) {
        if let Some(stream) = self.streams.get_mut(&id.0) {
            stream.reset(code.number());
        }
        self.refresh(id.0);
    }

    /// What became of our half.
    pub fn outcome(&self, id: StreamId) -> Outcome {
        match self.streams.get(&id.0).map(|stream| &stream.send) {
            Some(send) if send.stopped().is_some() => send.stopped().map_or(Outcome::Told, Outcome::Stopped),
            Some(send) if !send.is_ended() && self.end.is_some() => Outcome::Lost,
            Some(send) if !send.is_ended() => Outcome::Pending,
            Some(_) | None => Outcome::Told,
        }
    }

    /// Lets our half go before bulk, or not.
    pub fn set_urgent(&mut self, id: StreamId, is_urgent: bool) {
        if let Some(stream) = self.streams.get_mut(&id.0) {
            stream.send.is_urgent = is_urgent;
        }
    }

    /// Reads at most `max` bytes. What arrived before the connection ended can be read after it; then `None`.
    pub fn read(&mut self, id: StreamId, max: usize) -> Option<Read> {
        let Some(stream) = self.streams.get_mut(&id.0) else { return Some(Read::Stopped) };
        let read = stream.recv.read(max);
        match read {
            Read::Empty if self.end.is_some() => None,
            Read::Bytes(_) => {
                self.refresh(id.0);
                Some(read)
            }
            Read::Empty | Read::Finished | Read::Reset(_) | Read::Stopped => Some(read),
        }
    }

    /// Reads no more of the peer's half and tells it so. No effect once it has ended.
    pub fn stop(&mut self, id: StreamId, code: CloseCode) {
        if let Some(stream) = self.streams.get_mut(&id.0) {
            stream.stop(code.number());
        }
        self.refresh(id.0);
    }

    /// The application lets go of our half; reset with `code` if it has not ended it.
    pub fn release_send(&mut self, id: StreamId, code: CloseCode) {
        if let Some(stream) = self.streams.get_mut(&id.0) {
            if stream.send.is_open() {
                stream.reset(code.number());
            }
            stream.send.is_released = true;
        }
        self.refresh(id.0);
    }

    /// The application lets go of the peer's half; stopped with `code` if it has not ended.
    pub fn release_recv(&mut self, id: StreamId, code: CloseCode) {
        if let Some(stream) = self.streams.get_mut(&id.0) {
            stream.stop(code.number());
            stream.recv.is_released = true;
        }
        self.refresh(id.0);
    }

    /// Ends the connection; what was not sent is dropped. `reason` is for a log.
    pub fn close(&mut self, code: CloseCode, reason: &str) {
        if self.end.is_none() {
            self.farewell(code, reason);
            self.handle_end(End::Local(code));
        }
    }

    /// Asks the peer for a sign of life now.
    pub fn probe(&mut self, now: Instant) {
        self.pulse.ask(now);
    }

    /// How the connection ended, once it has.
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// The smoothed round trip, once measured. Includes what waits before our pings in both kernels.
    pub fn rtt(&self) -> Option<Duration> {
        self.pulse.rtt()
    }

    /// Frames for streams that were over when they came.
    pub fn late(&self) -> u64 {
        self.late
    }

    /// How often bytes were received.
    pub fn received(&self) -> u64 {
        self.received
    }
}
