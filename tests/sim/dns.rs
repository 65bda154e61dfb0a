//! The real resolver against a name server on real sockets: what is proven,
//! what is only a failure, and what becomes of it in a plan.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use mx::{
    Clock, Directory, DirectoryOptions, Freshness, HickoryResolver, LookupError, MxExchange,
    PlanFailureReason, PlanOptions, Resolver, ResolverOptions, TemporaryCause, plan,
};
use smtp::Domain;
use testkit::dns::{DnsServer, Fault, Zone, ZoneResolver};

const ZONE: &str = "
    $ORIGIN example.test.
    $TTL 300
    @       3600 SOA ns.example.test. admin.example.test. 1 3600 600 86400 120
    @       MX 20 mx2
    @       MX 10 mx1
    mx1     A 192.0.2.1
    mx1     AAAA 2001:db8::1
    mx2     60 A 192.0.2.2
    v4only  A 192.0.2.4
    bare    A 192.0.2.9
    null    MX 0 .
    odd     MX 10 192.0.2.77.
    odd     MX 20 _mx.example.test.
    text    TXT \"v=spf1 \" \"-all\"
    alias   100 CNAME alias2
    alias2  200 CNAME elsewhere.test.
    dangle  CNAME nowhere.test.
    baremx  CNAME bare
    loop    CNAME pool
    pool    CNAME loop
";

fn zones() -> [Zone; 3] {
    let elsewhere = "$ORIGIN elsewhere.test.\n@ 500 MX 5 mx.elsewhere.test.\n@ 50 A 192.0.2.8";
    let reverse = "$ORIGIN 2.0.192.in-addr.arpa.\n1 PTR mx1.example.test.";
    [ZONE, elsewhere, reverse].map(Zone::parse)
}

fn resolver(servers: &[SocketAddr], timeout: Duration, attempts: usize) -> HickoryResolver {
    let options = ResolverOptions {
        servers: servers.to_vec(),
        timeout,
        attempts,
    };
    HickoryResolver::new(&options).expect("servers are given")
}

/// Long enough for a machine under load: it only passes where an answer is to
/// come.
const PATIENT: Duration = Duration::from_secs(20);
/// For servers that never answer.
const SHORT: Duration = Duration::from_millis(300);

/// Packets of one question: over UDP it is sent again where the answer takes
/// longer than a tenth of a second.
const SENT_ONCE: std::ops::RangeInclusive<u64> = 1..=3;

async fn world() -> (DnsServer, HickoryResolver) {
    let server = DnsServer::start(zones()).await;
    let resolver = resolver(&[server.addr()], PATIENT, 1);
    (server, resolver)
}

fn domain(name: &str) -> Domain {
    name.parse().expect("a domain")
}

fn cause(error: &LookupError) -> Option<TemporaryCause> {
    match error {
        LookupError::Temporary { cause, .. } => Some(*cause),
        _ => None,
    }
}

#[tokio::test]
async fn records_come_with_their_ttl() {
    let (server, resolver) = world().await;
    let mut mx = resolver
        .mx(&domain("example.test"))
        .await
        .expect("it has MX records");
    mx.records.sort_by_key(|record| record.preference);
    let shown: Vec<String> = mx
        .records
        .iter()
        .map(|record| format!("{} {}", record.preference, record.exchange))
        .collect();
    assert_eq!(shown, ["10 mx1.example.test", "20 mx2.example.test"]);
    assert_eq!((mx.ttl_s, mx.secure, mx.canonical_name), (300, false, None));

    let addresses = resolver
        .addresses(&domain("mx1.example.test"))
        .await
        .expect("two");
    let expected: [IpAddr; 2] = [
        "192.0.2.1".parse().expect("v4"),
        "2001:db8::1".parse().expect("v6"),
    ];
    assert_eq!(addresses.records, expected);
    let addresses = resolver
        .addresses(&domain("mx2.example.test"))
        .await
        .expect("one");
    assert_eq!(addresses.ttl_s, 60);
    let text = resolver
        .txt(&domain("text.example.test"))
        .await
        .expect("a text");
    assert_eq!(text.records, ["v=spf1 -all"]);
    let names = resolver
        .ptr("192.0.2.1".parse().expect("an address"))
        .await
        .expect("a name");
    assert_eq!(names.records, [domain("mx1.example.test")]);
    assert_eq!(server.count_tcp(), 0);
}

#[tokio::test]
async fn exchanges_that_are_no_hosts_are_told_apart() {
    let (_server, resolver) = world().await;
    let null = resolver
        .mx(&domain("null.example.test"))
        .await
        .expect("a null MX");
    assert_eq!(null.records[0].exchange, MxExchange::Root);
    let mut odd = resolver
        .mx(&domain("odd.example.test"))
        .await
        .expect("two records");
    odd.records.sort_by_key(|record| record.preference);
    assert_eq!(
        odd.records[0].exchange,
        MxExchange::Address("192.0.2.77".parse().expect("an address"))
    );
    assert_eq!(
        odd.records[1].exchange,
        MxExchange::Host(domain("_mx.example.test"))
    );
}

#[tokio::test]
async fn absences_are_told_apart_and_hold_as_long_as_the_soa_says() {
    let (server, resolver) = world().await;
    let none = resolver.mx(&domain("none.example.test")).await;
    assert_eq!(none, Err(LookupError::NoSuchDomain { ttl_s: 120 }));
    let bare = resolver.mx(&domain("bare.example.test")).await;
    assert_eq!(bare, Err(LookupError::NoRecords { ttl_s: 120 }));
    let text = resolver.addresses(&domain("text.example.test")).await;
    assert_eq!(text, Err(LookupError::NoRecords { ttl_s: 120 }));
    // As small caches say it: without an SOA, so not to be kept.
    server.set_fault("bare.example.test", "MX", Fault::BareNoData);
    let bare = resolver.mx(&domain("bare.example.test")).await;
    assert_eq!(bare, Err(LookupError::NoRecords { ttl_s: 0 }));
}

#[tokio::test]
async fn failures_prove_nothing() {
    let (server, resolver) = world().await;
    for (fault, expected) in [
        (Fault::ServFail, TemporaryCause::ServerFailure),
        (Fault::Refused, TemporaryCause::Refused),
        (Fault::Referral, TemporaryCause::Referral),
        (Fault::TruncateAlways, TemporaryCause::Truncated),
    ] {
        server.clear_faults("example.test");
        server.set_fault("example.test", "MX", fault);
        let error = resolver
            .mx(&domain("example.test"))
            .await
            .expect_err("it fails");
        assert_eq!(cause(&error), Some(expected), "{fault:?}: {error}");
    }
}

#[tokio::test]
async fn silence_is_a_time_out() {
    let server = DnsServer::start(zones()).await;
    let resolver = resolver(&[server.addr()], SHORT, 2);
    server.set_silent(true);
    let error = resolver
        .mx(&domain("example.test"))
        .await
        .expect_err("nobody answers");
    assert_eq!(cause(&error), Some(TemporaryCause::TimedOut), "{error}");
    assert!(server.count("example.test", "MX") >= 2, "asked again");
}

#[tokio::test]
async fn a_second_attempt_may_succeed() {
    let server = DnsServer::start(zones()).await;
    let resolver = resolver(&[server.addr()], PATIENT, 2);
    server.set_fault_times("example.test", "MX", Fault::ServFail, 1);
    assert!(resolver.mx(&domain("example.test")).await.is_ok());
    assert!(server.count("example.test", "MX") >= 2);
}

#[tokio::test]
async fn a_cut_answer_is_had_over_tcp() {
    let (server, resolver) = world().await;
    server.set_fault("example.test", "MX", Fault::Truncate);
    let mx = resolver
        .mx(&domain("example.test"))
        .await
        .expect("whole over TCP");
    assert_eq!(mx.records.len(), 2);
    assert_eq!(server.count_tcp(), 1);

    let many: String = (0..200)
        .map(|host| format!("@ MX 10 host{host}.large.test.\n"))
        .collect();
    server.set_zone(Zone::parse(&format!("$ORIGIN large.test.\n{many}")));
    let mx = resolver
        .mx(&domain("large.test"))
        .await
        .expect("too large for UDP");
    assert_eq!(mx.records.len(), 200);
    assert_eq!(server.count_tcp(), 2);
}

#[tokio::test]
async fn aliases_are_followed_and_the_least_ttl_counts() {
    for leaves_aliases in [false, true] {
        let (server, resolver) = world().await;
        if leaves_aliases {
            server.leave_aliases();
        }
        let mx = resolver
            .mx(&domain("alias.example.test"))
            .await
            .expect("at the end");
        assert_eq!(mx.ttl_s, 100);
        assert_eq!(mx.canonical_name, Some(domain("elsewhere.test")));
        assert_eq!(
            mx.records[0].exchange,
            MxExchange::Host(domain("mx.elsewhere.test"))
        );
        let addresses = resolver
            .addresses(&domain("alias.example.test"))
            .await
            .expect("too");
        assert_eq!(addresses.ttl_s, 50);
        let dangling = resolver.mx(&domain("dangle.example.test")).await;
        assert_eq!(dangling, Err(LookupError::NoSuchDomain { ttl_s: 60 }));
        let without = resolver.mx(&domain("baremx.example.test")).await;
        assert_eq!(without, Err(LookupError::NoRecords { ttl_s: 120 }));
        let error = resolver
            .mx(&domain("loop.example.test"))
            .await
            .expect_err("no end");
        assert_eq!(cause(&error), Some(TemporaryCause::AliasLoop));
    }
}

#[tokio::test]
async fn another_server_is_asked_when_one_fails() {
    for fault in [
        Fault::ServFail,
        Fault::Refused,
        Fault::Referral,
        Fault::TruncateAlways,
    ] {
        let (first, second) = (
            DnsServer::start(zones()).await,
            DnsServer::start(zones()).await,
        );
        first.set_fault("example.test", "MX", fault);
        let resolver = resolver(&[first.addr(), second.addr()], PATIENT, 1);
        assert!(
            resolver.mx(&domain("example.test")).await.is_ok(),
            "{fault:?}"
        );
        assert!(second.count("example.test", "MX") >= 1, "{fault:?}");
    }
}

#[tokio::test]
async fn an_absence_is_an_answer_and_no_reason_to_ask_another() {
    let (first, second) = (
        DnsServer::start(zones()).await,
        DnsServer::start(zones()).await,
    );
    let resolver = resolver(&[first.addr(), second.addr()], PATIENT, 3);
    let none = resolver.mx(&domain("none.example.test")).await;
    assert!(matches!(none, Err(LookupError::NoSuchDomain { .. })));
    assert!(first.count_all() >= 1);
    assert_eq!(second.count_all(), 0);
}

#[tokio::test]
async fn a_dead_server_costs_its_time_out_once() {
    // Bound, so that nobody else gets the port, and never read.
    let dead = UdpSocket::bind("127.0.0.1:0").expect("a port on loopback");
    let dead_addr = dead.local_addr().expect("the socket is bound");
    let server = DnsServer::start(zones()).await;
    let resolver = resolver(&[dead_addr, server.addr()], SHORT, 5);
    assert!(resolver.mx(&domain("example.test")).await.is_ok());
    dead.set_nonblocking(true).expect("a socket option");
    let mut buffer = [0; 512];
    let mut drained_count = 0;
    while dead.recv(&mut buffer).is_ok() {
        drained_count += 1;
    }
    assert!(drained_count > 0, "it was asked first");
    for name in ["null.example.test", "odd.example.test", "none.example.test"] {
        drop(resolver.mx(&domain(name)).await);
    }
    // A server that answers late under load may lose its place: then only so.
    if server.count_all() == 4 {
        assert!(dead.recv(&mut buffer).is_err(), "and not again");
    }
}

#[tokio::test]
async fn one_family_that_fails_does_not_hide_the_other() {
    let (server, resolver) = world().await;
    server.set_fault("v4only.example.test", "AAAA", Fault::ServFail);
    let found = resolver
        .addresses(&domain("v4only.example.test"))
        .await
        .expect("the A record");
    assert_eq!(found.records.len(), 1);
    assert!(found.ttl_s <= 30, "asked again soon");
    server.set_fault("text.example.test", "A", Fault::ServFail);
    let error = resolver
        .addresses(&domain("text.example.test"))
        .await
        .expect_err("unknown");
    assert!(error.is_temporary());
}

#[tokio::test]
async fn localhost_never_leaves_the_machine() {
    let (server, resolver) = world().await;
    let found = resolver
        .addresses(&domain("localhost"))
        .await
        .expect("by definition");
    assert!(found.records.iter().all(IpAddr::is_loopback));
    let mx = resolver.mx(&domain("localhost")).await;
    assert!(matches!(mx, Err(LookupError::NoRecords { .. })));
    assert_eq!(server.count_all(), 0);
}

fn still() -> Clock {
    Arc::new(|| Duration::ZERO)
}

async fn reason(directory: &Directory, name: &str) -> PlanFailureReason {
    let failure = plan(directory, &domain(name), &PlanOptions::default(), 1).await;
    failure.expect_err("there is no plan").reason
}

#[tokio::test]
async fn plans_over_real_sockets() {
    let (server, resolver) = world().await;
    let options = DirectoryOptions {
        temporary_ttl: Duration::ZERO,
        ..Default::default()
    };
    let directory = Directory::new(Arc::new(resolver), options, still(), None);
    let best = |name: &'static str| {
        let directory = directory.clone();
        async move {
            let made = plan(&directory, &domain(name), &PlanOptions::default(), 1).await;
            made.expect("a plan").candidates[0].to_string()
        }
    };
    assert_eq!(
        best("example.test").await,
        "mx1.example.test:25 (priority 10, mx, tls opportunistic)"
    );
    assert_eq!(
        best("bare.example.test").await,
        "bare.example.test:25 (priority 0, implicit address, tls opportunistic)"
    );
    assert_eq!(
        best("odd.example.test").await,
        "_mx.example.test:25 (priority 20, mx, tls opportunistic)"
    );
    assert_eq!(
        reason(&directory, "null.example.test").await,
        PlanFailureReason::NullMx
    );
    assert_eq!(
        reason(&directory, "none.example.test").await,
        PlanFailureReason::NoSuchDomain
    );
    assert_eq!(
        reason(&directory, "text.example.test").await,
        PlanFailureReason::NoAddresses
    );
    assert!(reason(&directory, "loop.example.test").await.is_temporary());

    server.set_fault("v4only.example.test", "MX", Fault::ServFail);
    assert!(
        reason(&directory, "v4only.example.test")
            .await
            .is_temporary()
    );
    server.clear_faults("v4only.example.test");
    assert!(
        best("v4only.example.test")
            .await
            .starts_with("v4only.example.test:25")
    );

    // A change of the zone is seen when the directory forgets.
    server.set_zone(Zone::parse("$ORIGIN example.test.\n@ MX 5 new"));
    assert!(best("example.test").await.starts_with("mx1."));
    assert_eq!(directory.flush(&domain("example.test")), 1);
    assert!(best("example.test").await.starts_with("new."));
}

#[tokio::test]
async fn a_thousand_messages_ask_once() {
    let (server, resolver) = world().await;
    let directory = Directory::new(
        Arc::new(resolver),
        DirectoryOptions::default(),
        still(),
        None,
    );
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..1000 {
        let directory = directory.clone();
        tasks.spawn(async move { directory.mx(&domain("example.test")).await });
    }
    while let Some(found) = tasks.join_next().await {
        assert!(found.expect("the task ends").outcome.is_ok());
    }
    assert!(SENT_ONCE.contains(&server.count("example.test", "MX")));
}

#[tokio::test]
async fn the_resolver_without_sockets_says_the_same() {
    let (server, real) = world().await;
    let stand_in = ZoneResolver::new(zones());
    for name in [
        "example.test",
        "bare.example.test",
        "null.example.test",
        "odd.example.test",
        "none.example.test",
        "alias.example.test",
        "dangle.example.test",
        "baremx.example.test",
        "mx1.example.test",
        "mx2.example.test",
        "text.example.test",
        "outside.invalid",
    ] {
        let name = domain(name);
        assert_eq!(real.mx(&name).await, stand_in.mx(&name).await, "{name}");
        assert_eq!(
            real.addresses(&name).await,
            stand_in.addresses(&name).await,
            "{name}"
        );
        assert_eq!(real.txt(&name).await, stand_in.txt(&name).await, "{name}");
    }
    for (fault, name) in [
        (Fault::ServFail, "example.test"),
        (Fault::Refused, "bare.example.test"),
    ] {
        server.set_fault(name, "ANY", fault);
        stand_in.set_fault(name, "ANY", fault);
        let name = domain(name);
        let causes = [real.mx(&name).await, stand_in.mx(&name).await]
            .map(|outcome| cause(&outcome.expect_err("it fails")));
        assert!(causes[0].is_some() && causes[0] == causes[1], "{causes:?}");
    }
    let directory = Directory::new(
        Arc::new(stand_in),
        DirectoryOptions::default(),
        still(),
        None,
    );
    let found = directory.mx(&domain("example.test")).await;
    assert_eq!(found.freshness, Freshness::Fresh);
}
