//! Harm done to somebody else, and the person next to it: typing and numbers go on, and single keystrokes come back as fast as ever.

use std::time::Duration;

use anyhow::Result;

use super::{Fault, Promise, Scene, neighbour, slow_viewer, told};
use crate::echo::{Echo, Times};
use crate::netlab::line::Shape;
use crate::traffic::Traffic;
use crate::{Installation, Machine};

/// Keystrokes measured before the harm, and at least as many beside it.
const KEYS: usize = 200;
/// Measured between two looks whether the harm is over.
const KEYS_AT_ONCE: usize = 20;
/// Until the harm is under way.
const UNDER_WAY: Duration = Duration::from_millis(700);
/// One keystroke in a hundred may take this long beside the harm: half of what a person takes for instant; or half as long again as without the harm,
/// on a machine that is slow by itself. `make bench` is stricter: it compares.
const ECHO: Duration = Duration::from_millis(50);
/// A slow uplink, bytes a second: a megabit.
const SLOW: u64 = 125_000;

impl Scene<'_> {
    pub(super) async fn harm_somebody_else(
        &mut self,
        installation: &Installation,
        traffic: &mut Traffic,
    ) -> Result<Duration> {
        let mut echo = Echo::start(installation.owner(), self.machine.id()).await?;
        let idle = Times::of(traffic.drive_while(echo.types(KEYS)).await?);
        let harm = tokio::spawn(self.harm(installation)?);
        traffic.drive_for(UNDER_WAY).await?;
        traffic.type_some()?;
        let back = traffic.until_back().await?;
        let typing = async {
            let mut trips = Vec::new();
            while !harm.is_finished() || trips.len() < KEYS {
                trips.extend(echo.types(KEYS_AT_ONCE).await?);
            }
            Ok(trips)
        };
        let beside = Times::of(traffic.drive_while(typing).await?);
        let most = ECHO.max(idle.p99 * 3 / 2);
        self.also.push(Promise::of(
            "a keystroke beside it, p99",
            format!("≤ {}", told(most)),
            format!("{} (idle {})", told(beside.p99), told(idle.p99)),
            beside.p99 <= most,
        ));
        self.also.extend(harm.await??);
        Ok(back)
    }

    /// What is done, to whom, and what they were promised.
    fn harm(&self, installation: &Installation) -> Result<neighbour::Harm> {
        let (api, machine) = (installation.owner().clone(), self.machine.id());
        if self.fault == Fault::SlowViewer {
            return Ok(Box::pin(slow_viewer::stops_reading(api, machine)));
        }
        if self.fault == Fault::Paste {
            return Ok(Box::pin(neighbour::pastes(api, machine, installation.scratch().into())));
        }
        if self.fault == Fault::Flood {
            return Ok(Box::pin(neighbour::floods(api, machine)));
        }
        let other = Machine::start_in(installation, "other", self.other)?;
        if self.fault == Fault::AgentDies {
            return Ok(Box::pin(neighbour::dies(api, other)));
        }
        self.network()?.shape(Shape { rate: Some(SLOW), ..Shape::default() });
        Ok(Box::pin(neighbour::floods_slowly(api, other)))
    }
}
