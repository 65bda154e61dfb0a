//! Routing plugins in a whole relay: they override, they augment, and where they misbehave the
//! mail waits and never goes by MX behind their back.

use crate::lab::{Client, Host, LIMIT, Lab, Plan, component, explain, host};
use testkit::virtual_mx::Script;

const ZONE: &str = "$ORIGIN test.\n@ SOA ns hostmaster 1 60 60 60 60\n\
    dest MX 10 a.dest\ndest MX 20 b.dest\na.dest A 127.0.0.2\nb.dest A 127.0.0.3\n\
    other MX 10 a.dest\nsender MX 10 a.dest\n";

/// A plugin that does as it is told, for mail to dest.test only.
fn misbehaving(name: &str, behaviour: &str) -> String {
    let path = component("misbehave");
    format!(
        "[[plugin]]\nname = \"{name}\"\npath = \"{path}\"\ndomains = [\"dest.test\"]\n\
         cpu = \"50ms\"\nwall = \"1s\"\nmemory = \"8MiB\"\n\
         config = {{ behaviour = \"{behaviour}\" }}\ngrants = {{ route_hosts = [\"*\"] }}\n"
    )
}

async fn lab(plugin: &str) -> (Host, Host, Lab) {
    let first = host(2, 0, Script::accept()).await;
    let second = host(3, first.port(), Script::accept()).await;
    let lab = Plan::new(ZONE, first.port()).with(plugin).open().await;
    (first, second, lab)
}

/// The mail of the plugin's domain waits with its reason; other mail flows on; the counter
/// names the reason; the domain's MX hosts see nothing.
async fn waits(name: &str, behaviour: &str, reason: &str) {
    let (first, second, lab) = lab(&misbehaving(name, behaviour)).await;
    lab.send("you@dest.test").await;
    let why = lab.deferral().await;
    assert_eq!(
        why,
        format!("451 4.3.0 routing plugin {name} failed: {reason}")
    );
    lab.send("you@other.test").await;
    first.wait_for_messages(1, LIMIT).await;
    assert_eq!(first.messages()[0].recipients, ["you@other.test"]);
    assert_eq!(second.connection_count(), 0);
    lab.wait_for_queue("one message left", |queue| queue["total"] == 1)
        .await;
    let counter = format!(
        "waypost_plugin_calls_total{{plugin=\"{name}\",phase=\"routing\",result=\"{reason}\"}}"
    );
    assert!(lab.metric(&counter).await >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_makes_the_mail_wait() {
    waits("traps", "trap", "trap").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_makes_the_mail_wait() {
    waits("panics", "panic", "trap").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_loop_makes_the_mail_wait() {
    waits("spins", "spin", "cpu_limit").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn allocation_without_end_makes_the_mail_wait() {
    waits("eats", "allocate", "memory_limit").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_host_makes_the_mail_wait() {
    waits("errs", "invalid-host", "invalid_answer").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_hops_make_the_mail_wait() {
    waits("empties", "empty-hops", "invalid_answer").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn its_own_trouble_makes_the_mail_wait() {
    waits("sighs", "temporary", "temporary").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn host_calls_without_end_make_the_mail_wait() {
    waits("asks", "host-calls", "host_call_limit").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_operator_says_so_a_broken_plugin_is_passed_over() {
    let plugin =
        misbehaving("passed", "trap").replace("domains =", "on_error = \"continue\"\ndomains =");
    let (first, _second, lab) = lab(&plugin).await;
    lab.send("you@dest.test").await;
    first.wait_for_messages(1, LIMIT).await;
    assert_eq!(first.messages()[0].recipients, ["you@dest.test"]);
    lab.wait_until_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_operator_says_so_a_broken_plugin_bounces() {
    let plugin =
        misbehaving("bounces", "trap").replace("domains =", "on_error = \"reject\"\ndomains =");
    let (first, _second, lab) = lab(&plugin).await;
    lab.send("you@dest.test").await;
    first.wait_for_messages(1, LIMIT).await;
    assert_eq!(first.messages()[0].recipients, ["me@sender.test"]);
    lab.wait_until_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_defers_discards_and_holds() {
    let (first, second, lab) = lab(&misbehaving("told", "local-part")).await;
    lab.send("discard@dest.test").await;
    lab.wait_until_empty().await;
    lab.send("defer@dest.test").await;
    let why = lab.deferral().await;
    assert!(why.starts_with("451 4.7.1 deferred by told: not"), "{why}");
    let reply = lab.send("hold@dest.test").await;
    let id = crate::lab::id_of(&reply);
    let held = |queue: &serde_json::Value| {
        queue["messages"]
            .as_array()
            .is_some_and(|all| all.iter().any(|m| m["held"] == true))
    };
    lab.wait_for_queue("a held message", held).await;
    assert_eq!(first.connection_count() + second.connection_count(), 0);

    // Released, it goes: the plugin is asked again and would hold it for ever.
    lab.command(&format!("/queue/{id}/release")).await;
    first.wait_for_messages(1, LIMIT).await;
    assert_eq!(first.messages()[0].recipients, ["hold@dest.test"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_overriding_plugin_sends_a_domain_elsewhere() {
    let elsewhere = host(4, 0, Script::accept()).await;
    let port = elsewhere.port();
    let plugin = format!(
        "[[plugin]]\nname = \"table\"\npath = \"{}\"\ngrants = {{ route_hosts = [\"127.0.0.4\"] }}\n\
         [plugin.config.routes]\n\"dest.test\" = \"127.0.0.4:{port}\"\n",
        component("smarthost-table")
    );
    let (first, second, lab) = lab(&plugin).await;
    assert_ne!(first.port(), port, "another port than that of the MX hosts");
    lab.send("you@dest.test").await;
    elsewhere.wait_for_messages(1, LIMIT).await;
    lab.send("you@other.test").await;
    first.wait_for_messages(1, LIMIT).await;
    assert_eq!(first.messages()[0].recipients, ["you@other.test"]);
    assert_eq!(elsewhere.messages()[0].recipients, ["you@dest.test"]);
    assert_eq!(second.connection_count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_not_granted_makes_the_mail_wait() {
    let plugin = format!(
        "[[plugin]]\nname = \"smuggler\"\npath = \"{}\"\n\
         grants = {{ route_hosts = [\"*.trusted.example\"] }}\n\
         [plugin.config.routes]\n\"dest.test\" = \"127.0.0.4:2599\"\n",
        component("smarthost-table")
    );
    let (first, second, lab) = lab(&plugin).await;
    lab.send("you@dest.test").await;
    let why = lab.deferral().await;
    assert_eq!(
        why,
        "451 4.3.0 routing plugin smuggler failed: invalid_answer"
    );
    assert_eq!(first.connection_count() + second.connection_count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_augmenting_plugin_reorders_the_mx_hosts() {
    let plugin = format!(
        "[[plugin]]\nname = \"order\"\npath = \"{}\"\n\
         [plugin.config]\nprefer = [\"b.dest.test\"]\n",
        component("mx-preference")
    );
    let (first, second, lab) = lab(&plugin).await;
    lab.send("you@dest.test").await;
    second.wait_for_messages(1, LIMIT).await;
    lab.wait_until_empty().await;
    assert_eq!(
        first.connection_count(),
        0,
        "the most preferred by DNS is not asked"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_says_what_the_relay_does() {
    let elsewhere = host(4, 0, Script::accept()).await;
    let port = elsewhere.port();
    let plugin = format!(
        "[[plugin]]\nname = \"table\"\npath = \"{}\"\ngrants = {{ route_hosts = [\"127.0.0.4\"] }}\n\
         [plugin.config.routes]\n\"dest.test\" = \"127.0.0.4:{port}\"\n",
        component("smarthost-table")
    );
    let (_first, _second, lab) = lab(&plugin).await;
    let to = ["you@dest.test", "you@other.test", "you@nowhere.test"];
    let explained = explain(&lab, &lab.config, &to).await;
    let text = explained.to_string();
    assert!(text.contains("plugin table 0."), "{text}");
    assert!(text.contains(&format!("1. 127.0.0.4:{port} ")), "{text}");
    assert!(text.contains("10 a.dest.test"), "{text}");
    assert!(text.contains("=> reject: 550 5.1.2"), "{text}");
    assert_eq!(elsewhere.connection_count(), 0, "nothing is sent");
}

/// A misbehaving plugin with more in its section than the behaviour.
fn configured(name: &str, behaviour: &str, more: &str) -> String {
    let told = format!("behaviour = \"{behaviour}\"");
    misbehaving(name, behaviour).replace(&told, &format!("{told}, {more}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_domain_that_a_plugin_names_makes_the_mail_wait() {
    let plugin = configured("dead", "hop", "hop = { mx-of = \"dead.test\" }");
    let (first, second, lab) = lab(&plugin).await;
    lab.send("you@dest.test").await;
    assert_eq!(
        lab.deferral().await,
        "451 4.3.0 routing plugin dead failed: invalid_answer"
    );
    assert_eq!(first.connection_count() + second.connection_count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_domain_that_a_plugin_names_makes_the_mail_wait() {
    // Nothing the plugin can help: not counted as its failure, whatever `on_error` says.
    let plugin = configured("silent", "hop", "hop = { mx-of = \"other.test\" }")
        .replace("domains =", "on_error = \"reject\"\ndomains =");
    let (first, second, lab) = lab(&plugin).await;
    let fault = testkit::dns::Fault::ServFail;
    lab.dns.script().set_fault("other.test", "MX", fault);
    lab.send("you@dest.test").await;
    let why = lab.deferral().await;
    assert!(why.starts_with("451 4.4.3 other.test: DNS"), "{why}");
    assert_eq!(first.connection_count() + second.connection_count(), 0);
    let counter = "waypost_plugin_calls_total{plugin=\"silent\",phase=\"routing\",result=\"ok\"}";
    assert!(lab.metric(counter).await >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_falls_back_reaches_the_mx_hosts() {
    for (name, hop) in [
        ("falls", "mx-of = \"dead.test\""),
        ("drops", "host = \"dead.test\""),
    ] {
        let hop = format!("hop = {{ {hop}, fall-back = \"yes\" }}");
        let (first, _second, lab) = lab(&configured(name, "hop", &hop)).await;
        lab.send("you@dest.test").await;
        first.wait_for_messages(1, LIMIT).await;
        lab.wait_until_empty().await;
        assert_eq!(first.messages()[0].recipients, ["you@dest.test"], "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_does_not_weaken_the_tls_of_a_smarthost() {
    for (name, behaviour) in [
        ("settles", "settings-tls-off"),
        ("edits", "edit-tls-off"),
        ("chooses", "choose-tls-off"),
    ] {
        let smarthost = host(2, 0, Script::accept()).await;
        let port = smarthost.port();
        let top =
            format!("smarthost = [{{ host = \"a.dest.test\", port = {port}, tls = \"encrypt\" }}]");
        let plan = Plan::new(ZONE, port).with(&misbehaving(name, behaviour));
        let lab = plan.open_with(&top).await;
        lab.send("you@dest.test").await;
        assert_eq!(
            lab.deferral().await,
            format!("451 4.3.0 routing plugin {name} failed: invalid_answer")
        );
        assert_eq!(smarthost.connection_count(), 0, "{behaviour}");
        let explained = explain(&lab, &lab.config, &["you@dest.test"]).await;
        assert_eq!(
            explained.routes[0].plugins[0].decision,
            "weakens the configured TLS policy of a.dest.test"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_plugin_sees_what_the_first_made_for_each_recipient() {
    let elsewhere = host(4, 0, Script::accept()).await;
    let hop = format!(
        "hop = {{ address = \"127.0.0.4\", port = {} }}",
        elsewhere.port()
    );
    // The second takes the first of what it is shown: one place where the first moved the
    // recipient, otherwise the MX hosts.
    let chain = configured("splits", "split", &hop)
        + &configured("takes", "select", "choices = { \"0\" = 0 }");
    let (first, second, lab) = lab(&chain).await;
    let mut client = Client::begin(
        lab.smtp(),
        "me@sender.test",
        &["moved@dest.test", "stays@dest.test"],
    )
    .await;
    client
        .ask("Subject: two ways\r\n\r\nHello\r\n.", "250")
        .await;
    elsewhere.wait_for_messages(1, LIMIT).await;
    first.wait_for_messages(1, LIMIT).await;
    lab.wait_until_empty().await;
    assert_eq!(elsewhere.messages()[0].recipients, ["moved@dest.test"]);
    assert_eq!(first.messages()[0].recipients, ["stays@dest.test"]);
    assert_eq!(second.connection_count(), 0);

    let explained = explain(&lab, &lab.config, &["moved@dest.test", "stays@dest.test"]).await;
    let seen: Vec<_> = explained
        .routes
        .iter()
        .map(|route| (&*route.recipients[0], route.plugins[1].note.as_deref()))
        .collect();
    assert_eq!(
        seen,
        [
            ("moved@dest.test", Some("of 1")),
            ("stays@dest.test", Some("of 2"))
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_plugin_notes_about_a_message_it_reads_at_the_next_attempt() {
    let (first, second, lab) = lab(&misbehaving("marks", "remember")).await;
    let reply = lab.send("you@dest.test").await;
    let id = crate::lab::id_of(&reply);
    let why = lab.deferral().await;
    assert_eq!(why, "451 4.7.1 deferred by marks: not marked yet");
    lab.command(&format!("/queue/{id}/retry")).await;
    // Dropped, as only a marked message is.
    lab.wait_until_empty().await;
    assert_eq!(first.connection_count() + second.connection_count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_does_not_keep_a_canary_to_itself() {
    let plugin = misbehaving("tried", "proceed");
    let (_first, _second, lab) = lab(&plugin).await;
    let explained = explain(&lab, &lab.config, &["you@dest.test"]).await;
    assert!(explained.notes.is_empty(), "{explained}");
    let path = component("misbehave");
    let with_canary = format!(
        "{}[plugin.candidate]\npath = \"{path}\"\nmode = \"canary\"\npercent = 12.5\n",
        lab.config
    );
    let explained = explain(&lab, &with_canary, &["you@dest.test"]).await;
    let text = explained.to_string();
    assert!(
        text.contains("plugin tried has a canary, for 12.5 %"),
        "{text}"
    );
}
