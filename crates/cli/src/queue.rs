//! `waypost queue`: what waits, why, and what to do about it.

use clap::Subcommand;
use hyper::Method;
use relay::admin::{Listing, Story};
use serde_json::Value;

use crate::{ConfigArg, control};

/// Arguments of `waypost queue`.
#[derive(Debug, clap::Args)]
pub(crate) struct QueueArgs {
    #[command(flatten)]
    config: ConfigArg,
    #[command(subcommand)]
    command: QueueCommand,
}

#[derive(Debug, Subcommand)]
enum QueueCommand {
    /// List messages, the earliest due first.
    Ls {
        /// Show at most this many.
        #[arg(long, default_value_t = 100)]
        limit: usize,
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// Tell the whole story of a message.
    Show {
        /// Queue id.
        id: String,
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// Try a message again now.
    Retry {
        /// Queue id, or `all`.
        id: String,
    },
    /// Keep a message aside.
    Hold {
        /// Queue id.
        id: String,
    },
    /// Let a held message go on.
    Release {
        /// Queue id.
        id: String,
    },
    /// Return a message to its sender.
    Bounce {
        /// Queue id.
        id: String,
    },
    /// Drop a message without telling anybody.
    Remove {
        /// Queue id.
        id: String,
    },
}

/// Carries the command out.
pub(crate) async fn run(args: QueueArgs) -> anyhow::Result<()> {
    let config = args.config.load()?;
    let spool = &config.storage.directory;
    let (command, id) = match args.command {
        QueueCommand::Ls { limit, json } => {
            let body = control::call(spool, Method::GET, &format!("/queue?limit={limit}")).await?;
            return list(&body, json);
        }
        QueueCommand::Show { id, json } => {
            let body =
                control::call(spool, Method::GET, &format!("/queue/{}", clean(&id)?)).await?;
            return show(&body, json);
        }
        QueueCommand::Retry { id } if id == "all" => {
            control::call(spool, Method::POST, "/retry-all").await?;
            return Ok(());
        }
        QueueCommand::Retry { id } => ("retry", id),
        QueueCommand::Hold { id } => ("hold", id),
        QueueCommand::Release { id } => ("release", id),
        QueueCommand::Bounce { id } => ("bounce", id),
        QueueCommand::Remove { id } => ("remove", id),
    };
    control::call(
        spool,
        Method::POST,
        &format!("/queue/{}/{command}", clean(&id)?),
    )
    .await?;
    confirm(&id, command);
    Ok(())
}

/// The relay has taken the command; work under way for the message is finished first.
#[allow(clippy::print_stdout)] // the command's output
fn confirm(id: &str, command: &str) {
    println!("{id}: {command} taken");
}

/// An id as a part of a URL: only what an id can hold.
fn clean(id: &str) -> anyhow::Result<&str> {
    anyhow::ensure!(
        !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric()),
        "{id:?} is not a queue id"
    );
    Ok(id)
}

#[allow(clippy::print_stdout)] // the command's output
fn list(body: &[u8], json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", String::from_utf8_lossy(body));
        return Ok(());
    }
    let listing: Listing = serde_json::from_slice(body)?;
    for message in &listing.messages {
        println!(
            "{}  {:>9}  due {}  tries {}{}  from <{}>{}",
            message.id,
            message.size_bytes,
            relay::explain::moment(message.due_at_ms),
            message.attempts,
            match message.local_deferrals {
                0 => String::new(),
                count => format!(" (+{count} put off here)"),
            },
            message.sender,
            if message.held { "  HELD" } else { "" },
        );
        for recipient in &message.pending {
            println!("    to <{recipient}>");
        }
        if let Some(reason) = &message.reason {
            println!("    {reason}");
        }
    }
    for (id, reason) in &listing.unreadable {
        println!("{id}  unreadable: {reason}");
    }
    let shown = listing.messages.len() + listing.unreadable.len();
    println!("{} messages in the queue, {shown} shown", listing.total);
    Ok(())
}

#[allow(clippy::print_stdout)] // the command's output
fn show(body: &[u8], json: bool) -> anyhow::Result<()> {
    if json {
        let story: Value = serde_json::from_slice(body)?;
        println!("{}", serde_json::to_string_pretty(&story)?);
    } else {
        print!("{}", serde_json::from_slice::<Story>(body)?);
    }
    Ok(())
}
