//! Plugins changed while mail flows: what passes every check takes the place of what was there,
//! what does not never does, and no message sees two versions.

mod breaker;
mod load;
mod share;
mod sign;

use std::path::{Path, PathBuf};

use serde_json::Value;
use testkit::virtual_mx::Script;

use crate::lab::{Client, Host, LIMIT, Lab, Plan, component, host};

const ZONE: &str = "$ORIGIN test.\n@ SOA ns hostmaster 1 60 60 60 60\n\
    dest MX 10 a.dest\na.dest A 127.0.0.2\nsender MX 10 a.dest\n";

/// A component that calls itself `marker0001` and so on.
fn version(number: u16) -> Vec<u8> {
    let mark = b"marker0001";
    let mut octets = std::fs::read(component("versioned")).expect("it can be read");
    let places = octets.windows(mark.len()).filter(|window| window == mark);
    assert_eq!(places.count(), 1, "the mark is written in one place");
    let at = octets.windows(mark.len()).position(|window| window == mark);
    let at = at.expect("it was counted");
    octets[at..at + mark.len()].copy_from_slice(format!("marker{number:04}").as_bytes());
    octets
}

fn digest(octets: &[u8]) -> String {
    plugin::Digest::of(octets).to_string()
}

/// A relay with the plugin `live`, whose file the test writes.
struct Site {
    lab: Lab,
    /// MX host of dest.test.
    hop: Host,
    file: PathBuf,
    /// Kept while the configuration's files outlive the relay's spool.
    _place: tempfile::TempDir,
}

impl Site {
    /// `keys`: more of `[[plugin]]`; `rules`: of `[plugins]`.
    async fn open(keys: &str, rules: &str) -> Self {
        Self::open_with(&version(1), keys, rules, |_| {}).await
    }

    async fn open_with(
        octets: &[u8],
        keys: &str,
        rules: &str,
        prepare: impl FnOnce(&Path),
    ) -> Self {
        let place = tempfile::tempdir().expect("a temporary directory");
        let file = place.path().join("live.wasm");
        put(&file, octets);
        prepare(&file);
        let hop = host(2, 0, Script::accept()).await;
        let text = format!(
            "[plugins]\n{rules}\n[[plugin]]\nname = \"live\"\npath = \"{}\"\n{keys}\n",
            file.display()
        );
        let lab = Plan::new(ZONE, hop.port()).with(&text).open().await;
        Self {
            lab,
            hop,
            file,
            _place: place,
        }
    }

    fn put(&self, octets: &[u8]) {
        put(&self.file, octets);
    }

    async fn post(&self, path: &str) -> (u16, String) {
        self.lab.ask_control("POST", path).await
    }

    /// Asks for a change that can be tried, and gives what came of it.
    async fn change(&self, command: &str) -> Value {
        let (status, text) = self.post(&format!("/plugins/live/{command}")).await;
        assert_eq!(status, 200, "{text}");
        let all: Value = serde_json::from_str(&text).expect("JSON");
        all[0].clone()
    }

    /// The plugin as `waypost plugin ls` has it.
    async fn state(&self) -> Value {
        let (_, text) = self.lab.ask_control("GET", "/plugins").await;
        let listing: Value = serde_json::from_str(&text).expect("JSON");
        listing["plugins"][0].clone()
    }

    async fn wait_for(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let waiting = async {
            loop {
                let state = self.state().await;
                if wanted(&state) {
                    return state;
                }
                tokio::task::yield_now().await;
            }
        };
        match tokio::time::timeout(LIMIT, waiting).await {
            Ok(state) => state,
            Err(_) => panic!("waited for {what}; the plugin is {:#}", self.state().await),
        }
    }

    /// Sends a message and gives the marks that versions left on it.
    async fn marks(&self) -> String {
        let before = self.hop.messages().len();
        self.lab.send("you@dest.test").await;
        self.hop.wait_for_messages(before + 1, LIMIT).await;
        marks(&self.hop.messages()[before].content)
    }

    /// A version that is not taken: it is said which step it did not pass, and all is as before.
    async fn refuses(&self, step: &str, why: &str) {
        let before = self.state().await;
        let counter = format!("waypost_plugin_reloads_total{{plugin=\"live\",result=\"{step}\"}}");
        let counted = self.lab.metric(&counter).await;
        let changed = self.change("reload").await;
        assert_eq!(changed["result"], step, "{changed:#}");
        let text = changed["text"].as_str().expect("it says why");
        assert!(text.contains(why), "{text}");
        assert_eq!(self.lab.metric(&counter).await, counted + 1.0);
        let after = self.state().await;
        assert_eq!(after["digest"], before["digest"]);
        assert_eq!(after["since_ms"], before["since_ms"]);
        assert_eq!(after["refused"]["result"], step, "{after:#}");
        assert_eq!(self.marks().await, all_by(1));
    }
}

/// Puts a file in place in one step.
fn put(file: &Path, octets: &[u8]) {
    let partial = file.with_extension("partial");
    std::fs::write(&partial, octets).expect("a temporary directory");
    std::fs::rename(partial, file).expect("a temporary directory");
}

fn marks(content: &[u8]) -> String {
    let text = String::from_utf8_lossy(content);
    let line = text.lines().find_map(|line| line.strip_prefix("X-Marks: "));
    line.unwrap_or_else(|| panic!("no marks in {text}"))
        .to_owned()
}

/// The marks of a transaction that saw one version.
fn all_by(number: u16) -> String {
    vec![format!("marker{number:04}"); 3].join(" ")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_takes_the_place_of_another_while_a_transaction_goes_on() {
    let site = Site::open("", "").await;
    let (old, new) = (digest(&version(1)), digest(&version(2)));
    let info = |version: &str, digest: &str| {
        format!("waypost_plugin_info{{plugin=\"live\",version=\"{version}\",digest=\"{digest}\"}}")
    };
    assert_eq!(site.lab.metric(&info("0.1.0-marker0001", &old)).await, 1.0);
    let mut client = Client::connect(site.lab.smtp()).await;
    client.expect("220").await;
    client.ask("EHLO client.test", "250").await;
    client.ask("MAIL FROM:<me@sender.test>", "250").await;

    site.put(&version(2));
    let changed = site.change("reload").await;
    assert_eq!(changed["result"], "ok", "{changed:#}");
    assert_eq!(changed["digest"], new);
    assert_eq!(changed["version"], "0.1.0-marker0002");

    // What began with the old version ends with it.
    client.ask("RCPT TO:<you@dest.test>", "250").await;
    client.ask("DATA", "354").await;
    client.ask("Subject: old\r\n\r\nHello\r\n.", "250").await;
    site.hop.wait_for_messages(1, LIMIT).await;
    assert_eq!(marks(&site.hop.messages()[0].content), all_by(1));
    assert_eq!(site.marks().await, all_by(2));

    assert_eq!(site.lab.metric(&info("0.1.0-marker0001", &old)).await, 0.0);
    assert_eq!(site.lab.metric(&info("0.1.0-marker0002", &new)).await, 1.0);
    let state = site.state().await;
    assert_eq!(state["digest"], new);
    assert_eq!(state["by"], "reload");
    assert_eq!(state["kept"][1]["digest"], old);
    assert_eq!(state["refused"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_a_check_never_takes_the_place_of_what_is_there() {
    let site = Site::open("config = { refuse = \"marker0003\" }", "").await;
    site.put(b"no component at all");
    site.refuses("component", "no WebAssembly at all").await;
    site.put(&version(3));
    site.refuses("config", "marker0003 does not like this")
        .await;
    std::fs::remove_file(&site.file).expect("it is there");
    site.refuses("read", "cannot read").await;
    site.put(&version(2));
    assert_eq!(site.change("reload").await["result"], "ok");
    assert_eq!(site.marks().await, all_by(2));
    assert_eq!(site.state().await["refused"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_component_than_the_pinned_one_is_refused() {
    let pin = format!("sha256 = \"{}\"", digest(&version(1)));
    let site = Site::open(&pin, "").await;
    site.put(&version(2));
    site.refuses("pin", "the configuration pins").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_fails_its_cases_is_refused() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let case = "[[case]]\nname = \"the first\"\nrecipients = [\"you@dest.test\"]\n\
        [[case.expect]]\ndecision = \"proceed\"\nnote = \"marker0001\"\n";
    std::fs::write(place.path().join("one.toml"), case).expect("a temporary directory");
    let site = Site::open(&format!("cases = \"{}\"", place.path().display()), "").await;
    site.put(&version(2));
    site.refuses("cases", "1 of 1 cases fail").await;
    assert!(site.state().await["refused"].is_object());
    // The file as it was: nothing is wrong with it any more.
    site.put(&version(1));
    let config = site.lab.config.clone();
    site.lab.reload(&config).await;
    assert!(site.state().await["refused"].is_null());
    // Cases that cannot be read pass nothing.
    std::fs::write(place.path().join("one.toml"), "[[case]\n").expect("a temporary directory");
    site.refuses("cases", "one.toml").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_without_name_says_what_came_of_each() {
    let site = Site::open("", "").await;
    site.put(&version(2));
    let (status, text) = site.post("/plugins/reload").await;
    assert_eq!(status, 200);
    let all: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(all.as_array().map(Vec::len), Some(1));
    assert_eq!(all[0]["result"], "ok");
    let (status, text) = site.post("/plugins/other/reload").await;
    assert_eq!(status, 404);
    assert_eq!(text, "there is no plugin other; there are: live\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn going_back_survives_an_overwritten_file_a_reload_of_all_and_a_restart() {
    let mut site = Site::open("watch = true", "watch_interval = \"10ms\"").await;
    let (status, text) = site.post("/plugins/live/rollback").await;
    assert_eq!(status, 409);
    assert_eq!(text, "plugin live has no version to go back to\n");
    site.put(&version(2));
    let second = digest(&version(2));
    site.wait_for("the second", |state| state["digest"] == *second)
        .await;
    let back = site.change("rollback").await;
    assert_eq!(back["result"], "ok", "{back:#}");
    assert_eq!(site.marks().await, all_by(1));
    let state = site.state().await;
    assert_eq!(state["by"], "rollback");
    assert_eq!(state["held_back"], serde_json::json!([second]));

    let (_, text) = site.post("/plugins/reload").await;
    assert!(text.contains("rolled_back"), "{text}");
    let config = site.lab.config.clone();
    site.lab.reload(&config).await;
    // Touched, but the same.
    site.put(&version(2));
    assert_eq!(site.marks().await, all_by(1));
    site.lab = site.lab.restart().await;
    assert_eq!(site.state().await["by"], "rollback");
    assert_eq!(site.marks().await, all_by(1));

    // What is new ends it, and so does the operator's word.
    site.put(&version(3));
    let third = digest(&version(3));
    site.wait_for("the third", |state| state["digest"] == *third)
        .await;
    assert_eq!(site.change("rollback").await["result"], "ok");
    assert_eq!(site.marks().await, all_by(1));
    assert_eq!(site.change("reload").await["result"], "ok");
    assert_eq!(site.marks().await, all_by(3));
    assert_eq!(site.state().await["held_back"], serde_json::json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_candidate_survives_a_reload_of_all() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let file = place.path().join("next.wasm");
    put(&file, &version(2));
    let candidate = format!("[plugin.candidate]\npath = \"{}\"", file.display());
    let site = Site::open(&candidate, "").await;
    let share = "waypost_plugin_candidate_share{plugin=\"live\",mode=\"shadow\"}";
    assert_eq!(site.lab.metric(share).await, 1.0);
    let promoted = site.change("promote").await;
    assert_eq!(promoted["result"], "ok", "{promoted:#}");
    assert_eq!(site.lab.metric(share).await, 0.0);
    for _ in 0..2 {
        let (_, text) = site.post("/plugins/reload").await;
        assert!(text.contains("\"promoted\""), "{text}");
        assert_eq!(site.marks().await, all_by(2));
        let config = site.lab.config.clone();
        site.lab.reload(&config).await;
    }
    // The operator's word ends it.
    assert_eq!(site.change("reload").await["result"], "ok");
    assert_eq!(site.marks().await, all_by(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_version_that_was_damaged_is_not_gone_back_to() {
    let site = Site::open("", "").await;
    site.put(&version(2));
    assert_eq!(site.change("reload").await["result"], "ok");
    let kept = format!("spool/plugins/live/{}.wasm", digest(&version(1)));
    std::fs::write(site.lab.directory.path().join(kept), version(4)).expect("it is ours");
    let back = site.change("rollback").await;
    assert_eq!(back["result"], "pin", "{back:#}");
    assert_eq!(site.marks().await, all_by(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watched_file_is_taken_when_it_changes_and_is_good() {
    let keys = "watch = true\nconfig = { refuse = \"marker0002\" }";
    let site = Site::open(keys, "watch_interval = \"10ms\"").await;
    site.put(&version(2));
    let state = site
        .wait_for("a refusal", |state| state["refused"]["result"] == "config")
        .await;
    assert_eq!(state["digest"], digest(&version(1)));
    site.put(&version(3));
    let third = digest(&version(3));
    let state = site
        .wait_for("the third", |state| state["digest"] == *third)
        .await;
    assert_eq!(state["by"], "watch");
    assert_eq!(site.marks().await, all_by(3));
    let refused = "waypost_plugin_reloads_total{plugin=\"live\",result=\"config\"}";
    assert_eq!(site.lab.metric(refused).await, 1.0, "tried once");
}
