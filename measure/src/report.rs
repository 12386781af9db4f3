//! The figures of a measurement, as a line for programs, and percentiles.

use serde_json::{Value, json};

use crate::options::Options;

/// The line a measurement ends with.
pub(crate) fn line(name: &str, options: &Options, settings: Value, figures: Value) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let report = json!({
        "name": name, "database": options.database(), "cores": cores, "settings": settings, "figures": figures,
    });
    report.to_string()
}

/// The percentiles of some times in milliseconds, printed and as figures.
pub(crate) fn percentiles(what: &str, mut times: Vec<f64>) -> Value {
    times.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let last = times.len().saturating_sub(1);
        times.get((last as f64 * share) as usize).map_or(0.0, |ms| (ms * 1000.0).round() / 1000.0)
    };
    let (p50, p95, p99, p999, most) = (at(0.5), at(0.95), at(0.99), at(0.999), at(1.0));
    println!("{what}: {} times, in ms: p50 {p50}, p95 {p95}, p99 {p99}, p99.9 {p999}, most {most}", times.len());
    json!({ "count": times.len(), "p50": p50, "p95": p95, "p99": p99, "p999": p999, "max": most })
}

/// How many per second.
pub(crate) fn per_second(count: usize, seconds: f64) -> f64 {
    (count as f64 / seconds.max(1e-9)).round()
}
