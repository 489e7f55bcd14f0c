//! What Prometheus reads, on a port of its own. Labels are routes, types and regions: never ids or values.

use prometheus::Encoder;
use prometheus::HistogramOpts;
use prometheus::HistogramVec;
use prometheus::IntCounterVec;
use prometheus::IntGaugeVec;
use prometheus::Opts;
use prometheus::TextEncoder;
use std::sync::LazyLock;

/// Every request, by method, route and status.
static REQUESTS: LazyLock<HistogramVec> = LazyLock::new(|| {
    let buckets = vec![0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];
    let options = HistogramOpts::new("eds_request_duration_seconds", "Time to answer a request").buckets(buckets);
    registered(HistogramVec::new(options, &["method", "route", "status"]))
});

/// Resources written, by type and effect.
static WRITTEN: LazyLock<IntCounterVec> = LazyLock::new(|| {
    registered(IntCounterVec::new(
        Opts::new("eds_resources_written_total", "Versions written"),
        &["type", "effect"],
    ))
});

/// Deliveries to regions, by region and result.
static DELIVERED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    registered(IntCounterVec::new(
        Opts::new(
            "eds_delivery_items_total",
            "Items that a region has acknowledged, or that were parked",
        ),
        &["region", "result"],
    ))
});

/// Items of a region's stream that it has not acknowledged.
static BACKLOG: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    registered(IntGaugeVec::new(
        Opts::new(
            "eds_delivery_backlog_items",
            "Items of a region's stream that it has not acknowledged",
        ),
        &["region"],
    ))
});

/// How far parameters of one's own are in the index.
static INDEXED: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    registered(IntGaugeVec::new(
        Opts::new(
            "eds_search_parameter_indexed_percent",
            "Rows that the indexing for a SearchParameter in use has walked, in per cent of those it has to",
        ),
        &["code"],
    ))
});

fn registered<T: prometheus::core::Collector + Clone + 'static>(metric: prometheus::Result<T>) -> T {
    let metric = metric.expect("names and labels are constants");
    prometheus::default_registry()
        .register(Box::new(metric.clone()))
        .expect("each metric is registered once");
    metric
}

pub fn observe_request(method: &str, route: &str, status: u16, seconds: f64) {
    REQUESTS.with_label_values(&[method, route, &status.to_string()]).observe(seconds);
}

pub fn count_written(type_name: &str, effect: &str) {
    WRITTEN.with_label_values(&[type_name, effect]).inc();
}

pub fn count_delivered(region: &str, result: &str, items: u64) {
    DELIVERED.with_label_values(&[region, result]).inc_by(items);
}

pub fn set_backlog(region: &str, items: i64) {
    BACKLOG.with_label_values(&[region]).set(items);
}

/// Of every parameter of one's own, by its code; those that are gone are forgotten.
pub fn set_indexed<'a>(parameters: impl Iterator<Item = (&'a str, i64)>) {
    INDEXED.reset();
    for (code, percent) in parameters {
        INDEXED.with_label_values(&[code]).set(percent);
    }
}

/// All of them, in Prometheus's text format. Errors: a text when a metric cannot be written.
pub fn render() -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    TextEncoder::new()
        .encode(&prometheus::gather(), &mut out)
        .map_err(|e| e.to_string())?;
    Ok(out)
}
