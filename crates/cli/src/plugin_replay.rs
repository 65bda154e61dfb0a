//! `waypost plugin replay`: recorded decisions, made again.

use std::fmt::Write as _;
use std::path::PathBuf;

use relay::Clock;
use relay::replay::{Example, PluginReport, Report, Request};

use crate::{ConfigArg, ConfigRefused, Exit};

/// Options of `waypost plugin replay`.
///
/// Exit code: 0 all the same, 1 differences, 2 trouble.
#[derive(Debug, clap::Args)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Only decisions of this plugin.
    #[arg(long, value_name = "NAME")]
    plugin: Option<String>,
    /// Ask this component in place of the configured one; needs --plugin.
    #[arg(long, value_name = "FILE", requires = "plugin")]
    component: Option<PathBuf>,
    /// Ask the plugin's candidate in place of the plugin; needs --plugin.
    #[arg(long, requires = "plugin", conflicts_with = "component")]
    candidate: bool,
    /// Read records from here in place of the configured decision log.
    #[arg(long, value_name = "DIRECTORY")]
    log: Option<PathBuf>,
    /// How many differences of each plugin are listed.
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    examples: usize,
    /// Machine-readable.
    #[arg(long)]
    json: bool,
}

/// Replays, and says what would change.
#[allow(clippy::print_stdout, clippy::print_stderr)] // the command's output
pub(crate) async fn run(args: ReplayArgs) -> anyhow::Result<()> {
    let report = match replay(&args).await {
        Ok(report) => report,
        Err(error) if error.is::<ConfigRefused>() => return Err(error),
        Err(error) => {
            eprintln!("waypost: {error:#}");
            return Err(Exit(2).into());
        }
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", in_words(&report));
    }
    if report.has_differences() {
        return Err(Exit(1).into());
    }
    if report.is_incomplete() {
        return Err(Exit(2).into());
    }
    Ok(())
}

async fn replay(args: &ReplayArgs) -> anyhow::Result<Report> {
    let config = args.config.load()?;
    let request = Request {
        plugin: args.plugin.clone(),
        component: args.component.clone(),
        candidate: args.candidate,
        log: args.log.clone(),
        examples_count: args.examples,
    };
    Ok(relay::replay::replay(&config, &Clock::system(), &request).await?)
}

/// Writing to a string cannot fail: the results of `writeln!` are dropped.
fn in_words(report: &Report) -> String {
    let mut text = String::new();
    for plugin in &report.plugins {
        plugin_in_words(&mut text, plugin);
    }
    for (name, count) in &report.unknown {
        let _ = writeln!(
            text,
            "{name}: {count} records, and no such plugin in the configuration"
        );
    }
    if report.plugins.is_empty() {
        let _ = writeln!(
            text,
            "there is nothing to replay in {}",
            report.log.display()
        );
    }
    if report.unreadable_count > 0 {
        let _ = writeln!(text, "{} lines cannot be read:", report.unreadable_count);
        for fault in &report.unreadable {
            let _ = writeln!(text, "  {fault}");
        }
    }
    text
}

fn plugin_in_words(text: &mut String, plugin: &PluginReport) {
    let digest: String = plugin.digest.chars().take(12).collect();
    let version = plugin.version.as_deref().unwrap_or_default();
    let _ = writeln!(
        text,
        "{} {version} ({digest}): {} decisions replayed, {} of them its own",
        plugin.plugin,
        plugin.records - plugin.not_repeatable,
        plugin.same_digest
    );
    let lines = [
        (plugin.same, "the same"),
        (plugin.differs, "DIFFERENT"),
        (
            plugin.asked_new,
            "the same, but it ASKED SOMETHING NEW: nobody knows the answer",
        ),
        (
            plugin.not_repeatable,
            "not replayed: the recorded call had no time or no turn",
        ),
        (
            plugin.out_of_time,
            "without result: no time or no turn here",
        ),
        (
            plugin.other_config,
            "of them were made with another [plugin.config]",
        ),
        (
            plugin.unlike,
            "of them are not what happened: the plugin looks at what the log hides",
        ),
    ];
    for (count, what) in lines {
        if count > 0 || what == "the same" {
            let _ = writeln!(text, "  {count:>8}  {what}");
        }
    }
    for (kind, count) in &plugin.kinds {
        let _ = writeln!(text, "  {count:>8}  differ in: {kind}");
    }
    for example in &plugin.examples {
        example_in_words(text, example);
    }
}

fn example_in_words(text: &mut String, example: &Example) {
    let at = relay::explain::moment(example.at_ms);
    let _ = writeln!(text, "  {} {} {at}", example.message, example.phase);
    for difference in &example.differences {
        let of = match difference.of.as_str() {
            "" => String::new(),
            of => format!(" of {of}"),
        };
        let _ = writeln!(text, "    {}{of}", difference.kind);
        let _ = writeln!(text, "      was  {}", difference.before);
        let _ = writeln!(text, "      now  {}", difference.after);
    }
    for news in &example.news {
        let _ = writeln!(text, "    not on record: {news}");
    }
}
