//! One link of a chain, told by its configuration what to do: five of them make the chain that
//! the tests look at. Each leaves its mark in the attribute `asked`, so that the order in which
//! plugins were asked can be read off the message.

use serde::Deserialize;
use waypost_sdk::{
    Decision, HookError, MxEdit, Place, Plugin, Reply, Request, Router, Verdict, config_fault,
    log_info, message, read_config,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// What it leaves in `asked`.
    mark: String,
    behaviour: Behaviour,
    /// For `use`, `insert` and `split`.
    hop: Option<Place>,
    /// Nobody is asked after this one.
    #[serde(default)]
    stop: bool,
    note: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Behaviour {
    Proceed,
    /// This hop and nothing else.
    Use,
    /// This hop before all others.
    Insert,
    /// This hop for the first recipient; no opinion on the others.
    Split,
    Defer,
    Reject,
    Discard,
    Hold,
    Trap,
    Temporary,
    Broken,
    /// No hop at all: breaks the contract.
    Empty,
}

struct Link;

impl Plugin for Link {
    fn check_config() -> Vec<String> {
        config_fault::<Config>("")
    }
}

impl Router for Link {
    fn route(request: Request) -> Result<Vec<Verdict>, HookError> {
        let config: Config = read_config("")?;
        leave(&config.mark, &request);
        log_info(&format!(
            "{} was asked about {}",
            config.mark, request.domain
        ));
        let hop = || config.hop.iter().map(Place::hop);
        let decision = match config.behaviour {
            Behaviour::Proceed => Decision::Proceed,
            Behaviour::Use => Decision::hops(hop()),
            Behaviour::Insert => Decision::Edit(hop().map(MxEdit::InsertFirst).collect()),
            Behaviour::Split => {
                let verdict = Verdict::of(vec![0], Decision::hops(hop()));
                return Ok(vec![dressed(verdict, &config)]);
            }
            Behaviour::Defer => Decision::defer("not today"),
            Behaviour::Reject => Decision::reject(Reply::parse("550 5.7.1 not by this relay")),
            Behaviour::Discard => Decision::Discard("nobody wants it".into()),
            Behaviour::Hold => Decision::hold("somebody should look"),
            Behaviour::Trap => std::arch::wasm32::unreachable(),
            Behaviour::Temporary => return Err(HookError::Temporary("try me later".into())),
            Behaviour::Broken => return Err(HookError::Broken("no rule fits".into())),
            Behaviour::Empty => Decision::hops([]),
        };
        Ok(vec![dressed(Verdict::all(decision), &config)])
    }
}

waypost_sdk::export!(Link: Router);

fn leave(mark: &str, request: &Request) {
    let known = request.attributes.iter().find(|one| one.name == "asked");
    let asked = known.map_or_else(|| mark.to_owned(), |one| format!("{} {mark}", one.value));
    message::set_attribute("asked", Some(&asked));
}

fn dressed(verdict: Verdict, config: &Config) -> Verdict {
    let verdict = match &config.note {
        Some(note) => verdict.note(note),
        None => verdict,
    };
    if config.stop { verdict.stop() } else { verdict }
}
