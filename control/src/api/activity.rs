//! `GET /api/activity`: what happened in the organisation, from its audit, as people want to read it.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use sea_orm::{
    ColumnTrait as _, Condition, DbErr, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::app::App;
use crate::auth::signed_in::{Right, SignedIn};
use crate::entity::{audit_entry, machine, person};
use crate::error::{ApiError, Problem};
use crate::extract::Choices;
use crate::limits::ACTIVITY_PAGE;
use crate::time::Timestamp;

/// Written with every connection, many times an hour by each open page: nobody's news.
const UNTOLD: [&str; 1] = ["ticket.issue"];

/// What everybody in the organisation may see who sees its machines.
const COMMON: [&str; 4] = ["machine.", "preview.", "sandbox.", "snapshot."];

/// Where to go on.
#[derive(Debug, Deserialize)]
pub(super) struct Page {
    before: Option<i64>,
}

/// Something that happened.
#[derive(Debug, Serialize, ToSchema)]
pub struct Activity {
    /// Its place in the organisation's audit, from 1.
    seq: i64,
    /// When.
    at: Timestamp,
    /// What, as `object.verb`.
    action: String,
    /// What did it: `person`, `agent`, `control` or `operator`.
    actor: String,
    /// What it is called; empty where it has no name.
    actor_name: String,
    /// Whether it was the caller.
    own: bool,
    /// From where; none where the caller may not know.
    ip: Option<String>,
    /// To what: an id.
    target: String,
    /// What that is, or was, called; none where it has no name. Of a session, its machine.
    target_name: Option<String>,
    /// Whether it was tried and not allowed.
    refused: bool,
}

/// What happened last in the organisation, newest first: of people other than the caller only what they did to machines, unless the caller may read the audit.
#[utoipa::path(
    get,
    path = "/api/activity",
    tag = "machines",
    params(("before" = Option<i64>, Query, description = "only what is older than this `seq`")),
    responses((status = 200, body = [Activity]), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(("login" = []))
)]
pub(super) async fn list_activity(
    State(app): State<App>,
    caller: SignedIn,
    Choices(page): Choices<Page>,
) -> Result<Json<Vec<Activity>>, ApiError> {
    let mut rows = caller
        .scope()
        .rows::<audit_entry::Entity>()
        .filter(audit_entry::Column::Action.is_not_in(UNTOLD))
        .order_by_desc(audit_entry::Column::Seq)
        .limit(ACTIVITY_PAGE);
    if let Some(before) = page.before {
        rows = rows.filter(audit_entry::Column::Seq.lt(before));
    }
    let reads_all = caller.may(Right::ReadAudit);
    if !reads_all {
        rows = rows.filter(common_or_own(caller.person.id));
    }
    let rows = rows.all(app.db()).await?;
    let names = Names::of(&app, &caller, &rows).await?;
    Ok(Json(rows.into_iter().map(|row| names.told(row, caller.person.id, reads_all)).collect()))
}

fn common_or_own(person: Uuid) -> Condition {
    let own = Condition::all()
        .add(audit_entry::Column::ActorKind.eq("person"))
        .add(audit_entry::Column::ActorId.eq(person.to_string()));
    COMMON
        .iter()
        .fold(Condition::any().add(own), |any, kind| any.add(audit_entry::Column::Action.starts_with(*kind)))
}

/// What the ids in some entries are called.
struct Names {
    people: HashMap<String, String>,
    machines: HashMap<String, String>,
}

impl Names {
    async fn of(app: &App, caller: &SignedIn, rows: &[audit_entry::Model]) -> Result<Self, DbErr> {
        let ids: Vec<Uuid> = rows
            .iter()
            .flat_map(|row| [&row.actor_id, &row.target])
            .filter_map(|id| id.parse().ok())
            .chain(rows.iter().filter_map(|row| word(&row.detail, "machine")?.parse().ok()))
            .collect();
        // Whoever acted in the organisation is no stranger to it, even who has left.
        let people =
            person::Entity::find().filter(person::Column::Id.is_in(actors(rows))).all(app.db()).await?;
        let machines = caller
            .scope()
            .rows::<machine::Entity>()
            .filter(machine::Column::Id.is_in(ids))
            .all(app.db())
            .await?;
        Ok(Self {
            people: people.into_iter().map(|row| (row.id.to_string(), row.name)).collect(),
            machines: machines.into_iter().map(|row| (row.id.to_string(), row.name)).collect(),
        })
    }

    /// What the object of a deed is called: now, or when the deed was done.
    fn called(&self, row: &audit_entry::Model) -> Option<String> {
        let machine = |id: &str| self.machines.get(id).cloned();
        machine(&row.target)
            .or_else(|| word(&row.detail, "name"))
            .or_else(|| machine(&word(&row.detail, "machine")?))
    }

    fn told(&self, row: audit_entry::Model, caller: Uuid, reads_all: bool) -> Activity {
        let own = row.actor_kind == "person" && row.actor_id == caller.to_string();
        let target_name = self.called(&row);
        let refused = word(&row.detail, "refused").is_some();
        let known = if row.actor_kind == "person" { &self.people } else { &self.machines };
        Activity {
            seq: row.seq,
            at: row.at,
            actor_name: known.get(&row.actor_id).cloned().unwrap_or_default(),
            own,
            ip: (own || reads_all).then_some(row.ip).filter(|ip| !ip.is_empty()),
            target_name,
            refused,
            action: row.action,
            actor: row.actor_kind,
            target: row.target,
        }
    }
}

fn actors(rows: &[audit_entry::Model]) -> Vec<Uuid> {
    rows.iter().filter(|row| row.actor_kind == "person").filter_map(|row| row.actor_id.parse().ok()).collect()
}

/// A word of what else the deed said.
fn word(detail: &str, key: &str) -> Option<String> {
    let detail: Value = serde_json::from_str(detail).ok()?;
    detail.get(key)?.as_str().map(str::to_owned)
}
