//! Logs to stderr, as JSON or text, and traces to an OpenTelemetry collector when one is configured.
//!
//! No personal data: statements of the database are never logged, whatever the filter says, and other people's crates are heard
//! only from "info" up, because their debug lines quote addresses and values. A panic is logged by its place, not its text.
//! Traces go out as OTLP over HTTP with protobuf. <https://opentelemetry.io/docs/specs/otlp/#otlphttp>

use crate::config::sections::LogFormat;
use crate::config::sections::Telemetry;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::Protocol;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::Sampler;
use opentelemetry_sdk::trace::SdkTracerProvider;
use std::time::Duration;
use tracing::Level;
use tracing::Metadata;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::FilterExt;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// A collector that is away must not hold up the stop of the server.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends the last traces when it is dropped, so keep it until the end of the program.
#[must_use]
#[derive(Debug)]
pub struct Guard {
    provider: Option<SdkTracerProvider>,
}

/// Switches logs and traces on for the whole process; call it once.
/// Errors: a filter or an endpoint that cannot be used, named by its setting.
pub fn start(settings: &Telemetry) -> Result<Guard, String> {
    let filter = EnvFilter::try_new(&settings.log).map_err(|e| format!("telemetry.log: {e}"))?;
    let filter = filter.and(filter_fn(may_be_logged));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match settings.log_format {
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
        LogFormat::Text => lines.with_ansi(false).boxed(),
    };
    let provider = provider(settings)?;
    let traces = provider.as_ref().map(|provider| {
        let ours = filter_fn(|metadata| is_ours(metadata) && *metadata.level() <= Level::INFO);
        tracing_opentelemetry::layer().with_tracer(provider.tracer("eds")).with_filter(ours)
    });
    let subscriber = tracing_subscriber::registry().with(lines.with_filter(filter)).with(traces);
    subscriber.try_init().map_err(|e| format!("the log is switched on already: {e}"))?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "a thread panicked");
    }));
    Ok(Guard { provider })
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(provider) = &self.provider
            && let Err(error) = provider.shutdown_with_timeout(EXPORT_TIMEOUT)
        {
            tracing::warn!(%error, "the last traces could not be sent");
        }
    }
}

fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.target() == "eds" || metadata.target().starts_with("eds::")
}

/// The part of the filter that no setting can widen.
fn may_be_logged(metadata: &Metadata<'_>) -> bool {
    let quotes_statements = metadata.target().starts_with("sqlx::query") || metadata.target().starts_with("sqlx::postgres::notice");
    is_ours(metadata) || (*metadata.level() <= Level::INFO && !quotes_statements)
}

/// The exporter has a thread of its own with a blocking client, so it works at any moment of the start and of the stop.
fn provider(settings: &Telemetry) -> Result<Option<SdkTracerProvider>, String> {
    if settings.otlp_endpoint.is_empty() {
        return Ok(None);
    }
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(format!("{}/v1/traces", settings.otlp_endpoint))
        .with_timeout(EXPORT_TIMEOUT)
        .build()
        .map_err(|e| format!("telemetry.otlp_endpoint: {e}"))?;
    let share = f64::from(settings.trace_percent) / 100.0;
    let resource = Resource::builder_empty().with_service_name("eds");
    let resource = resource
        .with_attribute(opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    let provider = SdkTracerProvider::builder()
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(share))))
        .with_resource(resource)
        .with_batch_exporter(exporter)
        .build();
    Ok(Some(provider))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::io::Write;
    use std::net::TcpListener;

    #[tokio::test]
    async fn spans_reach_the_collector_at_the_end_at_the_latest() {
        let collector = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut settings = crate::config::Config::defaults().unwrap().telemetry;
        settings.otlp_endpoint = format!("http://{}", collector.local_addr().unwrap());
        settings.log = "trace".to_owned();
        let request = std::thread::spawn(move || {
            let (mut stream, _) = collector.accept().unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            let mut bytes = Vec::new();
            let _ = stream.read_to_end(&mut bytes);
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
            String::from_utf8_lossy(&bytes).into_owned()
        });
        let guard = start(&settings).unwrap();
        tracing::info_span!("read", resource = "Patient").in_scope(|| tracing::info!("inside"));
        tracing::info_span!(target: "sqlx::query", "statement_of_somebody").in_scope(|| ());
        drop(guard);
        let request = request.join().unwrap();
        assert!(
            request.starts_with("POST /v1/traces HTTP/1.1") && request.contains("service.name") && request.contains("Patient"),
            "{request}"
        );
        assert!(!request.contains("statement_of_somebody"));
        assert!(start(&settings).unwrap_err().contains("already"));
    }

    #[test]
    fn a_wrong_filter_is_named() {
        let mut settings = crate::config::Config::defaults().unwrap().telemetry;
        settings.log = "eds=loud".to_owned();
        assert!(start(&settings).unwrap_err().contains("telemetry.log"));
    }
}
