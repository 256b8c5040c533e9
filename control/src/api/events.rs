//! `GET /api/events`: what changes, as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event as Sse, KeepAlive, KeepAliveStream};
use http::HeaderMap;
use sea_orm::DbErr;
use serde::Serialize;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use utoipa::ToSchema;
use uuid::Uuid;

use super::machines::{self, Machine};
use super::preferences::PreferenceChanged;
use super::previews::PreviewsChanged;
use super::snippets::SnippetsChanged;
use crate::app::App;
use crate::auth::signed_in::SignedIn;
use crate::auth::{guard, login};
use crate::entity::login as login_row;
use crate::error::{ApiError, Problem};
use crate::events::Event;
use crate::limits::{EVENT_KEEP_ALIVE, LOGIN_TOUCH};
use crate::sandboxes::{self, view::Sandbox};

/// `event: hello`: everything, first of all and again when the stream fell behind.
#[derive(Debug, Serialize, ToSchema)]
pub struct Hello {
    /// Every machine.
    pub machines: Vec<Machine>,
    /// Every sandbox.
    pub sandboxes: Vec<Sandbox>,
}

/// `event: machine_removed`.
#[derive(Debug, Serialize, ToSchema)]
pub struct MachineRemoved {
    /// The machine.
    pub id: Uuid,
}

/// `event: sandbox_removed`.
#[derive(Debug, Serialize, ToSchema)]
pub struct SandboxRemoved {
    /// The sandbox.
    pub id: Uuid,
}

/// Events a stream holds for a slow reader before it waits for it.
const AHEAD: usize = 16;

/// Server-sent events: `hello` with `Hello`, `machine` with `Machine`, `machine_removed` with `MachineRemoved`, `sandbox` with `Sandbox`,
/// `sandbox_removed` with `SandboxRemoved`, `snapshot` with `Snapshot`, `snapshot_removed` with `SandboxRemoved`,
/// `samples` with `NewSamples`, `preference` with `PreferenceChanged` when another page of the caller's wrote one, `snippets` with `SnippetsChanged`, `previews` with `PreviewsChanged`, `signed_out`
/// when the login ends; a comment every 15 seconds.
#[utoipa::path(
    get,
    path = "/api/events",
    tag = "machines",
    responses((status = 200, description = "an endless stream", body = String, content_type = "text/event-stream"), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(("login" = []))
)]
pub(super) async fn stream_events(
    State(app): State<App>,
    caller: SignedIn,
    headers: HeaderMap,
) -> Result<axum::response::Sse<KeepAliveStream<ReceiverStream<Result<Sse, Infallible>>>>, ApiError> {
    guard::refuse_other_sites(&headers)?;
    // Listening begins before the list is read, so that nothing falls between the two.
    let changes = app.parts().hub.listen(caller.organisation.id);
    let changes = changes.ok_or_else(|| ApiError::limit_reached("too many event streams are open"))?;
    let (events, stream) = mpsc::channel(AHEAD);
    let watch = Watch { app, scope: caller.scope(), login: caller.login, events };
    tokio::spawn(watch.run(changes));
    Ok(axum::response::Sse::new(ReceiverStream::new(stream))
        .keep_alive(KeepAlive::new().interval(EVENT_KEEP_ALIVE).text("still here")))
}

/// One event stream.
struct Watch {
    app: App,
    scope: crate::scope::Scope,
    login: login_row::Model,
    events: mpsc::Sender<Result<Sse, Infallible>>,
}

/// Why a stream ends.
struct Ended;

impl Watch {
    async fn run(mut self, mut changes: Receiver<Event>) {
        let ending = self.app.parts().ending.clone();
        let mut touch = tokio::time::interval(LOGIN_TOUCH + Duration::from_secs(1));
        let mut going = self.hello().await;
        while going.is_ok() {
            going = tokio::select! {
                biased;
                () = ending.cancelled() => Err(Ended),
                () = self.events.closed() => Err(Ended),
                change = changes.recv() => self.pass_on(change).await,
                _ = touch.tick() => self.still_signed_in().await,
            };
        }
    }

    async fn pass_on(&mut self, change: Result<Event, RecvError>) -> Result<(), Ended> {
        match change {
            Ok(Event::Machine(machine)) => self.send("machine", &*machine).await,
            Ok(Event::MachineRemoved(id)) => self.send("machine_removed", &MachineRemoved { id }).await,
            Ok(Event::Sandbox(sandbox)) => self.send("sandbox", &*sandbox).await,
            Ok(Event::SandboxRemoved(id)) => self.send("sandbox_removed", &SandboxRemoved { id }).await,
            Ok(Event::Snapshot(snapshot)) => self.send("snapshot", &*snapshot).await,
            Ok(Event::SnapshotRemoved(id)) => self.send("snapshot_removed", &SandboxRemoved { id }).await,
            Ok(Event::Samples(samples)) => self.send("samples", &*samples).await,
            Ok(Event::Preference { person, key }) if person == self.login.person_id => {
                self.send("preference", &PreferenceChanged { key: key.to_string() }).await
            }
            Ok(Event::Preference { .. }) => Ok(()),
            Ok(Event::Snippets(whose)) if whose.is_none_or(|person| person == self.login.person_id) => {
                self.send("snippets", &SnippetsChanged {}).await
            }
            Ok(Event::Snippets(_)) => Ok(()),
            Ok(Event::Previews) => self.send("previews", &PreviewsChanged {}).await,
            Ok(Event::LoginEnded(id)) if id == self.login.id => self.sign_out().await,
            Ok(Event::LoginEnded(_)) => Ok(()),
            // The end of this very login may be among what was missed.
            Err(RecvError::Lagged(_)) => {
                self.still_signed_in().await?;
                self.hello().await
            }
            Err(RecvError::Closed) => Err(Ended),
        }
    }

    async fn hello(&self) -> Result<(), Ended> {
        match self.everything().await {
            Ok(hello) => self.send("hello", &hello).await,
            Err(error) => {
                tracing::error!(%error, "an event stream could not read the machines");
                Err(Ended)
            }
        }
    }

    async fn everything(&self) -> Result<Hello, DbErr> {
        let machines = machines::all_of(&self.app, self.scope).await?;
        Ok(Hello { machines, sandboxes: sandboxes::all_of(&self.app, self.scope).await? })
    }

    /// An open page is a login in use; a login that ended, by itself or unheard, ends its streams. While the database does not
    /// answer, what was last known of the login counts.
    async fn still_signed_in(&mut self) -> Result<(), Ended> {
        match self.look_again().await {
            Ok(Some(login)) => self.login = login,
            Ok(None) => return self.sign_out().await,
            Err(error) => tracing::error!(%error, "a login could not be read again"),
        }
        if self.login.is_live(self.app.now()) { Ok(()) } else { self.sign_out().await }
    }

    async fn look_again(&self) -> Result<Option<login_row::Model>, DbErr> {
        match login::still_live(self.app.db(), self.login.id, self.app.now()).await? {
            Some(login) => login::touch(&self.app, login).await.map(Some),
            None => Ok(None),
        }
    }

    async fn sign_out(&self) -> Result<(), Ended> {
        self.send("signed_out", &serde_json::json!({})).await?;
        Err(Ended)
    }

    async fn send(&self, name: &'static str, data: &impl Serialize) -> Result<(), Ended> {
        let data = serde_json::to_string(data).map_err(|_| Ended)?;
        self.events.send(Ok(Sse::default().event(name).data(data))).await.map_err(|_| Ended)
    }
}
