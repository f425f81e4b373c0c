//! The answer to a scrape, as OpenMetrics or in the older text format of Prometheus.

use std::{collections::HashSet, fmt};

use flashsale_core::metrics::HistogramSnapshot;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::Registry,
};

/// The labels of a sample.
pub type Labels = Vec<(&'static str, String)>;

/// The samples of one scrape.
#[derive(Debug, Default)]
pub struct Exposition {
    families: Vec<Family>,
}

#[derive(Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    samples: Vec<(Labels, Value)>,
}

#[derive(Debug)]
enum Value {
    Counter(u64),
    Gauge(f64),
    Histogram { reading: HistogramSnapshot, per_unit: f64 },
}

impl Exposition {
    /// Adds a counter. The encoder appends `_total` to its name.
    pub fn counter(&mut self, name: &'static str, help: &'static str, labels: Labels, count: u64) {
        self.add(name, help, labels, Value::Counter(count));
    }

    /// Adds a gauge.
    pub fn gauge(&mut self, name: &'static str, help: &'static str, labels: Labels, number: f64) {
        self.add(name, help, labels, Value::Gauge(number));
    }

    /// Adds a histogram; divides values by `per_unit`, such as 1,000,000 for µs to s.
    pub fn histogram(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: Labels,
        reading: HistogramSnapshot,
        per_unit: f64,
    ) {
        self.add(name, help, labels, Value::Histogram { reading, per_unit });
    }

    fn add(&mut self, name: &'static str, help: &'static str, labels: Labels, value: Value) {
        // The format requires all samples of a name to be adjacent.
        let index = self.families.iter().position(|family| family.name == name).unwrap_or_else(|| {
            self.families.push(Family { name, help, samples: Vec::new() });
            self.families.len() - 1
        });
        self.families[index].samples.push((labels, value));
    }

    /// Encodes the samples in the text format 0.0.4 of Prometheus, where counters are described by
    /// the name of their samples and nothing marks the end.
    pub fn prometheus_text(self) -> String {
        let counters = self.families.iter().filter(|family| {
            family.samples.first().is_some_and(|(_, value)| matches!(value, Value::Counter(_)))
        });
        let counters: HashSet<&'static str> = counters.map(|family| family.name).collect();
        let mut text = String::new();
        for line in self.text().lines().filter(|line| *line != "# EOF") {
            let described = ["# HELP ", "# TYPE "].iter().find_map(|start| {
                let (name, rest) = line.strip_prefix(start)?.split_once(' ')?;
                counters.contains(name).then(|| format!("{start}{name}_total {rest}"))
            });
            text.push_str(described.as_deref().unwrap_or(line));
            text.push('\n');
        }
        text
    }

    /// Encodes the samples as OpenMetrics 1.0.
    ///
    /// # Panics
    ///
    /// Never: encoding into a string cannot fail.
    pub fn text(self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        text::encode(&mut text, &registry).expect("writing to a string does not fail");
        text
    }
}

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for Family { name, help, samples } in &self.families {
            let Some((_, first)) = samples.first() else { continue };
            let mut metric = encoder.encode_descriptor(name, help, None, first.kind())?;
            for (labels, value) in samples {
                if labels.is_empty() {
                    value.encode(&mut metric)?;
                } else {
                    value.encode(&mut metric.encode_family(labels)?)?;
                }
            }
        }
        Ok(())
    }
}

impl Value {
    fn kind(&self) -> MetricType {
        match self {
            Self::Counter(_) => MetricType::Counter,
            Self::Gauge(_) => MetricType::Gauge,
            Self::Histogram { .. } => MetricType::Histogram,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a sum above 2^53 may lose its last digits")]
    fn encode(&self, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        match self {
            Self::Counter(count) => encoder.encode_counter::<NoLabelSet, _, u64>(count, None),
            Self::Gauge(number) => encoder.encode_gauge(number),
            Self::Histogram { reading, per_unit } => {
                let bounds =
                    reading.bounds.iter().map(|bound| *bound as f64 / per_unit).chain([f64::INFINITY]);
                let buckets: Vec<_> = bounds.zip(reading.counts.iter().copied()).collect();
                let sum = reading.sum as f64 / per_unit;
                encoder.encode_histogram::<NoLabelSet>(sum, reading.count(), &buckets, None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use flashsale_core::metrics::Histogram;

    use super::*;

    #[test]
    fn samples_of_one_name_are_adjacent() {
        let histogram = Histogram::new(&[1_000, 2_000]);
        [500, 1_500, 9_000].into_iter().for_each(|micros| histogram.record(micros));
        let mut page = Exposition::default();
        page.counter("asked", "How often.", vec![("by", "a\"b".to_owned())], 3);
        page.gauge("waiting", "How many.", Labels::new(), 0.5);
        page.counter("asked", "How often.", vec![("by", "c".to_owned())], 4);
        page.histogram("took_seconds", "How long.", Labels::new(), histogram.read(), 1e6);
        let expected = "# HELP asked How often.\n# TYPE asked counter\nasked_total{by=\"a\\\"b\"} 3\nasked_total{by=\"c\"} 4\n\
            # HELP waiting How many.\n# TYPE waiting gauge\nwaiting 0.5\n\
            # HELP took_seconds How long.\n# TYPE took_seconds histogram\n\
            took_seconds_sum 0.011\ntook_seconds_count 3\ntook_seconds_bucket{le=\"0.001\"} 1\n\
            took_seconds_bucket{le=\"0.002\"} 2\ntook_seconds_bucket{le=\"+Inf\"} 3\n# EOF\n";
        assert_eq!(page.text(), expected);
    }

    #[test]
    fn prometheus_describes_counters_by_the_name_of_their_samples() {
        let mut page = Exposition::default();
        page.counter("asked", "How often.", Labels::new(), 3);
        page.gauge("asked_now", "How many.", Labels::new(), 0.5);
        let expected = "# HELP asked_total How often.\n# TYPE asked_total counter\nasked_total 3\n\
            # HELP asked_now How many.\n# TYPE asked_now gauge\nasked_now 0.5\n";
        assert_eq!(page.prometheus_text(), expected);
    }
}
