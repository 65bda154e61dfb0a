//! How many messages a second the log takes over: 64 producers, 4 KB, each
//! message accepted, acknowledged and removed.
//!
//! `cargo run --release -p waypost-spool --example throughput -- [directory]
//! [messages] [producers]`

#![allow(clippy::print_stdout, reason = "its output is its purpose")]
#![allow(clippy::disallowed_methods, reason = "it measures real time")]

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use spool::{FileDisk, Options, RecordId, SegmentLog, Spool};

const BODY_BYTES: usize = 4096;

/// CPU time of this process so far.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

async fn produce(log: Arc<SegmentLog>, next: Arc<AtomicU64>, message_count: u64) {
    let body = Bytes::from(vec![b'x'; BODY_BYTES]);
    let meta = Bytes::from(vec![b'm'; 200]);
    loop {
        let id = next.fetch_add(1, Ordering::Relaxed);
        if id >= message_count {
            return;
        }
        let accepted = log
            .accept(RecordId(id + 1), 0, meta.clone(), vec![body.clone()])
            .await;
        if let Err(error) = accepted.and_then(|()| log.remove(RecordId(id + 1))) {
            println!("message {id}: {error}");
            return;
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().unwrap_or_else(|| "var/throughput".into());
    let message_count = arguments
        .next()
        .map_or(Ok(200_000), |count| count.parse())?;
    let producer_count = arguments
        .next()
        .map_or(Ok(64), |count| count.parse::<u64>())?;

    let disk = Arc::new(FileDisk::new(&directory)?);
    let log = Arc::new(SegmentLog::open(disk, Options::default())?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()?;
    let next = Arc::new(AtomicU64::new(0));
    let (started, cpu_started) = (Instant::now(), cpu_time());
    runtime.block_on(async {
        let producers = (0..producer_count)
            .map(|_| tokio::spawn(produce(log.clone(), next.clone(), message_count)));
        for producer in producers.collect::<Vec<_>>() {
            producer.await?;
        }
        Ok::<(), tokio::task::JoinError>(())
    })?;
    log.flush().wait()?;
    let (elapsed, cpu) = (started.elapsed(), cpu_time() - cpu_started);

    let stats = log.stats();
    let thousands = message_count as f64 / 1000.0;
    let payload_bytes = (BODY_BYTES + 200) as u64 * message_count;
    println!(
        "messages/s          {:.0}",
        message_count as f64 / elapsed.as_secs_f64()
    );
    println!("CPU s per 1000      {:.4}", cpu.as_secs_f64() / thousands);
    println!(
        "messages per commit {:.1}",
        message_count as f64 / stats.commits_total as f64
    );
    println!(
        "ms per sync         {:.2}",
        stats.sync_us_total as f64 / 1e3 / stats.syncs_total as f64
    );
    println!(
        "bytes written/given {:.3}",
        stats.written_bytes_total as f64 / payload_bytes as f64
    );
    println!("copied bytes        {}", stats.copied_bytes_total);
    println!("segments collected  {}", stats.collected_total);
    Ok(())
}
