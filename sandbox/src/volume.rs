//! Homes: volumes that outlive their sandboxes.

use bollard::models::VolumeCreateRequest;
use bollard::query_parameters::{ListVolumesOptionsBuilder, RemoveVolumeOptions};
use uuid::Uuid;

use crate::engine::{DEADLINE, Engine, Kind, LABEL_VOLUME, gone, within};
use crate::error::EngineError;

/// A home on an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundVolume {
    /// The id that its name is made of.
    pub id: Uuid,
}

/// The name of a home's volume.
pub(crate) fn home_name(id: Uuid) -> String {
    format!("rexec-home-{id}")
}

impl Engine {
    /// Makes a home, unless it is there.
    pub(crate) async fn ensure_home(&self, id: Uuid) -> Result<(), EngineError> {
        let volume = VolumeCreateRequest {
            name: Some(home_name(id)),
            labels: Some(self.labels(Kind::Home, &[(LABEL_VOLUME, id.to_string())])),
            ..VolumeCreateRequest::default()
        };
        within(DEADLINE, self.docker().create_volume(volume)).await.map(drop)
    }

    /// The homes on the engine.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn volumes(&self) -> Result<Vec<FoundVolume>, EngineError> {
        let options = ListVolumesOptionsBuilder::default().filters(&self.filter(Kind::Home)).build();
        let found = within(DEADLINE, self.docker().list_volumes(Some(options))).await?;
        let ids = found.volumes.unwrap_or_default().into_iter();
        Ok(ids
            .filter_map(|volume| volume.labels.get(LABEL_VOLUME)?.parse().ok())
            .map(|id| FoundVolume { id })
            .collect())
    }

    /// Removes a home and what is in it; one that is not there is no error.
    ///
    /// # Errors
    /// When a container still has it, or the engine does not answer.
    pub async fn remove_volume(&self, id: Uuid) -> Result<(), EngineError> {
        self.remove_copies(id).await?;
        gone(within(DEADLINE, self.docker().remove_volume(&home_name(id), None::<RemoveVolumeOptions>)).await)
    }
}
