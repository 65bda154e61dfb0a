//! The circuit breaker: whether a plugin that keeps failing is called. Pure; the time is passed in.
//!
//! ```text
//! closed ──failures in the window──▶ open ──cool-down──▶ half-open ──answered──▶ closed
//!                                      ▲                     │
//!                                      └───────failed────────┘
//! ```
//!
//! Half-open lets one call through. Results of calls that began before the last change of state
//! say nothing about the state now, and are not heard.

use crate::config::BreakerConfig;

/// Parts of the window: a failure counts for the window's length, give or take a tenth.
const PARTS: usize = 10;

/// Counts failures and decides.
#[derive(Debug)]
pub(crate) struct Breaker {
    rules: BreakerConfig,
    state: State,
    /// Counts the changes of state.
    generation: u64,
    parts: [Part; PARTS],
}

/// What the breaker does with calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Open { until_ms: u64 },
    HalfOpen,
}

/// What was seen in a tenth of the window.
#[derive(Debug, Clone, Copy, Default)]
struct Part {
    /// Which tenth, counted from the beginning of time.
    number: u64,
    failed: u64,
    ended: u64,
}

/// A call that may be made. What came of it is told with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket {
    generation: u64,
}

/// A change of state that people should hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Too many failures: the plugin is not called until the cool-down is over.
    Opened,
    /// The call that tried it again failed as well.
    StaysOpen,
    /// It answers again.
    Closed,
}

/// The state as it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Called.
    Closed,
    /// One call is trying it, or the next one will.
    HalfOpen,
    /// Not called.
    Open,
}

impl Standing {
    /// For people and programs.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half-open",
            Self::Open => "open",
        }
    }
}

impl Breaker {
    /// Closed, nothing counted.
    pub(crate) fn new(rules: BreakerConfig) -> Self {
        Self {
            rules,
            state: State::Closed,
            generation: 0,
            parts: [Part::default(); PARTS],
        }
    }

    /// Whether a call may be made now.
    pub(crate) fn admit(&mut self, now_ms: u64) -> Option<Ticket> {
        match self.state {
            State::Closed => {}
            State::Open { until_ms } if until_ms <= now_ms => self.enter(State::HalfOpen),
            State::Open { .. } | State::HalfOpen => return None,
        }
        Some(Ticket {
            generation: self.generation,
        })
    }

    /// The plugin gave an answer that can be used.
    pub(crate) fn answered(&mut self, ticket: Ticket, now_ms: u64) -> Option<Change> {
        if ticket.generation != self.generation {
            return None;
        }
        if self.state == State::HalfOpen {
            self.enter(State::Closed);
            return Some(Change::Closed);
        }
        self.part(now_ms).ended += 1;
        None
    }

    /// The plugin failed.
    pub(crate) fn failed(&mut self, ticket: Ticket, now_ms: u64) -> Option<Change> {
        if ticket.generation != self.generation {
            return None;
        }
        if self.state == State::HalfOpen {
            self.open(now_ms);
            return Some(Change::StaysOpen);
        }
        let part = self.part(now_ms);
        part.ended += 1;
        part.failed += 1;
        if !self.is_too_much(now_ms) {
            return None;
        }
        self.open(now_ms);
        Some(Change::Opened)
    }

    /// Nothing is known of the plugin by this call: it was not made, or given up.
    pub(crate) fn abandoned(&mut self, ticket: Ticket, now_ms: u64) {
        if ticket.generation == self.generation && self.state == State::HalfOpen {
            // The next call tries it.
            self.enter(State::Open { until_ms: now_ms });
        }
    }

    /// The state as it is shown.
    pub(crate) fn standing(&self, now_ms: u64) -> Standing {
        match self.state {
            State::Closed => Standing::Closed,
            State::Open { until_ms } if until_ms > now_ms => Standing::Open,
            State::Open { .. } | State::HalfOpen => Standing::HalfOpen,
        }
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.generation += 1;
        self.parts = [Part::default(); PARTS];
    }

    fn open(&mut self, now_ms: u64) {
        let cool_down = ms(self.rules.cool_down);
        self.enter(State::Open {
            until_ms: now_ms.saturating_add(cool_down),
        });
    }

    fn part_number(&self, now_ms: u64) -> u64 {
        now_ms / (ms(self.rules.window) / PARTS as u64).max(1)
    }

    fn part(&mut self, now_ms: u64) -> &mut Part {
        let number = self.part_number(now_ms);
        let place = usize::try_from(number % PARTS as u64).unwrap_or_default();
        let part = &mut self.parts[place];
        if part.number != number {
            *part = Part {
                number,
                ..Part::default()
            };
        }
        part
    }

    fn is_too_much(&self, now_ms: u64) -> bool {
        let newest = self.part_number(now_ms);
        let in_window = |part: &&Part| part.number + PARTS as u64 > newest;
        let (mut failed, mut ended) = (0, 0);
        for part in self.parts.iter().filter(in_window) {
            failed += part.failed;
            ended += part.ended;
        }
        let rules = &self.rules;
        rules.failures_count > 0
            && failed >= u64::from(rules.failures_count)
            && failed * 100 >= ended * u64::from(rules.failures_percent)
    }
}

fn ms(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const RULES: BreakerConfig = BreakerConfig {
        failures_count: 3,
        failures_percent: 50,
        window: Duration::from_secs(10),
        cool_down: Duration::from_secs(5),
    };

    fn fail(breaker: &mut Breaker, now_ms: u64) -> Option<Change> {
        let ticket = breaker.admit(now_ms).expect("it may be called");
        breaker.failed(ticket, now_ms)
    }

    fn answer(breaker: &mut Breaker, now_ms: u64) -> Option<Change> {
        let ticket = breaker.admit(now_ms).expect("it may be called");
        breaker.answered(ticket, now_ms)
    }

    fn opened_at(now_ms: u64) -> Breaker {
        let mut breaker = Breaker::new(RULES);
        assert_eq!(fail(&mut breaker, now_ms), None);
        assert_eq!(fail(&mut breaker, now_ms), None);
        assert_eq!(fail(&mut breaker, now_ms), Some(Change::Opened));
        breaker
    }

    #[test]
    fn opens_after_failures_in_the_window_and_tries_again_after_the_cool_down() {
        let mut breaker = opened_at(1_000);
        assert_eq!(breaker.standing(1_000), Standing::Open);
        assert_eq!(breaker.admit(5_999), None);
        assert_eq!(breaker.standing(6_000), Standing::HalfOpen);
        let probe = breaker.admit(6_000).expect("one call tries it");
        assert_eq!(breaker.admit(6_000), None, "one at a time");
        assert_eq!(breaker.failed(probe, 6_100), Some(Change::StaysOpen));
        assert_eq!(breaker.admit(11_099), None);
        let probe = breaker.admit(11_100).expect("the next one");
        assert_eq!(breaker.answered(probe, 11_200), Some(Change::Closed));
        assert_eq!(breaker.standing(11_200), Standing::Closed);
        // The failures of the past are forgotten.
        assert_eq!(fail(&mut breaker, 11_300), None);
        assert_eq!(fail(&mut breaker, 11_300), None);
        assert_eq!(fail(&mut breaker, 11_300), Some(Change::Opened));
    }

    #[test]
    fn failures_that_are_long_ago_do_not_count() {
        let mut breaker = Breaker::new(RULES);
        for second in 0..100 {
            // Two in any ten seconds and a little more.
            assert_eq!(fail(&mut breaker, second * 6_000), None, "{second}");
        }
    }

    #[test]
    fn a_plugin_that_answers_most_calls_stays() {
        let mut breaker = Breaker::new(RULES);
        for call in 0..1_000 {
            answer(&mut breaker, call);
            answer(&mut breaker, call);
            assert_eq!(fail(&mut breaker, call), None);
        }
        // From here on half of them would have to fail.
        let opened = (1_000..5_000).find(|&now| fail(&mut breaker, now).is_some());
        assert_eq!(opened, Some(1_999));
    }

    #[test]
    fn a_probe_that_was_given_up_makes_room_for_the_next() {
        let mut breaker = opened_at(0);
        let probe = breaker.admit(5_000).expect("the cool-down is over");
        assert_eq!(breaker.admit(5_001), None);
        breaker.abandoned(probe, 5_002);
        let next = breaker.admit(5_003).expect("the next one");
        assert_eq!(
            breaker.failed(probe, 5_004),
            None,
            "nobody asks it any more"
        );
        assert_eq!(breaker.answered(next, 5_005), Some(Change::Closed));
    }

    #[test]
    fn what_began_before_it_opened_is_not_heard_after() {
        let mut breaker = Breaker::new(RULES);
        let early = breaker.admit(0).expect("closed");
        for _ in 0..3 {
            fail(&mut breaker, 0);
        }
        assert_eq!(breaker.answered(early, 1), None);
        assert_eq!(breaker.standing(1), Standing::Open);
        let _probe = breaker.admit(5_000).expect("the cool-down is over");
        assert_eq!(breaker.failed(early, 5_001), None);
        assert_eq!(breaker.standing(5_001), Standing::HalfOpen);
    }

    #[test]
    fn without_a_number_of_failures_it_never_opens() {
        let mut breaker = Breaker::new(BreakerConfig {
            failures_count: 0,
            ..RULES
        });
        for now in 0..1_000 {
            assert_eq!(fail(&mut breaker, now), None);
        }
    }
}
