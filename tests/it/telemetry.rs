//! The log while nobody reads it.

use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader};
use std::process::Command;
use std::sync::mpsc::sync_channel;

use crate::harness::{PATIENCE, Setup, eventually};

#[test]
fn a_log_that_nobody_reads_keeps_nobody_waiting_and_loses_no_line() {
    // More lines than a pipe holds.
    const LINES: usize = 2000;
    let mut server = Setup::new().start();
    assert!(server.stop().success());
    let pipe = server.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    let reader = OpenOptions::new().read(true).write(true).open(&pipe).expect("a pipe");
    let run = format!("exec \"$0\" \"$@\" 2> {}", pipe.display());
    let binary = env!("CARGO_BIN_EXE_postbackd").to_owned();
    server.run_by(vec!["/bin/sh".to_owned(), "-c".to_owned(), run, binary]);
    server.set_key("log.level", "debug");
    server.start_again();
    let malformed = || server.metric("postbackd_requests_malformed_total");
    for _ in 0..LINES {
        let mut connection = server.connect();
        connection.send("no HTTP\r\n\r\n").expect("sent");
        connection.rest().expect("an answer, and the end");
    }
    eventually("a line for each", || (malformed() >= LINES as f64).then_some(()));
    assert_eq!(server.get("/c/sp7").status, 302);
    assert_eq!(server.metric("postbackd_log_lines_left_out_total"), 0.0);
    let (tell, told) = sync_channel(1);
    std::thread::spawn(move || {
        let lines = BufReader::new(reader).lines().map(|line| line.expect("text"));
        let mut lines: Vec<_> = lines.take_while(|line| !line.ends_with(" stopped")).collect();
        lines.retain(|line| line.contains("connection ended early"));
        let _ = tell.send(lines.len());
    });
    assert!(server.stop().success());
    assert!(told.recv_timeout(PATIENCE).expect("the last line of all") >= LINES);
}
