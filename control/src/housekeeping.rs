//! What time does by itself: logins run out, codes and tokens are forgotten, idle sandboxes are stopped.

use std::time::Duration;

use sea_orm::sea_query::Cond;
use sea_orm::{ColumnTrait as _, DbErr, EntityTrait as _, QueryFilter as _, QuerySelect as _};

use crate::api::logins;
use crate::app::App;
use crate::audit::Actor;
use crate::auth::login as login_rows;
use crate::entity::login;
use crate::error::ApiError;
use crate::limits::{LOGIN_IDLE, LOGIN_LIFE};
use crate::{device, enrolment, revocation, sandboxes};

/// How often; a login may outlive its idle time by this much.
const EVERY: Duration = Duration::from_secs(30);
/// Logins ended in one round.
const LOGINS_AT_ONCE: u64 = 100;

/// Keeps house until the process ends.
pub async fn run(app: App) {
    let ending = app.parts().ending.clone();
    let mut round = tokio::time::interval(EVERY);
    round.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = ending.cancelled() => return,
            _ = round.tick() => {}
        }
        if let Err(error) = keep(&app).await {
            tracing::error!(?error, "housekeeping failed; it is tried again");
        }
    }
}

/// One round.
///
/// # Errors
/// When the database fails.
pub async fn keep(app: &App) -> Result<(), ApiError> {
    let now = app.now();
    for login in run_out(app).await? {
        logins::end(app, &login, &Actor::control()).await?;
    }
    login_rows::forget_old(app.db(), now).await?;
    device::forget_old(app.db(), now).await?;
    enrolment::forget_old(app.db(), now).await?;
    revocation::forget_old(app.db(), now).await?;
    app.parts().samples.sweep(now);
    sandboxes::life::keep(app).await?;
    Ok(())
}

/// Logins whose time has passed and which nobody has ended: what was issued to them must not go on.
async fn run_out(app: &App) -> Result<Vec<login::Model>, DbErr> {
    let now = app.now();
    let too_idle = login::Column::LastSeenAt.lte(now.minus(LOGIN_IDLE));
    let too_old = login::Column::CreatedAt.lte(now.minus(LOGIN_LIFE));
    login::Entity::find()
        .filter(login::Column::RevokedAt.is_null())
        .filter(Cond::any().add(too_idle).add(too_old))
        .limit(LOGINS_AT_ONCE)
        .all(app.db())
        .await
}
