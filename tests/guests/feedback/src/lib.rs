//! Listens to how deliveries went, and advises what its configuration says.
//!
//! It routes to `hops`, in their order; once its own note on the message says that the first one
//! failed, to those after it. What it was told is kept with the message as `told-1`, `told-2`, …,
//! for the tests to read, and counted as `told` with the kind of the outcome.

use serde::Deserialize;
use waypost_sdk::{
    Advice, Attempt, Attribute, Decision, HookError, OnDeliveryResult, Outcome, Place, Plugin,
    Reply, Request, Router, Verdict, config_fault, message, metrics, read_config,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    hops: Vec<Place>,
    advice: Word,
    #[serde(default)]
    seconds: u32,
    /// No opinion on the route until something has failed.
    #[serde(default)]
    fall_back: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Word {
    Usual,
    RetryAfter,
    NextHopNow,
    Reroute,
    GiveUp,
    Hold,
    Trap,
    Temporary,
    Spin,
}

struct Feedback;

impl Plugin for Feedback {
    fn check_config() -> Vec<String> {
        config_fault::<Config>("")
    }
}

impl Router for Feedback {
    fn route(request: Request) -> Result<Vec<Verdict>, HookError> {
        let config: Config = read_config("")?;
        if config.hops.is_empty() {
            return Ok(Vec::new());
        }
        let has_failed = request
            .attributes
            .iter()
            .any(|one| one.name == "first-failed");
        if config.fall_back && !has_failed {
            return Ok(Vec::new());
        }
        let skipped = usize::from(has_failed && config.hops.len() > 1);
        let hops = config.hops.iter().skip(skipped);
        let hops = hops.zip(0u16..).map(|(place, at)| place.hop().priority(at));
        let note = if has_failed {
            "without the first"
        } else {
            "in order"
        };
        Ok(vec![Verdict::all(Decision::hops(hops)).note(note)])
    }
}

impl OnDeliveryResult for Feedback {
    fn on_delivery_result(attempt: Attempt) -> Result<Advice, HookError> {
        let config: Config = read_config("")?;
        let (kind, said) = match &attempt.outcome {
            Outcome::Delivered(reply) => ("delivered", reply.text.clone()),
            Outcome::Temporary(reply) => ("temporary", reply.text.clone()),
            Outcome::Permanent(reply) => ("permanent", reply.text.clone()),
            Outcome::Failed(text) => ("failed", text.clone()),
        };
        let outcome = Attribute {
            name: "outcome".into(),
            value: kind.into(),
        };
        metrics::count("told", 1, &[outcome]);
        if matches!(
            attempt.outcome,
            Outcome::Delivered(_) | Outcome::Permanent(_)
        ) {
            return Ok(Advice::Usual);
        }
        let number = (1..).find(|number| message::get_attribute(&told(*number)).is_none());
        let told = told(number.unwrap_or(1));
        let summary = format!(
            "{kind} at {:?} of {} from {}, attempt {}: {said}",
            attempt.stage,
            attempt.address.as_deref().unwrap_or("nowhere"),
            attempt.source.as_deref().unwrap_or("nowhere"),
            attempt.attempts,
        );
        message::set_attribute(&told, Some(&summary));
        message::set_attribute("first-failed", Some("yes"));
        match config.advice {
            Word::Usual => Ok(Advice::Usual),
            Word::RetryAfter => Ok(Advice::RetryAfter(config.seconds)),
            Word::NextHopNow => Ok(Advice::NextHopNow),
            Word::Reroute => Ok(Advice::Reroute),
            Word::GiveUp => Ok(Advice::GiveUp(Reply::parse("550 5.4.7 we give up"))),
            Word::Hold => Ok(Advice::Hold("somebody should look".into())),
            Word::Trap => std::arch::wasm32::unreachable(),
            Word::Temporary => Err(HookError::Temporary("my own trouble".into())),
            Word::Spin => loop {
                std::hint::black_box(0);
            },
        }
    }
}

waypost_sdk::export!(Feedback: Router, OnDeliveryResult);

fn told(number: u32) -> String {
    format!("told-{number}")
}
