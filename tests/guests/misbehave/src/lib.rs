//! A plugin for tests that does whatever it is told: by `behaviour` in its
//! configuration, or, where that is `local-part`, by the local part of the first
//! recipient.

mod answer;
mod report;

use waypost_sdk::{
    Decision, HookError, Plugin, Request, Router, Verdict, config, dns, log, message,
};

struct Misbehave;

impl Plugin for Misbehave {
    fn check_config() -> Vec<String> {
        match text("check").as_deref() {
            Some("spin") => spin(),
            Some("refuse") => vec!["first fault".into(), "second\nfault".into()],
            _ => Vec::new(),
        }
    }
}

impl Router for Misbehave {
    fn route(request: Request) -> Result<Vec<Verdict>, HookError> {
        let mut behaviour = text("behaviour").unwrap_or_else(|| "proceed".into());
        if behaviour == "local-part" {
            behaviour.clone_from(&request.recipients[0].mailbox.local_part);
        }
        match behaviour.as_str() {
            "trap" => std::arch::wasm32::unreachable(),
            "panic" => panic!("asked to panic"),
            "spin" => spin(),
            "work" => work(),
            "recurse" => recurse(0),
            "allocate" => allocate(),
            "host-calls" => loop {
                message::size();
            },
            "lookups" => lookups(),
            "slow-dns" => slow_dns(&request.domain),
            "wasi" => println_to_nowhere(),
            "log" => log_lines(),
            "temporary" => Err(HookError::Temporary("the table\nis being rebuilt".into())),
            "broken" => Err(HookError::Broken("no rule".into())),
            "report" => Ok(vec![report::verdict(&request)]),
            "attributes" => Ok(attributes()),
            "remember" => Ok(vec![remember()]),
            other => answer::by_name(other, &request),
        }
    }
}

waypost_sdk::export!(Misbehave: Router);

fn text(key: &str) -> Option<String> {
    match config::get(key)? {
        config::Value::Text(text) => Some(text),
        _ => None,
    }
}

fn number(key: &str) -> Option<u64> {
    match config::get(key)? {
        config::Value::Integer(number) => u64::try_from(number).ok(),
        _ => None,
    }
}

/// A loop that the compiler may not take away.
fn spin() -> ! {
    let mut count = 0u64;
    loop {
        count = std::hint::black_box(count.wrapping_add(1));
    }
}

/// Computes for a while, and ends.
fn work() -> Result<Vec<Verdict>, HookError> {
    let mut sum = 0u64;
    for step in 0..number("steps").unwrap_or(1_000_000) {
        sum = std::hint::black_box(sum.wrapping_add(step));
    }
    Ok(vec![
        Verdict::all(Decision::Proceed).note(format!("sum {sum}")),
    ])
}

#[allow(unconditional_recursion)]
fn recurse(depth: u64) -> Result<Vec<Verdict>, HookError> {
    let deeper = recurse(std::hint::black_box(depth + 1));
    std::hint::black_box(deeper)
}

fn allocate() -> Result<Vec<Verdict>, HookError> {
    let mut kept: Vec<Vec<u8>> = Vec::new();
    loop {
        kept.push(std::hint::black_box(vec![1; 1 << 20]));
    }
}

fn lookups() -> Result<Vec<Verdict>, HookError> {
    let questions: Vec<_> = (0..number("lookups").unwrap_or(10))
        .map(|n| dns::Question::Mx(format!("n{n}.example")))
        .collect();
    let answers = dns::lookup_many(&questions);
    Ok(vec![
        Verdict::all(Decision::Proceed).note(format!("{} answers", answers.len())),
    ])
}

/// Waits for an answer; the test's resolver decides how long.
fn slow_dns(domain: &str) -> Result<Vec<Verdict>, HookError> {
    let answer = dns::lookup(&dns::Question::Mx(domain.into()));
    Ok(vec![
        Verdict::all(Decision::Proceed).note(format!("{answer:?}")),
    ])
}

fn println_to_nowhere() -> Result<Vec<Verdict>, HookError> {
    println!("there is no standard output");
    Ok(Vec::new())
}

fn log_lines() -> Result<Vec<Verdict>, HookError> {
    for line in 0..number("lines").unwrap_or(3) {
        log::write(log::Level::Info, &format!("line {line}\nand more"), &[]);
    }
    Ok(Vec::new())
}

fn attributes() -> Vec<Verdict> {
    let set = |name: &str, value| message::set_attribute(name, value);
    let outcomes = [
        set("tenant", Some("blue")),
        set("colour", None),
        set("Not A Name", Some("x")),
        set("large", Some(&"x".repeat(2000))),
    ];
    let seen = format!("{outcomes:?} {:?}", message::get_attribute("tenant"));
    vec![Verdict::all(Decision::Proceed).note(seen)]
}

/// Marks the message and defers it; drops one that is marked.
fn remember() -> Verdict {
    if let Some(mark) = message::get_attribute("mark") {
        return Verdict::all(Decision::Discard(format!("marked {mark}")));
    }
    message::set_attribute("mark", Some("once"));
    Verdict::all(Decision::defer("not marked yet"))
}
