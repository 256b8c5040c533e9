//! The agent, brought to an engine as a volume.
//!
//! A host's file cannot be mounted where the engine is elsewhere, or where control runs in a container itself. So the agent becomes an image of one
//! file, and an empty volume is mounted over that file's directory once: the engine copies it in. Both are named by what they hold.

use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use bollard::body_full;
use bollard::models::{ContainerCreateBody, HostConfig, Mount, MountType, VolumeCreateRequest};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, CreateImageOptionsBuilder, InspectContainerOptions,
    RemoveContainerOptionsBuilder,
};
use bytes::Bytes;
use futures_util::StreamExt as _;

use crate::engine::{DEADLINE, Engine, Kind, gone, within};
use crate::error::{EngineError, ErrorKind};

/// Where the agent lies in its image, and so in its volume's root.
const IN_IMAGE: &str = "rexec/rexec-agent";
/// The agent in its own image: what helper containers run.
pub(crate) const IN_HELPER: &str = "/rexec/rexec-agent";
/// Repository of the image.
const REPOSITORY: &str = "rexec/agent";

/// The agent on an engine: an image and a volume, named by the beginning of its SHA-256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentVolume {
    tag: String,
}

impl AgentVolume {
    fn of(binary: &[u8]) -> Self {
        let mut tag = hex::encode(digest(&SHA256, binary));
        tag.truncate(12);
        Self { tag }
    }

    /// The volume's name.
    pub(crate) fn volume(&self) -> String {
        format!("rexec-agent-{}", self.tag)
    }

    /// The image's reference.
    pub(crate) fn image(&self) -> String {
        format!("{REPOSITORY}:{}", self.tag)
    }

    #[cfg(test)]
    pub(crate) fn test() -> Self {
        Self { tag: "0123456789ab".into() }
    }
}

impl Engine {
    /// Brings the agent `binary` to the engine, unless it is there.
    ///
    /// # Errors
    /// When the file cannot be read or the engine refuses.
    pub async fn ensure_agent(&self, binary: &Path) -> Result<AgentVolume, EngineError> {
        let bytes = tokio::fs::read(binary).await.map_err(|error| {
            EngineError::new(
                ErrorKind::NotFound,
                &format!("the agent {} cannot be read: {error}", binary.display()),
            )
        })?;
        let agent = AgentVolume::of(&bytes);
        let has_image = self.has_image(&agent.image()).await?;
        let inspected = within(DEADLINE, self.docker().inspect_volume(&agent.volume())).await;
        match inspected {
            Ok(_) if has_image => return Ok(agent),
            Ok(_) => {}
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        self.import_agent(&agent, &bytes).await?;
        self.fill_volume(&agent).await?;
        Ok(agent)
    }

    async fn import_agent(&self, agent: &AgentVolume, binary: &[u8]) -> Result<(), EngineError> {
        let archive = archive(binary)
            .map_err(|error| EngineError::new(ErrorKind::Refused, &format!("packing the agent: {error}")))?;
        let options =
            CreateImageOptionsBuilder::default().from_src("-").repo(REPOSITORY).tag(&agent.tag).build();
        let mut importing = self.docker().create_image(Some(options), Some(body_full(archive)), None);
        let all = async {
            while let Some(said) = importing.next().await {
                said?;
            }
            Ok::<(), bollard::errors::Error>(())
        };
        within(DEADLINE * 4, all).await
    }

    /// A container that never runs, made so that the engine copies the image's directory into the volume.
    async fn fill_volume(&self, agent: &AgentVolume) -> Result<(), EngineError> {
        let volume = VolumeCreateRequest {
            name: Some(agent.volume()),
            labels: Some(self.labels(Kind::Agent, &[])),
            ..VolumeCreateRequest::default()
        };
        within(DEADLINE, self.docker().create_volume(volume)).await?;
        let name = format!("rexec-agent-{}-{}", agent.tag, uuid::Uuid::new_v4().simple());
        let body = ContainerCreateBody {
            image: Some(agent.image()),
            cmd: Some(vec![IN_HELPER.to_owned(), "--version".to_owned()]),
            labels: Some(self.labels(Kind::Agent, &[])),
            host_config: Some(HostConfig {
                network_mode: Some("none".to_owned()),
                mounts: Some(vec![Mount {
                    typ: Some(MountType::VOLUME),
                    source: Some(agent.volume()),
                    target: Some("/rexec".to_owned()),
                    ..Mount::default()
                }]),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        let options = CreateContainerOptionsBuilder::default().name(&name).build();
        within(DEADLINE, self.docker().create_container(Some(options), body)).await?;
        let removal = RemoveContainerOptionsBuilder::default().force(true).build();
        gone(within(DEADLINE, self.docker().remove_container(&name, Some(removal))).await)
    }

    /// Whether a container is there and runs.
    pub(crate) async fn runs(&self, name: &str) -> Result<bool, EngineError> {
        let inspected =
            within(DEADLINE, self.docker().inspect_container(name, None::<InspectContainerOptions>)).await;
        match inspected {
            Ok(found) => Ok(found.state.and_then(|state| state.running).unwrap_or(false)),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// A file system of one file.
fn archive(binary: &[u8]) -> std::io::Result<Bytes> {
    let mut archive = tar::Builder::new(Vec::with_capacity(binary.len() + 4096));
    let mut directory = tar::Header::new_ustar();
    directory.set_entry_type(tar::EntryType::Directory);
    directory.set_mode(0o755);
    directory.set_size(0);
    archive.append_data(&mut directory, "rexec/", std::io::empty())?;
    let mut file = tar::Header::new_ustar();
    file.set_mode(0o755);
    file.set_size(binary.len() as u64);
    archive.append_data(&mut file, IN_IMAGE, binary)?;
    Ok(archive.into_inner()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn the_image_holds_the_agent_and_nothing_else() {
        let packed = archive(b"\x7fELF agent").unwrap();
        let mut archive = tar::Archive::new(packed.as_ref());
        let mut found = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            found.push((path, entry.header().mode().unwrap(), content));
        }
        let expected = [("rexec/", 0o755, &b""[..]), ("rexec/rexec-agent", 0o755, b"\x7fELF agent")];
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(path, mode, content)| (path.to_owned(), mode, content.to_vec()))
            .collect();
        assert_eq!(found, expected);
        assert_eq!(AgentVolume::of(b"").tag, "e3b0c44298fc", "the SHA-256 of nothing begins so");
    }
}
