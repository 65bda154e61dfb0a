//! After a restart the queue is as it was: who waits, how often it was tried, when it is due.

use serde_json::Value;

use crate::harness::{Relay, wait_for};
use crate::injector::Injector;
use crate::recorder::Recorder;

/// Long enough that nothing becomes due during the test.
const SLOW_RETRIES: &str = "[queue]\nretry = [\"20m\", \"40m\", \"1h\"]\n";

/// The list and every message's story.
fn snapshot(relay: &Relay) -> (Value, Vec<Value>) {
    let list = relay.queue();
    let stories = ids(&list)
        .iter()
        .map(|id| relay.queue_show(id)["message"].clone())
        .collect();
    (list, stories)
}

fn ids(list: &Value) -> Vec<String> {
    let messages = list["messages"].as_array().expect("a list of messages");
    messages
        .iter()
        .map(|message| message["id"].as_str().expect("an id").to_owned())
        .collect()
}

/// Waits until `count` messages are in the queue and each was tried this often.
fn wait_attempts(relay: &Relay, count: usize, attempts: u64) {
    wait_for("attempts", || {
        let list = relay.queue();
        let messages = list["messages"].as_array()?;
        let tried = |message: &Value| message["attempts"].as_u64() == Some(attempts);
        (messages.len() == count && messages.iter().all(tried)).then_some(())
    });
}

/// A message whose 250 shows that the log has been written up to it, notes about others included.
fn send_marker(relay: &Relay, subject: &str) {
    let mut injector = Injector::connect(relay.smtp).expect("the relay listens");
    injector
        .send(&["marker@destination.test"], subject, "marker")
        .expect("it is acknowledged");
}

#[test]
fn a_restart_changes_nothing() {
    let recorder = Recorder::start();
    recorder.defer(true);
    let mut relay = Relay::start(recorder.address, SLOW_RETRIES);
    let mut injector = Injector::connect(relay.smtp).expect("the relay listens");
    for (number, recipients) in [
        &["a@one.test"][..],
        &["b@one.test", "c@two.test"],
        &["d@three.test"],
    ]
    .iter()
    .enumerate()
    {
        injector
            .send(recipients, &format!("waits {number}"), "body")
            .expect("acknowledged");
    }
    drop(injector);
    wait_attempts(&relay, 3, 1);

    // An orderly stop.
    let before = snapshot(&relay);
    relay.stop();
    relay.restart();
    assert_eq!(snapshot(&relay), before, "after a stop");

    // A second attempt, then kill -9.
    let output = relay.run_waypost("queue", &["retry", "all"]);
    assert!(output.status.success(), "{output:?}");
    wait_attempts(&relay, 3, 2);
    let before = snapshot(&relay);
    send_marker(&relay, "marker");
    relay.kill();
    relay.restart();
    let (list, stories) = snapshot(&relay);
    for (before, id) in before.1.iter().zip(ids(&before.0)) {
        let place = ids(&list).iter().position(|other| *other == id);
        let place = place.unwrap_or_else(|| panic!("{id} is gone:\n{}", relay.log_tail()));
        assert_eq!(&stories[place], before, "{id} after kill -9");
    }

    // The destination recovers: everything arrives, once.
    recorder.defer(false);
    let output = relay.run_waypost("queue", &["retry", "all"]);
    assert!(output.status.success(), "{output:?}");
    relay.wait_empty();
    let mut reached: Vec<String> = recorder
        .arrivals()
        .into_iter()
        .flat_map(|arrival| arrival.recipients)
        .collect();
    reached.sort();
    assert_eq!(
        reached,
        [
            "a@one.test",
            "b@one.test",
            "c@two.test",
            "d@three.test",
            "marker@destination.test"
        ]
    );
    relay.stop();
}
