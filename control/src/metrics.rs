//! What an operator's Prometheus reads at `/metrics`.

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode, header};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use rexec_broker::Counts;

use crate::app::App;
use crate::error::ApiError;

/// Bounds of the request histogram, seconds.
const BOUNDS: [f64; 8] = [0.001, 0.005, 0.02, 0.1, 0.3, 1.0, 3.0, 10.0];

/// Bounds of the histogram of new sandboxes, seconds.
const SANDBOX_BOUNDS: [f64; 8] = [0.1, 0.3, 0.7, 1.5, 3.0, 10.0, 30.0, 120.0];

/// The counters of this process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    seconds: Histogram,
    sign_ins: Family<OutcomeLabels, Counter>,
    tickets: Counter,
    enrolled: Counter,
    machines_online: Gauge,
    machines_sampled: Gauge,
    machines_cpu: Gauge,
    machines_memory: Gauge,
    event_streams: Gauge,
    brokers_linked: Gauge,
    sandboxes: SandboxMetrics,
    broker: BrokerMetrics,
}

/// The figures of the embedded broker, copied at each reading.
#[derive(Debug, Default)]
struct BrokerMetrics {
    tunnels: Gauge,
    streams: Gauge,
    held: Gauge,
    tunnels_total: Counter,
    tunnels_refused: Counter,
    streams_total: Counter,
    viewers_refused: Counter,
    bytes_to_agents: Counter,
    bytes_to_viewers: Counter,
}

impl BrokerMetrics {
    fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("broker");
        registry.register("tunnels_up", "Tunnels that stand", self.tunnels.clone());
        registry.register("streams_open", "Viewer streams that are open", self.streams.clone());
        registry.register("viewers_held", "Viewers that wait for a tunnel", self.held.clone());
        registry.register("tunnels", "Tunnels that ever stood", self.tunnels_total.clone());
        registry.register("tunnels_refused", "Dials refused", self.tunnels_refused.clone());
        registry.register("streams", "Viewer streams ever opened", self.streams_total.clone());
        registry.register("viewers_refused", "Viewers refused", self.viewers_refused.clone());
        registry.register("to_agents_bytes", "Bytes from viewers to agents", self.bytes_to_agents.clone());
        registry.register("to_viewers_bytes", "Bytes from agents to viewers", self.bytes_to_viewers.clone());
    }

    fn copy(&self, counts: Counts) {
        for (gauge, now) in
            [(&self.tunnels, counts.tunnels), (&self.streams, counts.streams), (&self.held, counts.held)]
        {
            gauge.set(i64::try_from(now).unwrap_or(i64::MAX));
        }
        for (counter, total) in [
            (&self.tunnels_total, counts.tunnels_total),
            (&self.tunnels_refused, counts.tunnels_refused_total),
            (&self.streams_total, counts.streams_total),
            (&self.viewers_refused, counts.viewers_refused_total),
            (&self.bytes_to_agents, counts.bytes_to_agents_total),
            (&self.bytes_to_viewers, counts.bytes_to_viewers_total),
        ] {
            counter.inner().store(total, Ordering::Relaxed);
        }
    }
}

/// The figures of sandboxes.
#[derive(Debug)]
struct SandboxMetrics {
    known: Gauge,
    online: Gauge,
    created: Counter,
    failed: Counter,
    orphans: Counter,
    ready_seconds: Histogram,
}

impl SandboxMetrics {
    fn new() -> Self {
        Self {
            known: Gauge::default(),
            online: Gauge::default(),
            created: Counter::default(),
            failed: Counter::default(),
            orphans: Counter::default(),
            ready_seconds: Histogram::new(SANDBOX_BOUNDS),
        }
    }

    fn register(&self, registry: &mut Registry) {
        registry.register("sandboxes", "Sandboxes, those being deleted included", self.known.clone());
        registry.register("sandboxes_online", "Sandboxes whose tunnel is up", self.online.clone());
        registry.register("sandboxes_created", "Sandboxes made", self.created.clone());
        registry.register("sandboxes_failed", "Sandboxes given up", self.failed.clone());
        registry.register(
            "sandbox_orphans_removed",
            "Containers removed that no row spoke of",
            self.orphans.clone(),
        );
        let help = "Time from the wish to the first tunnel";
        registry.register_with_unit("sandbox_first_ready", help, Unit::Seconds, self.ready_seconds.clone());
    }
}

/// Routes and methods are those of the router, so their number is bounded.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    method: String,
    route: String,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("rexec_control");
        let made = Self {
            requests: Family::default(),
            seconds: Histogram::new(BOUNDS),
            sign_ins: Family::default(),
            tickets: Counter::default(),
            enrolled: Counter::default(),
            machines_online: Gauge::default(),
            machines_sampled: Gauge::default(),
            machines_cpu: Gauge::default(),
            machines_memory: Gauge::default(),
            event_streams: Gauge::default(),
            brokers_linked: Gauge::default(),
            sandboxes: SandboxMetrics::new(),
            broker: BrokerMetrics::default(),
            registry: Registry::default(),
        };
        registry.register("http_requests", "Requests answered", made.requests.clone());
        registry.register_with_unit(
            "http_request",
            "Time to an answer's head",
            Unit::Seconds,
            made.seconds.clone(),
        );
        registry.register("sign_ins", "Sign-ins by outcome", made.sign_ins.clone());
        registry.register("tickets", "Tickets issued", made.tickets.clone());
        registry.register("machines_enrolled", "Machines enrolled", made.enrolled.clone());
        registry.register("machines_online", "Machines whose tunnel is up", made.machines_online.clone());
        registry.register(
            "machines_sampled",
            "Machines that told within a minute what they use",
            made.machines_sampled.clone(),
        );
        registry.register(
            "machines_cpu_milli",
            "Thousandths of processors in use on those",
            made.machines_cpu.clone(),
        );
        registry.register(
            "machines_memory_kib",
            "KiB of memory in use on those",
            made.machines_memory.clone(),
        );
        registry.register("event_streams", "Event streams open", made.event_streams.clone());
        registry.register(
            "brokers_linked",
            "Brokers that stand alone and are linked",
            made.brokers_linked.clone(),
        );
        made.sandboxes.register(&mut registry);
        made.broker.register(&mut registry);
        Self { registry, ..made }
    }
}

impl Metrics {
    /// A request was answered.
    pub fn request(&self, method: &Method, route: &str, status: StatusCode, took: Duration) {
        let method = if is_known(method) { method.as_str() } else { "other" };
        let labels =
            RequestLabels { method: method.to_owned(), route: route.to_owned(), status: status.as_u16() };
        self.requests.get_or_create(&labels).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    /// A sign-in ended in `outcome`.
    pub fn sign_in(&self, outcome: &'static str) {
        self.sign_ins.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// A ticket was issued.
    pub fn ticket_issued(&self) {
        self.tickets.inc();
    }

    /// A sandbox was asked for.
    pub fn sandbox_created(&self) {
        self.sandboxes.created.inc();
    }

    /// A sandbox came up for the first time, so long after it was asked for.
    pub fn sandbox_ready(&self, after: Duration) {
        self.sandboxes.ready_seconds.observe(after.as_secs_f64());
    }

    /// A sandbox was given up.
    pub fn sandbox_failed(&self) {
        self.sandboxes.failed.inc();
    }

    /// A container nobody knew of was removed.
    pub fn sandbox_orphan(&self) {
        self.sandboxes.orphans.inc();
    }

    /// So many sandboxes there are, and so many of them are online.
    pub fn sandboxes_known(&self, known: usize, online: usize) {
        self.sandboxes.known.set(gauge(known));
        self.sandboxes.online.set(gauge(online));
    }

    /// A machine was enrolled.
    pub fn machine_enrolled(&self) {
        self.enrolled.inc();
    }
}

/// Methods come from whoever asks; only known ones become labels.
fn is_known(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::POST, Method::PATCH, Method::PUT, Method::DELETE, Method::OPTIONS]
        .contains(method)
}

/// `GET /metrics`.
pub async fn metrics(State(app): State<App>) -> Result<Response, ApiError> {
    let metrics = app.metrics();
    metrics.machines_online.set(gauge(app.parts().live.count()));
    let (cpu, memory, machines) = app.parts().samples.in_use(app.now());
    metrics.machines_sampled.set(gauge(machines));
    metrics.machines_cpu.set(i64::try_from(cpu).unwrap_or(i64::MAX));
    metrics.machines_memory.set(i64::try_from(memory).unwrap_or(i64::MAX));
    metrics.event_streams.set(gauge(app.parts().hub.listeners()));
    if let Some(broker) = &app.parts().broker {
        metrics.broker.copy(broker.counts());
    }
    metrics.brokers_linked.set(i64::try_from(app.parts().brokers.linked()).unwrap_or(i64::MAX));
    let mut text = String::new();
    encode(&mut text, &metrics.registry).map_err(ApiError::internal)?;
    Ok(([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
        .into_response())
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
