//! What the tests of candidates and of replay share: a relay with the guest `recorded`, whose
//! decisions depend on everything that a plugin can ask.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::lab::{Client, Lab, Plan, component, id_of};

const ZONE: &str = "$ORIGIN test.\n@ SOA ns hostmaster 1 60 60 60 60\n\
    dest MX 10 a.dest\na.dest A 127.0.0.2\nsender MX 10 a.dest\n";

/// Only waited out when it is broken: thousands of calls, on a machine that does other things.
const LIMIT: Duration = Duration::from_secs(240);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A relay with the plugin `recorded`, and a directory for what the configuration names.
pub(crate) struct Trial {
    pub(crate) lab: Lab,
    pub(crate) place: TempDir,
}

/// A component that calls itself `0.1.0-plain`, or another word of five letters.
pub(crate) fn version(word: &str) -> Vec<u8> {
    let mark = b"0.1.0-plain";
    let mut octets = std::fs::read(component("recorded")).expect("it can be read");
    let at = octets.windows(mark.len()).position(|window| window == mark);
    let at = at.expect("the mark is in the component");
    octets[at + mark.len() - 5..at + mark.len()].copy_from_slice(word.as_bytes());
    octets
}

impl Trial {
    /// `config`: of the plugin and of its candidate. `candidate`: keys of `[plugin.candidate]`,
    /// whose component is `other`; empty: there is none. `rest`: whole tables.
    pub(crate) async fn open(config: &str, candidate: &str, rest: &str) -> Self {
        let place = tempfile::tempdir().expect("a temporary directory");
        let put = |name: &str, octets: &[u8]| {
            std::fs::write(place.path().join(name), octets).expect("it is written");
        };
        put("plain.wasm", &version("plain"));
        put("other.wasm", &version("other"));
        put("curio.wasm", &version("curio"));
        put("zones", b"d0.test 1\ndest.test 2\nd7.test seven\n");
        let at = place.path().display();
        let candidate = match candidate {
            "" => String::new(),
            keys => format!("[plugin.candidate]\npath = \"{at}/other.wasm\"\n{keys}\n"),
        };
        // Time is for the machine's load, not for what the guest does.
        let text = format!(
            "[[table]]\nname = \"zones\"\npath = \"{at}/zones\"\nformat = \"domains\"\n\
             [[plugin]]\nname = \"recorded\"\npath = \"{at}/plain.wasm\"\n\
             cpu = \"10s\"\nwall = \"60s\"\n\
             [plugin.grants]\ndns = true\ntables = [\"zones\"]\nstate = \"8MiB\"\n\
             [plugin.config]\n{config}\n{candidate}{rest}"
        );
        let lab = Plan::new(ZONE, 25).with(&text).open().await;
        Self { lab, place }
    }

    /// Sends so many messages to so many recipients each, over one connection, and gives their
    /// ids. Local parts end in two digits: `u00` to `u99` and again.
    pub(crate) async fn send(&self, messages: usize, recipients: usize) -> Vec<String> {
        let mut client = Client::connect(self.lab.smtp()).await;
        client.expect("220").await;
        client.ask("EHLO client.test", "250").await;
        let mut ids = Vec::with_capacity(messages);
        for message in 0..messages {
            client
                .ask("MAIL FROM:<bounce=alice/7@sender.test>", "250")
                .await;
            for recipient in 0..recipients {
                let number = (message * recipients + recipient) % 100;
                let to = format!("RCPT TO:<u{number:02}@d{recipient}.test>");
                client.ask(&to, "250").await;
            }
            client.ask("DATA", "354").await;
            let first = format!("u{:02}@d0.test", message * recipients % 100);
            // As mail is: addresses of the envelope, alone in a field and among other words.
            let text = format!(
                "From: alice@sender.test\r\nTo: {first}\r\nCc: Somebody <{first}>\r\n\
                 Reply-To: <bounce=alice/7@sender.test>\r\nX-Host: sender.test\r\n\
                 Message-ID: <{message}.alice@sender.test>\r\n\
                 Subject: secret {}\r\n\r\nHello\r\n.",
                message % 7
            );
            ids.push(id_of(&client.ask(&text, "250").await));
        }
        client.ask("QUIT", "221").await;
        ids
    }

    /// What `waypost plugin candidate recorded` shows.
    pub(crate) async fn status(&self) -> Value {
        let (code, text) = self
            .lab
            .ask_control("GET", "/plugins/recorded/candidate")
            .await;
        assert_eq!(code, 200, "{text}");
        serde_json::from_str(&text).expect("JSON")
    }

    /// Waits until the candidate's counts are as wanted.
    pub(crate) async fn wait_for_status(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let waiting = async {
            loop {
                let status = self.status().await;
                if wanted(&status) {
                    return status;
                }
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        match tokio::time::timeout(LIMIT, waiting).await {
            Ok(status) => status,
            Err(_) => panic!("it stays {:#}", self.status().await),
        }
    }

    /// Waits until a counter is there.
    pub(crate) async fn wait_for_count(&self, metric: &str, count: f64) {
        let waiting = async {
            while self.lab.metric(metric).await < count {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        if tokio::time::timeout(LIMIT, waiting).await.is_err() {
            panic!("{metric} is {}", self.lab.metric(metric).await);
        }
    }

    /// The file of a version.
    pub(crate) fn file(&self, word: &str) -> PathBuf {
        self.place.path().join(format!("{word}.wasm"))
    }

    /// Where the decision log is by default.
    pub(crate) fn log(&self) -> PathBuf {
        self.lab.directory.path().join("spool/decisions")
    }
}

/// All lines of a decision log.
pub(crate) fn lines(log: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(log).expect("the log is there") {
        let path = entry.expect("an entry").path();
        text += &std::fs::read_to_string(path).expect("it can be read");
    }
    text
}

/// The sum of a candidate's counts with this side, phase and result; empty: any phase.
pub(crate) fn count(status: &Value, side: &str, phase: &str, result: &str) -> u64 {
    let counts = status["counts"].as_array().expect("a list");
    let fits = |it: &&Value| {
        it["side"] == side && (phase.is_empty() || it["phase"] == phase) && it["result"] == result
    };
    let counts = counts.iter().filter(fits);
    counts
        .map(|it| it["count"].as_u64().expect("a number"))
        .sum()
}
