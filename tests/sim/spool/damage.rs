//! Bits that flip on the medium, and what the log makes of it.

use spool::{Disk, RecordId, Spool, SpoolError, SpoolStats, Turn};

use super::{Simulation, Standing};

/// How much of a segment the log can know to have been durable: all of it if it
/// has a seal; else what came before the last batch, which was that of `last`.
fn provable_bytes(name: &str, content: &[u8], last: &[u8]) -> u64 {
    let at = |needle: &[u8]| {
        content
            .windows(needle.len())
            .position(|bytes| bytes == needle)
    };
    let stamp = name
        .rsplit('-')
        .next()
        .and_then(|stamp| u64::from_str_radix(stamp, 16).ok());
    let stamp = stamp
        .expect("a segment's name ends with its stamp")
        .to_le_bytes();
    // A recycled file may end with the seal of an earlier life.
    if content[content.len() - 48..].starts_with(&[*b"WPSEAL01", stamp].concat()) {
        return content.len() as u64;
    }
    let head_bytes = 56 + 200;
    let last = if last.len() < 16 {
        None
    } else {
        at(&last[..16])
    };
    last.map_or(0, |at| at.saturating_sub(head_bytes) as u64)
}

/// A life without faults, then one flipped bit in a segment's file. Returns what
/// the flip did to the records, as told by reading all of them.
fn run_with_flip(seed: u64, closes: bool) -> (u64, SpoolStats) {
    let mut simulation = Simulation::new(seed);
    let (log, mut writer) = simulation.open();
    simulation.live(&log, &mut writer, 150);
    simulation.heal(&log, &mut writer);
    if closes {
        let mut closed = log.close();
        while writer.turn() != Turn::Closed {}
        assert_eq!(closed.try_result(), Some(Ok(())), "seed {seed}");
    }
    simulation.disk.kill();
    drop((log, writer));

    let disk = simulation.disk.clone();
    let last = simulation.known[&RecordId(simulation.next_id - 1)]
        .body
        .clone();
    let places: Vec<(String, u64)> = disk
        .list()
        .expect("the disk is healthy")
        .into_iter()
        .filter(|name| name.starts_with("segment"))
        .map(|name| (provable_bytes(&name, &disk.content(&name), &last), name))
        .filter_map(|(bytes, name)| (bytes > 0).then_some((name, bytes)))
        .collect();
    let Some(choice) = simulation.chance.bits().checked_rem(places.len() as u64) else {
        return (0, SpoolStats::default());
    };
    let (name, provable) = &places[choice as usize];
    let byte = simulation.chance.below(*provable) as usize;
    disk.flip_bit(name, byte, simulation.chance.below(8) as u8);

    let (log, mut writer) = simulation.open();
    let mut hurt = 0;
    for (id, known) in &simulation.known {
        let body = log.read_body(*id);
        let meta = log.read_meta(*id);
        if known.state == Standing::Gone {
            hurt += u64::from(body != Err(SpoolError::NotFound(*id)));
            continue;
        }
        let whole = body.is_ok_and(|body| body.concat() == known.body)
            && meta.as_ref().ok() == known.versions.last();
        hurt += u64::from(!whole);
    }
    // Everything else goes on, collection included, and the file stays.
    let stats = log.stats();
    simulation
        .known
        .retain(|_, known| known.state != Standing::Taken);
    simulation.live(&log, &mut writer, 150);
    simulation.heal(&log, &mut writer);
    let evidence = name.replace("segment", "corrupt");
    let kept = disk
        .list()
        .expect("the disk is healthy")
        .iter()
        .any(|found| found == name || *found == evidence);
    assert!(
        kept || stats.damaged_count == 0,
        "seed {seed}: the evidence is gone"
    );
    (hurt, stats)
}

#[test]
fn a_flipped_bit_costs_at_most_one_record_and_is_never_silent() {
    for closes in [true, false] {
        let mut hurt_count = 0;
        for seed in 6000..6080 {
            let (hurt, stats) = run_with_flip(seed, closes);
            assert!(hurt <= 1, "seed {seed}: one bit has hurt {hurt} records");
            if hurt > 0 {
                assert!(stats.corrupt_total > 0, "seed {seed}: {stats:?}");
                assert!(stats.damaged_count > 0, "seed {seed}: {stats:?}");
            }
            hurt_count += hurt;
        }
        assert!(hurt_count > 5, "nothing was tested");
    }
}
