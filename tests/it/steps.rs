//! The process dies at each step of the write path: killed there, or with the power cut there.

use crate::crash::survive;
use crate::harness::{FileKind, Losses, Server, Setup, Step, eventually, run};
use crate::rng::Rng;
use FileKind::{Current, Folder, Log, Manifest, Other, Table};
use Step::{Named, Synced, Syncing, Written};

/// What a server does under load while its memtables are written out.
const SERVING: [(FileKind, Step); 13] = [
    (Log, Written),
    (Log, Syncing),
    (Log, Synced),
    (Log, Named),
    (Table, Named),
    (Table, Written),
    (Table, Syncing),
    (Table, Synced),
    (Manifest, Written),
    (Manifest, Syncing),
    (Manifest, Synced),
    (Folder, Syncing),
    (Folder, Synced),
];

/// What a server does until it is ready, on a store that was not closed.
const STARTING: [(FileKind, Step); 18] = [
    (Manifest, Named),
    (Manifest, Written),
    (Manifest, Syncing),
    (Manifest, Synced),
    (Current, Named),
    (Current, Written),
    (Current, Syncing),
    (Current, Synced),
    (Log, Named),
    (Log, Written),
    (Log, Syncing),
    (Table, Named),
    (Table, Written),
    (Table, Syncing),
    (Other, Named),
    (Other, Written),
    (Folder, Syncing),
    (Folder, Synced),
];

#[test]
fn a_kill_at_each_step_of_the_write_path_takes_back_nothing_that_was_acknowledged() {
    at_each_step(|_, _| {});
}

#[test]
fn a_power_cut_at_each_step_of_the_write_path_takes_back_nothing_that_was_acknowledged() {
    let mut losses = Losses::default();
    at_each_step(|server, rng| losses.add(&server.disk_mut().cut_power(rng)));
    print!("{losses}");
    for kind in [Log, Manifest, Current, Table, Other] {
        assert!(losses.of(kind).cuts > 0, "no cut could take anything of {kind:?}");
    }
}

/// Runs through all steps, as often as `POSTBACKD_STEPS` says; `died` is called after each death.
fn at_each_step(mut died: impl FnMut(&mut Server, &mut Rng)) {
    let asked = std::env::var("POSTBACKD_STEPS").ok().and_then(|count| count.parse().ok());
    let seed = std::process::id().into();
    println!("seed {seed}");
    let mut rng = Rng::new(seed);
    let rounds = asked.unwrap_or(1) * STARTING.len();
    let mut round = 0;
    survive(Setup::new().on_faulty_disk().start(), rounds, |server| {
        if round == rounds {
            // There is no load any more.
            server.kill();
            died(server, &mut rng);
            return;
        }
        let (kind, step) = SERVING[round % SERVING.len()];
        server.disk().kill_at(step, kind, 1 + rng.below(3) as i32);
        let status = eventually("the step", || {
            server.try_flush();
            server.exited()
        });
        assert_eq!(status.code(), None, "{step:?} of {kind:?}: {}", server.log());
        server.wait();
        died(server, &mut rng);
        assert_sound(server, (kind, step));

        let (kind, step) = STARTING[round % STARTING.len()];
        server.disk().kill_at(step, kind, 1);
        server.launch();
        let ended = server.ended_or_ready();
        let status = ended.unwrap_or_else(|| panic!("a start without {step:?} of {kind:?}"));
        assert_eq!(status.code(), None, "{step:?} of {kind:?}: {}", server.log());
        died(server, &mut rng);
        server.disk().repair();
        assert_sound(server, (kind, step));
        round += 1;
    });
}

#[test]
fn a_first_start_that_a_power_cut_ends_is_followed_by_another() {
    let seed = std::process::id().into();
    println!("seed {seed}");
    let mut rng = Rng::new(seed);
    let mut server = Setup::new().on_faulty_disk().start();
    server.kill();
    for (kind, step) in STARTING.into_iter().filter(|(kind, _)| *kind != Table) {
        for nth in 1..=3 {
            server.forget_all();
            server.disk().kill_at(step, kind, nth);
            server.launch();
            if server.ended_or_ready().is_none() {
                // There are fewer such steps; the power is cut a little later.
                server.kill();
            }
            server.disk_mut().cut_power(&mut rng);
            server.disk().repair();
            server.start_again();
            let click = server.click("id=sp7");
            let sale = server.postback(&format!("click_id={click}&event=sale&txn_id=T"));
            assert_eq!(sale.verdict(), (200, "accepted", ""), "{nth}. {step:?} of {kind:?}");
            server.kill();
        }
    }
}

fn assert_sound(server: &Server, after: (FileKind, Step)) {
    let verified = run(&server.path("."), &["verify", "--store", "data"]);
    assert_eq!(verified.code, Some(0), "{after:?}: {}{}", verified.out, verified.err);
}
