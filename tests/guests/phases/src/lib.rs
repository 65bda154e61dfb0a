//! A plugin for tests that takes part in every phase and does there whatever its
//! configuration says under `behaviour`.

mod content;
mod dialogue;
mod seen;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use waypost_sdk::{
    Advice, Attempt, Decision, HookError, MessageVerdict, NextHop, OnDeliveryResult, OnMailFrom,
    OnMessage, OnRcpt, Outcome, Peer, Plugin, Recipient, RecipientVerdict, Reply, Request, Router,
    Sender, SenderVerdict, Verdict, ambient, config, message,
};

struct Phases;

/// Calls that this instance has served, `init` not counted.
static CALLS: AtomicU32 = AtomicU32::new(0);
/// What `init` saw, a line for each time it was called.
static INIT: Mutex<String> = Mutex::new(String::new());

impl Plugin for Phases {
    fn init() -> Result<(), String> {
        if behaviour() == "init-fails" {
            return Err("there is no table".into());
        }
        let mut init = INIT.lock().unwrap_or_else(PoisonError::into_inner);
        init.push_str(&format!("init id={:?};", message::id()));
        // A draw here must not change what a call draws.
        ambient::random();
        Ok(())
    }
}

impl OnMailFrom for Phases {
    fn on_mail_from(peer: Peer, sender: Sender) -> Result<SenderVerdict, HookError> {
        dialogue::sender(&behaviour(), &peer, &sender)
    }
}

impl OnRcpt for Phases {
    fn on_rcpt(recipient: Recipient) -> Result<RecipientVerdict, HookError> {
        dialogue::recipient(&behaviour(), &recipient)
    }
}

impl OnMessage for Phases {
    fn on_message() -> Result<MessageVerdict, HookError> {
        content::message(&behaviour())
    }
}

impl Router for Phases {
    fn route(request: Request) -> Result<Vec<Verdict>, HookError> {
        let calls = CALLS.fetch_add(1, Ordering::Relaxed) + 1;
        let behaviour = behaviour();
        // For tests in which one call of many behaves.
        let behaviour = match request.recipients[0].mailbox.local_part.strip_prefix("do-") {
            Some(wanted) => wanted.to_owned(),
            None => behaviour,
        };
        Ok(match behaviour.as_str() {
            "trap" => std::arch::wasm32::unreachable(),
            "spin" => loop {
                std::hint::black_box(0);
            },
            "temporary" => return Err(HookError::Temporary("not now".into())),
            "mark" => {
                message::set_attribute("seen", Some("yes"));
                vec![note(format!(
                    "calls={calls};attributes={:?}",
                    message::attributes().len()
                ))]
            }
            "hops" => vec![Verdict::all(Decision::hops(
                (0..100_000).map(|_| NextHop::host("relay.example.net")),
            ))],
            "text" => vec![note("x".repeat(20 << 20))],
            "verdicts" => (0..100_000)
                .map(|_| Verdict::all(Decision::Proceed))
                .collect(),
            "recipients" => {
                let mut verdict = Verdict::all(Decision::Proceed);
                verdict.recipients = vec![0; 1_000_000];
                vec![verdict]
            }
            "number" => vec![note(odd_numbers())],
            _ => {
                let init = INIT.lock().unwrap_or_else(PoisonError::into_inner);
                vec![note(format!(
                    "calls={calls};{init}random={};attributes={:?};id={}",
                    ambient::random(),
                    message::attributes().len(),
                    message::id(),
                ))]
            }
        })
    }
}

impl OnDeliveryResult for Phases {
    fn on_delivery_result(attempt: Attempt) -> Result<Advice, HookError> {
        Ok(match behaviour().as_str() {
            "retry" => Advice::RetryAfter(90),
            "next-hop" => Advice::NextHopNow,
            "reroute" => Advice::Reroute,
            "give-up" => Advice::GiveUp(Reply {
                code: 0,
                enhanced: String::new(),
                text: "no\r\nmore".into(),
            }),
            "report" => Advice::Hold(format!(
                "{} {} {:?} {:?} {:?} {:?} {:?} {} {} {} {} {}",
                attempt.message_id,
                attempt.domain,
                attempt.stage,
                attempt.host,
                attempt.address,
                attempt.source,
                attempt.tls.map(|tls| tls.version),
                attempt.attempts,
                attempt.elapsed_ms,
                attempt.first_attempt_at,
                match attempt.outcome {
                    Outcome::Delivered(reply) => format!("delivered {}", reply.code),
                    Outcome::Temporary(reply) => format!("temporary {}", reply.code),
                    Outcome::Permanent(reply) => format!("permanent {}", reply.code),
                    Outcome::Failed(why) => format!("failed {why}"),
                },
                seen::world(),
            )),
            _ => Advice::Usual,
        })
    }
}

waypost_sdk::export!(Phases: OnMailFrom, OnRcpt, OnMessage, Router, OnDeliveryResult);

fn behaviour() -> String {
    match config::get("behaviour") {
        Some(config::Value::Text(text)) => text,
        _ => String::new(),
    }
}

fn note(text: String) -> Verdict {
    Verdict::all(Decision::Proceed).note(text)
}

/// The bits of numbers that machines disagree about.
fn odd_numbers() -> String {
    let zero = std::hint::black_box(0.0f64);
    let nan = zero / std::hint::black_box(0.0f64);
    let negative = -std::hint::black_box(nan);
    let sum = std::hint::black_box(negative) + 1.0;
    let narrow = std::hint::black_box(nan) as f32 * 2.0;
    format!(
        "{:x} {:x} {:x}",
        nan.to_bits(),
        sum.to_bits(),
        narrow.to_bits()
    )
}
