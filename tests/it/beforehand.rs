//! What a start looks at before it serves, and says.

use postbackd::limits::{
    ADMIN_CONNECTIONS_MAX, FILES_OPEN_BESIDE, FILES_OPEN_PER_WORKER, TABLE_FILES_OPEN_MAX,
};

use crate::harness::{Server, Setup};

/// Stops it and starts it again; what it logs of that.
fn again(server: &mut Server) -> String {
    assert_eq!(server.stop().code(), Some(0));
    let before = server.log().len();
    server.start_again();
    server.log()[before..].to_owned()
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
    assert!(!server.log().contains(warning), "{}", server.log());
    server.set_key("store.log_files_ready", "1");
    let log = again(&mut server);
    assert!(log.contains(warning), "{log}");
    server.set_key("store.free_space_reserve", "1MiB");
    let log = again(&mut server);
    assert!(!log.contains(warning), "{log}");
}
