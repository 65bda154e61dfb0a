//! Keys of a plugin about its instances: in which phases it is asked, how long an
//! instance lives, and what its calls may spend beyond time and memory.

use std::time::Duration;

use super::Severity;
use super::tree::Section;
use super::value::Wrong;

/// The phases that a plugin is asked in; `None`: every one it exports.
pub(super) fn phases(plugin: &mut Section<'_>) -> Option<Vec<plugin::Phase>> {
    let wanted = "a list of phases, as in [\"routing\", \"delivery\"]";
    let help = "write \"sender\", \"recipient\", \"message\", \"routing\" or \"delivery\"";
    let nodes = plugin.list("phases", wanted)?;
    if nodes.is_empty() {
        let wrong = Wrong::new(
            "a plugin without phases is never asked",
            "leave `phases` out for every phase that it exports, or write enabled = false",
        );
        plugin.fault(Severity::Error, "phases", wrong);
    }
    let phase = |text: &str| {
        text.parse()
            .map_err(|error: plugin::PhaseError| Wrong::new(format!("{text:?} is {error}"), help))
    };
    let phases = nodes.iter().filter_map(|node| node.parsed(wanted, phase));
    Some(phases.collect())
}

/// `[plugin.instances]`.
pub(super) fn instances(mut section: Section<'_>) -> plugin::Instances {
    let default = plugin::Instances::default();
    let instances = plugin::Instances {
        reuse: section.count("reuse", default.reuse, 1..=1_000_000),
        idle: section.duration(
            "idle",
            default.idle,
            Duration::from_millis(1)..=Duration::from_secs(86_400),
        ),
    };
    section.finish();
    instances
}

/// What the calls of a plugin may pass to the relay, write and count.
pub(super) fn outputs(plugin: &mut Section<'_>, limits: &plugin::Limits) -> plugin::Limits {
    let data = plugin.size("data", limits.data_bytes as u64, 4 << 10..=64 << 20);
    plugin::Limits {
        data_bytes: usize::try_from(data).unwrap_or(usize::MAX),
        log_lines: plugin.count("log_lines", limits.log_lines, 0..=100_000),
        log_lines_per_second: plugin.count("log_rate", limits.log_lines_per_second, 0..=1_000_000),
        metric_series: plugin.count("metric_series", limits.metric_series, 0..=100_000),
        table_elements: plugin.count("table_elements", limits.table_elements, 1..=100_000),
        ..limits.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use crate::config::check;
    use crate::config::{Config, ConfigErrors};

    const START: &str = "[[plugin]]\nname = \"a\"\npath = \"a.wasm\"\n";

    fn read(keys: &str) -> Result<Config, String> {
        let text = format!("{START}{keys}");
        let read = check::parse(&text, Path::new("/etc/waypost.toml"), "host.example").0;
        read.map_err(|faults: ConfigErrors| faults.to_string())
    }

    #[test]
    fn keys_are_read() {
        let config = read(
            "phases = [\"routing\", \"delivery\"]\ndata = \"2MiB\"\nlog_lines = 5\n\
             log_rate = 6\nmetric_series = 7\ntable_elements = 8\n\
             [plugin.instances]\nreuse = 1000\nidle = \"5s\"\n",
        )
        .unwrap();
        let entry = &config.plugins[0];
        let phases = [plugin::Phase::Routing, plugin::Phase::Delivery];
        assert_eq!(entry.phases.as_deref(), Some(&phases[..]));
        assert_eq!(entry.instances.reuse, 1000);
        assert_eq!(entry.instances.idle, Duration::from_secs(5));
        let limits = &entry.limits;
        assert_eq!(limits.data_bytes, 2 << 20);
        assert_eq!((limits.log_lines, limits.log_lines_per_second), (5, 6));
        assert_eq!((limits.metric_series, limits.table_elements), (7, 8));
    }

    #[test]
    fn without_keys_each_call_gets_an_instance_in_every_phase() {
        let config = read("").unwrap();
        assert_eq!(config.plugins[0].phases, None);
        assert_eq!(config.plugins[0].instances, plugin::Instances::default());
        assert_eq!(config.plugins[0].instances.reuse, 1);
    }

    #[test]
    fn faults_are_named() {
        let report = read("phases = []\n[plugin.instances]\nreuse = 0\nlife = 3\n").unwrap_err();
        for part in ["never asked", "reuse", "life"] {
            assert!(report.contains(part), "{part}: {report}");
        }
        let report = read("phases = [\"route\"]\n").unwrap_err();
        assert!(report.contains("\"route\" is no phase"), "{report}");
    }
}
