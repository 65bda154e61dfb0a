//! What one namespace does, alone and under many hands.

use super::*;

const NOW: u64 = 1_000_000;

fn value(namespace: &Namespace, key: &str, now_ms: u64) -> Option<Vec<u8>> {
    let entry = namespace.get(key, now_ms).expect("it answers");
    entry.map(|entry| entry.value)
}

#[test]
fn of_two_that_compare_and_set_one_wins() {
    let namespace = Namespace::new("test", 10_000);
    let first = namespace
        .put_if("key", b"a", 0, None, NOW)
        .expect("there is room");
    let first = first.expect("there was none");
    assert_eq!(namespace.put_if("key", b"b", 0, None, NOW), Ok(None));
    let second = namespace
        .put_if("key", b"c", first, None, NOW)
        .expect("there is room");
    assert!(second.expect("it was the version") > first);
    assert_eq!(namespace.put_if("key", b"d", first, None, NOW), Ok(None));
    assert_eq!(value(&namespace, "key", NOW).as_deref(), Some(&b"c"[..]));
    assert_eq!(namespace.remove("key", NOW), Ok(true));
    assert_eq!(namespace.put_if("key", b"e", first, None, NOW), Ok(None));
}

#[test]
fn many_hands_lose_no_count() {
    let namespace = Namespace::new("test", 10_000);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..500 {
                    namespace.add("sum", 1, None, NOW).expect("there is room");
                    loop {
                        let entry = namespace.get("cas", NOW).expect("it answers");
                        let (old, version) = entry.map_or((0, 0), |entry| {
                            let text = String::from_utf8(entry.value).expect("text");
                            (text.parse::<u64>().expect("a number"), entry.version)
                        });
                        let new = (old + 1).to_string();
                        let put = namespace.put_if("cas", new.as_bytes(), version, None, NOW);
                        if put.expect("there is room").is_some() {
                            break;
                        }
                    }
                }
            });
        }
    });
    assert_eq!(namespace.add("sum", 0, None, NOW), Ok(2000));
    assert_eq!(value(&namespace, "cas", NOW), Some(b"2000".to_vec()));
}

#[test]
fn entries_expire_when_they_should() {
    let namespace = Namespace::new("test", 10_000);
    namespace
        .put("key", b"a", Some(10), NOW)
        .expect("there is room");
    assert!(value(&namespace, "key", NOW + 9).is_some());
    assert!(value(&namespace, "key", NOW + 10).is_none());
    assert!(matches!(
        namespace.put_if("key", b"b", 0, None, NOW + 10),
        Ok(Some(_))
    ));
    // The time of a counter is that of its first addition.
    assert_eq!(namespace.add("count", 1, Some(10), NOW), Ok(1));
    assert_eq!(namespace.add("count", 1, Some(10), NOW + 5), Ok(2));
    assert_eq!(namespace.add("count", 1, Some(10), NOW + 10), Ok(1));
}

#[test]
fn over_the_quota_nothing_is_added_but_what_expired_makes_room() {
    let quota = 3 * rules::cost("a", 100);
    let namespace = Namespace::new("test", quota);
    for (key, ttl) in [("a", Some(10)), ("b", None), ("c", None)] {
        namespace
            .put(key, &[0; 100], ttl, NOW)
            .expect("there is room");
    }
    assert_eq!(namespace.usage(), (quota, 3));
    assert_eq!(
        namespace.put("d", &[0; 100], None, NOW),
        Err(StateFailure::Quota)
    );
    assert_eq!(
        namespace.put("b", &[0; 101], None, NOW),
        Err(StateFailure::Quota)
    );
    assert!(namespace.put("b", &[1; 100], None, NOW).is_ok());
    assert_eq!(
        namespace.take("bucket", 1, 1.0, 1, NOW),
        Err(StateFailure::Quota)
    );
    assert!(namespace.put("d", &[0; 100], None, NOW + 10).is_ok());
    assert_eq!(namespace.usage(), (quota, 3));
    let long = "k".repeat(KEY_MAX_BYTES + 1);
    assert_eq!(
        namespace.put(&long, b"", None, NOW),
        Err(StateFailure::Quota)
    );
}

#[test]
fn a_flood_of_keys_that_expire_does_not_fill_it() {
    let namespace = Namespace::new("test", 100 * rules::cost("key-00000", 10));
    namespace.set_logged(true);
    for number in 0..10_000_u64 {
        let key = format!("key-{number:05}");
        namespace
            .put(&key, &[0; 10], Some(50), NOW + number)
            .expect("what expired makes room");
    }
    let (_, entries) = namespace.usage();
    assert!(entries <= 100, "{entries}");
    // Never written, hence nothing to take back from the log either.
    assert!(namespace.take_changes(usize::MAX).len() <= 100);
}

#[test]
fn what_is_removed_does_not_come_back_from_the_log() {
    let namespace = Namespace::new("test", 10_000);
    namespace.set_logged(true);
    let mut log = Vec::new();
    namespace
        .put("key", b"old", None, NOW)
        .expect("there is room");
    log.extend(namespace.take_changes(10));
    namespace.remove("key", NOW).expect("it answers");
    namespace
        .put("key", b"new", None, NOW)
        .expect("there is room");
    namespace.remove("key", NOW).expect("it answers");
    namespace
        .put("other", b"passing", None, NOW)
        .expect("there is room");
    namespace.remove("other", NOW).expect("it answers");
    let changes = namespace.take_changes(10);
    assert_eq!(changes.len(), 1, "{changes:?}");
    log.extend(changes);
    let after = Namespace::new("test", 10_000);
    after.restore(log, NOW);
    assert_eq!(after.usage(), (0, 0));
}

#[test]
fn buckets_and_values_of_one_name_are_apart() {
    let namespace = Namespace::new("test", 10_000);
    assert_eq!(namespace.take("key", 1, 1.0, 1, NOW), Ok(true));
    assert_eq!(namespace.take("key", 1, 1.0, 1, NOW), Ok(false));
    assert_eq!(value(&namespace, "key", NOW), None);
    namespace
        .put("key", b"a", None, NOW)
        .expect("there is room");
    assert_eq!(namespace.take("key", 1, 1.0, 1, NOW), Ok(false));
    // Full again: it is forgotten like what expires.
    assert_eq!(namespace.take("key", 1, 1.0, 1, NOW + 1000), Ok(true));
    assert_eq!(namespace.remove("key", NOW), Ok(true));
    assert_eq!(namespace.take("key", 1, 1.0, 1, NOW + 1000), Ok(true));
    assert_eq!(namespace.usage().1, 1);
}
