//! The cache: how long an answer holds, who asks, what is counted.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::table::{HandClock, TableResolver, domain, temporary};
use futures_util::FutureExt;
use futures_util::future::join_all;
use mx::{Directory, DirectoryOptions, DirectoryStats, Freshness, LookupError, Resolver};

fn start(table: &Arc<TableResolver>, options: DirectoryOptions) -> (Directory, Arc<HandClock>) {
    let hand = HandClock::new();
    let resolver = Arc::clone(table) as Arc<dyn Resolver>;
    (Directory::new(resolver, options, hand.clock(), None), hand)
}

#[tokio::test]
async fn an_answer_is_shared_until_its_ttl_ends() {
    let table = TableResolver::new();
    table.mx("a.example", "10 mx.example", 300);
    let (directory, hand) = start(&table, DirectoryOptions::default());
    let name = domain("a.example");
    assert!(directory.mx_cached(&name).is_none());

    let first = directory.mx(&name).await;
    assert_eq!(first.freshness, Freshness::Fresh);
    hand.advance(180_000);
    let second = directory.clone().mx(&name).await;
    assert_eq!(second.freshness, Freshness::Cached { left_ms: 120_000 });
    assert!(Arc::ptr_eq(
        &first.outcome.unwrap(),
        &second.outcome.unwrap()
    ));
    assert!(directory.mx_cached(&name).is_some());

    hand.advance(120_000);
    assert!(directory.mx_cached(&name).is_none());
    assert_eq!(directory.mx(&name).await.freshness, Freshness::Fresh);
    assert_eq!(table.asked_count(), 2);
    let expected = DirectoryStats {
        hits_count: 2,
        misses_count: 2,
        entries_count: 1,
        ..Default::default()
    };
    assert_eq!(directory.stats(), expected);
}

#[tokio::test]
async fn what_is_kept_how_long() {
    let hour = |hours: u64| Duration::from_secs(3600 * hours);
    let options = DirectoryOptions::default();
    let no_memory = DirectoryOptions {
        temporary_ttl: Duration::ZERO,
        ..options.clone()
    };
    let low_ceiling = DirectoryOptions {
        ttl_ceiling: Duration::from_secs(2),
        ..options.clone()
    };
    let found = |ttl_s| (Some(ttl_s), None);
    let absent = |error| (None, Some(error));
    for (what, options, (ttl_s, error), kept) in [
        ("by its TTL", &options, found(300), Duration::from_secs(300)),
        (
            "a TTL of 0 by the floor",
            &options,
            found(0),
            Duration::from_secs(5),
        ),
        ("by the ceiling", &options, found(9_999_999), hour(24)),
        (
            "by a ceiling below the floor",
            &low_ceiling,
            found(60),
            Duration::from_secs(2),
        ),
        (
            "NXDOMAIN by its TTL",
            &options,
            absent(LookupError::NoSuchDomain { ttl_s: 60 }),
            Duration::from_secs(60),
        ),
        (
            "no records by the negative ceiling",
            &options,
            absent(LookupError::NoRecords { ttl_s: 86_400 }),
            Duration::from_secs(600),
        ),
        (
            "a temporary failure briefly",
            &options,
            absent(temporary()),
            Duration::from_secs(5),
        ),
        (
            "a temporary failure not at all",
            &no_memory,
            absent(temporary()),
            Duration::ZERO,
        ),
    ] {
        let table = TableResolver::new();
        match (ttl_s, error) {
            (Some(ttl_s), _) => table.mx("a.example", "10 mx.example", ttl_s),
            (None, Some(error)) => table.fail("a.example", &error),
            (None, None) => unreachable!("each case has one of the two"),
        }
        let (directory, hand) = start(&table, options.clone());
        let name = domain("a.example");
        drop(directory.mx(&name).await);
        let kept_ms = u64::try_from(kept.as_millis()).unwrap();
        if kept_ms > 0 {
            hand.advance(kept_ms - 1);
            assert!(directory.mx_cached(&name).is_some(), "{what}");
            hand.advance(1);
        }
        assert!(directory.mx_cached(&name).is_none(), "{what}");
    }
}

#[tokio::test]
async fn many_ask_once() {
    let table = TableResolver::new();
    table.mx("a.example", "10 mx.example", 300);
    let gate = table.close_gate();
    let (directory, _) = start(&table, DirectoryOptions::default());
    let name = domain("a.example");
    let asking = join_all((0..10).map(|_| directory.mx(&name)));
    let open = async { gate.add_permits(10) };
    let (answers, ()) = futures_util::future::join(asking, open).await;
    assert!(answers.iter().all(|answer| answer.outcome.is_ok()));
    assert_eq!(table.asked_count(), 1);
    let stats = directory.stats();
    assert_eq!((stats.misses_count, stats.joined_count), (1, 9));
}

#[tokio::test]
async fn those_who_wait_get_the_answer_though_the_first_has_left() {
    let table = TableResolver::new();
    table.mx("a.example", "10 mx.example", 300);
    let gate = table.close_gate();
    let (directory, _) = start(&table, DirectoryOptions::default());
    let name = domain("a.example");
    let mut first = Box::pin(directory.mx(&name));
    assert!((&mut first).now_or_never().is_none());
    let mut second = Box::pin(directory.mx(&name));
    assert!((&mut second).now_or_never().is_none());
    drop(first);
    gate.add_permits(1);
    assert!(second.await.outcome.is_ok());
    assert_eq!(table.asked_count(), 1);
}

#[tokio::test]
async fn a_question_that_all_have_left_is_asked_again() {
    let table = TableResolver::new();
    table.mx("a.example", "10 mx.example", 300);
    let gate = table.close_gate();
    let (directory, _) = start(&table, DirectoryOptions::default());
    let name = domain("a.example");
    let mut first = Box::pin(directory.mx(&name));
    assert!((&mut first).now_or_never().is_none());
    drop(first);
    gate.add_permits(1);
    assert!(directory.mx(&name).await.outcome.is_ok());
    assert_eq!(table.asked_count(), 2);
    assert!(directory.mx_cached(&name).is_some());
}

#[tokio::test]
async fn a_flush_is_not_undone_by_an_answer_under_way() {
    let table = TableResolver::new();
    table.mx("a.example", "10 old.example", 300);
    table.addresses("a.example", "192.0.2.1", 300);
    let (directory, _) = start(&table, DirectoryOptions::default());
    let name = domain("a.example");
    drop(directory.addresses(&name).await);
    let gate = table.close_gate();
    let mut under_way = Box::pin(directory.mx(&name));
    assert!((&mut under_way).now_or_never().is_none());
    assert_eq!(directory.flush(&name), 1, "the addresses");
    gate.add_permits(2);
    assert!(
        under_way.await.outcome.is_ok(),
        "those who wait still get it"
    );
    assert!(directory.mx_cached(&name).is_none());

    drop(directory.mx(&name).await);
    assert_eq!(directory.flush_all(), 1);
    assert!(directory.mx_cached(&name).is_none());
}

#[tokio::test]
async fn memory_is_bounded() {
    let table = TableResolver::new();
    let options = DirectoryOptions {
        entries_max: 100,
        ..DirectoryOptions::default()
    };
    let (directory, _) = start(&table, options);
    for number in 0..1000 {
        drop(directory.mx(&domain(&format!("d{number}.example"))).await);
    }
    let stats = directory.stats();
    assert_eq!(stats.entries_count, 100);
    assert_eq!(stats.evicted_count, 900);
    assert!(directory.mx_cached(&domain("d999.example")).is_some());
}

#[tokio::test]
async fn the_observer_hears_of_questions_not_of_hits() {
    let table = TableResolver::new();
    table.mx("a.example", "10 mx.example", 300);
    table.fail("b.example", &temporary());
    let heard = Arc::new(Mutex::new(Vec::new()));
    let listening = Arc::clone(&heard);
    let hand = HandClock::new();
    let directory = Directory::new(
        Arc::clone(&table) as Arc<dyn Resolver>,
        DirectoryOptions::default(),
        hand.clock(),
        Some(Arc::new(move |report| {
            let line = format!(
                "{} {} {:?}",
                report.kind.as_str(),
                report.outcome,
                report.elapsed
            );
            listening.lock().unwrap().push(line);
        })),
    );
    let gate = table.close_gate();
    let name = domain("a.example");
    let mut asking = Box::pin(directory.mx(&name));
    assert!((&mut asking).now_or_never().is_none());
    hand.advance(25);
    gate.add_permits(3);
    drop(asking.await);
    drop(directory.mx(&domain("a.example")).await);
    drop(directory.mx(&domain("b.example")).await);
    drop(directory.addresses(&domain("c.example")).await);
    let expected = [
        "mx found 25ms",
        "mx temporary 0ns",
        "addresses no_such_domain 0ns",
    ];
    assert_eq!(*heard.lock().unwrap(), expected);
    assert_eq!(directory.stats().temporary_failures_count, 1);
}
