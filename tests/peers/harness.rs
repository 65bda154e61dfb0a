//! The relay as a process: start, wait, ask, kill, start again.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::programs::Program;

/// How long anything may take here that should take a moment. Generous: it is only ever waited
/// out when something is broken.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// Where the program is; `None` when the test has to be skipped, which is noted.
pub(crate) fn find(program: Program, test: &str) -> Option<PathBuf> {
    let found = program.find();
    if found.is_some() {
        return found;
    }
    let Program { name, package } = program;
    assert!(
        std::env::var_os("WAYPOST_REQUIRE_PEERS").is_none(),
        "{name} is required and not installed (Debian: {package})"
    );
    report(&format!("skip\t{name}\t{test}"));
    None
}

/// Says something at the end of `cargo xtask test`, whatever the runner does with output.
pub(crate) fn note(text: &str) {
    println!("{text}");
    report(&format!("note\t{text}"));
}

/// Appends a line for `cargo xtask test`, if that is what runs us.
fn report(line: &str) {
    if let Some(path) = std::env::var_os("WAYPOST_TEST_REPORT") {
        let mut report = File::options()
            .append(true)
            .open(path)
            .expect("xtask made it");
        // One write: tests in other processes append too.
        report
            .write_all(format!("{line}\n").as_bytes())
            .expect("the report is writable");
    }
}

/// The `waypost` binary of this build.
pub(crate) fn waypost() -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    let profile = test
        .parent()
        .and_then(Path::parent)
        .expect("target/<profile>/deps/<test>");
    let binary = profile.join("waypost");
    assert!(
        binary.is_file(),
        "{} is missing: run `cargo xtask test`",
        binary.display()
    );
    binary
}

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .expect("it is there")
}

/// A loopback address whose port was free just now.
pub(crate) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("some port is free");
    listener.local_addr().expect("it is bound")
}

/// Asks again until there is an answer.
///
/// # Panics
/// When there is none within [`LIMIT`].
pub(crate) fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let started_at = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(
            started_at.elapsed() < LIMIT,
            "waited {} s for {what}",
            LIMIT.as_secs()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A child that ends with the test.
pub(crate) struct Process(Child);

impl Process {
    /// Starts it; its output goes to `log`.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Self {
        let file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .expect("a log can be made");
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a descriptor is free"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Self(child)
    }

    /// Whether it has not ended.
    pub(crate) fn is_running(&mut self) -> bool {
        self.0.try_wait().expect("it is our child").is_none()
    }

    /// SIGKILL, and nothing of it runs any more.
    pub(crate) fn kill(&mut self) {
        self.0.kill().expect("it is our child");
        self.0.wait().expect("it is our child");
    }

    /// SIGTERM; how it ended.
    pub(crate) fn terminate(&mut self) -> std::process::ExitStatus {
        kill_process(Pid::from_child(&self.0), Signal::TERM).expect("it is our child");
        self.0.wait().expect("it is our child")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A relay with its own directory, configuration and ports.
pub(crate) struct Relay {
    /// Where it takes mail.
    pub(crate) smtp: SocketAddr,
    admin: SocketAddr,
    config: PathBuf,
    dir: TempDir,
    process: Option<Process>,
}

impl Relay {
    /// A relay that sends everything to `smarthost`; `more` is added to the configuration.
    pub(crate) fn start(smarthost: SocketAddr, more: &str) -> Self {
        let (smtp, admin) = (free_address(), free_address());
        let config = format!(
            "hostname = \"relay.peers.test\"\nlisten = [\"{smtp}\"]\n\
             relay_from = [\"127.0.0.0/8\"]\nsmarthost = \"{smarthost}\"\nspool = \"spool\"\n\n\
             [admin]\nlisten = \"{admin}\"\n\n{more}"
        );
        Self::with_config(smtp, admin, &config)
    }

    /// A relay with this configuration, which names these addresses.
    pub(crate) fn with_config(smtp: SocketAddr, admin: SocketAddr, config: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("waypost.toml");
        std::fs::write(&path, config).expect("it is writable");
        let mut relay = Self {
            smtp,
            admin,
            config: path,
            dir,
            process: None,
        };
        relay.restart();
        relay
    }

    /// Starts it, after [`Self::kill`] or [`Self::stop`], and waits until it is ready.
    pub(crate) fn restart(&mut self) {
        assert!(self.process.is_none(), "it is running");
        let mut command = Command::new(waypost());
        command.arg("run").arg("--config").arg(&self.config);
        let mut process = Process::start(&mut command, &self.log_path());
        wait_for("the relay to be ready", || {
            assert!(
                process.is_running(),
                "the relay ended by itself:\n{}",
                self.log_tail()
            );
            (self.get("/readyz")?.0 == 200).then_some(())
        });
        self.process = Some(process);
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        self.process.take().expect("it is running").kill();
    }

    /// SIGTERM, and it must end well.
    pub(crate) fn stop(&mut self) {
        let status = self.process.take().expect("it is running").terminate();
        assert!(
            status.success(),
            "the relay ended with {status}:\n{}",
            self.log_tail()
        );
    }

    /// Status and body of a GET request to the admin listener.
    pub(crate) fn get(&self, path: &str) -> Option<(u16, String)> {
        get(self.admin, path)
    }

    /// The text of /metrics.
    pub(crate) fn metrics_text(&self) -> String {
        let (status, body) = self.get("/metrics").expect("the admin listener answers");
        assert_eq!(status, 200, "{body}");
        body
    }

    /// The sum of a metric over its labels.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        sums(&self.metrics_text()).get(name).copied().unwrap_or(0.0)
    }

    /// Waits until nothing is in the queue.
    pub(crate) fn wait_empty(&self) {
        wait_for("the queue to be empty", || {
            (self.queue()["total"].as_u64() == Some(0)).then_some(())
        });
    }

    /// `waypost queue ls --json`.
    pub(crate) fn queue(&self) -> serde_json::Value {
        self.queue_command(&["ls", "--json"])
    }

    /// `waypost queue show ID --json`.
    pub(crate) fn queue_show(&self, id: &str) -> serde_json::Value {
        self.queue_command(&["show", id, "--json"])
    }

    fn queue_command(&self, arguments: &[&str]) -> serde_json::Value {
        let output = self.run_waypost("queue", arguments);
        let text = String::from_utf8(output.stdout).expect("JSON is UTF-8");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    /// Runs `waypost COMMAND --config … ARGUMENTS`.
    pub(crate) fn run_waypost(&self, command: &str, arguments: &[&str]) -> Output {
        Command::new(waypost())
            .arg(command)
            .arg("--config")
            .arg(&self.config)
            .args(arguments)
            .output()
            .expect("the binary runs")
    }

    /// A place for the test's own files; nobody may write to it too.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("relay.log")
    }

    /// The end of what the relay has said.
    pub(crate) fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(40).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

/// Samples added up by family name, labels left out.
pub(crate) fn sums(text: &str) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name: String = line
            .chars()
            .take_while(|letter| !matches!(letter, '{' | ' '))
            .collect();
        let value = line
            .rsplit(' ')
            .next()
            .and_then(|value| value.parse::<f64>().ok());
        if let Some(value) = value {
            *sums.entry(name).or_insert(0.0) += value;
        }
    }
    sums
}

/// Status and body of a GET request; `None` when nobody answers.
fn get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .ok()?;
    // HTTP/1.0: the body ends with the connection.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}
