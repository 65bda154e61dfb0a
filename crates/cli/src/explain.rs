//! `waypost explain`: where a message would go and every step of why.

use anyhow::Context;
use relay::Clock;
use relay::explain::{Explanation, Request};

use crate::ConfigArg;

/// Arguments of `waypost explain`.
#[derive(Debug, clap::Args)]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Reverse-path; `<>` for the null one.
    #[arg(long, default_value = "<>")]
    from: String,
    /// Recipient, or `<postmaster>`; may be given several times.
    #[arg(long, required = true)]
    to: Vec<String>,
    /// Listener by which the message would have come; the first one unless given.
    #[arg(long)]
    listener: Option<String>,
    /// Size of the message in octets.
    #[arg(long, default_value_t = 4096)]
    size: u64,
    /// Attempts made before.
    #[arg(long, default_value_t = 0)]
    attempt: u32,
    /// A header field that plugins see, as in `Subject: hello`; may be given several times.
    #[arg(long, value_name = "FIELD")]
    header: Vec<String>,
    /// Also show what every plugin call took and logged.
    #[arg(long)]
    trace: bool,
    /// Machine-readable; with everything that `--trace` shows.
    #[arg(long)]
    json: bool,
}

/// Explains; looks names up and asks plugins, and sends nothing.
#[allow(clippy::print_stdout)] // the command's output
pub(crate) async fn run(args: ExplainArgs) -> anyhow::Result<()> {
    let config = args.config.load()?;
    let request = Request {
        from: args
            .from
            .parse()
            .map_err(|error| anyhow::anyhow!("--from {}: {error}", args.from))?,
        to: args
            .to
            .iter()
            .map(|to| {
                to.parse()
                    .map_err(|error| anyhow::anyhow!("--to {to}: {error}"))
            })
            .collect::<anyhow::Result<_>>()?,
        listener: args.listener,
        size_bytes: args.size,
        attempt: args.attempt,
        header: args
            .header
            .iter()
            .flat_map(|field| [field.as_str(), "\r\n"])
            .collect(),
    };
    let explanation: Explanation =
        relay::explain::explain(config, &Clock::system(), request).await?;
    if args.json {
        println!(
            "{}",
            serde_json::to_string_pretty(&explanation).context("as JSON")?
        );
    } else if args.trace {
        print!("{}", explanation.with_trace());
    } else {
        print!("{explanation}");
    }
    Ok(())
}
