//! Child processes that are stopped in order, by their id, and the small talk with them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use std::os::unix::process::CommandExt as _;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// How long a child may take to end after SIGTERM before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(40);

/// Turns true when the user wants to end: Ctrl-C, SIGTERM, or the terminal was closed.
#[derive(Clone)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Listens for the signals from now on; they no longer end this process by themselves.
    pub(crate) fn listen() -> anyhow::Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&flag))?;
        }
        Ok(Self(flag))
    }

    /// Whether a signal has come.
    pub(crate) fn wanted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A child process; ends with us at the latest.
pub(crate) struct Service {
    name: &'static str,
    child: Child,
}

impl Service {
    /// Starts a child in a process group of its own.
    ///
    /// A group of its own, because Ctrl-C goes to the whole group of the terminal: the sink would
    /// be gone before the relay has drained into it. We get the signal and stop them in order.
    pub(crate) fn start(name: &'static str, command: &mut Command) -> anyhow::Result<Self> {
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("could not start {name}: {command:?}"))?;
        Ok(Self { name, child })
    }

    /// What the messages call it.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// The lines it prints, passed on to our terminal as they come; needs a piped stdout.
    pub(crate) fn lines(&mut self) -> mpsc::Receiver<String> {
        let (sender, receiver) = mpsc::channel();
        if let Some(stdout) = self.child.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    println!("{line}");
                    // Nobody listening any more is no reason to stop showing what comes.
                    drop(sender.send(line));
                }
            });
        }
        receiver
    }

    /// Asks the child to end, waits for it, and kills it only when it does not listen.
    pub(crate) fn stop(mut self) -> anyhow::Result<ExitStatus> {
        self.end(Signal::TERM)
    }

    fn end(&mut self, signal: Signal) -> anyhow::Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        let asked_at = Instant::now();
        kill_process(Pid::from_child(&self.child), signal)?;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if asked_at.elapsed() > STOP_LIMIT {
                eprintln!("{} does not end, killing it", self.name);
                self.child.kill()?;
                return Ok(self.child.wait()?);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Err(error) = self.end(Signal::TERM) {
            eprintln!("could not stop {}: {error}", self.name);
        }
    }
}

/// Fails with a clear word when something listens on `address` already.
pub(crate) fn demand_free(address: SocketAddr, what: &str) -> anyhow::Result<()> {
    TcpListener::bind(address)
        .map(drop)
        .with_context(|| format!("{address} is needed for {what}: is something listening there?"))
}

/// A port of the loopback address that was free just now.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Waits until `GET http://<admin>/readyz` answers 200.
///
/// # Errors
/// When one of `services` ends, when `limit` is over, or when the user wants to stop.
pub(crate) fn wait_ready(
    admin: SocketAddr,
    services: &mut [&mut Service],
    limit: Duration,
    stop: Option<&Stop>,
) -> anyhow::Result<()> {
    let started_at = Instant::now();
    loop {
        if http_status(admin, "/readyz") == Some(200) {
            return Ok(());
        }
        for service in services.iter_mut() {
            if let Some(status) = service.ended()? {
                bail!(
                    "{} ended with {status} before the relay was ready",
                    service.name()
                );
            }
        }
        if stop.is_some_and(Stop::wanted) {
            bail!("stopped before the relay was ready");
        }
        if started_at.elapsed() > limit {
            bail!(
                "http://{admin}/readyz did not answer 200 within {} s",
                limit.as_secs()
            );
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The status code of a GET request, or `None` when there was no answer.
fn http_status(address: SocketAddr, path: &str) -> Option<u16> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.take(4096).read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}
