//! What a start looks at before it serves, and says.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use postbackd::limits::{
    ADMIN_CONNECTIONS_MAX, FILES_OPEN_BESIDE, FILES_OPEN_PER_WORKER, TABLE_FILES_OPEN_MAX,
};

use crate::harness::{Fault, Server, Setup, eventually};

/// What it logs of its start, behind what is there already.
fn of_start(server: &Server, before: usize) -> String {
    eventually("all of the start", || {
        let log = server.log()[before..].to_owned();
        log.contains(" serving").then_some(log)
    })
}

/// Stops it and starts it again; what it logs of that.
fn again(server: &mut Server) -> String {
    let before = server.whole_log().len();
    server.start_again();
    of_start(server, before)
}

/// A server whose first start stands still because its disk hangs, before it has a store.
fn starting(setup: Setup) -> Server {
    let mut server = setup.on_faulty_disk().start();
    assert_eq!(server.stop().code(), Some(0));
    server.forget_all();
    server.disk().break_down(Fault::SyncsHang, None);
    server.launch();
    let folder = server.path("data/db");
    eventually("the store's folder", || folder.exists().then_some(()));
    server
}

#[test]
fn a_reload_during_a_start_is_done_after_it() {
    let mut server = starting(Setup::new());
    server.signal("HUP");
    server.disk().repair();
    server.await_readiness(200);
    let loads = || server.metric("postbackd_catalog_loads_total{result=\"applied\"}");
    eventually("the reload", || (loads() == 2.0).then_some(()));
}

#[test]
fn a_stop_during_a_start_ends_it() {
    for signal in ["TERM", "INT"] {
        let mut server = starting(Setup::new());
        let begins = server.log().len();
        server.signal(signal);
        server.says("told to stop");
        assert!(server.is_alive(), "the disk hangs");
        server.disk().repair();
        assert_eq!(server.wait().code(), Some(0), "{}", server.log());
        assert!(!server.log()[begins..].contains(" serving"), "{}", server.log());
        server.start_again();
        assert_eq!(server.get("/c/sp7").status, 302);
    }
}

#[test]
fn a_stop_during_a_start_ends_by_its_deadline_whatever_hangs() {
    let mut server = starting(Setup::new().key("server.drain_deadline", "100ms"));
    server.signal("TERM");
    assert!(!server.wait().success());
    assert!(server.log().contains("the drain deadline has passed"), "{}", server.log());
}

#[test]
fn a_new_store_is_said_to_be_one_and_is_made_only_where_it_may_be() {
    let mut server = Server::start();
    let warning = "there was no store, so a new one was created";
    server.says(warning);
    server.set_key("store.create", "false");
    let log = again(&mut server);
    assert!(!log.contains(warning), "{log}");
    assert_eq!(server.stop().code(), Some(0));
    let begins = server.log().len();
    // As if its disk was not mounted.
    std::fs::rename(server.path("data"), server.path("elsewhere")).expect("renamed");
    server.launch();
    assert_eq!(server.wait().code(), Some(1));
    let log = server.log()[begins..].to_owned();
    assert!(log.contains("there is no store in") && log.contains("store.create"), "{log}");
    assert!(!server.path("data").exists(), "nothing was made");
    std::fs::rename(server.path("elsewhere"), server.path("data")).expect("renamed");
    server.start_again();
}

#[test]
fn the_store_is_its_owners_alone_or_a_start_says_so() {
    let mut server = Server::start();
    let warning = "others than its owner may look into the store's folder";
    for folder in ["data", "data/db"] {
        let mode = std::fs::metadata(server.path(folder)).expect("there").mode() & 0o777;
        assert_eq!(mode, 0o700, "{folder}");
    }
    let log = of_start(&server, 0);
    assert!(!log.contains(warning), "{log}");
    let open = Permissions::from_mode(0o750);
    std::fs::set_permissions(server.path("data"), open).expect("ours");
    let log = again(&mut server);
    assert!(log.contains(warning) && log.contains("mode=0750"), "{log}");
}

#[test]
fn an_address_belongs_to_one_process() {
    let mut first = Server::start();
    let mut second = Server::start();
    assert_eq!(second.stop().code(), Some(0));
    for (key, taken) in [("server.listen", first.public), ("admin.listen", first.admin)] {
        let begins = second.log().len();
        second.set_key(key, &taken.to_string());
        second.launch();
        assert_eq!(second.wait().code(), Some(1), "{key}");
        let log = second.log();
        let said = format!("cannot listen on {taken}: Address already in use");
        assert!(log[begins..].contains(&said), "{key}: {log}");
    }
    // All of the first one's connections come to it, over all of its workers.
    for _ in 0..20 {
        assert_eq!(first.get("/c/sp7").status, 302);
    }
    assert_eq!(first.metric("postbackd_clicks_total"), 20.0);
    // The server has closed them first, so the system remembers them for a minute; nobody waits.
    let mut open = first.connect();
    assert_eq!(open.request("GET", "/c/sp7", "").expect("an answer").status, 302);
    first.kill();
    first.start_again();
    assert_eq!(first.get("/c/sp7").status, 302);
}

#[test]
fn fewer_open_files_than_connections_and_store_can_need_are_warned_of() {
    const CONNECTIONS: usize = 100;
    let needed = CONNECTIONS
        + ADMIN_CONNECTIONS_MAX
        + 2 * TABLE_FILES_OPEN_MAX as usize
        // Tests run two workers.
        + 2 * FILES_OPEN_PER_WORKER as usize
        + FILES_OPEN_BESIDE as usize;
    let setup = Setup::new().key("server.connections_max", &CONNECTIONS.to_string());
    let mut server = setup.start();
    for (allowed, is_warned_of) in [(needed - 1, true), (needed, false)] {
        // The soft limit only: it is what counts, and no privilege is needed to lower it.
        let limit = format!("--nofile={allowed}:");
        let binary = env!("CARGO_BIN_EXE_postbackd").to_owned();
        server.run_by(vec!["prlimit".to_owned(), limit, binary]);
        let log = again(&mut server);
        assert_eq!(log.contains("fewer files may be open"), is_warned_of, "{log}");
        let said = format!("allowed={allowed} needed={needed} connections_max={CONNECTIONS}");
        assert_eq!(log.contains(&said), is_warned_of, "{log}");
        assert_eq!(server.get("/c/sp7").status, 302);
    }
}

#[test]
fn too_little_room_for_log_files_is_warned_of_only_where_some_are_wanted() {
    let mut server = Setup::new().key("store.free_space_reserve", "1000TiB").start();
    let warning = "too little room on the disk to make log files ready";
    let log = of_start(&server, 0);
    assert!(!log.contains(warning), "{log}");
    server.set_key("store.log_files_ready", "1");
    let log = again(&mut server);
    assert!(log.contains(warning), "{log}");
    server.set_key("store.free_space_reserve", "1MiB");
    let log = again(&mut server);
    assert!(!log.contains(warning), "{log}");
}
