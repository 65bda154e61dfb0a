//! Every phase: what a plugin sees there, what it may answer, and what it may not.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use plugin::{
    Advice, AttemptOutcome, AttemptReport, AttemptStage, Call, CallEnvironment, CallFailure,
    FailureReason, Flow, Grants, HeaderEdit, HeaderField, Ingress, Input, Limits, LoadError,
    MailFrom, MessageAction, MessageRewrite, NewField, Notify, Output, Peer, Phase, Plugin,
    PluginSpec, Recipient, RecipientAction, Sender, SenderAction, TlsFacts,
};
use smtp::{Mailbox, Reply, ReversePath};
use support::{component, guest, host, request};

/// The guest of all phases, with one behaviour and the right to rewrite.
fn spec(behaviour: &str) -> PluginSpec {
    PluginSpec {
        config: format!("behaviour = {behaviour:?}").parse().unwrap(),
        grants: Grants {
            rewrite_domains: vec!["*".parse().unwrap()],
            route_hosts: vec!["*".parse().unwrap()],
            ..Grants::default()
        },
        ..PluginSpec::new("phases", component("phases"))
    }
}

async fn load(behaviour: &str) -> Plugin {
    host().load(spec(behaviour)).await.unwrap()
}

async fn call(behaviour: &str, input: Input) -> Result<Call, CallFailure> {
    let plugin = load(behaviour).await;
    let call = plugin.call(input.clone(), Arc::new(World)).await;
    if let Ok(call) = &call {
        assert_eq!(call.output.phase(), input.phase());
        // What a recording keeps is what there was.
        let kept = serde_json::to_string(&call.output).unwrap();
        assert_eq!(serde_json::from_str::<Output>(&kept).unwrap(), call.output);
        let kept = serde_json::to_string(&input).unwrap();
        assert_eq!(serde_json::from_str::<Input>(&kept).unwrap(), input);
    }
    call
}

/// Reason and detail of a failed call.
async fn refusal(behaviour: &str, input: Input) -> (FailureReason, String) {
    let failure = call(behaviour, input).await.unwrap_err();
    (failure.reason, failure.detail)
}

/// A world with something behind each question.
struct World;

impl CallEnvironment for World {
    fn message_id(&self) -> String {
        "0000000000007".to_owned()
    }

    fn received_at_ms(&self) -> u64 {
        17
    }

    fn message_size_bytes(&self) -> u64 {
        99
    }

    fn attributes(&self) -> Arc<[(String, String)]> {
        Arc::from([("tenant".to_owned(), "blue".to_owned())])
    }

    fn origin(&self) -> Option<Peer> {
        Some(peer())
    }

    fn envelope_recipients(&self) -> Arc<[Recipient]> {
        Arc::from([Recipient::from(mailbox("a@example.com"))])
    }

    fn headers(&self) -> BoxFuture<'_, Arc<[HeaderField]>> {
        let field = HeaderField {
            name: "Subject".to_owned(),
            value: Bytes::from_static(b" hello"),
        };
        Box::pin(async { Arc::from([field]) })
    }

    fn queued_count(&self) -> u64 {
        3
    }

    fn mta_sts_mode(&self) -> BoxFuture<'_, Option<String>> {
        Box::pin(async { Some("enforce".to_owned()) })
    }
}

/// What the guest makes of [`World`] when the call is not about routing.
const SEEN: &str = "at=17 size=99 rcpts=1 helo=client.example subject=hello attributes=1 \
                    candidates=false queued=0 sts=None";

fn mailbox(text: &str) -> Mailbox {
    text.parse().unwrap()
}

fn peer() -> Peer {
    Peer {
        ip: Some("2001:db8::9".parse().unwrap()),
        port: 1234,
        listener: "outside".to_owned(),
        ingress: Ingress::Submission,
        helo: "client.example".to_owned(),
        fcrdns: Some("client.example".parse().unwrap()),
        user: Some("ada".to_owned()),
        tls: Some(tls()),
    }
}

fn tls() -> TlsFacts {
    TlsFacts {
        version: "1.3".to_owned(),
        cipher: "TLS13_AES_128_GCM_SHA256".to_owned(),
        sni: None,
        verified_names: vec!["client.example".to_owned()],
    }
}

fn mail_from() -> Input {
    Input::MailFrom(MailFrom {
        peer: peer(),
        sender: Sender {
            mailbox: Some(mailbox("From.Here@example.com")),
            declared_size_bytes: Some(5),
            smtputf8: true,
            ..Sender::default()
        },
    })
}

fn rcpt() -> Input {
    Input::Rcpt(Recipient {
        notify: Notify {
            failure: true,
            ..Notify::default()
        },
        original: Some("rfc822;a@example.com".to_owned()),
        ..Recipient::from(mailbox("a@example.com"))
    })
}

fn delivery() -> Input {
    Input::Delivery(Arc::new(AttemptReport {
        message_id: "0000000000008".to_owned(),
        domain: "example.com".parse().unwrap(),
        recipients: vec![Recipient::from(mailbox("a@example.com"))],
        outcome: AttemptOutcome::Temporary(Reply::new(451, (4, 3, 0), "later")),
        stage: AttemptStage::RcptTo,
        host: Some("mx.example.com".parse().unwrap()),
        address: Some("192.0.2.1".parse().unwrap()),
        source: None,
        tls: Some(tls()),
        attempts: 2,
        elapsed_ms: 31,
        first_attempt_at_ms: 1000,
    }))
}

fn sender_of(call: Call) -> plugin::SenderVerdict {
    match call.output {
        Output::MailFrom(verdict) => verdict,
        other => panic!("{other:?}"),
    }
}

fn recipient_of(call: Call) -> plugin::RecipientVerdict {
    match call.output {
        Output::Rcpt(verdict) => verdict,
        other => panic!("{other:?}"),
    }
}

fn message_of(call: Call) -> plugin::MessageVerdict {
    match call.output {
        Output::Message(verdict) => verdict,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_plugin_is_asked_in_the_phases_it_exports() {
    let all = load("").await;
    assert!(Phase::ALL.iter().all(|&phase| all.has(phase)));
    let router = host().load(guest("")).await.unwrap();
    assert!(router.has(Phase::Routing) && !router.has(Phase::Sender));
    let failure = router.call(mail_from(), Arc::new(World)).await.unwrap_err();
    assert_eq!(failure.reason, FailureReason::Broken);
    assert_eq!(failure.detail, "it takes no part in the phase sender");
}

#[tokio::test]
async fn the_configuration_may_leave_phases_out() {
    let with = |phases: &[Phase], name: &str| PluginSpec {
        phases: Some(phases.to_vec()),
        ..PluginSpec::new("p", component(name))
    };
    let host = host();
    let some = host
        .load(with(&[Phase::Recipient], "phases"))
        .await
        .unwrap();
    assert!(some.has(Phase::Recipient) && !some.has(Phase::Routing));
    let error = host
        .load(with(&[Phase::Routing, Phase::Message], "misbehave"))
        .await
        .unwrap_err();
    assert!(matches!(error, LoadError::PhaseMissing { .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        "plugin p takes no part in the phase message; it exports routing"
    );
}

#[tokio::test]
async fn after_mail_from_a_plugin_sees_client_and_sender() {
    let verdict = sender_of(call("report", mail_from()).await.unwrap());
    assert_eq!(verdict.action, SenderAction::Proceed);
    assert_eq!(
        verdict.note.unwrap(),
        format!(
            "2001:db8::9 1234 Ingress::Submission client.example Some(\"client.example\") \
             Some(\"ada\") Some(\"client.example\") Some(\"From.Here\") Some(5) true false \
             id=0000000000007 {SEEN}"
        )
    );
}

#[tokio::test]
async fn a_sender_may_be_changed_deferred_and_rejected() {
    let act = async |behaviour| sender_of(call(behaviour, mail_from()).await.unwrap());
    let changed = act("rewrite").await;
    let to = Some(mailbox("bounces@example.org"));
    assert_eq!(changed.action, SenderAction::Rewrite(to));
    assert_eq!(changed.flow, Flow::Next);
    assert_eq!(act("null").await.action, SenderAction::Rewrite(None));
    // Of the wrong class, and on two lines.
    let deferred = act("defer").await;
    let reply = Reply::new(451, (4, 7, 1), "come  back");
    assert_eq!(deferred.action, SenderAction::Defer(reply));
    assert_eq!(deferred.flow, Flow::Stop);
    let reply = Reply::new(550, (5, 7, 1), "Refused by policy");
    assert_eq!(act("reject").await.action, SenderAction::Reject(reply));
}

#[tokio::test]
async fn a_sender_that_is_none_is_an_invalid_answer() {
    let (reason, detail) = refusal("bad-mailbox", mail_from()).await;
    assert_eq!(reason, FailureReason::InvalidAnswer);
    assert!(
        detail.starts_with("rewrite.domain: \"ex ample.org\" is no domain"),
        "{detail}"
    );
    assert_eq!(refusal("trap", mail_from()).await.0, FailureReason::Trap);
    assert_eq!(
        refusal("temporary", mail_from()).await,
        (FailureReason::Temporary, "not now".to_owned())
    );
}

#[tokio::test]
async fn a_recipient_may_become_several_or_none() {
    let verdict = recipient_of(call("report", rcpt()).await.unwrap());
    assert_eq!(
        verdict.note.unwrap(),
        format!(
            "a@example.com Notify {{ bits: 4 }} Some(\"rfc822;a@example.com\") id=0000000000007 {SEEN}"
        )
    );
    let act = async |behaviour| recipient_of(call(behaviour, rcpt()).await.unwrap()).action;
    let alias = vec![
        mailbox("one@example.net"),
        mailbox("\"odd name\"@example.net"),
    ];
    assert_eq!(act("alias").await, RecipientAction::Rewrite(alias));
    assert_eq!(act("drop").await, RecipientAction::Rewrite(Vec::new()));
    let reply = Reply::new(452, (4, 7, 1), "full");
    assert_eq!(act("defer").await, RecipientAction::Defer(reply));
    let reply = Reply::new(551, (5, 7, 1), "moved");
    assert_eq!(act("reject").await, RecipientAction::Reject(reply));
}

#[tokio::test]
async fn wrong_recipients_are_invalid_answers() {
    for (behaviour, wanted) in [
        ("twice", "rewrite[1]: one@example.net is there already"),
        ("many", "rewrite: 1001 entries, at most 1000 are taken"),
        (
            "bad-mailbox",
            "rewrite[0].local-part: \"a  RCPT TO:<x\" is no local part",
        ),
    ] {
        let (reason, detail) = refusal(behaviour, rcpt()).await;
        assert_eq!(reason, FailureReason::InvalidAnswer, "{behaviour}");
        assert!(detail.starts_with(wanted), "{behaviour}: {detail}");
    }
}

#[tokio::test]
async fn a_message_may_be_changed_held_and_dropped() {
    let call_it = async |behaviour| call(behaviour, Input::Message).await.unwrap();
    let reported = call_it("report").await;
    assert_eq!(
        reported.attributes,
        [("class".to_owned(), Some("bulk".to_owned()))]
    );
    // With the one that the call itself has set.
    let seen = SEEN.replace("attributes=1", "attributes=2");
    let note = message_of(reported).note.unwrap();
    assert_eq!(note, format!("id=0000000000007 {seen}"));
    let act = async |behaviour| message_of(call_it(behaviour).await);
    let field = |name: &str, value: &str| NewField {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    let changes = MessageRewrite {
        headers: vec![
            HeaderEdit::Prepend(field("X-First", "one")),
            HeaderEdit::Append(field("X-Last", "caf\u{e9}")),
            HeaderEdit::Remove("X-Gone".to_owned()),
            HeaderEdit::Replace(field("Subject", "new")),
        ],
        recipients: Some(vec![mailbox("b@example.net")]),
        sender: Some(ReversePath::Null),
    };
    let edited = act("edit").await;
    assert_eq!(edited.action, MessageAction::Rewrite(changes));
    assert_eq!(edited.flow, Flow::Next);
    let held = act("hold").await;
    assert_eq!(
        held.action,
        MessageAction::Hold {
            reason: "look at it".to_owned(),
            release_after_seconds: Some(60)
        }
    );
    assert_eq!(held.flow, Flow::Stop);
    assert_eq!(
        act("discard").await.action,
        MessageAction::Discard("spam".to_owned())
    );
    let reply = Reply::new(451, (4, 7, 1), "Deferred by policy");
    assert_eq!(act("defer").await.action, MessageAction::Defer(reply));
    let reply = Reply::new(554, (5, 7, 1), "spam");
    assert_eq!(act("reject").await.action, MessageAction::Reject(reply));
}

#[tokio::test]
async fn edits_that_break_out_of_their_field_are_invalid_answers() {
    for (behaviour, wanted) in [
        (
            "inject",
            "rewrite.headers[0].prepend.value: of X-A: it has '\\r'",
        ),
        (
            "inject-name",
            "rewrite.headers[0].prepend.name: \"X-A: one  Bcc\" is no name",
        ),
        (
            "long",
            "rewrite.headers[0].prepend.value: of X-A: it has more than 900 octets",
        ),
        (
            "large",
            "rewrite.headers[0].prepend.value: of X-A: 9999 octets, at most 8192",
        ),
        ("received", "rewrite.headers[0].remove: received stays"),
        ("edits", "rewrite.headers: 65 entries, at most 64 are taken"),
        ("nobody", "rewrite.recipients: empty"),
    ] {
        let (reason, detail) = refusal(behaviour, Input::Message).await;
        assert_eq!(reason, FailureReason::InvalidAnswer, "{behaviour}");
        assert!(detail.starts_with(wanted), "{behaviour}: {detail}");
    }
}

#[tokio::test]
async fn after_an_attempt_a_plugin_may_advise() {
    let act = async |behaviour| match call(behaviour, delivery()).await.unwrap().output {
        Output::Delivery(advice) => advice,
        other => panic!("{other:?}"),
    };
    assert_eq!(act("").await, Advice::Usual);
    assert_eq!(act("retry").await, Advice::RetryAfter { seconds: 90 });
    assert_eq!(act("next-hop").await, Advice::NextHopNow);
    assert_eq!(act("reroute").await, Advice::Reroute);
    let reply = Reply::new(550, (5, 0, 0), "no  more");
    assert_eq!(act("give-up").await, Advice::GiveUp(reply));
    let report = format!(
        "0000000000008 example.com Stage::RcptTo Some(\"mx.example.com\") Some(\"192.0.2.1\") \
         None Some(\"1.3\") 2 31 1000 temporary 451 id=0000000000008 {SEEN}"
    );
    assert_eq!(act("report").await, Advice::Hold(report));
}

#[tokio::test]
async fn a_giant_answer_is_refused_before_it_is_read() {
    let input = || Input::Route(request(&["a@example.com"]));
    for behaviour in ["hops", "text", "verdicts", "recipients"] {
        let mut spec = spec(behaviour);
        // Room to make it in: only what it passes on is at issue.
        spec.limits = Limits {
            cpu: std::time::Duration::from_secs(20),
            wall: std::time::Duration::from_secs(60),
            memory_bytes: 64 << 20,
            ..Limits::default()
        };
        let plugin = host().load(spec).await.unwrap();
        let failure = plugin.call(input(), Arc::new(World)).await.unwrap_err();
        assert_eq!(
            failure.reason,
            FailureReason::DataLimit,
            "{behaviour}: {failure}"
        );
        assert_eq!(
            failure.detail,
            "passed more than 1048576 octets in one step"
        );
    }
}

#[tokio::test]
async fn numbers_are_the_same_on_every_machine() {
    let call = call("number", Input::Route(request(&["a@example.com"])));
    let Output::Route(verdicts) = call.await.unwrap().output else {
        panic!("a routing answer");
    };
    // The canonical NaN, with neither the sign nor the payload of the processor.
    assert_eq!(
        verdicts[0].note.as_deref(),
        Some("7ff8000000000000 7ff8000000000000 7fc00000")
    );
}
