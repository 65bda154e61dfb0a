//! What the policy server answers: patches of the request, by JSON Pointer.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use waypost_sdk::{Decision, HookError, Place, Reply, Settings, Verdict};

#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Answer {
    #[serde(default)]
    set: Vec<Patch>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Patch {
    path: String,
    value: Value,
}

/// What is said of all recipients, or of one.
#[derive(Debug, Default, Clone)]
struct Will {
    action: Option<String>,
    response: Option<Reply>,
    route: Vec<Place>,
    retry_after: Option<u64>,
    traffic_class: Option<String>,
    source_pool: Option<String>,
}

impl Answer {
    /// One verdict for what is said of all, one more for each recipient with a will of its own.
    pub fn verdicts(&self, recipients: usize) -> Result<Vec<Verdict>, HookError> {
        let mut common = Will::default();
        let mut own: Vec<(u32, Will)> = Vec::new();
        for patch in &self.set {
            match patch.path.strip_prefix("/envelope/to/") {
                None => common
                    .set(&patch.path, &patch.value)
                    .map_err(HookError::temporary)?,
                Some(rest) => {
                    let (position, path) =
                        of_one(rest, recipients).map_err(HookError::temporary)?;
                    let index = match own.iter().position(|(other, _)| *other == position) {
                        Some(index) => index,
                        None => {
                            own.push((position, Will::default()));
                            own.len() - 1
                        }
                    };
                    if let Some((_, will)) = own.get_mut(index) {
                        will.set(&path, &patch.value)
                            .map_err(HookError::temporary)?;
                    }
                }
            }
        }
        let mut verdicts = Vec::new();
        for (position, will) in own {
            if let Some(verdict) = will.verdict()? {
                verdicts.push(Verdict {
                    recipients: vec![position],
                    ..verdict
                });
            }
        }
        verdicts.extend(common.verdict()?);
        Ok(verdicts)
    }
}

/// `0/route` → position and `/route`.
fn of_one(rest: &str, recipients: usize) -> Result<(u32, String), String> {
    let fault = || format!("/envelope/to/{rest} is no path of the request");
    let (position, path) = rest.split_once('/').ok_or_else(fault)?;
    let position: u32 = position.parse().map_err(|_| fault())?;
    if usize::try_from(position).map_err(|_| fault())? >= recipients {
        return Err(format!("there is no recipient {position}"));
    }
    Ok((position, format!("/{path}")))
}

impl Will {
    /// An unknown path is an error: to leave it out would be to guess.
    fn set(&mut self, path: &str, value: &Value) -> Result<(), String> {
        let text = || {
            let text = value.as_str().map(str::to_owned);
            text.ok_or_else(|| format!("{path}: a text is wanted"))
        };
        match path {
            "/action" => self.action = Some(text()?),
            "/response" => {
                let part = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
                let code = value.get("code").and_then(Value::as_u64).unwrap_or(0);
                let code = u16::try_from(code).map_err(|_| format!("{path}: {code} is no code"))?;
                self.response = Some(Reply::new(code, part("enhanced"), part("message")));
            }
            "/route" => self.route = places(value)?,
            "/retryAfter" => {
                let seconds = value.as_u64();
                let fault = || format!("{path}: seconds are wanted");
                self.retry_after = Some(seconds.ok_or_else(fault)?);
            }
            "/trafficClass" => self.traffic_class = Some(text()?),
            "/sourcePool" => self.source_pool = Some(text()?),
            _ => return Err(format!("{path} cannot be set at this stage")),
        }
        Ok(())
    }

    fn verdict(self) -> Result<Option<Verdict>, HookError> {
        let response = self.response.unwrap_or_else(|| "refused by policy".into());
        let reason = response.text.clone();
        let decision = match (self.action.as_deref(), self.route.as_slice()) {
            (None | Some("continue"), []) => Decision::Proceed,
            (None | Some("continue"), route) => {
                let hops = route.iter().zip(0u16..);
                Decision::hops(hops.map(|(place, priority)| place.hop().priority(priority)))
            }
            (Some("cancel" | "reject"), _) => Decision::reject(response),
            (Some("defer"), _) => match self.retry_after {
                Some(seconds) => Decision::defer_for(reason, Duration::from_secs(seconds)),
                None => Decision::defer(reason),
            },
            (Some("discard"), _) => Decision::discard(reason),
            (Some("quarantine" | "hold"), _) => Decision::hold(reason),
            (Some(other), _) => {
                return Err(HookError::temporary(format!(
                    "there is no action {other:?}"
                )));
            }
        };
        let mut verdict = Verdict::all(decision);
        if self.traffic_class.is_some() || self.source_pool.is_some() {
            verdict.settings = Some(Settings {
                traffic_class: self.traffic_class,
                source_pool: self.source_pool,
                ..Settings::new()
            });
        }
        let says_nothing = verdict.decision == Decision::Proceed && verdict.settings.is_none();
        Ok((!says_nothing).then(|| verdict.note("as the policy server says")))
    }
}

/// One place or a list, each as text or as a table.
fn places(value: &Value) -> Result<Vec<Place>, String> {
    let values = match value {
        Value::Array(values) => values.clone(),
        one => vec![one.clone()],
    };
    if values.is_empty() {
        return Err("/route: an empty list is no route".into());
    }
    let places = values.into_iter().map(Place::from_value);
    places
        .collect::<Result<_, _>>()
        .map_err(|fault| format!("/route: {fault}"))
}
