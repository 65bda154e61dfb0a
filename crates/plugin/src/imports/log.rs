//! `log`: a plugin's lines, into the relay's log under the target `plugin`.

use crate::bindings::{log, types};
use crate::call::{LogLevel, LogLine};
use crate::state::CallState;
use crate::text::one_line;

use super::pairs;

/// Characters of a line and of each field that are kept.
const TEXT_CHARACTERS: usize = 2000;
/// Fields of a line that are kept.
const FIELDS: usize = 20;

impl log::Host for CallState {
    fn write(
        &mut self,
        level: log::Level,
        text: String,
        fields: Vec<types::Attribute>,
    ) -> wasmtime::Result<()> {
        self.charge(1)?;
        let level = LogLevel::from(level);
        let text = one_line(&text, TEXT_CHARACTERS);
        if level == LogLevel::Error {
            self.log.last_error = Some(text.clone());
        }
        if !self.is_wanted(level) {
            return Ok(());
        }
        self.log.line_count += 1;
        if self.log.line_count > self.profile.limits.log_lines {
            self.log.dropped_count += 1;
            return Ok(());
        }
        let fields: Vec<_> = pairs(fields)
            .into_iter()
            .take(FIELDS)
            .map(|(name, value)| (one_line(&name, 64), one_line(&value, TEXT_CHARACTERS)))
            .collect();
        let line = LogLine {
            level,
            text,
            fields,
        };
        if !self.environment.is_repetition() {
            if self.profile.log_bucket.take((self.profile.clock)()) {
                self.emit(&line);
            } else {
                self.log.dropped_count += 1;
            }
        }
        if self.environment.wants_log() {
            self.log.kept.push(line);
        }
        Ok(())
    }

    fn enabled(&mut self, level: log::Level) -> wasmtime::Result<bool> {
        self.charge(1)?;
        let level = level.into();
        let filtered = self.is_wanted(level);
        Ok(self.environment.is_log_enabled(level, filtered))
    }
}

impl CallState {
    fn is_wanted(&self, level: LogLevel) -> bool {
        self.environment.wants_log()
            || match level {
                LogLevel::Trace => tracing::enabled!(target: "plugin", tracing::Level::TRACE),
                LogLevel::Debug => tracing::enabled!(target: "plugin", tracing::Level::DEBUG),
                LogLevel::Info => tracing::enabled!(target: "plugin", tracing::Level::INFO),
                LogLevel::Warn => tracing::enabled!(target: "plugin", tracing::Level::WARN),
                LogLevel::Error => tracing::enabled!(target: "plugin", tracing::Level::ERROR),
            }
    }

    fn emit(&self, line: &LogLine) {
        // The facade fixes level and field names at compile time.
        macro_rules! emit {
            ($level:ident) => {
                tracing::event!(
                    target: "plugin",
                    tracing::Level::$level,
                    plugin = %self.profile.name,
                    digest = %self.profile.short_digest,
                    phase = self.input.as_ref().map(|input| input.phase().as_str()),
                    message_id = %self.message_id(),
                    fields = %Fields(&line.fields),
                    "{}",
                    line.text
                )
            };
        }
        match line.level {
            LogLevel::Trace => emit!(TRACE),
            LogLevel::Debug => emit!(DEBUG),
            LogLevel::Info => emit!(INFO),
            LogLevel::Warn => emit!(WARN),
            LogLevel::Error => emit!(ERROR),
        }
    }
}

/// `name=value name=value`.
struct Fields<'a>(&'a [(String, String)]);

impl std::fmt::Display for Fields<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, (name, value)) in self.0.iter().enumerate() {
            let space = if index == 0 { "" } else { " " };
            write!(f, "{space}{name}={value:?}")?;
        }
        Ok(())
    }
}

impl From<log::Level> for LogLevel {
    fn from(level: log::Level) -> Self {
        match level {
            log::Level::Trace => Self::Trace,
            log::Level::Debug => Self::Debug,
            log::Level::Info => Self::Info,
            log::Level::Warn => Self::Warn,
            log::Level::Error => Self::Error,
        }
    }
}
