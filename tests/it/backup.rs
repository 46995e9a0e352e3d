//! Backups of a server under load, and the way back: what was acknowledged before is in them,
//! nothing counts twice after, and only what is complete and sound counts as one.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use postbackd::backup::List;
use postbackd::click_id::RecordId;
use postbackd::store::engine::{Batch, Engine as _};
use postbackd::store::schema::Table;
use postbackd::store::{RocksEngine, database_folder};
use serde_json::Value;

use crate::harness::{Disk, Ended, Server, Setup, binary, copy_tree, eventually, run};

pub fn setup() -> Setup {
    Setup::new().key("backup.path", "backups").key("backup.keep", "2")
}

/// Has a backup made by the API; returns the job when it has ended.
pub fn back_up(server: &Server) -> Value {
    server.ended(&server.post_api("backup", "", ""))
}

fn folder_of(job: &Value) -> PathBuf {
    assert_eq!(job["status"], "succeeded", "{job}");
    job["result"]["folder"].as_str().expect("a folder").into()
}

#[test]
fn a_place_for_backups_that_is_only_in_the_file_takes_a_restart_and_that_is_said() {
    let server = Setup::new().start();
    let name = "postbackd_admin_token_loads_total{result=\"applied\"}";
    let reload = || {
        let before = server.metric(name);
        server.signal("HUP");
        eventually("the reload", || (server.metric(name) > before).then_some(()));
    };
    let warning = "the configuration has changes that take a restart";
    reload();
    let config = std::fs::read_to_string(server.path("postbackd.toml")).expect("readable");
    server.write("postbackd.toml", &(config + "\n[backup]\npath = \"backups\"\n"));
    reload();
    let line = server.says(warning);
    assert_eq!(server.log().matches(warning).count(), 1, "none before: {}", server.log());
    assert!(line.contains("[backup]") && !line.contains("[server]"), "{line}");
    let refused = server.post_api("backup", "", "");
    let said = &refused.json()["error"];
    assert_eq!((refused.status, &said["code"]), (409, &Value::from("no_backup_path")));
    assert_eq!(said["message"], "the server was started without backup.path: set it and restart");
}

/// The names of everything that is where backups go, in order.
fn names(server: &Server) -> Vec<String> {
    let entries = std::fs::read_dir(server.path("backups")).into_iter().flatten();
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("an entry").file_name();
    let names = entries.map(|entry| name(entry).into_string().expect("plain"));
    let mut names: Vec<_> = names.filter(|name| name != ".lock").collect();
    names.sort();
    names
}

fn restore(server: &Server, backup: &Path, to: &str) -> Ended {
    run(&server.path("."), &["restore", &backup.display().to_string(), "--to", to])
}

fn sell(server: &Server, click: &str, txn: &str) -> (String, String) {
    let answer = server.postback(&format!("click_id={click}&event=sale&txn_id={txn}"));
    assert_eq!(answer.http.status, 200, "{txn}: {:?}", answer.json);
    (answer.word("result").to_owned(), answer.word("conversion_id").to_owned())
}

/// The part of a click ID that tells starts apart.
fn start_of(server: &Server) -> u32 {
    let id = server.click("offer=spring&aff=pub-7");
    let id = server.api(&format!("clicks/{id}"))["click_id"].as_str().expect("an ID").to_owned();
    let text = sell(server, &id, &format!("start-{id}")).1;
    let id = RecordId::parse(text.as_bytes()).expect("an ID");
    let [.., a, b, c, d] = *id.as_bytes().first_chunk::<10>().expect("16 bytes");
    u32::from_be_bytes([a, b, c, d]) >> 14 & 63
}

#[test]
fn what_was_acknowledged_before_is_in_a_backup_and_counts_once_after_a_restore() {
    let mut server = setup().start();
    let click = server.click("offer=spring&aff=pub-7");
    let (stop, acknowledged) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (before, sold, job) = std::thread::scope(|scope| {
        let (server, click) = (&server, &click);
        let load = scope.spawn(|| {
            let mut sold = BTreeMap::new();
            while !stop.load(Ordering::Relaxed) {
                let txn = format!("T-{:05}", sold.len());
                let (result, id) = sell(server, click, &txn);
                assert_eq!(result, "accepted");
                sold.insert(txn, id);
                acknowledged.store(sold.len(), Ordering::SeqCst);
            }
            sold
        });
        eventually("load", || (acknowledged.load(Ordering::SeqCst) > 200).then_some(()));
        let before = acknowledged.load(Ordering::SeqCst);
        let job = back_up(server);
        eventually("load after it", || {
            (acknowledged.load(Ordering::SeqCst) > before + 20).then_some(())
        });
        stop.store(true, Ordering::Relaxed);
        (before, load.join().expect("the load ends"), job)
    });
    let backup = folder_of(&job);
    assert_eq!(job["result"]["verified"]["broken"], Value::Array(Vec::new()), "{job}");
    assert_eq!(job["result"]["linked"], true, "one file system");
    let late = server.click("offer=spring&aff=pub-7");
    let lost_start = start_of(&server);
    server.kill();

    let ended = restore(&server, &backup, "again");
    assert_eq!((ended.code, &*ended.err), (Some(0), ""), "{}", ended.out);
    assert!(ended.out.contains("sound\n"), "{}", ended.out);
    let restored = Setup::new().start_on(&server.path("again"));
    for (place, (txn, id)) in sold.iter().enumerate() {
        let (result, of) = sell(&restored, &click, txn);
        if place < before {
            assert_eq!((&*result, &of), ("duplicate", id), "{txn}");
        }
        assert_eq!(sell(&restored, &click, txn), ("duplicate".to_owned(), of), "{txn}");
    }
    // A click that the backup does not know proves itself.
    let answer = restored.postback(&format!("click_id={late}&event=sale&txn_id=late"));
    assert_eq!(answer.verdict(), (200, "accepted", ""));
    let shown = restored.api(&format!("conversions/{}", answer.word("conversion_id")));
    assert_eq!(shown["flags"][0], "click_record_missing");
    assert_eq!(start_of(&restored), (lost_start + 33) % 64, "starts of the lost time are left out");
    let of_start = restored.conversions("").len();
    assert_eq!(of_start, sold.len() + 2);
}

/// What is said of backups beside their store.
const SAME_DISK: &str = "on the store's own file system: it goes with that disk\n";

#[test]
fn the_command_asks_the_server_or_copies_a_store_that_is_not_served() {
    let mut server = setup().start();
    let config = std::fs::read_to_string(server.path("postbackd.toml")).expect("a file");
    server.write("postbackd.toml", &format!("{config}[backup]\npath = \"backups\"\nkeep = 2\n"));
    let click = server.click("offer=spring&aff=pub-7");
    let mut made = Vec::new();
    for round in 0..4 {
        sell(&server, &click, &format!("T-{round}"));
        if round == 2 {
            assert!(server.stop().success());
        }
        let ended = run(&server.path("."), &["backup", "--config", "postbackd.toml"]);
        assert_eq!((ended.code, &*ended.err), (Some(0), SAME_DISK), "{}", ended.out);
        assert!(ended.out.contains("sound\n"), "{}", ended.out);
        made.push(PathBuf::from(ended.out.lines().last().expect("a folder")));
        assert!(made[round].is_absolute(), "{}", ended.out);
        let kept = made.iter().rev().take(2).rev();
        let kept: Vec<_> =
            kept.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
        assert_eq!(names(&server), kept, "two are kept");
        assert!(!server.path("data/backup.partial").exists());
        if round == 2 {
            server.start_again();
        }
    }
    // Whose token is given is not asked by another.
    let own = ["backup", "--config", "postbackd.toml", "--token-file", "token"];
    assert_eq!(run(&server.path("."), &own).code, Some(2));
    let ended = server.command(&["backup"]);
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    let metrics = server.admin_open("/metrics");
    assert!(metrics.text().contains("postbackd_backups_total{result=\"succeeded\"} 2"));
    assert!(metrics.text().contains("postbackd_backups_total{result=\"failed\"} 0"));
    // What was added while it was stopped is in the last ones.
    let ended = restore(&server, &made[3], "again");
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    assert!(ended.out.contains("conversions 4"), "{}", ended.out);
}

#[test]
fn nothing_is_overwritten_and_nothing_incomplete_is_restored() {
    let server = setup().start();
    let click = server.click("offer=spring&aff=pub-7");
    sell(&server, &click, "T-1");
    let backup = folder_of(&back_up(&server));
    let refused = |backup: &Path, to: &str, why: &str| {
        let ended = restore(&server, backup, to);
        assert_eq!(ended.code, Some(1), "{}", ended.out);
        assert!(ended.err.contains(why), "{}", ended.err);
    };
    refused(&backup, "data", "is not empty");
    server.write("file", "");
    assert_eq!(restore(&server, &backup, "file").code, Some(1));
    std::fs::create_dir(server.path("kept")).expect("writable");
    server.write("kept/one", "mine");
    refused(&backup, "kept", "is not empty");
    assert_eq!(std::fs::read_to_string(server.path("kept/one")).expect("a file"), "mine");

    refused(&server.path("data"), "new", "is not a complete backup");
    refused(&server.path("nowhere"), "new", "is not a complete backup");
    let unfinished = server.path("backups/x.partial");
    copy_tree(&backup, &unfinished);
    refused(&unfinished, "new", "is not a complete backup");
    // Every file counts, and every byte of it.
    let mut tried = 0;
    for entry in std::fs::read_dir(backup.join("db")).expect("a folder") {
        let name = entry.expect("an entry").file_name();
        for damage in ["gone", "cut", "changed"] {
            let copy = server.path("damaged");
            copy_tree(&backup, &copy);
            let file = copy.join("db").join(&name);
            let mut bytes = std::fs::read(&file).expect("a file");
            match (damage, bytes.len() / 2) {
                ("gone", _) => std::fs::remove_file(&file).expect("removable"),
                (_, 0) => std::fs::write(&file, b"more").expect("writable"),
                ("cut", half) => std::fs::write(&file, &bytes[..half]).expect("writable"),
                (_, half) => {
                    bytes[half] ^= 1;
                    std::fs::write(&file, &bytes).expect("writable");
                }
            }
            let ended = restore(&server, &copy, "new");
            assert_eq!(ended.code, Some(1), "{name:?} {damage}: {}", ended.out);
            assert!(ended.err.contains(name.to_str().unwrap()), "{name:?} {damage}: {}", ended.err);
            std::fs::remove_dir_all(&copy).expect("removable");
            tried += 1;
        }
    }
    assert!(tried > 10);
    let left = std::fs::read_dir(server.path("new")).expect("a folder").count();
    assert_eq!(left, 0, "what was made of it is removed");
    assert_eq!(restore(&server, &backup, "new").code, Some(0), "the backup itself is whole");
}

#[test]
fn an_unsound_copy_is_no_backup_and_removes_none() {
    let mut server = setup().key("backup.keep", "1").start();
    let click = server.click("offer=spring&aff=pub-7");
    sell(&server, &click, "T-1");
    let first = folder_of(&back_up(&server));
    let before = names(&server);
    server.stop();
    {
        let engine = RocksEngine::open(&database_folder(&server.path("data")), 8 << 20);
        let engine = engine.expect("opens");
        let mut batch = Batch::default();
        batch.put(Table::Clicks, &[5; 16], |out| out.extend_from_slice(&[3, 255, 255]));
        engine.append(&batch).and_then(|()| engine.sync()).expect("written");
    }
    server.start_again();
    let job = back_up(&server);
    assert_eq!(job["status"], "failed", "{job}");
    let error = job["error"].as_str().expect("a text");
    assert!(error.contains("not sound: clicks 0505"), "{error}");
    assert_eq!(names(&server), before, "the older one stays, alone");
    assert!(List::read(&first).is_ok());
    assert!(!server.path("data/backup.partial").exists());
    let metrics = server.admin_open("/metrics");
    assert!(metrics.text().contains("postbackd_backups_total{result=\"failed\"} 1"));
    // Who wants it all the same can have it.
    server.stop();
    server.set_key("backup.verify", "false");
    server.start_again();
    let job = back_up(&server);
    let unsound = folder_of(&job);
    assert_eq!(job["result"]["verified"], Value::Null);
    assert_eq!(names(&server).len(), 2, "the last one that was verified stays");
    let again = folder_of(&back_up(&server));
    assert_eq!(names(&server).len(), 2);
    assert!(List::read(&first).is_ok() && List::read(&again).is_ok() && !unsound.exists());
    let unsound = again;
    let ended = run(&server.path("."), &["verify", "--store", &unsound.display().to_string()]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.out.contains("broken: clicks 0505"), "{}", ended.out);
    let ended = restore(&server, &unsound, "again");
    assert_eq!(ended.code, Some(1), "{}", ended.out);
    assert!(ended.out.contains("broken: clicks 0505"), "{}", ended.out);
    assert_eq!(std::fs::read_dir(server.path("again")).expect("a folder").count(), 0);
}

#[test]
fn a_kill_during_a_backup_leaves_nothing_that_looks_like_one() {
    let mut server = setup().start();
    let click = server.click("offer=spring&aff=pub-7");
    (0..300).for_each(|txn| _ = sell(&server, &click, &format!("T-{txn}")));
    let (mut unfinished, mut complete) = (0, 0);
    for round in 0..16u64 {
        let known = names(&server);
        assert_eq!(server.post_api("backup", "", "").status, 202);
        if round % 4 == 3 {
            // Just as the older ones are about to go.
            let is_new = |name: &String| !name.ends_with(".partial") && !known.contains(name);
            eventually("a backup", || names(&server).iter().any(is_new).then_some(()));
        } else {
            std::thread::sleep(Duration::from_millis(round * 4));
        }
        server.kill();
        let left = names(&server);
        for name in &left {
            if name.ends_with(".partial") {
                unfinished += 1;
                continue;
            }
            let folder = server.path("backups").join(name);
            assert!(List::read(&folder).is_ok(), "{name}");
            let ended = run(&server.path("."), &["verify", "--store", &format!("backups/{name}")]);
            assert_eq!(ended.code, Some(0), "{name}: {}{}", ended.out, ended.err);
            complete += 1;
        }
        unfinished += usize::from(server.path("data/backup.partial").exists());
        server.start_again();
        eventually("what was cut short to go", || {
            let names = names(&server);
            let clean = names.iter().all(|name| !name.ends_with(".partial"));
            (clean && !server.path("data/backup.partial").exists()).then_some(())
        });
        sell(&server, &click, &format!("more-{round}"));
    }
    assert!(unfinished > 0 && complete > 0, "{unfinished} unfinished, {complete} complete");
    let backup = folder_of(&back_up(&server));
    assert_eq!(restore(&server, &backup, "again").code, Some(0));
}

#[test]
fn a_backup_has_its_name_when_all_of_it_has_been_synced() {
    let far = setup().key("backup.path", "far/backups").key("backup.keep", "1");
    let server = far.on_faulty_disk().start();
    let click = server.click("offer=spring&aff=pub-7");
    sell(&server, &click, "T-1");
    let backup = folder_of(&back_up(&server));
    let synced = server.disk().synced_elsewhere();
    let path = |path: &Path| path.display().to_string();
    assert!(synced.contains(&path(&server.path("far"))), "the folder of backups: {synced:#?}");
    let while_unnamed = |inside: &str| {
        let unnamed = format!("{}.partial{inside}", path(&backup));
        assert!(synced.contains(&unnamed), "{unnamed} is not in {synced:#?}");
    };
    let mut own = 0;
    for entry in std::fs::read_dir(backup.join("db")).expect("readable") {
        let entry = entry.expect("an entry");
        // Tables are the store's own files, which has synced them.
        if entry.metadata().expect("metadata").nlink() == 1 {
            while_unnamed(&format!("/db/{}", entry.file_name().display()));
            own += 1;
        }
    }
    assert!(own >= 3, "log, manifest and options at least: {own}");
    ["/backup.json", "/db", ""].into_iter().for_each(while_unnamed);
    let backups = path(&server.path("far/backups"));
    assert_eq!(synced.last(), Some(&backups), "its name: {synced:#?}");
    // The older one has lost its name before its files are gone.
    folder_of(&back_up(&server));
    assert!(!backup.exists());
    let synced = server.disk().synced_elsewhere();
    assert!(synced.ends_with(&[backups.clone(), backups]), "both names: {synced:#?}");
}

#[test]
fn a_restored_store_has_its_name_when_all_of_it_has_been_synced() {
    let server = setup().start();
    let click = server.click("offer=spring&aff=pub-7");
    sell(&server, &click, "T-1");
    let backup = folder_of(&back_up(&server));
    let folder = tempfile::tempdir().expect("a folder");
    let (disk, again) = (Disk::new(folder.path()), folder.path().join("again"));
    let mut command = binary();
    command.arg("restore").arg(&backup).arg("--to").arg(&again).envs(disk.environment());
    let ended = Ended::of(&mut command);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let synced = disk.synced_elsewhere();
    let while_unnamed = |inside: &str| {
        let unnamed = format!("{}/db.partial{inside}", again.display());
        assert!(synced.contains(&unnamed), "{unnamed} is not in {synced:#?}");
    };
    for entry in std::fs::read_dir(backup.join("db")).expect("readable") {
        while_unnamed(&format!("/{}", entry.expect("an entry").file_name().display()));
    }
    while_unnamed("");
    assert_eq!(synced.last(), Some(&again.display().to_string()), "its name: {synced:#?}");
    let above = folder.path().display().to_string();
    assert!(synced.contains(&above), "the folder's own: {synced:#?}");
    // The key of click IDs is in both.
    for folder in [backup, again.join("db")] {
        let mode = std::fs::metadata(&folder).expect("there").mode();
        assert_eq!(mode & 0o777, 0o700, "{}", folder.display());
    }
}

#[test]
fn backups_on_another_file_system_are_copied() {
    let Ok(other) = tempfile::tempdir_in("/dev/shm") else { return };
    let setup = setup().key("backup.path", &other.path().display().to_string());
    let server = setup.on_faulty_disk().start();
    let click = server.click("offer=spring&aff=pub-7");
    sell(&server, &click, "T-1");
    let device = |path: &Path| std::fs::metadata(path).expect("there").dev();
    let job = back_up(&server);
    let backup = folder_of(&job);
    let crosses = device(other.path()) != device(&server.path("data"));
    assert_eq!(job["result"]["linked"], !crosses);
    assert!(!server.path("data/backup.partial").exists(), "it would hold on to the store's files");
    let synced = server.disk().synced_elsewhere();
    for entry in std::fs::read_dir(backup.join("db")).expect("readable") {
        let name = entry.expect("an entry").file_name();
        let unnamed = format!("{}.partial/db/{}", backup.display(), name.display());
        assert!(!crosses || synced.contains(&unnamed), "{unnamed} is not in {synced:#?}");
    }
    let ended = restore(&server, &backup, "again");
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    assert!(ended.out.contains("conversions 1"), "{}", ended.out);
}

#[test]
fn without_room_nothing_is_begun() {
    let mut server = setup().start();
    folder_of(&back_up(&server));
    let before = names(&server);
    server.stop();
    server.set_key("store.free_space_reserve", "1000TiB");
    server.start_again();
    let job = back_up(&server);
    assert_eq!(job["status"], "failed", "{job}");
    assert!(job["error"].as_str().expect("a text").contains("bytes left"), "{job}");
    assert_eq!(names(&server), before);
}

#[test]
fn backups_of_two_stores_do_not_share_a_folder() {
    let one = setup().start();
    folder_of(&back_up(&one));
    let before = names(&one);
    let other = setup().key("backup.path", &one.path("backups").display().to_string()).start();
    let job = back_up(&other);
    assert_eq!(job["status"], "failed", "{job}");
    assert!(job["error"].as_str().expect("a text").contains("another store"), "{job}");
    assert_eq!(names(&one), before);
}

#[test]
fn a_backup_that_is_due_is_made_by_itself_and_its_age_is_known() {
    let mut server = setup().start();
    let age = |server: &Server| {
        let metrics = server.admin_open("/metrics");
        let line = metrics
            .text()
            .lines()
            .find_map(|line| line.strip_prefix("postbackd_backup_age_seconds ").map(str::to_owned));
        line.expect("a gauge").parse::<f64>().expect("a number")
    };
    assert!(age(&server).is_infinite(), "there is none");
    assert_eq!(server.metric("postbackd_backup_every_seconds"), 86_400.0);
    server.stop();
    server.set_key("backup.every", "1h");
    server.start_again();
    eventually("a backup", || (age(&server) < 60.0).then_some(()));
    assert_eq!(server.metric("postbackd_backup_every_seconds"), 3600.0);
    assert_eq!(names(&server).len(), 1);
    server.stop();
    server.start_again();
    eventually("the newest to be found", || (age(&server) < 60.0).then_some(()));
    assert_eq!(names(&server).len(), 1, "the next one is not due");
}

#[test]
fn a_backup_of_a_clock_that_was_ahead_stops_none_that_is_due() {
    let mut server = setup().start();
    let first = folder_of(&back_up(&server));
    server.stop();
    let list = std::fs::read_to_string(first.join("backup.json")).expect("a list");
    let taken = List::read(&first).expect("whole").taken_ms;
    let ahead = list.replace(&taken.to_string(), &(taken + 10 * 365 * 86_400_000).to_string());
    std::fs::write(first.join("backup.json"), ahead).expect("writable");
    server.set_key("backup.every", "1h");
    for _ in 0..2 {
        server.start_again();
        eventually("a backup", || {
            (server.metric("postbackd_backup_age_seconds") < 60.0).then_some(())
        });
        assert_eq!(names(&server).len(), 2, "it, and one that is due");
        assert!(first.exists());
        server.stop();
    }
    server.start_again();
    back_up(&server);
    assert!(!first.exists(), "of an age that nobody knows, it goes first");
    assert_eq!(names(&server).len(), 2);
}

#[test]
fn what_is_not_ours_stays_where_backups_go() {
    let server = setup().start();
    let first = folder_of(&back_up(&server));
    let others = ["download.partial", "2026-11-26.partial", "mine"];
    for name in others {
        std::fs::create_dir(server.path("backups").join(name)).expect("writable");
        server.write(&format!("backups/{name}/file"), "theirs");
    }
    let left = first.with_added_extension("partial");
    std::fs::create_dir(&left).expect("writable");
    folder_of(&back_up(&server));
    for name in others {
        assert!(server.path(&format!("backups/{name}/file")).exists(), "{name}");
    }
    assert!(!left.exists(), "what was left of ours goes");
}

#[test]
fn a_restore_that_was_cut_short_is_not_served() {
    let mut server = setup().start();
    server.stop();
    std::fs::rename(server.path("data/db"), server.path("data/db.partial")).expect("renamed");
    server.launch();
    assert_eq!(server.wait().code(), Some(1));
    assert!(server.log().contains("cut short"), "{}", server.log());
    assert!(!server.path("data/db").exists(), "no new store was made");
}
