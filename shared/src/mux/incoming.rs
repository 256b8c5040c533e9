//! What frames of the peer's do.

use std::time::Instant;

use super::{CONTROL, End, Event, Frame, Mux, ProtocolError, Stream, StreamId};

impl Mux {
    pub(super) fn handle_frame(&mut self, frame: Frame<'_>, now: Instant) -> Result<(), ProtocolError> {
        match frame {
            Frame::Open { stream } => self.handle_open(stream)?,
            Frame::Data { stream, bytes } => {
                let is_news = self.their_half(stream)?.recv.handle_data(bytes);
                if is_news.map_err(|error| error.of(stream))? {
                    self.events.push_back(Event::Readable(StreamId(stream)));
                }
            }
            Frame::Fin { stream } => {
                self.their_half(stream)?.recv.handle_fin().map_err(|error| error.of(stream))?;
                self.handle_their_end(stream);
            }
            Frame::Reset { stream, code } => {
                self.their_half(stream)?.recv.handle_reset(code).map_err(|error| error.of(stream))?;
                self.handle_their_end(stream);
            }
            Frame::Credit { stream, bytes } => self.handle_credit(stream, bytes)?,
            Frame::Stop { stream, code } => self.handle_stop(stream, code)?,
            Frame::Close { code, reason } => {
                let reason = String::from_utf8_lossy(reason).into_owned();
                self.handle_end(End::Peer { code, reason });
            }
            Frame::Ping { token } => self.pulse.handle_ping(token, now),
            Frame::Pong { token } => {
                if !self.pulse.handle_pong(token, now) {
                    return Err(ProtocolError::UnsolicitedPong);
                }
            }
        }
        Ok(())
    }

    fn handle_open(&mut self, id: u32) -> Result<(), ProtocolError> {
        if self.next_theirs != Some(id) {
            return Err(ProtocolError::NotNext { stream: id });
        }
        let max = self.side.other().streams_max();
        if self.open_theirs >= max {
            return Err(ProtocolError::TooManyStreams { max });
        }
        self.next_theirs = id.checked_add(2);
        self.open_theirs += 1;
        self.streams.insert(id, Stream::new(false, StreamId(id) == CONTROL));
        self.incoming.push_back(id);
        self.events.push_back(Event::Incoming);
        self.refresh(id);
        Ok(())
    }

    /// A stream of which the peer has sent something; `None` when it is over.
    fn known(&mut self, id: u32) -> Result<Option<&mut Stream>, ProtocolError> {
        let next = if id % 2 == self.side.first_stream() { self.next_ours } else { self.next_theirs };
        if next.is_some_and(|next| id >= next) {
            return Err(ProtocolError::UnknownStream { stream: id });
        }
        match self.streams.get_mut(&id) {
            // Ours, but the peer cannot know of it yet.
            Some(stream) if stream.due.open => Err(ProtocolError::UnknownStream { stream: id }),
            stream => Ok(stream),
        }
    }

    /// The same for frames that cannot come after the stream's end.
    fn their_half(&mut self, id: u32) -> Result<&mut Stream, ProtocolError> {
        self.known(id)?.ok_or(ProtocolError::AfterEnd { stream: id })
    }

    fn handle_their_end(&mut self, id: u32) {
        self.events.push_back(Event::Readable(StreamId(id)));
        self.refresh(id);
    }

    fn handle_credit(&mut self, id: u32, bytes: u32) -> Result<(), ProtocolError> {
        let Some(stream) = self.known(id)? else {
            self.late += 1;
            return Ok(());
        };
        if !stream.send.handle_credit(bytes) {
            return Err(ProtocolError::CreditOverflow { stream: id });
        }
        self.refresh(id);
        Ok(())
    }

    fn handle_stop(&mut self, id: u32, code: u32) -> Result<(), ProtocolError> {
        let Some(stream) = self.known(id)? else {
            self.late += 1;
            return Ok(());
        };
        stream.send.handle_stop(code);
        stream.obey_stop();
        self.events.push_back(Event::Writable(StreamId(id)));
        self.refresh(id);
        Ok(())
    }
}
