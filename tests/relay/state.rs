//! State of plugins in a whole relay: shared by all calls, under its quota, over reloads, and
//! over restarts where it is to be durable.

use std::path::Path;

use crate::asking::{answer, answer_about, guest, lab, named_guest};
use crate::lab::{id_of, start};

const COMMANDS: &[(&str, &str)] = &[
    ("add", "add sum"),
    ("read", "text sum"),
    ("remove", "remove sum"),
    ("cas", "cas shared"),
    ("shared", "text shared"),
    ("take", "take bucket 3"),
    ("large", "put large 100000"),
    ("flood", "flood 10000"),
    ("small", "put small 10"),
];

fn granted(grants: &str) -> String {
    guest(grants, COMMANDS)
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_grant_there_is_no_state() {
    let lab = lab(&granted("")).await;
    assert_eq!(answer(&lab, "add").await, "Err(StateError::Denied)");
}

#[tokio::test(flavor = "multi_thread")]
async fn state_is_kept_between_calls_and_over_reloads() {
    let lab = lab(&granted("state = \"64KiB\"")).await;
    assert_eq!(answer(&lab, "add").await, "Ok(1)");
    assert_eq!(answer(&lab, "add").await, "Ok(2)");
    lab.reload(&lab.config).await;
    assert_eq!(answer(&lab, "add").await, "Ok(3)");
    // Of another configuration, and hence another version of the plugin.
    lab.reload(
        &lab.config
            .replace("64KiB", "128KiB")
            .replace("text sum", "text  sum"),
    )
    .await;
    assert_eq!(answer(&lab, "add").await, "Ok(4)");
    assert_eq!(answer(&lab, "remove").await, "Ok(true)");
    assert_eq!(answer(&lab, "add").await, "Ok(1)");
    let entries = "waypost_plugin_state_entries{plugin=\"resources\"}";
    lab.wait_for_metric(entries, |entries| entries == 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn durable_state_outlives_the_relay_and_other_state_does_not() {
    let durable = lab(&granted("state = \"64KiB\"\nstate_durable = true")).await;
    for sum in 1..=3 {
        assert_eq!(answer(&durable, "add").await, format!("Ok({sum})"));
    }
    assert_eq!(answer(&durable, "take").await, "Ok(true)");
    let durable = durable.restart().await;
    assert_eq!(answer(&durable, "add").await, "Ok(4)");
    for _ in 0..2 {
        assert_eq!(answer(&durable, "take").await, "Ok(true)");
    }
    assert_eq!(answer(&durable, "take").await, "Ok(false)");

    let passing = lab(&granted("state = \"64KiB\"")).await;
    assert_eq!(answer(&passing, "add").await, "Ok(1)");
    let passing = passing.restart().await;
    assert_eq!(answer(&passing, "add").await, "Ok(1)");
}

/// What a crash leaves is what was written: a copy of the files of a relay that goes on.
#[tokio::test(flavor = "multi_thread")]
async fn durable_state_is_written_while_the_relay_runs() {
    let before = lab(&granted("state = \"64KiB\"\nstate_durable = true")).await;
    assert_eq!(answer(&before, "add").await, "Ok(1)");
    let written = "waypost_plugin_state_writes_total{plugin=\"resources\",result=\"ok\"}";
    before
        .wait_for_metric(written, |written| written >= 1.0)
        .await;
    let log = Path::new("spool/plugin-state/resources.log");
    let copy = tempfile::tempdir().expect("a directory");
    let to = copy.path().join(log);
    std::fs::create_dir_all(to.parent().expect("it has one")).expect("it is made");
    // With the end of a write that did not come to its end.
    let mut octets = std::fs::read(before.directory.path().join(log)).expect("it is there");
    octets.extend_from_slice(b"WpS1\x40\0\0\0half");
    std::fs::write(&to, octets).expect("it is written");

    let relay = start(copy.path(), &before.config).await;
    let after = crate::lab::Lab {
        relay,
        directory: copy,
        config: before.config.clone(),
        dns: before.dns,
    };
    assert_eq!(answer(&after, "add").await, "Ok(2)");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_set_aside_and_the_relay_starts() {
    let before = lab(&granted("state = \"64KiB\"\nstate_durable = true")).await;
    assert_eq!(answer(&before, "add").await, "Ok(1)");
    let log = before
        .directory
        .path()
        .join("spool/plugin-state/resources.log");
    before.relay.shutdown().await;
    // Damage with something good behind it is no crash's doing.
    let good = std::fs::read(&log).expect("it is there");
    let mut octets = b"WpS1 this is no frame".to_vec();
    octets.extend_from_slice(&good);
    std::fs::write(&log, octets).expect("it is written");
    let relay = start(before.directory.path(), &before.config).await;
    let after = crate::lab::Lab { relay, ..before };
    assert_eq!(answer(&after, "add").await, "Ok(2)");
    let damaged = "waypost_plugin_state_damaged_total{plugin=\"resources\"}";
    assert!(after.metric(damaged).await >= 1.0);
    let directory = log.parent().expect("it has one");
    let names = std::fs::read_dir(directory).expect("it is there");
    let mut names = names.map(|entry| entry.expect("an entry").file_name());
    assert!(names.any(|name| name.to_string_lossy().contains("damaged")));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_calls_at_a_time_none_loses_its_count() {
    const CALLS: usize = 24;
    let lab = lab(&granted("state = \"64KiB\"")).await;
    let calls = (0..CALLS).map(|_| async {
        let id = id_of(&lab.send("cas@dest.test").await);
        answer_about(&lab, &id).await
    });
    let mut seen: Vec<usize> = Vec::new();
    for answer in futures_of(calls).await {
        seen.push(answer.parse().unwrap_or_else(|_| panic!("{answer}")));
    }
    seen.sort_unstable();
    assert_eq!(seen, (1..=CALLS).collect::<Vec<_>>());
    assert_eq!(answer(&lab, "shared").await, format!("Some(\"{CALLS}\")"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_gives_no_more_than_it_has() {
    let lab = lab(&granted("state = \"64KiB\"")).await;
    let calls = (0..8).map(|_| async {
        let id = id_of(&lab.send("take@dest.test").await);
        answer_about(&lab, &id).await
    });
    let answers = futures_of(calls).await;
    let given = answers.iter().filter(|answer| *answer == "Ok(true)");
    assert_eq!(given.count(), 3, "{answers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_ends_at_the_quota_and_touches_nobody_else() {
    let first = granted("state = \"64KiB\"").replace("dest.test", "other.test");
    let second = named_guest("second", "state = \"64KiB\"", COMMANDS);
    let lab = lab(&format!("{first}{second}")).await;
    let flooded = answer(&lab, "flood").await;
    assert!(flooded.starts_with("StateError::Quota after "), "{flooded}");
    assert_eq!(answer(&lab, "large").await, "Err(StateError::Quota)");
    let refused = "waypost_plugin_state_refused_total{plugin=\"second\"}";
    assert!(lab.metric(refused).await >= 2.0);
    let bytes = lab
        .metric("waypost_plugin_state_bytes{plugin=\"second\"}")
        .await;
    assert!((60_000.0..=65_536.0).contains(&bytes), "{bytes}");
    let other = id_of(&lab.send("small@other.test").await);
    assert_eq!(answer_about(&lab, &other).await, "Ok(())");
    // Lowering the quota takes nothing away; raising it makes room.
    lab.reload(&lab.config.replace("state = \"64KiB\"", "state = \"1KiB\""))
        .await;
    assert_eq!(answer(&lab, "small").await, "Err(StateError::Quota)");
    lab.reload(
        &lab.config
            .replace("state = \"64KiB\"", "state = \"128KiB\""),
    )
    .await;
    assert_eq!(answer(&lab, "small").await, "Ok(())");
}

/// All at once, in order.
async fn futures_of<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    futures_util::future::join_all(futures).await
}
