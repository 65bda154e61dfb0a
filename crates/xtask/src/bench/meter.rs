//! What is read during a measurement: the sink's counter and the relay's CPU time.

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::process::{Service, free_address};

/// What one way did in one round.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// From the first connection until the sink had counted the last message.
    pub(super) messages_per_second: f64,
    /// The relay's user and system time; nothing for the direct way.
    pub(super) cpu_ms_per_message: Option<f64>,
}

/// Postfix's smtp-sink with its running counter.
pub(super) struct SinkCounter {
    address: SocketAddr,
    output: File,
    /// Held so that the sink lives as long as the counter.
    _service: Service,
}

impl SinkCounter {
    /// Starts the sink on a free port and waits until it accepts connections.
    pub(super) fn start(program: &Path, work_dir: &Path) -> anyhow::Result<Self> {
        let address = free_address()?;
        let path = work_dir.join("sink.out");
        let file = File::create(&path)?;
        let mut command = Command::new(program);
        // smtp-sink refuses to run as root; the option is for root alone.
        if rustix::process::geteuid().is_root() {
            command.args(["-u", "nobody"]);
        }
        command.args(["-c", "-m", "1000", &address.to_string(), "1000"]);
        command.stdout(file.try_clone()?).stderr(file);
        let mut service = Service::start("smtp-sink", &mut command)?;
        let started_at = Instant::now();
        while std::net::TcpStream::connect(address).is_err() {
            if let Some(status) = service.ended()? {
                let said = std::fs::read_to_string(&path)?;
                bail!("smtp-sink ended with {status}: {said}");
            }
            if started_at.elapsed() > Duration::from_secs(10) {
                bail!("smtp-sink does not accept connections on {address}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Self {
            address,
            output: File::open(&path)?,
            _service: service,
        })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Messages received so far: the last counter line that is complete.
    ///
    /// The sink writes `sess=… quit=… mesg=…` and a carriage return after each message.
    pub(super) fn count(&self) -> anyhow::Result<u64> {
        const LINE_LIMIT: u64 = 256;
        let length = self.output.metadata()?.len();
        let mut tail = vec![0; usize::try_from(length.min(LINE_LIMIT))?];
        self.output
            .read_exact_at(&mut tail, length.saturating_sub(LINE_LIMIT))?;
        Ok(last_count(&String::from_utf8_lossy(&tail)).unwrap_or(0))
    }
}

fn last_count(tail: &str) -> Option<u64> {
    // What follows the last carriage return may be half a line.
    let complete = &tail[..tail.rfind('\r')?];
    let line = complete.rsplit('\r').next()?;
    line.split("mesg=").nth(1)?.trim().parse().ok()
}

/// User and system time that a process has used, in seconds.
pub(super) fn cpu_seconds(process_id: u32) -> anyhow::Result<f64> {
    let path = format!("/proc/{process_id}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| format!("no {path}"))?;
    let ticks = cpu_ticks(&stat).with_context(|| format!("{path} is not as proc(5) has it"))?;
    #[allow(
        clippy::cast_precision_loss,
        reason = "ticks of one run stay far below 2^52"
    )]
    let seconds = ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
    Ok(seconds)
}

/// Fields 14 and 15 of proc(5)'s stat; the name in field 2 may contain anything but ends with `)`.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// The middle value, or the mean of the two middle ones.
pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_last_complete_count() {
        assert_eq!(
            last_count("sess=1 quit=0 mesg=41\rsess=1 quit=0 mesg=42\r"),
            Some(42)
        );
        assert_eq!(
            last_count("sess=1 quit=0 mesg=41\rsess=1 quit=0 mesg=4"),
            Some(41)
        );
        assert_eq!(last_count("sess=1"), None);
    }

    #[test]
    fn reads_user_and_system_time() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 30 12 0 0 20 0 1 0 100 1 1";
        assert_eq!(cpu_ticks(stat), Some(42));
    }

    #[test]
    fn finds_the_median() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()).to_string(), "2");
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()).to_string(), "2.5");
    }
}
