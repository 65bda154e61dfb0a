//! What becomes of mail that the spool does not give, with real plugins in between.

use std::sync::Arc;

use queue::{Disposition, History, Origin, QueuedMessage, QueuedRecipient, UnixMs};
use smtp::{MailParameters, QueueId, RcptParameters};
use spool::{RecordId, SpoolError};

use super::{Group, Lanes, Subject, decide};
use crate::clock::Clock;
use crate::config::Config;
use crate::core::Snapshot;
use crate::explain;

fn config(plugin: &str) -> Config {
    let directory = std::env::var_os("WAYPOST_PLUGINS_DIR").map_or_else(
        || {
            let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
            root.join("../../target/plugins")
        },
        Into::into,
    );
    let path = directory.join("misbehave.wasm");
    assert!(
        path.is_file(),
        "{} is missing: run `cargo xtask plugins`",
        path.display()
    );
    let text = format!(
        "hostname = \"relay.test\"\nsmarthost = \"127.0.0.1:2525\"\n\
         [dns]\nservers = [\"127.0.0.1:9\"]\n\
         [[plugin]]\nname = \"one\"\npath = \"{}\"\n{plugin}\n",
        path.canonicalize().expect("it is there").display()
    );
    match Config::parse(&text, "waypost.toml") {
        Ok(config) => config,
        Err(errors) => panic!("{errors}"),
    }
}

pub(super) fn message() -> QueuedMessage {
    let (now, mailbox) = (UnixMs(1_000), "you@dest.test".parse().expect("a mailbox"));
    QueuedMessage {
        id: QueueId::new(7),
        received_at: now,
        expires_at: UnixMs::NEVER,
        size_bytes: 100,
        origin: Origin::default(),
        reverse_path: "<me@sender.test>".parse().expect("a path"),
        parameters: MailParameters::default(),
        recipients: vec![QueuedRecipient::new(
            mailbox,
            RcptParameters::default(),
            now,
        )],
        attributes: Vec::new(),
        hold: None,
        released_at: None,
        history: History::default(),
    }
}

/// Routes a message whose content cannot be read.
async fn unreadable(plugin: &str) -> Group {
    let (settings, _host) = explain::settings(config(plugin), &Clock::system())
        .await
        .expect("the configuration is good");
    let subject = Subject {
        message: Arc::new(message()),
        domain: "dest.test".parse().expect("a domain"),
        recipients: vec![0],
        attempt: 0,
        now: UnixMs(1_000),
        content: Arc::new(|| Box::pin(async { Err(SpoolError::NotFound(RecordId(7))) })),
        lanes: Lanes::default(),
        wants_log: false,
    };
    let mut groups = decide(&Snapshot::of(settings), &subject).await.groups;
    assert_eq!(groups.len(), 1);
    groups.remove(0)
}

#[tokio::test]
async fn a_message_that_cannot_be_read_waits_whatever_on_error_says() {
    for (plugin, what) in [
        (
            "on_error = \"continue\"\nroute_headers = [\"List-Id\"]\n\
             config = { behaviour = \"trap\" }",
            "wanted before the call, which is not made",
        ),
        (
            "on_error = \"reject\"\nconfig = { behaviour = \"report\" }",
            "asked for in the call",
        ),
    ] {
        let group = unreadable(plugin).await;
        match &group.disposition {
            Disposition::Defer(deferral) => assert_eq!(
                deferral.reply.to_string(),
                "451 4.3.0 The message cannot be read from the spool",
                "{what}"
            ),
            other => panic!("{what}: {other:?}"),
        }
        assert_eq!(group.calls.len(), 1, "{what}");
        assert_eq!(group.calls[0].result, "content_unavailable", "{what}");
    }
}

#[tokio::test]
async fn a_plugin_that_reads_nothing_needs_no_content() {
    let group = unreadable("config = { behaviour = \"proceed\" }").await;
    assert!(
        matches!(group.disposition, Disposition::Deliver { .. }),
        "{:?}",
        group.disposition
    );
    assert_eq!(group.calls[0].result, "ok");
}
