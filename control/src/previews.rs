//! Previews: HTTP on a port of a machine, in a browser, on an origin of its own.
//!
//! `http://<port>-<machine>.<domain>` comes in at control's own door ([`gate`]), which knows the visitor by a cookie of that very host ([`visit`]) and carries the
//! request to the machine over a stream of kind `forward` ([`dial`]), with a ticket on the visitor's authority that the session host checks as any other. Nothing of
//! the machine is ever answered under the app's own name, and no cookie of the app is ever sent to a machine (THREATS WS-05).

pub mod dial;
pub mod gate;
pub mod host;
pub mod visit;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rexec_shared::proof::{ProofError, ViewerKey};
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, DatabaseTransaction, DbErr, IntoActiveModel as _,
    PaginatorTrait as _, QueryFilter as _, Set,
};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use url::Url;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::app::App;
use crate::auth::signed_in::SignedIn;
use crate::entity::preview::{Column, Entity, Model};
use crate::error::ApiError;
use crate::limits::PREVIEWS_MAX;
use crate::secret::{NoRandomness, Purpose, Secret, Vault, fresh_token};
use crate::time::Timestamp;
use host::PreviewDomain;

/// How long a pass may take from the app to the preview.
const PASS_LIFE: Duration = Duration::from_secs(60);
/// Passes on their way; more than people click in a minute.
const PASSES_MAX: usize = 4_096;

/// A port of a machine that is open to browsers.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Preview {
    /// Its id.
    pub id: Uuid,
    /// The machine.
    pub machine: Uuid,
    /// The port.
    pub port: u16,
    /// Where it is, for who is signed in.
    pub url: String,
    /// Who opened it.
    pub opened_by: Uuid,
    /// When.
    pub created_at: Timestamp,
    /// Until when its link opens it to anybody; none: there is no such link.
    pub shared_until: Option<Timestamp>,
}

/// What previews need besides the database.
#[derive(Debug)]
pub struct Previews {
    domain: Option<PreviewDomain>,
    key: ViewerKey,
    /// By the keyed hash of their secret.
    passes: Mutex<HashMap<String, Pass>>,
    /// What cuts the connections of a preview, or of a link.
    cuts: Mutex<HashMap<Uuid, CancellationToken>>,
}

/// Lets one browser in, once.
#[derive(Debug, Clone)]
struct Pass {
    preview: Uuid,
    login: Uuid,
    until: Timestamp,
}

impl Previews {
    /// Previews under `domain`, or none at all.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new(domain: Option<PreviewDomain>) -> Result<Self, ProofError> {
        Ok(Self { domain, key: ViewerKey::generate()?, passes: Mutex::default(), cuts: Mutex::default() })
    }

    /// Where they are.
    ///
    /// # Errors
    /// When this installation has none.
    pub fn domain(&self) -> Result<&PreviewDomain, ApiError> {
        self.domain.as_ref().ok_or_else(|| {
            ApiError::new(http::StatusCode::CONFLICT, "previews_off", "this installation has no previews")
                .hint("its operator sets REXEC_PREVIEW_DOMAIN to a domain of its own with a wildcard record")
        })
    }

    /// What ends when the preview or link `id` does.
    fn cut_of(&self, id: Uuid) -> CancellationToken {
        let mut cuts = lock(&self.cuts);
        cuts.retain(|_, cut| !cut.is_cancelled());
        cuts.entry(id).or_default().clone()
    }

    /// Ends every connection of the preview or link.
    pub fn cut(&self, id: Uuid) {
        if let Some(cut) = lock(&self.cuts).remove(&id) {
            cut.cancel();
        }
    }

    /// A secret that lets the browser of `login` into `preview`, once, within a minute.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn pass(
        &self,
        vault: &Vault,
        preview: Uuid,
        login: Uuid,
        now: Timestamp,
    ) -> Result<Secret<String>, NoRandomness> {
        let secret = fresh_token("")?;
        let mut passes = lock(&self.passes);
        passes.retain(|_, pass| now < pass.until);
        if passes.len() >= PASSES_MAX {
            passes.clear();
        }
        let pass = Pass { preview, login, until: now.plus(PASS_LIFE) };
        passes.insert(vault.mac(Purpose::Preview, secret.expose()), pass);
        Ok(secret)
    }

    /// Uses a pass up: the preview and the login it is for.
    fn take(&self, vault: &Vault, secret: &str, now: Timestamp) -> Option<(Uuid, Uuid)> {
        let pass = lock(&self.passes).remove(&vault.mac(Purpose::Preview, secret))?;
        (now < pass.until).then_some((pass.preview, pass.login))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The row as people see it.
pub fn shown(app: &App, row: Model) -> Result<Preview, ApiError> {
    let port = port_of(&row);
    Ok(Preview {
        id: row.id,
        machine: row.machine_id,
        port,
        url: app.parts().previews.domain()?.url(row.machine_id, port),
        opened_by: row.person_id,
        created_at: row.created_at,
        shared_until: row.share_until.filter(|until| row.share_id.is_some() && app.now() < *until),
    })
}

fn port_of(row: &Model) -> u16 {
    u16::try_from(row.port).unwrap_or_default()
}

/// The preview of this port, opened if it is not.
///
/// # Errors
/// When there are too many, or the database fails.
pub async fn open(
    tx: &DatabaseTransaction,
    caller: &SignedIn,
    machine: Uuid,
    port: u16,
    now: Timestamp,
) -> Result<(Model, bool), ApiError> {
    let own = caller.scope().rows::<Entity>();
    let there =
        own.clone().filter(Column::MachineId.eq(machine)).filter(Column::Port.eq(port)).one(tx).await?;
    if let Some(there) = there {
        return Ok((there, false));
    }
    if own.count(tx).await? >= PREVIEWS_MAX {
        return Err(ApiError::limit_reached(format!("{PREVIEWS_MAX} previews are open")));
    }
    let row = Model {
        id: Uuid::now_v7(),
        organisation_id: caller.organisation.id,
        machine_id: machine,
        port: port.into(),
        person_id: caller.person.id,
        created_at: now,
        share_id: None,
        share_mac: None,
        share_person_id: None,
        share_until: None,
    };
    Ok((row.into_active_model().insert(tx).await?, true))
}

/// Gives the preview a link of its own in place of the one it had; returns its secret and the id of the link before.
///
/// # Errors
/// When the database fails.
pub async fn share(
    tx: &DatabaseTransaction,
    vault: &Vault,
    caller: &SignedIn,
    row: Model,
    until: Timestamp,
) -> Result<(Model, Secret<String>), ApiError> {
    let secret = fresh_token("").map_err(ApiError::internal)?;
    let mut row = row.into_active_model();
    row.share_id = Set(Some(Uuid::new_v4()));
    row.share_mac = Set(Some(vault.mac(Purpose::PreviewShare, secret.expose())));
    row.share_person_id = Set(Some(caller.person.id));
    row.share_until = Set(Some(until));
    Ok((row.update(tx).await?, secret))
}

/// Takes the link away.
///
/// # Errors
/// When the database fails.
pub async fn unshare(tx: &DatabaseTransaction, row: Model) -> Result<Model, DbErr> {
    let mut row = row.into_active_model();
    (row.share_id, row.share_mac, row.share_person_id, row.share_until) =
        (Set(None), Set(None), Set(None), Set(None));
    row.update(tx).await
}

/// Where a pass or a link leads: the secret is behind the `#`, which no server is sent.
pub fn entry_url(
    preview: &Preview,
    kind: &str,
    secret: &Secret<String>,
) -> Result<Secret<String>, url::ParseError> {
    let mut url = Url::parse(&preview.url)?.join("/.rexec/open")?;
    url.set_fragment(Some(&format!("{kind}.{}", secret.expose())));
    Ok(Secret::new(url.into()))
}
