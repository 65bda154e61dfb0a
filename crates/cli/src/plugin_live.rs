//! `waypost plugin ls`, `reload` and `rollback`: the plugins of a running relay.

use anyhow::bail;
use hyper::Method;
use relay::control_plugins::{Changed, PluginListing, PluginState};
use relay::explain::moment;

use crate::{ConfigArg, control};

/// Options of `waypost plugin ls`.
#[derive(Debug, clap::Args)]
pub(crate) struct LsArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Machine-readable.
    #[arg(long)]
    json: bool,
}

/// Options of `waypost plugin reload`.
#[derive(Debug, clap::Args)]
pub(crate) struct ReloadArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Name in the configuration. Without it all are reloaded, but those that were rolled back.
    name: Option<String>,
    /// Machine-readable.
    #[arg(long)]
    json: bool,
}

/// Options of `waypost plugin rollback`.
#[derive(Debug, clap::Args)]
pub(crate) struct RollbackArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Name in the configuration.
    name: String,
    /// Machine-readable.
    #[arg(long)]
    json: bool,
}

/// Shows what is in force, what was refused, and what there is to go back to.
#[allow(clippy::print_stdout)] // the command's output
pub(crate) async fn ls(args: LsArgs) -> anyhow::Result<()> {
    let config = args.config.load()?;
    let body = control::call(&config.storage.directory, Method::GET, "/plugins").await?;
    if args.json {
        println!("{}", String::from_utf8_lossy(&body));
        return Ok(());
    }
    let listing: PluginListing = serde_json::from_slice(&body)?;
    for plugin in &listing.plugins {
        show(plugin);
    }
    for name in &listing.disabled {
        println!("{name}  disabled");
    }
    if listing.plugins.is_empty() && listing.disabled.is_empty() {
        println!("no plugins are configured");
    }
    Ok(())
}

/// Takes what is in the configured files.
pub(crate) async fn reload(args: ReloadArgs) -> anyhow::Result<()> {
    let path = match &args.name {
        Some(name) => format!("/plugins/{}/reload", clean(name)?),
        None => "/plugins/reload".to_owned(),
    };
    change(&args.config, &path, args.json).await
}

/// Puts the version before the one in force back in force.
pub(crate) async fn rollback(args: RollbackArgs) -> anyhow::Result<()> {
    let path = format!("/plugins/{}/rollback", clean(&args.name)?);
    change(&args.config, &path, args.json).await
}

#[allow(clippy::print_stdout)] // the command's output
async fn change(config: &ConfigArg, path: &str, json: bool) -> anyhow::Result<()> {
    let config = config.load()?;
    let body = control::call(&config.storage.directory, Method::POST, path).await?;
    let all: Vec<Changed> = serde_json::from_slice(&body)?;
    if json {
        println!("{}", String::from_utf8_lossy(&body));
    } else {
        for changed in &all {
            println!("{}", line(changed));
        }
    }
    let refused = all.iter().filter(|changed| changed.is_refused()).count();
    if refused > 0 {
        bail!(
            "{refused} of {} refused; what was in force stays",
            all.len()
        );
    }
    Ok(())
}

fn line(changed: &Changed) -> String {
    let what = match changed.result.as_str() {
        "ok" => "in force".to_owned(),
        "unchanged" => "unchanged".to_owned(),
        "rolled_back" | "promoted" => "left alone".to_owned(),
        step => format!("refused ({step}), in force stays"),
    };
    let version = version(changed.version.as_deref(), &changed.digest);
    let text = changed.text.as_deref();
    let text = text.map_or_else(String::new, |text| format!("\n    {}", indented(text)));
    format!("{}: {what} {version}{text}", changed.plugin)
}

/// `1.2.0 (0123456789ab)`.
fn version(version: Option<&str>, digest: &str) -> String {
    let short: String = digest.chars().take(12).collect();
    match version {
        Some(version) if !version.is_empty() => format!("{version} ({short})"),
        _ => short,
    }
}

fn failures(count: u64) -> String {
    match count {
        1 => "1 failure".to_owned(),
        _ => format!("{count} failures"),
    }
}

fn indented(text: &str) -> String {
    text.replace('\n', "\n    ")
}

#[allow(clippy::print_stdout)] // the command's output
fn show(plugin: &PluginState) {
    let own = plugin
        .identity
        .as_ref()
        .map(|(_, version)| version.as_str());
    println!(
        "{}  {}  since {} by {}  asked in: {}  on_error {}",
        plugin.name,
        version(own, &plugin.digest),
        moment(plugin.since_ms),
        plugin.by,
        plugin.phases.join(", "),
        plugin.on_error,
    );
    println!("    {}", plugin.path);
    match plugin.breaker.as_str() {
        "closed" => {}
        "open" => println!("    NOT CALLED: it keeps failing; on_error is carried out instead"),
        _ => println!("    kept failing and is tried again now"),
    }
    if let Some(first) = &plugin.first_failure {
        println!(
            "    {}, the first {} in {} of {}: {}: {}",
            failures(plugin.failures_count),
            moment(first.at_ms),
            first.phase,
            first.id,
            first.reason,
            indented(&first.detail),
        );
    }
    if let Some(refused) = &plugin.refused {
        println!(
            "    REFUSED {} ({}): {}",
            moment(refused.at_ms),
            refused.result,
            indented(&refused.text)
        );
    }
    for digest in &plugin.held_back {
        println!("    held back: {}", version(None, digest));
    }
    for kept in plugin.kept.iter().skip(1) {
        println!(
            "    before: {}, in force from {}",
            version(kept.version.as_deref(), &kept.digest.to_string()),
            moment(kept.since_ms)
        );
    }
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
