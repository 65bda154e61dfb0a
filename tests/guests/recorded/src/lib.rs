//! A plugin for tests of recording and replay: its decision depends on everything that a plugin
//! can ask, so that one answer that is not the recorded one shows.
//!
//! Its version is a text in the component that a test overwrites in place. `0.1.0-plain` decides
//! plainly. `0.1.0-other` decides otherwise about recipients whose local part ends in two digits
//! below `other` of its configuration, and `0.1.0-curio` asks something more. Below `trap` both
//! trap.

use waypost_sdk::{
    Decision, Deferral, HookError, OnRcpt, Place, Plugin, Recipient, RecipientVerdict, Request,
    Router, Verdict, ambient, config, dns, message, state, tables,
};

struct Recorded;

fn mark() -> &'static str {
    let version = std::hint::black_box(env!("CARGO_PKG_VERSION"));
    version.rsplit('-').next().unwrap_or_default()
}

fn number(key: &str) -> u64 {
    match config::get(key) {
        Some(config::Value::Integer(number)) => u64::try_from(number).unwrap_or_default(),
        _ => 0,
    }
}

/// The two digits at the end of a local part.
fn digits(local_part: &str) -> u64 {
    let at = local_part.len().saturating_sub(2);
    local_part
        .get(at..)
        .and_then(|end| end.parse().ok())
        .unwrap_or(99)
}

/// FNV-1a.
fn mix(hash: &mut u64, octets: &[u8]) {
    for octet in octets {
        *hash = (*hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01B3);
    }
}

impl Plugin for Recorded {}

impl OnRcpt for Recorded {
    fn on_rcpt(recipient: Recipient) -> Result<RecipientVerdict, HookError> {
        message::set_attribute("seen", Some(&recipient.mailbox.domain));
        Ok(RecipientVerdict::proceed())
    }
}

impl Router for Recorded {
    fn route(request: Request) -> Result<Vec<Verdict>, HookError> {
        let local_part = &request.recipients[0].mailbox.local_part;
        let mut hash = 0xCBF2_9CE4_8422_2325;
        let broken = |error: &dyn std::fmt::Debug| HookError::Broken(format!("{error:?}"));
        mix(&mut hash, &ambient::now().to_le_bytes());
        mix(&mut hash, &ambient::random().to_le_bytes());
        mix(&mut hash, &ambient::random().to_le_bytes());
        let count = state::add("count", 1, None).map_err(|error| broken(&error))?;
        mix(&mut hash, &count.to_le_bytes());
        let key = format!("last:{local_part}");
        let last = state::get(&key).map_err(|error| broken(&error))?;
        mix(
            &mut hash,
            &last.map_or(0, |last| last.version).to_le_bytes(),
        );
        state::put(&key, &hash.to_le_bytes(), Some(3_600_000)).map_err(|error| broken(&error))?;
        let value =
            tables::match_domain("zones", &request.domain).map_err(|error| broken(&error))?;
        mix(&mut hash, format!("{value:?}").as_bytes());
        let hosts = dns::lookup(&dns::Question::Mx(request.domain.clone()));
        mix(&mut hash, format!("{hosts:?}").as_bytes());
        mix(
            &mut hash,
            format!("{:?}", message::header("subject")).as_bytes(),
        );
        if mark() == "curio" {
            let more = dns::lookup(&dns::Question::Txt(request.domain.clone()));
            mix(&mut hash, format!("{more:?}").as_bytes());
        }
        let is_other = mark() != "plain";
        if is_other && digits(local_part) < number("trap") {
            std::arch::wasm32::unreachable();
        }
        let decision = if is_other && digits(local_part) < number("other") {
            Decision::Discard("the other version".into())
        } else if let Some(config::Value::Text(place)) = config::get("hop") {
            let place: Place = place.parse().map_err(HookError::Broken)?;
            Decision::hops([place.hop()])
        } else {
            Decision::Defer(Deferral {
                reason: "later".into(),
                // All that was asked is in this number.
                retry_after: Some(3600 + u32::try_from(hash % 80_000).unwrap_or_default()),
            })
        };
        Ok(vec![Verdict::all(decision).note(format!("{hash:016x}"))])
    }
}

waypost_sdk::export!(Recorded: OnRcpt, Router);
