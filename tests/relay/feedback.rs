//! Plugins that hear how deliveries went, and what their advice does: it changes what comes next,
//! and never what has happened. One that fails does nothing to mail.

use crate::lab::{Host, LIMIT, Lab, Plan, component, host, id_of, says};
use testkit::virtual_mx::{Phase, Script, Step};

const ZONE: &str = "$ORIGIN test.\n@ SOA ns hostmaster 1 60 60 60 60\n\
    dest MX 10 b.dest\nb.dest A 127.0.0.3\nsender MX 10 c.dest\nc.dest A 127.0.0.4\n";

struct Surroundings {
    first: Host,
    second: Host,
    /// Takes the bounces.
    home: Host,
}

async fn surroundings() -> Surroundings {
    let first = host(2, 0, Script::accept()).await;
    let second = host(3, first.port(), Script::accept()).await;
    let home = host(4, first.port(), Script::accept()).await;
    Surroundings {
        first,
        second,
        home,
    }
}

impl Surroundings {
    /// A relay whose plugin routes to these places and advises that.
    async fn lab(&self, hops: &[&str], advice: &str, more: &str) -> Lab {
        let port = self.first.port();
        let hops: Vec<String> = hops.iter().map(|one| format!("\"{one}:{port}\"")).collect();
        let plugin = format!(
            "[[plugin]]\nname = \"listener\"\npath = \"{}\"\ndomains = [\"dest.test\"]\n\
             cpu = \"50ms\"\nconfig = {{ hops = [{}], {advice} }}\n\
             grants = {{ route_hosts = [\"*\"] }}\n{more}",
            component("feedback"),
            hops.join(", ")
        );
        Plan::new(ZONE, port).with(&plugin).open().await
    }

    /// The first host takes the whole message and hangs up before it says so: nobody knows
    /// whether it has it, and by itself the relay does not go on to the next.
    fn first_hangs_up(&self) {
        self.first
            .set_script(Script::accept().at(Phase::EndOfData, Step::Drop));
    }
}

const BOTH: [&str; 2] = ["127.0.0.2", "127.0.0.3"];

/// When the only message is due, in milliseconds from now as the relay saw it last.
async fn pause_ms(lab: &Lab) -> u64 {
    let tried = |queue: &serde_json::Value| queue["messages"][0]["attempts"] == 1;
    let queue = lab.wait_for_queue("an attempt", tried).await;
    let message = &queue["messages"][0];
    let at = |key: &str| message[key].as_u64().expect("a time");
    at("due_at_ms").saturating_sub(at("received_at_ms"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_hop_is_tried_at_once() {
    let around = surroundings().await;
    around.first_hangs_up();
    let lab = around.lab(&BOTH, "advice = \"next-hop-now\"", "").await;
    lab.send("you@dest.test").await;
    around.second.wait_for_messages(1, LIMIT).await;
    lab.wait_until_empty().await;
    assert_eq!(around.first.mail_count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_another_hop_that_advice_is_not_carried_out() {
    let around = surroundings().await;
    around.first_hangs_up();
    let lab = around
        .lab(&["127.0.0.2"], "advice = \"next-hop-now\"", "")
        .await;
    let id = id_of(&lab.send("you@dest.test").await);
    let told =
        |story: &str| story.contains("try the next hop now; not carried out: no next hop is left");
    lab.wait_for_story(&id, told).await;
    assert_eq!(around.first.mail_count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_routing_plugins_are_asked_again_at_once() {
    let around = surroundings().await;
    around.first_hangs_up();
    let lab = around.lab(&BOTH, "advice = \"reroute\"", "").await;
    lab.send("you@dest.test").await;
    around.second.wait_for_messages(1, LIMIT).await;
    lab.wait_until_empty().await;
    assert_eq!(around.first.mail_count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn rerouting_for_ever_ends() {
    let around = surroundings().await;
    around.first_hangs_up();
    let hangs_up = Script::accept().at(Phase::EndOfData, Step::Drop);
    around.second.set_script(hangs_up);
    let limit = "[queue]\nprompt_retries = 2\n";
    let lab = around.lab(&BOTH, "advice = \"reroute\"", limit).await;
    let id = id_of(&lab.send("you@dest.test").await);
    let told = |story: &str| story.contains("not carried out: 2 of its last attempts");
    let story = lab.wait_for_story(&id, told).await;
    assert_eq!(around.first.mail_count(), 1);
    assert_eq!(around.second.mail_count(), 2);
    assert_eq!(story.matches("route again now").count(), 3, "{story}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_time_is_taken_and_told_after_a_restart() {
    let around = surroundings().await;
    let later = Script::accept().at(Phase::Rcpt, says("451 4.2.0 later"));
    around.first.set_script(later);
    let advice = "advice = \"retry-after\", seconds = 36000";
    let lab = around.lab(&["127.0.0.2"], advice, "").await;
    let id = id_of(&lab.send("you@dest.test").await);
    let told = |story: &str| story.contains("): try again after 36000 s\n");
    let story = lab.wait_for_story(&id, told).await;
    assert!(story.contains("    delivery listener 0.1.0 ("), "{story}");
    let lab = lab.restart().await;
    assert!(told(&lab.story(&id).await));
    // The schedule would have said minutes.
    assert!(pause_ms(&lab).await >= 36_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_up_bounces_with_its_reply() {
    let around = surroundings().await;
    let later = Script::accept().at(Phase::Rcpt, says("451 4.2.0 later"));
    around.first.set_script(later);
    let lab = around.lab(&["127.0.0.2"], "advice = \"give-up\"", "").await;
    lab.send("you@dest.test").await;
    around.home.wait_for_messages(1, LIMIT).await;
    let bounce = &around.home.messages()[0];
    assert_eq!(bounce.reverse_path, "");
    let text = String::from_utf8_lossy(&bounce.content).into_owned();
    assert!(
        text.contains("5.4.7") && text.contains("we give up"),
        "{text}"
    );
    lab.wait_until_empty().await;
    let failed = "waypost_recipients_bounced_total{cause=\"failed\"}";
    assert_eq!(lab.metric(failed).await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_is_held_once() {
    let around = surroundings().await;
    let later = Script::accept().at(Phase::Rcpt, says("451 4.2.0 later"));
    around.first.set_script(later);
    let lab = around.lab(&["127.0.0.2"], "advice = \"hold\"", "").await;
    let id = id_of(&lab.send("you@dest.test").await);
    let held = |queue: &serde_json::Value| queue["messages"][0]["held"] == true;
    let queue = lab.wait_for_queue("a hold", held).await;
    assert_eq!(
        queue["messages"][0]["reason"],
        "listener: somebody should look"
    );
    lab.command(&format!("/queue/{id}/release")).await;
    let told =
        |story: &str| story.contains("not carried out: the message was released from a hold");
    lab.wait_for_story(&id, told).await;
    let queue = lab.queue().await;
    assert_eq!(queue["messages"][0]["held"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_place_is_reported_as_it_was() {
    let around = surroundings().await;
    let later = Script::accept().at(Phase::Rcpt, says("451 4.2.0 later"));
    around.second.set_script(later);
    // Nobody listens on the first, and the second has no address.
    let hops = ["127.0.0.5", "nowhere.test", "127.0.0.3"];
    let lab = around.lab(&hops, "advice = \"usual\"", "").await;
    let id = id_of(&lab.send("you@dest.test").await);
    let story = lab
        .wait_for_story(&id, |story| story.contains("attribute told-3"))
        .await;
    for line in [
        "attribute told-1 = failed at Stage::Connect of 127.0.0.5 from nowhere, attempt 1: ",
        "attribute told-2 = failed at Stage::Resolve of nowhere from nowhere, attempt 1: ",
        "attribute told-3 = temporary at Stage::RcptTo of 127.0.0.3 from 127.0.0.1, attempt 1: later",
    ] {
        assert!(story.contains(line), "{line} in {story}");
    }
    assert!(!story.contains("told-4"), "{story}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_that_cannot_be_resolved_is_reported() {
    let around = surroundings().await;
    // The plugin has no opinion on the route; the zone's server fails.
    let lab = around
        .lab(&[], "advice = \"retry-after\", seconds = 36000", "")
        .await;
    lab.dns
        .script()
        .set_fault("dest.test", "MX", testkit::dns::Fault::ServFail);
    let id = id_of(&lab.send("you@dest.test").await);
    let told = |story: &str| story.contains("): try again after 36000 s\n");
    let story = lab.wait_for_story(&id, told).await;
    let line = "attribute told-1 = failed at Stage::Resolve of nowhere";
    assert!(story.contains(line), "{story}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_dns_fails_another_way_is_found_at_once() {
    let around = surroundings().await;
    let advice = "advice = \"reroute\", fall_back = true";
    let lab = around.lab(&["127.0.0.3"], advice, "").await;
    lab.dns
        .script()
        .set_fault("dest.test", "MX", testkit::dns::Fault::ServFail);
    lab.send("you@dest.test").await;
    around.second.wait_for_messages(1, LIMIT).await;
    lab.wait_until_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_the_first_with_an_opinion_is_followed() {
    let around = surroundings().await;
    let later = Script::accept().at(Phase::Rcpt, says("451 4.2.0 later"));
    around.first.set_script(later);
    let path = component("feedback");
    let others: String = [
        ("second", "advice = \"retry-after\", seconds = 36000"),
        ("third", "advice = \"hold\""),
        ("fourth", "advice = \"temporary\""),
    ]
    .map(|(name, advice)| {
        format!(
            "[[plugin]]\nname = \"{name}\"\npath = \"{path}\"\n\
             config = {{ hops = [], {advice} }}\n"
        )
    })
    .concat();
    let lab = around
        .lab(&["127.0.0.2"], "advice = \"usual\"", &others)
        .await;
    let id = id_of(&lab.send("you@dest.test").await);
    let told = |story: &str| story.contains("): try again after 36000 s\n");
    let story = lab.wait_for_story(&id, told).await;
    let decisions = story
        .lines()
        .filter(|line| line.starts_with("    delivery "));
    let decisions: Vec<&str> = decisions
        .filter_map(|line| line.split_once("…): ").map(|(_, said)| said))
        .collect();
    assert_eq!(
        decisions,
        [
            "try again after 36000 s",
            "hold: somebody should look; not followed: another was first",
            "failed, temporary: my own trouble; mail goes its usual way",
        ]
    );
    // All were told; who failed leaves no mark.
    assert!(story.contains("attribute told-3"), "{story}");
    assert!(!story.contains("attribute told-4"), "{story}");
    assert!(pause_ms(&lab).await >= 36_000_000);
}

/// However the plugin fails: the mail waits as it would without it, and goes out when it can.
async fn does_nothing(behaviour: &str, reason: &str) {
    let around = surroundings().await;
    let later = Script::accept().at(Phase::Rcpt, says("451 4.2.0 later"));
    around.first.set_script(later);
    let lab = around
        .lab(&["127.0.0.2"], &format!("advice = \"{behaviour}\""), "")
        .await;
    let id = id_of(&lab.send("you@dest.test").await);
    let told = |story: &str| {
        story.contains(&format!("): failed, {reason}: "))
            && story.contains("mail goes its usual way")
    };
    lab.wait_for_story(&id, told).await;
    assert_eq!(lab.deferral().await, "451 4.2.0 later");
    let counter = format!(
        "waypost_plugin_calls_total{{plugin=\"listener\",phase=\"delivery\",result=\"{reason}\"}}"
    );
    lab.wait_for_metric(&counter, |count| count >= 1.0).await;
    around.first.set_script(Script::accept());
    around.second.set_script(Script::accept());
    lab.command(&format!("/queue/{id}/retry")).await;
    lab.wait_until_empty().await;
    assert_eq!(around.home.messages().len(), 0, "nothing bounced");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_does_nothing_to_mail() {
    does_nothing("trap", "trap").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_loop_does_nothing_to_mail() {
    does_nothing("spin", "cpu_limit").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn its_own_trouble_does_nothing_to_mail() {
    does_nothing("temporary", "temporary").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_are_reported_too() {
    let around = surroundings().await;
    let lab = around.lab(&["127.0.0.2"], "advice = \"trap\"", "").await;
    lab.send("you@dest.test").await;
    around.first.wait_for_messages(1, LIMIT).await;
    let told = "waypost_plugin_events_total{plugin=\"listener\",name=\"told\",label_outcome=\"delivered\"}";
    lab.wait_for_metric(told, |count| count == 1.0).await;
    lab.wait_until_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_notes_is_bounded() {
    let around = surroundings().await;
    let text = "x".repeat(450);
    let later = Script::accept().at(Phase::Rcpt, says(&format!("451 4.2.0 {text}")));
    around.first.set_script(later.clone());
    around.second.set_script(later);
    let limit = "[limits]\nattributes = \"1KiB\"\n";
    let lab = around.lab(&BOTH, "advice = \"reroute\"", limit).await;
    let id = id_of(&lab.send("you@dest.test").await);
    // The second note is one too many, and its call is as good as none.
    let told = |story: &str| {
        story.contains("limits.attributes = 1024 octets") && story.contains("usual way")
    };
    lab.wait_for_story(&id, told).await;
    let count = |result: &str| {
        format!(
            "waypost_plugin_calls_total{{plugin=\"listener\",phase=\"delivery\",result=\"{result}\"}}"
        )
    };
    assert_eq!(lab.metric(&count("invalid_answer")).await, 1.0);
}
