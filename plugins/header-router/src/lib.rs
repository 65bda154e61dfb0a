//! Routes by header fields that an application sets: a campaign, a tenant, a priority.
//!
//! ```toml
//! [plugin.config]
//! listeners = ["submission"]      # whom the fields are believed; without both: everybody
//! users = ["app@example.com"]
//!
//! [[plugin.config.rule]]
//! header = "X-Campaign"
//! prefix = "newsletter-"          # or equals, contains; none of them: the field is there
//! to = "bulk.relay.example:587"
//!
//! [[plugin.config.rule]]
//! header = "X-Mail-Class"
//! equals = "transactional"
//! traffic_class = "urgent"
//!
//! [[plugin.config.rule]]
//! header = "X-Release-After"
//! hold = "embargo"
//! ```
//!
//! The first rule that matches decides. Anybody can write a header field: name the listeners or
//! users whose fields count, or the world chooses your routes.

use serde::Deserialize;
use waypost_sdk::{
    Decision, HookError, Place, Plugin, Reply, Request, Router, Settings, Verdict, config_fault,
    message, read_config,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default)]
    listeners: Vec<String>,
    #[serde(default)]
    users: Vec<String>,
    rule: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    header: String,
    equals: Option<String>,
    prefix: Option<String>,
    contains: Option<String>,
    to: Option<Place>,
    traffic_class: Option<String>,
    source_pool: Option<String>,
    hold: Option<String>,
    reject: Option<String>,
    discard: Option<String>,
}

impl Rule {
    fn faults(&self) -> Option<String> {
        let tests = [&self.equals, &self.prefix, &self.contains];
        if tests.iter().filter(|test| test.is_some()).count() > 1 {
            return Some("only one of `equals`, `prefix` and `contains`".into());
        }
        let ends = [&self.hold, &self.reject, &self.discard];
        let ends = ends.iter().filter(|end| end.is_some()).count() + usize::from(self.to.is_some());
        let has_settings = self.traffic_class.is_some() || self.source_pool.is_some();
        match (ends, has_settings) {
            (0, false) => Some(
                "nothing to do: name `to`, `hold`, `reject`, `discard`, \
                                `traffic_class` or `source_pool`"
                    .into(),
            ),
            (0 | 1, _) => None,
            _ => Some("only one of `to`, `hold`, `reject` and `discard`".into()),
        }
    }

    /// The value that matches, whatever its case.
    fn matching(&self) -> Option<String> {
        let holds = |value: &String| {
            let value = value.trim().to_lowercase();
            let test = |text: &Option<String>, test: fn(&str, &str) -> bool| {
                text.as_ref()
                    .is_none_or(|text| test(&value, &text.to_lowercase()))
            };
            test(&self.equals, |value, text| value == text)
                && test(&self.prefix, |value, text| value.starts_with(text))
                && test(&self.contains, |value, text| value.contains(text))
        };
        message::header(&self.header).into_iter().find(holds)
    }

    fn decision(&self) -> Decision {
        if let Some(place) = &self.to {
            Decision::hops([place.hop()])
        } else if let Some(reason) = &self.hold {
            Decision::hold(reason)
        } else if let Some(text) = &self.reject {
            Decision::reject(Reply::parse(text))
        } else if let Some(reason) = &self.discard {
            Decision::discard(reason)
        } else {
            Decision::Proceed
        }
    }
}

struct HeaderRouter;

impl Plugin for HeaderRouter {
    fn check_config() -> Vec<String> {
        let faults = config_fault::<Config>("");
        let Ok(config) = read_config::<Config>("") else {
            return faults;
        };
        let rules = config.rule.iter().zip(1..);
        rules
            .filter_map(|(rule, number)| Some(format!("rule {number}: {}", rule.faults()?)))
            .collect()
    }
}

impl Router for HeaderRouter {
    fn route(request: Request) -> Result<Vec<Verdict>, HookError> {
        let config: Config = read_config("")?;
        if !is_believed(&config, &request) {
            return Ok(Vec::new());
        }
        for rule in &config.rule {
            let Some(value) = rule.matching() else {
                continue;
            };
            let mut verdict = Verdict::all(rule.decision());
            if rule.traffic_class.is_some() || rule.source_pool.is_some() {
                verdict.settings = Some(Settings {
                    traffic_class: rule.traffic_class.clone(),
                    source_pool: rule.source_pool.clone(),
                    ..Settings::new()
                });
            }
            return Ok(vec![verdict.note(format!(
                "{}: {}",
                rule.header,
                value.trim()
            ))]);
        }
        Ok(Vec::new())
    }
}

waypost_sdk::export!(HeaderRouter: Router);

/// Whether the fields of this message count.
fn is_believed(config: &Config, request: &Request) -> bool {
    let by_listener = config.listeners.is_empty() || config.listeners.contains(&request.listener);
    let by_user = config.users.is_empty()
        || request
            .user
            .as_ref()
            .is_some_and(|user| config.users.contains(user));
    by_listener && by_user
}
