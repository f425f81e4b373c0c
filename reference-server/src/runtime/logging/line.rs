//! The format of log lines.

use std::{error::Error, fmt, time::SystemTime};

use jiff::Timestamp;
use serde_json::{Map, Value};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Format, format::Writer},
    registry::LookupSpan,
};

use super::sampling::Sampling;
use crate::{bidi, config::LogFormat, runtime::current_request};

/// Formats events as text or JSON, with the request id and the count of suppressed lines. Characters
/// that turn the text around them are escaped.
pub(super) struct Line {
    format: LogFormat,
    text: Format,
    sampling: Sampling,
}

impl Line {
    pub(super) fn new(format: LogFormat, ansi: bool, sampling: Sampling) -> Self {
        Self { format, text: Format::default().with_ansi(ansi), sampling }
    }

    fn json(event: &Event<'_>, suppressed: u64) -> String {
        let metadata = event.metadata();
        let mut fields = Fields(Map::new());
        event.record(&mut fields);
        let Fields(mut fields) = fields;
        let now = Timestamp::try_from(SystemTime::now()).unwrap_or_default();
        fields.insert("timestamp".to_owned(), format!("{now:.6}").into());
        fields.insert("level".to_owned(), metadata.level().as_str().into());
        fields.insert("target".to_owned(), metadata.target().into());
        if let Some(request) = current_request::current() {
            fields.insert("request_id".to_owned(), request.to_string().into());
        }
        if suppressed > 0 {
            fields.insert("suppressed".to_owned(), suppressed.into());
        }
        Value::Object(fields).to_string()
    }
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'l> LookupSpan<'l>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let suppressed = self.sampling.take_suppressed(&event.metadata().callsite());
        if self.format == LogFormat::Json {
            return writeln!(writer, "{}", bidi::escape_json(&Self::json(event, suppressed)));
        }
        let mut line = String::new();
        self.text.format_event(context, Writer::new(&mut line), event)?;
        write!(writer, "{}", bidi::escape(line.trim_end_matches('\n')))?;
        if let Some(request) = current_request::current() {
            write!(writer, " request_id={request}")?;
        }
        if suppressed > 0 {
            write!(writer, " suppressed={suppressed}")?;
        }
        writeln!(writer)
    }
}

/// Collects the fields of an event as JSON.
struct Fields(Map<String, Value>);

impl Fields {
    fn insert(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.insert(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.insert(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.insert(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.insert(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.insert(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.insert(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.insert(field, value.to_string());
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        num::NonZeroU64,
        sync::{Arc, Mutex, PoisonError},
    };

    use tracing::instrument::WithSubscriber as _;

    use super::*;
    use crate::{
        config::LogConfig,
        runtime::{current_request::RequestId, logging},
    };

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    async fn written(format: LogFormat) -> String {
        let written = Written::default();
        let config = LogConfig { filter: "info".to_owned(), format, lines_per_second: 2 };
        let writer = written.clone();
        let subscriber = logging::subscriber(&config, move || writer.clone(), false);
        let work = async {
            for number in 0..3 {
                tracing::warn!(number, name = "茶\"壶", error = %"broken", "several");
            }
            tracing::debug!("left out");
        };
        let id = RequestId(NonZeroU64::new(255).unwrap());
        current_request::within(Some(id), work).with_subscriber(subscriber).await;
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_field_does_not_turn_the_line_around() {
        for (format, expected) in
            [(LogFormat::Text, "name=a\\u{202e}b"), (LogFormat::Json, r#""name":"a\u202eb""#)]
        {
            let lines = Written::default();
            let writer = lines.clone();
            let config = LogConfig { filter: "info".to_owned(), format, lines_per_second: 0 };
            let subscriber = logging::subscriber(&config, move || writer.clone(), false);
            tracing::subscriber::with_default(subscriber, || tracing::info!(name = %"a\u{202e}b", "seen"));
            let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
            assert!(text.contains(expected) && !text.contains('\u{202e}'), "{text}");
        }
    }

    #[tokio::test]
    async fn every_line_names_its_request() {
        let text = written(LogFormat::Text).await;
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.lines().all(|line| line.ends_with(" request_id=00000000000000ff")), "{text}");
        assert!(text.contains(" WARN ") && text.contains("several number=0"), "{text}");

        let json = written(LogFormat::Json).await;
        let lines: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2, "{json}");
        let line = &lines[1];
        assert_eq!((&line["message"], &line["number"]), (&"several".into(), &1.into()));
        assert_eq!((&line["name"], &line["error"]), (&"茶\"壶".into(), &"broken".into()));
        assert_eq!((&line["level"], &line["request_id"]), (&"WARN".into(), &"00000000000000ff".into()));
        assert!(line["timestamp"].as_str().unwrap().parse::<Timestamp>().is_ok());
    }
}
