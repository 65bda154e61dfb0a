//! What a guest sees through its imports is what the relay gave, within its
//! grants.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use plugin::record::{Recorder, Replay};
use plugin::{
    Answer, AuthResult, AuthSummary, CallEnvironment, Candidate, EmptyEnvironment, Grants,
    HeaderField, HostOptions, Ingress, LogLevel, LookupFailure, Peer, PluginHost, PluginSpec,
    Question, Recipient, Sender,
};
use support::{Metrics, NOW_MS, behaving, call, candidate, guest, host, options, request};

/// A world with something of everything.
struct Everything;

impl CallEnvironment for Everything {
    fn origin(&self) -> Option<Peer> {
        Some(Peer {
            ip: Some("192.0.2.9".parse().unwrap()),
            port: 4000,
            listener: "inbound".to_owned(),
            ingress: Ingress::Smtp,
            helo: "client.example".to_owned(),
            fcrdns: None,
            user: None,
            tls: None,
        })
    }

    fn envelope_sender(&self) -> Option<Sender> {
        Some(Sender {
            declared_size_bytes: Some(99),
            ..Sender::default()
        })
    }

    fn envelope_recipients(&self) -> Arc<[Recipient]> {
        let mailbox = |text: &str| Recipient::from(text.parse::<smtp::Mailbox>().unwrap());
        Arc::new([
            mailbox("a@example.com"),
            mailbox("b@example.com"),
            mailbox("c@other.example"),
        ])
    }

    fn headers(&self) -> BoxFuture<'_, Arc<[HeaderField]>> {
        let field = |name: &str, value: &'static [u8]| HeaderField {
            name: name.to_owned(),
            value: Bytes::from_static(value),
        };
        let fields = [
            field("Subject", b" folded\r\n twice"),
            field("x-odd", b" \xff"),
        ];
        Box::pin(async move { Arc::from(fields) })
    }

    fn body(&self, offset: u64, limit: u32) -> BoxFuture<'_, Option<Bytes>> {
        // More than asked for: the host has to cut it.
        let length = usize::try_from(offset).unwrap() + limit as usize + 7;
        Box::pin(async move { Some(Bytes::from(vec![b'x'; length])) })
    }

    fn authentication(&self) -> BoxFuture<'_, Option<AuthSummary>> {
        let spf = AuthResult::Pass;
        Box::pin(async move {
            Some(AuthSummary {
                spf,
                ..AuthSummary::default()
            })
        })
    }

    fn candidates(
        &self,
        _with_addresses: bool,
    ) -> BoxFuture<'_, Result<Vec<Candidate>, LookupFailure>> {
        Box::pin(async { Ok(vec![candidate("mx1.example"), candidate("mx2.example")]) })
    }

    fn mta_sts_mode(&self) -> BoxFuture<'_, Option<String>> {
        Box::pin(async { Some("testing".to_owned()) })
    }

    fn queued_count(&self) -> u64 {
        17
    }

    fn lookup(&self, question: Question) -> BoxFuture<'_, Result<Answer, LookupFailure>> {
        assert_eq!(question, Question::Address("a.example".parse().unwrap()));
        Box::pin(async { Ok(Answer::Address(vec!["2001:db8::1".parse().unwrap()])) })
    }

    fn seed(&self) -> Option<u64> {
        Some(7)
    }
}

async fn report(spec: PluginSpec, world: Arc<dyn CallEnvironment>) -> Vec<String> {
    let plugin = host().load(spec).await.unwrap();
    let call = plugin
        .route(request(&["a@example.com"]), world)
        .await
        .unwrap();
    let note = call.verdicts[0].note.clone().unwrap();
    note.split_terminator(';').map(str::to_owned).collect()
}

#[tokio::test]
async fn a_guest_sees_what_the_relay_gives() {
    let spec = PluginSpec {
        grants: Grants {
            dns: true,
            body_bytes: 10,
            ..Grants::default()
        },
        ..behaving("report")
    };
    let seen = report(spec, Arc::new(Everything)).await;
    let expected = [
        "request=0000000000001 1234 0",
        "headers=",
        "id=0000000000001",
        "count=3",
        "window=1",
        "helo=client.example",
        "sender=Some(Some(99))",
        "subject=folded twice",
        "octets=[[32, 255]]",
        "fields=1",
        // Octets 2 to 10 of a grant of ten.
        "body=Some(8)",
        "spf=Some(AuthResult::Pass)",
        "candidates=Ok(2)",
        "sts=Some(\"testing\")",
        "queued=17",
        "dns=Ok(Answer::Address([\"2001:db8::1\"]))",
        &format!("now={NOW_MS}"),
        // The first number of SplitMix64 from 7.
        "random=7191089600892374487",
        "revision=true",
        "tables=Err(TableError::Denied(\"t\"))",
        "state=Err(StateError::Denied)",
        "http=Err(HttpError::Denied(\"http://a.example\"))",
    ];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn without_grants_and_facts_there_is_nothing_to_see() {
    let seen = report(behaving("report"), Arc::new(plugin::EmptyEnvironment)).await;
    for line in [
        "helo=",
        "sender=None",
        "subject=",
        "body=None",
        "spf=None",
        "sts=None",
    ] {
        assert!(seen.contains(&line.to_owned()), "{line}: {seen:?}");
    }
    for name in ["candidates=", "dns="] {
        let line = seen.iter().find(|line| line.starts_with(name)).unwrap();
        assert!(line.contains("\"denied\""), "{line}");
    }
}

#[tokio::test]
async fn the_body_is_not_asked_for_without_the_grant() {
    struct NoBody;
    impl CallEnvironment for NoBody {
        fn body(&self, _offset: u64, _limit: u32) -> BoxFuture<'_, Option<Bytes>> {
            panic!("the guest has no grant for the body")
        }
        fn lookup(&self, _question: Question) -> BoxFuture<'_, Result<Answer, LookupFailure>> {
            panic!("the guest has no grant for DNS")
        }
    }
    report(behaving("report"), Arc::new(NoBody)).await;
}

#[tokio::test]
async fn attributes_come_back_with_the_answer() {
    let plugin = host().load(behaving("attributes")).await.unwrap();
    let call = call(&plugin).await.unwrap();
    let changes = [
        ("tenant".to_owned(), Some("blue".to_owned())),
        ("colour".to_owned(), None),
    ];
    assert_eq!(call.attributes, changes);
    let seen = "[true, true, false, false] Some(\"blue\")";
    assert_eq!(call.verdicts[0].note.as_deref(), Some(seen));
}

#[tokio::test]
async fn log_lines_are_kept_for_whoever_wants_them_and_bounded() {
    struct Listening;
    impl CallEnvironment for Listening {
        fn wants_log(&self) -> bool {
            true
        }
    }
    let plugin = host()
        .load(guest("behaviour = 'log'\nlines = 70"))
        .await
        .unwrap();
    let listened = plugin
        .route(request(&["a@example.com"]), Arc::new(Listening))
        .await
        .unwrap();
    assert_eq!(listened.stats.log.len(), 50);
    assert_eq!(listened.stats.log_lines_dropped, 20);
    assert_eq!(listened.stats.log[1].text, "line 1 and more");
    assert_eq!(listened.stats.log[1].level, LogLevel::Info);
    let unheard = call(&plugin).await.unwrap();
    assert_eq!(unheard.stats.log, []);
}

#[tokio::test]
async fn metrics_reach_the_sink() {
    let metrics = Arc::new(Metrics::default());
    let sink: Arc<Metrics> = metrics.clone();
    let host = PluginHost::new(HostOptions {
        metrics: sink,
        ..options()
    })
    .unwrap();
    call(&host.load(behaving("report")).await.unwrap())
        .await
        .unwrap();
    let seen = metrics.0.lock().unwrap().clone();
    assert_eq!(seen, ["guest seen +2 []", "guest ratio 0.5 []"]);
}

#[tokio::test]
async fn a_call_made_again_from_its_record_counts_nothing() {
    let metrics = Arc::new(Metrics::default());
    let sink: Arc<Metrics> = metrics.clone();
    let host = PluginHost::new(HostOptions {
        metrics: sink,
        ..options()
    })
    .unwrap();
    let plugin = host.load(behaving("report")).await.unwrap();
    let recorder = Arc::new(Recorder::new(Arc::new(EmptyEnvironment), Arc::new(|| 0), 1));
    let first = Arc::clone(&recorder);
    plugin
        .route(request(&["a@example.com"]), first)
        .await
        .unwrap();
    let counted = metrics.0.lock().unwrap().len();
    assert_eq!(counted, 2);
    // As the decision log does it: from the tape, and recorded again.
    let replay = Arc::new(Replay::new(&recorder.tape()));
    let again = Arc::new(Recorder::new(replay, Arc::new(|| 0), 1));
    plugin
        .route(request(&["a@example.com"]), again)
        .await
        .unwrap();
    assert_eq!(metrics.0.lock().unwrap().len(), counted);
}
