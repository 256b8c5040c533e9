//! What machines use: the last quarter of an hour of each, in memory alone.
//!
//! An agent tells one sample every five seconds; the broker passes them on in batches. Nothing is decided by them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{PoisonError, RwLock};

use rexec_shared::limits::SAMPLE_EVERY;
use rexec_shared::tunnel::Sample;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::time::Timestamp;

/// Samples kept of a machine: fifteen minutes.
pub const SAMPLES_KEPT: usize = 180;
/// Machines samples are kept of; those beyond have none. 4 KiB each.
const MACHINES_KEPT: usize = 50_000;

/// One sample as it is kept and shown: thousandths of a processor, KiB of memory, KiB received and sent a second, MiB of disk.
pub type Point = [u32; 5];

/// The last quarter of an hour of one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Samples {
    /// The machine.
    pub machine: Uuid,
    /// When the last point is of.
    pub at: Timestamp,
    /// Seconds between two points.
    pub interval_s: u64,
    /// Thousandths of a processor it has.
    pub cpu_max_milli: u32,
    /// KiB of memory it has.
    pub memory_max_kib: u32,
    /// MiB of disk it has; 0 where that is not known.
    pub disk_max_mib: u32,
    /// Oldest first, 180 at most: `[cpu_milli, memory_kib, received_kib_s, sent_kib_s, disk_mib]`, or null where none came.
    #[schema(value_type = Vec<Option<Vec<u32>>>)]
    pub points: Vec<Option<Point>>,
}

/// `event: samples`: the newest point of machines of the organisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct NewSamples {
    /// When.
    pub at: Timestamp,
    /// By machine, as in `Samples`.
    #[schema(value_type = BTreeMap<Uuid, Vec<u32>>)]
    pub points: BTreeMap<Uuid, Point>,
}

#[derive(Debug)]
struct Ring {
    newest: Sample,
    slot: i64,
    points: VecDeque<Option<Point>>,
}

/// The samples of all machines.
#[derive(Debug, Default)]
pub struct SampleStore {
    rings: RwLock<HashMap<Uuid, Ring>>,
}

fn slot(now: Timestamp) -> i64 {
    now.0.div_euclid(i64::try_from(SAMPLE_EVERY.as_millis()).unwrap_or(i64::MAX))
}

fn point(sample: &Sample) -> Point {
    [sample.cpu_milli, sample.memory_kib, sample.received_kib_s, sample.sent_kib_s, sample.disk_mib]
}

impl SampleStore {
    /// Takes what a machine says of itself, and gives it back as it is shown. A machine that says more than it has is believed no more than that.
    pub fn learn(&self, machine: Uuid, said: Sample, now: Timestamp) -> Option<Point> {
        let sample = Sample {
            cpu_milli: said.cpu_milli.min(said.cpu_max_milli),
            memory_kib: said.memory_kib.min(said.memory_max_kib),
            disk_mib: said.disk_mib.min(said.disk_max_mib),
            ..said
        };
        let (slot, point) = (slot(now), point(&sample));
        let mut rings = self.rings.write().unwrap_or_else(PoisonError::into_inner);
        if rings.len() >= MACHINES_KEPT && !rings.contains_key(&machine) {
            return None;
        }
        let ring = rings.entry(machine).or_insert_with(|| Ring {
            newest: sample,
            slot: slot - 1,
            points: VecDeque::new(),
        });
        ring.newest = sample;
        if slot <= ring.slot {
            // Two of one moment: the later one counts.
            ring.points.pop_back();
        } else {
            let missed = usize::try_from(slot - ring.slot - 1).unwrap_or(SAMPLES_KEPT).min(SAMPLES_KEPT);
            ring.points.extend(std::iter::repeat_n(None, if ring.points.is_empty() { 0 } else { missed }));
            ring.slot = slot;
        }
        ring.points.push_back(Some(point));
        let surplus = ring.points.len().saturating_sub(SAMPLES_KEPT);
        ring.points.drain(..surplus);
        Some(point)
    }

    /// The last quarter of an hour of `machine`, if it said anything in it.
    pub fn of(&self, machine: Uuid, now: Timestamp) -> Option<Samples> {
        let rings = self.rings.read().unwrap_or_else(PoisonError::into_inner);
        let ring = rings.get(&machine).filter(|ring| slot(now) - ring.slot < SAMPLES_KEPT as i64)?;
        let interval = SAMPLE_EVERY.as_millis() as i64;
        Some(Samples {
            machine,
            at: Timestamp(ring.slot.saturating_mul(interval)),
            interval_s: SAMPLE_EVERY.as_secs(),
            cpu_max_milli: ring.newest.cpu_max_milli,
            memory_max_kib: ring.newest.memory_max_kib,
            disk_max_mib: ring.newest.disk_max_mib,
            points: ring.points.iter().copied().collect(),
        })
    }

    /// Forgets machines that have said nothing for so long that nothing of it is shown.
    pub fn sweep(&self, now: Timestamp) {
        let mut rings = self.rings.write().unwrap_or_else(PoisonError::into_inner);
        rings.retain(|_, ring| slot(now) - ring.slot < SAMPLES_KEPT as i64);
    }

    /// Forgets a machine.
    pub fn forget(&self, machine: Uuid) {
        self.rings.write().unwrap_or_else(PoisonError::into_inner).remove(&machine);
    }

    /// Thousandths of processors and KiB of memory in use on all machines that spoke within the last minute, and how many those are.
    pub fn in_use(&self, now: Timestamp) -> (u64, u64, usize) {
        let rings = self.rings.read().unwrap_or_else(PoisonError::into_inner);
        let fresh = rings.values().filter(|ring| slot(now) - ring.slot < 12);
        fresh.fold((0, 0, 0), |(cpu, memory, count), ring| {
            (cpu + u64::from(ring.newest.cpu_milli), memory + u64::from(ring.newest.memory_kib), count + 1)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(cpu_milli: u32) -> Sample {
        Sample { cpu_milli, cpu_max_milli: 2_000, memory_kib: 10, memory_max_kib: 100, ..Sample::default() }
    }

    fn cpus(samples: &Samples) -> Vec<Option<u32>> {
        samples.points.iter().map(|point| point.map(|[cpu, ..]| cpu)).collect()
    }

    #[test]
    fn a_gap_is_a_gap_and_a_quarter_of_an_hour_is_kept() {
        let (store, machine, at) =
            (SampleStore::default(), Uuid::new_v4(), |s: i64| Timestamp(1_000_000_000 + s * 1_000));
        assert_eq!(store.of(machine, at(0)), None);
        for (when, cpu) in [(0, 1), (5, 2), (9, 3), (20, 4)] {
            store.learn(machine, sample(cpu), at(when));
        }
        let shown = store.of(machine, at(21)).expect("known");
        assert_eq!(cpus(&shown), [Some(1), Some(3), None, None, Some(4)]);
        assert_eq!((shown.at, shown.cpu_max_milli), (at(20), 2_000));
        for n in 0..500 {
            store.learn(machine, sample(n), at(25 + i64::from(n) * 5));
        }
        let shown = store.of(machine, at(2_520)).expect("known");
        assert_eq!((shown.points.len(), cpus(&shown)[0]), (SAMPLES_KEPT, Some(320)));
        assert!(store.of(machine, at(2_520 + 900)).is_none());
        store.sweep(at(2_520 + 900));
        assert!(store.rings.read().expect("a lock").is_empty());
    }

    #[test]
    fn ma_08_nobody_uses_more_than_there_is() {
        let (store, now) = (SampleStore::default(), Timestamp(1_000_000_000));
        let said = Sample { cpu_milli: u32::MAX, memory_kib: u32::MAX, disk_mib: 7, ..sample(0) };
        assert_eq!(store.learn(Uuid::new_v4(), said, now), Some([2_000, 100, 0, 0, 0]));
    }
}
