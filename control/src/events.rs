//! Who is told what changed, at once: one channel per organisation, many event streams on it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::broadcast::{self, Receiver, Sender};
use uuid::Uuid;

use crate::api::machines::Machine;
use crate::limits::{EVENT_STREAMS_MAX, EVENTS_BEHIND};
use crate::samples::NewSamples;
use crate::sandboxes::snapshots::Snapshot;
use crate::sandboxes::view::Sandbox;

/// Something that people looking at an organisation should see at once.
#[derive(Debug, Clone)]
pub enum Event {
    /// A machine is new or has changed.
    Machine(Arc<Machine>),
    /// A machine was removed.
    MachineRemoved(Uuid),
    /// A sandbox is new or has changed.
    Sandbox(Arc<Sandbox>),
    /// Nothing is left of a sandbox.
    SandboxRemoved(Uuid),
    /// A snapshot is new or has changed.
    Snapshot(Arc<Snapshot>),
    /// Nothing is left of a snapshot.
    SnapshotRemoved(Uuid),
    /// What machines use now.
    Samples(Arc<NewSamples>),
    /// A person prefers something else now; their own streams alone are told.
    Preference {
        /// Who.
        person: Uuid,
        /// What.
        key: Arc<str>,
    },
    /// Snippets have changed: a person's own, whose streams alone are told, or the shared.
    Snippets(Option<Uuid>),
    /// Open ports have changed.
    Previews,
    /// A login was ended; its own streams end with it.
    LoginEnded(Uuid),
}

/// The channels of all organisations that somebody looks at.
#[derive(Debug, Default)]
pub struct Hub {
    channels: Mutex<HashMap<Uuid, Sender<Event>>>,
}

impl Hub {
    /// A new listener, unless the organisation has too many.
    pub fn listen(&self, organisation: Uuid) -> Option<Receiver<Event>> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        channels.retain(|_, channel| channel.receiver_count() > 0);
        let channel = channels.entry(organisation).or_insert_with(|| broadcast::channel(EVENTS_BEHIND).0);
        (channel.receiver_count() < EVENT_STREAMS_MAX).then(|| channel.subscribe())
    }

    /// Tells everybody who listens.
    pub fn tell(&self, organisation: Uuid, event: Event) {
        let channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(&organisation) {
            // Nobody listening any more is no fault.
            let _ = channel.send(event);
        }
    }

    /// Whether anybody listens, so that what nobody sees need not be made.
    pub fn has_listeners(&self, organisation: Uuid) -> bool {
        let channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        channels.get(&organisation).is_some_and(|channel| channel.receiver_count() > 0)
    }

    /// Event streams in all.
    pub fn listeners(&self) -> usize {
        let channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        channels.values().map(Sender::receiver_count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bu_01_an_event_reaches_its_own_organisation_alone() {
        let hub = Hub::default();
        let (ours, theirs) = (Uuid::new_v4(), Uuid::new_v4());
        let mut own = hub.listen(ours).expect("room");
        let mut other = hub.listen(theirs).expect("room");
        hub.tell(ours, Event::MachineRemoved(ours));
        assert!(matches!(own.try_recv(), Ok(Event::MachineRemoved(id)) if id == ours));
        assert!(other.try_recv().is_err());
    }

    #[test]
    fn an_organisation_has_a_bounded_number_of_streams() {
        let (hub, organisation) = (Hub::default(), Uuid::new_v4());
        let streams: Vec<_> =
            (0..EVENT_STREAMS_MAX).map(|_| hub.listen(organisation).expect("room")).collect();
        assert!(hub.listen(organisation).is_none());
        drop(streams);
        assert!(hub.listen(organisation).is_some());
    }
}
