//! `waypost plugin candidate` and `promote`: a version on trial in a running relay.

use std::fmt::Write as _;

use anyhow::bail;
use hyper::Method;
use relay::config::Percent;
use relay::control_candidates::{CandidateStatus, Example, Side};
use relay::control_plugins::Changed;

use crate::{ConfigArg, control};

/// Options of `waypost plugin candidate`.
#[derive(Debug, clap::Args)]
pub(crate) struct CandidateArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Name of the plugin in the configuration.
    name: String,
    /// Set its share of the messages until the next reload, from 0 to 100; fractions are allowed.
    #[arg(long, value_name = "SHARE")]
    percent: Option<f64>,
    /// How many examples are shown.
    #[arg(long, value_name = "COUNT", default_value_t = 10)]
    examples: usize,
    /// Machine-readable.
    #[arg(long)]
    json: bool,
}

/// Options of `waypost plugin promote`.
#[derive(Debug, clap::Args)]
pub(crate) struct PromoteArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Name of the plugin in the configuration.
    name: String,
    /// Machine-readable.
    #[arg(long)]
    json: bool,
}

/// Shows what is known of a candidate, or sets its share.
#[allow(clippy::print_stdout)] // the command's output
pub(crate) async fn candidate(args: CandidateArgs) -> anyhow::Result<()> {
    let config = args.config.load()?;
    let name = clean(&args.name)?;
    let (method, path) = match args.percent {
        None => (Method::GET, format!("/plugins/{name}/candidate")),
        Some(percent) => {
            let Some(share) = Percent::new(percent) else {
                bail!("--percent {percent}: write a number from 0 to 100, as in 5 or 0.5");
            };
            let share = share.millionths();
            (
                Method::POST,
                format!("/plugins/{name}/candidate/share/{share}"),
            )
        }
    };
    let body = control::call(&config.storage.directory, method, &path).await?;
    if args.json {
        println!("{}", String::from_utf8_lossy(&body));
    } else {
        let status: CandidateStatus = serde_json::from_slice(&body)?;
        print!("{}", in_words(&status, args.examples));
    }
    Ok(())
}

/// Puts a candidate in force.
#[allow(clippy::print_stdout)] // the command's output
pub(crate) async fn promote(args: PromoteArgs) -> anyhow::Result<()> {
    let config = args.config.load()?;
    let path = format!("/plugins/{}/promote", clean(&args.name)?);
    let body = control::call(&config.storage.directory, Method::POST, &path).await?;
    let all: Vec<Changed> = serde_json::from_slice(&body)?;
    if args.json {
        println!("{}", String::from_utf8_lossy(&body));
    }
    for changed in &all {
        let text = changed.text.as_deref().unwrap_or_default();
        if changed.is_refused() {
            bail!(
                "refused ({}), what was in force stays: {text}",
                changed.result
            );
        }
        if !args.json {
            let digest: String = changed.digest.chars().take(12).collect();
            let version = changed.version.as_deref();
            let version = version.map_or_else(String::new, |it| format!("{it} "));
            println!("{}: in force {version}({digest})", changed.plugin);
            println!(
                "    now let `path` of the plugin follow in the configuration, and take \
                 [plugin.candidate] out"
            );
            if !text.is_empty() {
                println!("    {text}");
            }
        }
    }
    Ok(())
}

/// A name as a part of a URL: only what a name can hold.
fn clean(name: &str) -> anyhow::Result<&str> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    anyhow::ensure!(
        !name.is_empty() && name.bytes().all(allowed),
        "{name:?} is not the name of a plugin"
    );
    Ok(name)
}

/// Writing to a string cannot fail: the results of `writeln!` are dropped.
fn in_words(status: &CandidateStatus, examples: usize) -> String {
    let mut text = String::new();
    let short = |digest: &str| -> String { digest.chars().take(12).collect() };
    let version = status.version.as_deref().map(|it| format!(" {it}"));
    let digest = status.digest.as_deref().map(short);
    let _ = writeln!(
        text,
        "{}: candidate{}{} as {} for {} % of the messages (configured: {} %), beside {}",
        status.plugin,
        version.unwrap_or_default(),
        digest.map_or_else(String::new, |it| format!(" ({it})")),
        status.mode,
        status.percent,
        status.configured_percent,
        short(&status.active_digest),
    );
    let _ = writeln!(text, "    {}", status.path.display());
    if let Some(error) = &status.load_error {
        let _ = writeln!(text, "    DID NOT LOAD: {}", error.replace('\n', "\n    "));
        return text;
    }
    if let Some(why) = &status.stopped {
        let _ = writeln!(text, "    TAKEN OUT: {why}");
    }
    counts_in_words(&mut text, status);
    for example in status.examples.iter().take(examples) {
        example_in_words(&mut text, example);
    }
    text
}

#[allow(clippy::cast_precision_loss)] // a share for people
fn counts_in_words(text: &mut String, status: &CandidateStatus) {
    let compared = status.shadow_count("same") + status.shadow_count("differs");
    let compared = compared + status.shadow_count("failed");
    if status.mode == "canary" {
        let _ = writeln!(
            text,
            "    of late {} of {} calls failed",
            status.failed_recently, status.ended_recently
        );
    } else {
        let same = status.shadow_count("same");
        let share = 100.0 * same as f64 / compared.max(1) as f64;
        let _ = writeln!(
            text,
            "    {same} of {compared} calls the same: {share:.3} %"
        );
    }
    for count in &status.counts {
        let of = match count.side {
            Side::Shadow => compared,
            Side::Canary => {
                let decided = status.counts.iter().filter(|it| it.side == Side::Canary);
                decided.map(|it| it.count).sum()
            }
        };
        let share = match count.result.as_str() {
            "skipped" => String::new(),
            _ => format!("{:8.3} %", 100.0 * count.count as f64 / of.max(1) as f64),
        };
        let _ = writeln!(
            text,
            "    {:>8}  {share:>10}  {} {} {}",
            count.count, count.phase, count.result, count.reason
        );
    }
}

fn example_in_words(text: &mut String, example: &Example) {
    let at = relay::explain::moment(example.at_ms);
    let _ = writeln!(text, "    {} {} {at}", example.message, example.phase);
    if let Some(failure) = &example.failure {
        let _ = writeln!(text, "      failed: {failure}");
    }
    for difference in &example.differences {
        let of = match difference.of.as_str() {
            "" => String::new(),
            of => format!(" of {of}"),
        };
        let _ = writeln!(text, "      {}{of}", difference.kind);
        let _ = writeln!(text, "        in force   {}", difference.before);
        let _ = writeln!(text, "        candidate  {}", difference.after);
    }
}
