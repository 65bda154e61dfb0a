//! The scheduler in a world of chance: random mail, answers, commands, crashes and
//! passing time, with a model beside it that knows what must be true.

mod answers;
mod model;

use proptest::prelude::*;

use model::World;

/// What happens next: which kind of thing, and two numbers to choose by.
pub(crate) type Step = (u8, u16, u16);

fn run(steps: &[Step], crashes: bool) {
    let mut world = World::new();
    for &step in steps {
        world.step(step, crashes);
    }
    world.finish();
    world.replay();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_and_nothing_is_done_twice(
        steps in proptest::collection::vec(any::<Step>(), 1..500)
    ) {
        run(&steps, false);
    }

    #[test]
    fn not_even_when_it_crashes(
        steps in proptest::collection::vec(any::<Step>(), 1..500)
    ) {
        run(&steps, true);
    }
}

#[test]
fn nor_in_a_long_life() {
    // A fixed sequence, long enough for destinations to come and go many times.
    let mut state = 0x5EED_u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    let steps: Vec<Step> = (0..12_000)
        .map(|_| (next() as u8, next() as u16, next() as u16))
        .collect();
    run(&steps, false);
}
