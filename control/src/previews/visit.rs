//! Who looks at a preview: a signed-in person, or whoever has its link; by a cookie of the preview's own host.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use sea_orm::{DbErr, EntityTrait as _};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::host::PreviewHost;
use super::port_of;
use crate::app::App;
use crate::audit::{self, Actor, Deed};
use crate::auth::client_ip::ClientIp;
use crate::auth::signed_in::{self, Right};
use crate::auth::{cookie, login};
use crate::db;
use crate::entity::{membership, person, preview};
use crate::scope::Scope;
use crate::secret::Purpose;
use crate::time::Timestamp;

/// How long a browser that came in by a pass stays in: no longer than its login, which is asked for at each request.
const STAY: Duration = Duration::from_secs(24 * 3600);
const PLAIN: &str = "rexec_preview";
const SECURE: &str = "__Host-rexec_preview";

/// What a cookie says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Said {
    preview: Uuid,
    by: By,
    until: u64,
}

/// On what somebody is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// A login.
    Login(Uuid),
    /// A link.
    Share(Uuid),
}

/// Somebody who may look, now.
#[derive(Debug, Clone)]
pub struct Visit {
    /// Where.
    pub host: PreviewHost,
    /// The organisation.
    pub organisation: Uuid,
    /// On whose authority.
    pub person: Uuid,
    /// What is revoked to end it: a login, or the link.
    pub principal: Uuid,
    /// How the audit and the machine name the visitor.
    pub name: String,
    /// Ends its connections, when the preview is closed or the link is withdrawn.
    pub cut: CancellationToken,
    /// Its connections end by then.
    pub until: Timestamp,
}

/// The name of the cookie.
pub const fn cookie_name(secure: bool) -> &'static str {
    if secure { SECURE } else { PLAIN }
}

/// Uses a token that came with a pass or a link; the cookie for it.
///
/// # Errors
/// When the database fails.
pub async fn enter(
    app: &App,
    host: PreviewHost,
    token: &str,
    ip: ClientIp,
) -> Result<Option<HeaderValue>, DbErr> {
    let (now, previews, vault) = (app.now(), &app.parts().previews, app.vault());
    let said = match token.split_once('.') {
        Some(("pass", secret)) => previews.take(vault, secret, now).map(|(preview, login)| Said {
            preview,
            by: By::Login(login),
            until: now.plus(STAY).unix_ms(),
        }),
        Some(("share", secret)) => {
            let mac = vault.mac(Purpose::PreviewShare, secret);
            let shared = shared(app, host, &mac).await?;
            shared.map(|(preview, share, until)| Said {
                preview,
                by: By::Share(share),
                until: until.unix_ms(),
            })
        }
        Some(_) | None => None,
    };
    let Some(said) = said else { return Ok(None) };
    // A pass to one preview opens no other.
    let Some(visit) = of(app, host, said, ip).await? else { return Ok(None) };
    let guest = matches!(said.by, By::Share(_));
    let deed = Deed::new("preview.enter", host.machine).with(json!({ "port": host.port, "guest": guest }));
    let tx = db::write(app.db()).await?;
    audit::append(&tx, Scope::of(visit.organisation), now, &Actor::person(visit.person, ip), deed).await?;
    tx.commit().await?;
    Ok(cookie_for(app, said, now))
}

async fn shared(app: &App, host: PreviewHost, mac: &str) -> Result<Option<(Uuid, Uuid, Timestamp)>, DbErr> {
    use sea_orm::{ColumnTrait as _, QueryFilter as _};
    let found = preview::Entity::find()
        .filter(preview::Column::MachineId.eq(host.machine))
        .filter(preview::Column::Port.eq(host.port))
        .filter(preview::Column::ShareMac.eq(mac))
        .one(app.db())
        .await?;
    Ok(found.and_then(|row| Some((row.id, row.share_id?, row.share_until?))))
}

fn cookie_for(app: &App, said: Said, now: Timestamp) -> Option<HeaderValue> {
    let secure = app.parts().previews.domain().is_ok_and(|domain| domain.is_secure());
    let life = said.until.saturating_sub(now.unix_ms()) / 1_000;
    let text = said.text();
    let mac = app.vault().mac(Purpose::PreviewVisit, &text);
    let mut value = HeaderValue::from_str(&format!(
        "{}={text}.{mac}; Path=/; Max-Age={life}; HttpOnly; SameSite=Lax{}",
        cookie_name(secure),
        if secure { "; Secure" } else { "" }
    ))
    .ok()?;
    value.set_sensitive(true);
    Some(value)
}

impl Said {
    fn text(self) -> String {
        let (kind, id) = match self.by {
            By::Login(id) => ('l', id),
            By::Share(id) => ('s', id),
        };
        format!("{}.{kind}{}.{}", self.preview.simple(), id.simple(), self.until)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let (preview, by, until) = (parts.next()?, parts.next()?, parts.next()?);
        let id = Uuid::try_parse(by.get(1..)?).ok()?;
        let by = match by.get(..1)? {
            "l" => By::Login(id),
            "s" => By::Share(id),
            _ => return None,
        };
        let said = Self { preview: Uuid::try_parse(preview).ok()?, by, until: until.parse().ok()? };
        parts.next().is_none().then_some(said)
    }
}

/// Who the request is from, if they may look.
///
/// # Errors
/// When the database fails.
pub async fn visitor(
    app: &App,
    host: PreviewHost,
    headers: &HeaderMap,
    ip: ClientIp,
) -> Result<Option<Visit>, DbErr> {
    let secure = app.parts().previews.domain().is_ok_and(|domain| domain.is_secure());
    let Some(token) = cookie::only(headers, cookie_name(secure), 256) else { return Ok(None) };
    let Some((text, mac)) = token.expose().rsplit_once('.') else { return Ok(None) };
    let ours = app.vault().mac(Purpose::PreviewVisit, text);
    if !crate::secret::equal(ours.as_bytes(), mac.as_bytes()) {
        return Ok(None);
    }
    match Said::parse(text) {
        Some(said) => of(app, host, said, ip).await,
        None => Ok(None),
    }
}

async fn of(app: &App, host: PreviewHost, said: Said, ip: ClientIp) -> Result<Option<Visit>, DbErr> {
    let now = app.now();
    if said.until <= now.unix_ms() {
        return Ok(None);
    }
    let Some(row) = preview::Entity::find_by_id(said.preview).one(app.db()).await? else { return Ok(None) };
    if row.machine_id != host.machine || port_of(&row) != host.port {
        return Ok(None);
    }
    let Some((person, name)) = authority(app, &row, said.by, now, ip).await? else { return Ok(None) };
    let (principal, cut) = match said.by {
        By::Login(login) => (login, row.id),
        By::Share(share) => (share, share),
    };
    Ok(Some(Visit {
        host,
        organisation: row.organisation_id,
        person,
        principal,
        name,
        cut: app.parts().previews.cut_of(cut),
        until: Timestamp::from_unix_ms(said.until),
    }))
}

/// On whose authority, and under which name.
async fn authority(
    app: &App,
    row: &preview::Model,
    by: By,
    now: Timestamp,
    ip: ClientIp,
) -> Result<Option<(Uuid, String)>, DbErr> {
    match by {
        By::Login(login) => {
            let Some(login) = login::still_live(app.db(), login, now).await? else { return Ok(None) };
            let Ok(caller) = signed_in::of_login(app.db(), login, ip).await else {
                return Ok(None);
            };
            let may = caller.may(Right::ManageMachines) && caller.organisation.id == row.organisation_id;
            Ok(may.then_some((caller.person.id, caller.person.name)))
        }
        By::Share(share) => {
            let alive = row.share_id == Some(share) && row.share_until.is_some_and(|until| now < until);
            let Some(sharer) = row.share_person_id.filter(|_| alive) else { return Ok(None) };
            // Who may no longer look cannot let others.
            let key = (sharer, row.organisation_id);
            let member = membership::Entity::find_by_id(key).one(app.db()).await?;
            let may = member.is_some_and(|member| member.role.may(Right::ManageMachines));
            let person = person::Entity::find_by_id(sharer).one(app.db()).await?;
            Ok(person.filter(|_| may).map(|person| (sharer, format!("a guest of {}", person.name))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_cookie_says_is_read_as_it_was_written() {
        for by in [By::Login(Uuid::from_u128(2)), By::Share(Uuid::from_u128(3))] {
            let said = Said { preview: Uuid::from_u128(1), by, until: 77 };
            assert_eq!(Said::parse(&said.text()), Some(said));
            assert_eq!(Said::parse(&format!("{}.x", said.text())), None);
        }
        for bad in ["", ".", "..", "a.b.c", "é.é.é", "00000000000000000000000000000001.x1.1"] {
            assert_eq!(Said::parse(bad), None, "{bad}");
        }
    }
}
