//! A chain of five plugins as docs/plugins/chain.md has it: the order, what ends it, what each
//! error mode makes of a failure at each place, and who is said to have decided what and why by
//! `explain` and `queue show`.

use crate::lab::{Host, LIMIT, Lab, Plan, component, explain, host, id_of, says};
use relay::explain::{ExplainedRoute, Explanation};
use testkit::virtual_mx::{Phase, Script};

const NAMES: [&str; 5] = ["one", "two", "three", "four", "five"];

const ZONE: &str = "$ORIGIN test.\n@ SOA ns hostmaster 1 60 60 60 60\n\
    dest MX 10 a.dest\na.dest A 127.0.0.2\nsender MX 10 a.dest\n";

/// What each of the five does, and the keys that its table has besides.
struct Chain {
    behaviours: [String; 5],
    tables: [String; 5],
}

impl Chain {
    /// Nobody has an opinion, and each says so.
    fn new() -> Self {
        let note = |name: &str| format!("behaviour = \"proceed\", note = \"said by {name}\"");
        Self {
            behaviours: NAMES.map(note),
            tables: NAMES.map(|_| String::new()),
        }
    }

    /// The plugin at `place` does this.
    fn does(mut self, place: usize, behaviour: &str) -> Self {
        self.behaviours[place] = behaviour.to_owned();
        self
    }

    /// What a failure of every plugin means.
    fn on_error(mut self, mode: &str) -> Self {
        self.tables = NAMES.map(|_| format!("on_error = \"{mode}\"\n"));
        self
    }

    fn config(&self) -> String {
        let path = component("chain");
        let tables = NAMES.iter().zip(&self.behaviours).zip(&self.tables);
        tables
            .map(|((name, behaviour), table)| {
                format!(
                    "[[plugin]]\nname = \"{name}\"\npath = \"{path}\"\ndomains = [\"dest.test\"]\n\
                     {table}config = {{ mark = \"{name}\", {behaviour} }}\n\
                     grants = {{ route_hosts = [\"127.0.0.3\"] }}\n"
                )
            })
            .collect()
    }
}

struct Surroundings {
    /// Where the MX record of dest.test points.
    mx: Host,
    /// Where plugins send it.
    other: Host,
}

async fn surroundings() -> Surroundings {
    let mx = host(2, 0, Script::accept()).await;
    let other = host(3, mx.port(), Script::accept()).await;
    Surroundings { mx, other }
}

impl Surroundings {
    async fn lab(&self, chain: &Chain) -> Lab {
        let plan = Plan::new(ZONE, self.mx.port());
        plan.with(&chain.config()).open().await
    }

    /// The behaviour that names the other host.
    fn to_other(&self, verb: &str) -> String {
        let port = self.other.port();
        format!("behaviour = \"{verb}\", hop = \"127.0.0.3:{port}\", note = \"ours now\"")
    }
}

/// The only route of an explanation.
fn only(explanation: Explanation) -> ExplainedRoute {
    let [route] = <[ExplainedRoute; 1]>::try_from(explanation.routes).expect("one route");
    route
}

/// The decision about dest.test with this chain in place of the lab's.
async fn decision(lab: &Lab, chain: &Chain) -> ExplainedRoute {
    let own = Chain::new().config();
    let config = lab.config.replace(&own, &chain.config());
    assert!(lab.config.contains(&own), "the lab runs the plain chain");
    only(explain(lab, &config, &["you@dest.test"]).await)
}

fn asked(route: &ExplainedRoute) -> Vec<&str> {
    let calls = route.plugins.iter();
    calls.map(|call| call.plugin.as_str()).collect()
}

fn places(route: &ExplainedRoute) -> Vec<String> {
    let candidates = route.candidates.iter();
    candidates
        .map(|one| one.candidate.endpoint.to_string())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_are_asked_in_the_order_of_the_configuration() {
    let around = surroundings().await;
    let lab = around.lab(&Chain::new()).await;
    let route = decision(&lab, &Chain::new()).await;
    assert_eq!(asked(&route), NAMES);
    assert_eq!(route.result, "deliver");
    assert_eq!(places(&route), ["a.dest.test"]);
    let explained = explain(&lab, &lab.config, &["you@dest.test"]).await;
    let text = explained.to_string();
    let digest = digest(&explained);
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("plugin "))
        .collect();
    let wanted = NAMES
        .map(|name| format!("  plugin {name} 0.1.0 ({digest}…): no opinion — \"said by {name}\""));
    assert_eq!(lines, wanted);
    assert!(!text.contains("was asked about"), "{text}");
    let traced = explained.with_trace().to_string();
    for name in NAMES {
        let line = format!("    log Info: {name} was asked about dest.test\n");
        assert!(traced.contains(&line), "{traced}");
    }
    assert!(traced.contains("µs CPU"), "{traced}");
}

/// The shortened digest of the guest, as an explanation names it.
fn digest(explanation: &Explanation) -> String {
    let digest = explanation.routes[0].plugins[0].digest.to_string();
    assert_eq!(digest.len(), 12);
    digest
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_anywhere_is_what_its_mode_says() {
    let around = surroundings().await;
    let lab = around.lab(&Chain::new()).await;
    for (place, failing) in NAMES.into_iter().enumerate() {
        // The others prefer the other host; who fails says nothing.
        for (mode, result, consequence) in [
            ("defer", "defer", "on_error = defer: the mail waits"),
            (
                "reject",
                "reject",
                "on_error = reject: the mail is returned",
            ),
            (
                "continue",
                "deliver",
                "on_error = continue: the plugin is passed over",
            ),
        ] {
            let mut chain = Chain::new().on_error(mode);
            for other in 0..NAMES.len() {
                chain = chain.does(other, &around.to_other("insert"));
            }
            let chain = chain.does(place, "behaviour = \"broken\"");
            let route = decision(&lab, &chain).await;
            let what = format!("{failing} fails, on_error = {mode}");
            let goes_on = mode == "continue";
            let last = if goes_on { NAMES.len() - 1 } else { place };
            assert_eq!(asked(&route), NAMES[..=last], "{what}");
            assert_eq!(route.result, result, "{what}");
            for (number, call) in route.plugins.iter().enumerate() {
                if number == place {
                    assert_eq!(call.result, "broken", "{what}");
                    assert_eq!(call.decision, "no rule fits", "{what}");
                    assert_eq!(call.consequence.as_deref(), Some(consequence), "{what}");
                } else {
                    assert_eq!(call.result, "ok", "{what}");
                    assert_eq!(call.note.as_deref(), Some("ours now"), "{what}");
                    assert_eq!(call.consequence, None, "{what}");
                }
            }
            let failed = format!("routing plugin {failing} failed: broken");
            match mode {
                "defer" => assert_eq!(route.reason, Some(format!("451 4.3.0 {failed}"))),
                "reject" => assert_eq!(route.reason, Some(format!("554 5.3.0 {failed}"))),
                // What the others decided stands.
                _ => assert_eq!(places(&route), ["127.0.0.3", "a.dest.test"], "{what}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_failure_is_named() {
    let around = surroundings().await;
    let lab = around.lab(&Chain::new()).await;
    for (behaviour, reason, detail) in [
        ("trap", "trap", "unreachable"),
        ("temporary", "temporary", "try me later"),
        ("broken", "broken", "no rule fits"),
        ("empty", "invalid_answer", "use-hops"),
    ] {
        let chain = Chain::new().does(2, &format!("behaviour = \"{behaviour}\""));
        let route = decision(&lab, &chain).await;
        let failed = route.plugins.last().expect("somebody was asked");
        assert_eq!((failed.plugin.as_str(), failed.result), ("three", reason));
        assert!(failed.decision.contains(detail), "{}", failed.decision);
        assert_eq!(route.result, "defer");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chain_ends_where_somebody_says_so() {
    let around = surroundings().await;
    let lab = around.lab(&Chain::new()).await;
    let stop = format!("{}, stop = true", around.to_other("use"));
    for place in 0..NAMES.len() {
        let route = decision(&lab, &Chain::new().does(place, &stop)).await;
        assert_eq!(asked(&route), NAMES[..=place]);
        assert_eq!(places(&route), ["127.0.0.3"]);
        let decided = route.plugins.last().expect("somebody was asked");
        let port = around.other.port();
        assert_eq!(decided.decision, format!("use 127.0.0.3:{port}, stop"));
    }
    for (behaviour, result, decided, reason) in [
        (
            "defer",
            "defer",
            "defer: not today",
            "451 4.7.1 deferred by three: not today",
        ),
        (
            "reject",
            "reject",
            "reject: 550 5.7.1 not by this relay",
            "550 5.7.1 not by this relay",
        ),
        (
            "discard",
            "discard",
            "discard: nobody wants it",
            "three: nobody wants it",
        ),
        (
            "hold",
            "hold",
            "hold: somebody should look",
            "three: somebody should look",
        ),
    ] {
        // What came before is overruled, what would come after is not asked.
        let chain = Chain::new()
            .does(1, &around.to_other("use"))
            .does(2, &format!("behaviour = \"{behaviour}\""));
        let route = decision(&lab, &chain).await;
        assert_eq!(asked(&route), NAMES[..=2], "{behaviour}");
        assert_eq!(route.result, result);
        assert_eq!(route.reason.as_deref(), Some(reason));
        assert_eq!(route.plugins[2].decision, decided);
        assert_eq!(places(&route), [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_word_counts() {
    let around = surroundings().await;
    let lab = around.lab(&Chain::new()).await;
    // Four names the other host and nothing else; five does not mind.
    let route = decision(&lab, &Chain::new().does(3, &around.to_other("use"))).await;
    assert_eq!(asked(&route), NAMES);
    assert_eq!(places(&route), ["127.0.0.3"]);
    // Two adds it to what MX says, four then takes it alone.
    let chain = Chain::new()
        .does(1, &around.to_other("insert"))
        .does(3, &around.to_other("use"));
    assert_eq!(places(&decision(&lab, &chain).await), ["127.0.0.3"]);
}

/// Lines of the story that tell of plugins.
fn attributions(story: &str) -> Vec<&str> {
    let lines = story.lines().map(str::trim);
    lines.filter(|line| line.starts_with("routing ")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_tells_who_decided_also_after_a_restart() {
    let around = surroundings().await;
    let later = Script::accept().at(Phase::Rcpt, says("451 4.2.0 later"));
    around.other.set_script(later);
    let chain = Chain::new()
        .on_error("continue")
        .does(1, "behaviour = \"broken\"")
        .does(3, &around.to_other("use"));
    let lab = around.lab(&chain).await;
    let id = id_of(&lab.send("you@dest.test").await);
    assert_eq!(lab.deferral().await, "451 4.2.0 later");
    let story = lab.story(&id).await;
    let digest = digest(&explain(&lab, &lab.config, &["you@dest.test"]).await);
    let port = around.other.port();
    let wanted = [
        format!("routing one 0.1.0 ({digest}…): no opinion — \"said by one\""),
        format!(
            "routing two 0.1.0 ({digest}…): failed, broken: no rule fits; \
             on_error = continue: the plugin is passed over"
        ),
        format!("routing three 0.1.0 ({digest}…): no opinion — \"said by three\""),
        format!("routing four 0.1.0 ({digest}…): use 127.0.0.3:{port} — \"ours now\""),
        format!("routing five 0.1.0 ({digest}…): no opinion — \"said by five\""),
    ];
    assert_eq!(attributions(&story), wanted);
    // One that failed leaves no mark.
    let marks = "attribute asked = one three four five\n";
    assert!(story.contains(marks), "{story}");
    let lab = lab.restart().await;
    assert_eq!(attributions(&lab.story(&id).await), wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_tells_who_keeps_mail_waiting() {
    let around = surroundings().await;
    for (behaviour, outcome, decided) in [
        (
            "behaviour = \"trap\"",
            "451 4.3.0 routing plugin three failed: trap",
            "failed, trap: ",
        ),
        (
            "behaviour = \"defer\", note = \"closed\"",
            "451 4.7.1 deferred by three: not today",
            "defer: not today — \"closed\"",
        ),
        (
            "behaviour = \"hold\"",
            "held: three: somebody should look",
            "hold: somebody should look",
        ),
    ] {
        let lab = around.lab(&Chain::new().does(2, behaviour)).await;
        let id = id_of(&lab.send("you@dest.test").await);
        lab.wait_for_queue("a reason", |queue| {
            queue["messages"][0]["reason"].is_string()
        })
        .await;
        let lab = lab.restart().await;
        let story = lab.story(&id).await;
        let told = attributions(&story);
        assert_eq!(told.len(), 3, "{story}");
        assert!(told[2].starts_with("routing three 0.1.0 ("), "{story}");
        assert!(told[2].contains(decided), "{story}");
        let line = format!(" at route, 0 ms: {outcome}\n");
        assert!(story.contains(&line), "{story}");
    }
    assert_eq!(around.mx.connection_count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_group_of_recipients_has_its_own_story() {
    let around = surroundings().await;
    for one in [&around.mx, &around.other] {
        one.set_script(Script::accept().at(Phase::Rcpt, says("451 4.2.0 later")));
    }
    let chain = Chain::new().does(1, &around.to_other("split"));
    let lab = around.lab(&chain).await;
    let explained = explain(&lab, &lab.config, &["first@dest.test", "second@dest.test"]).await;
    let by_recipient = |name: &str| {
        let mut routes = explained.routes.iter();
        let found = routes.find(|route| route.recipients == [format!("{name}@dest.test")]);
        found.expect("each has a route of its own")
    };
    let port = around.other.port();
    let use_other = format!("use 127.0.0.3:{port}");
    assert_eq!(by_recipient("first").plugins[1].decision, use_other);
    assert_eq!(by_recipient("second").plugins[1].decision, "no opinion");

    let mut client = crate::lab::Client::begin(
        lab.smtp(),
        "me@sender.test",
        &["first@dest.test", "second@dest.test"],
    )
    .await;
    let id = id_of(&client.ask("Subject: two\r\n\r\nHello\r\n.", "250").await);
    let tried = |queue: &serde_json::Value| queue["messages"][0]["attempts"] == 1;
    lab.wait_for_queue("attempts", tried).await;
    let both = |story: &str| story.matches(" at rcpt-to, ").count() == 2;
    let story = lab.wait_for_story(&id, both).await;
    let (_, other) = story
        .split_once(" via 127.0.0.3 ")
        .expect("it was tried there");
    let (_, mx) = story.split_once(" via a.dest.test ").expect("and there");
    assert!(part(other).contains("for <first@dest.test>\n"), "{story}");
    assert!(part(other).contains(&use_other), "{story}");
    assert!(part(mx).contains("for <second@dest.test>\n"), "{story}");
    assert!(!part(mx).contains(&use_other), "{story}");
}

/// A record of a story up to the next one: decisions are indented further.
fn part(text: &str) -> &str {
    let end = text
        .match_indices("\n  ")
        .find(|(at, _)| !text[at + 3..].starts_with(' '));
    end.map_or(text, |(at, _)| &text[..=at])
}

#[tokio::test(flavor = "multi_thread")]
async fn the_postmaster_without_a_domain_is_explained() {
    let around = surroundings().await;
    let lab = around.lab(&Chain::new()).await;
    let explanation = explain(&lab, &lab.config, &["<postmaster>"]).await;
    assert_eq!(explanation.routes[0].recipients, ["postmaster@relay.test"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_operators_end_is_counted() {
    let around = surroundings().await;
    let lab = around
        .lab(&Chain::new().does(2, "behaviour = \"defer\""))
        .await;
    let id = id_of(&lab.send("you@dest.test").await);
    lab.deferral().await;
    lab.command(&format!("/queue/{id}/remove")).await;
    let removed = "waypost_recipients_discarded_total";
    lab.wait_for_metric(removed, |count| count >= 1.0).await;
    lab.wait_until_empty().await;
    let id = id_of(&lab.send("you@dest.test").await);
    lab.deferral().await;
    lab.command(&format!("/queue/{id}/bounce")).await;
    let bounced = "waypost_recipients_bounced_total{cause=\"operator\"}";
    lab.wait_for_metric(bounced, |count| count >= 1.0).await;
    around.mx.wait_for_messages(1, LIMIT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_destination_is_shown() {
    let around = surroundings().await;
    let busy = Script::accept().at(Phase::Greeting, says("421 busy"));
    around.mx.set_script(busy);
    let plan = Plan::new(ZONE, around.mx.port())
        .with("[queue]\nfailures_to_suspend = 1\nsuspend = \"1h\"\nsuspend_max = \"1h\"\n");
    let lab = plan.open().await;
    let id = id_of(&lab.send("you@dest.test").await);
    lab.deferral().await;
    let told = |story: &str| story.contains("  destination dest.test: suspended until ");
    let story = lab.wait_for_story(&id, told).await;
    assert!(
        story.contains(" 1 failures in a row, 0 of 1 attempts"),
        "{story}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_they_note_is_bounded() {
    let around = surroundings().await;
    let config = |mark_bytes: usize| {
        let mark = "x".repeat(mark_bytes);
        let plain = Chain::new().config();
        plain.replace("mark = \"one\"", &format!("mark = \"{mark}\""))
            + "[limits]\nattributes = \"1KiB\"\n"
    };
    let lab = around.lab(&Chain::new()).await;
    for (mark_bytes, wanted) in [(990, "deliver"), (1020, "defer")] {
        let config = lab
            .config
            .replace(&Chain::new().config(), &config(mark_bytes));
        let route = only(explain(&lab, &config, &["you@dest.test"]).await);
        assert_eq!(route.result, wanted, "{mark_bytes}");
    }
}
