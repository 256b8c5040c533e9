//! Images: whether one is there, and fetching it.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::CreateImageInfo;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::StreamExt as _;
use tokio::time::{Instant, timeout_at};

use crate::engine::{DEADLINE, Engine, within};
use crate::error::{EngineError, ErrorKind};

/// A large image over a slow line.
const PULL_DEADLINE: Duration = Duration::from_secs(30 * 60);
/// Layers whose progress is kept; an image has at most 127.
const LAYERS_MAX: usize = 256;
/// Longest word on progress, characters.
const DETAIL_MAX: usize = 80;

/// How far a pull is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pull {
    /// Of the bytes known so far, how many are here, percent.
    pub percent: Option<u8>,
    /// What the engine is at.
    pub detail: String,
}

impl Engine {
    /// Whether the image is on the engine.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn has_image(&self, reference: &str) -> Result<bool, EngineError> {
        match within(DEADLINE, self.docker().inspect_image(reference)).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Fetches the image from its registry, unless it is here.
    ///
    /// # Errors
    /// When there is no such image, or it is not given to us.
    pub async fn ensure_image(
        &self,
        reference: &str,
        progress: &mut (dyn FnMut(Pull) + Send),
    ) -> Result<(), EngineError> {
        if self.has_image(reference).await? {
            return Ok(());
        }
        let options = CreateImageOptionsBuilder::default().from_image(reference).build();
        let mut pulling = self.docker().create_image(Some(options), None, None);
        let (deadline, mut layers) = (Instant::now() + PULL_DEADLINE, Layers::default());
        loop {
            let said = timeout_at(deadline, pulling.next()).await.map_err(|_| {
                EngineError::new(ErrorKind::TooSlow, "the image was not here within half an hour")
            })?;
            match said {
                None => return Ok(()),
                Some(Ok(info)) => progress(layers.add(info)),
                Some(Err(error)) => return Err(EngineError::from(error).of_pull()),
            }
        }
    }
}

/// Bytes here and bytes in all, for each layer.
#[derive(Debug, Default)]
struct Layers(HashMap<String, (u64, u64)>);

impl Layers {
    fn add(&mut self, info: CreateImageInfo) -> Pull {
        let detail = info.status.unwrap_or_default();
        let bytes = |count: Option<i64>| count.and_then(|count| u64::try_from(count).ok());
        if let (Some(layer), Some(progress)) = (info.id, info.progress_detail)
            && let (Some(current), Some(total)) = (bytes(progress.current), bytes(progress.total))
            && (self.0.len() < LAYERS_MAX || self.0.contains_key(&layer))
            // Unpacking counts from the start again: what is here stays here.
            && detail.starts_with("Down")
        {
            self.0.insert(layer, (current.min(total), total));
        }
        let (here, all) =
            self.0.values().fold((0, 0), |(here, all), (current, total)| (here + current, all + total));
        let percent = (here * 100).checked_div(all).and_then(|percent| u8::try_from(percent).ok());
        let detail = rexec_shared::text::shown(&detail, DETAIL_MAX);
        Pull { percent, detail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::ProgressDetail;

    fn said(layer: &str, status: &str, current: i64, total: i64) -> CreateImageInfo {
        CreateImageInfo {
            id: Some(layer.into()),
            status: Some(status.into()),
            progress_detail: Some(ProgressDetail { current: Some(current), total: Some(total) }),
            ..CreateImageInfo::default()
        }
    }

    #[test]
    fn progress_is_of_all_layers_and_never_goes_back_to_unpack() {
        let mut layers = Layers::default();
        assert_eq!(layers.add(said("a", "Downloading", 50, 100)).percent, Some(50));
        assert_eq!(layers.add(said("b", "Downloading", 100, 300)).percent, Some(37));
        assert_eq!(layers.add(said("a", "Extracting", 1, 100)).percent, Some(37));
        assert_eq!(layers.add(said("b", "Downloading", 900, 300)).percent, Some(87));
        assert_eq!(Layers::default().add(CreateImageInfo::default()).percent, None);
    }
}
