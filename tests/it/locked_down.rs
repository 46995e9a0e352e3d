//! What the server needs of its machine: one folder to write to, no privilege. And that the unit
//! and the container that are shipped give it no more.

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use postbackd::config::Config;

use crate::harness::{Server, Setup};

/// A user that has nothing on this machine; only root may become another.
const NOBODY: u32 = 64_917;

/// Every file below `folder` that belongs to [`NOBODY`], but for what is in `except`.
fn files_of_nobody(folder: &Path, except: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        // What is gone meanwhile was another test's.
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(about) = path.symlink_metadata() else { continue };
            if path == except {
                continue;
            }
            if about.uid() == NOBODY {
                found.insert(path.clone());
            }
            if about.is_dir() {
                folders.push(path);
            }
        }
    }
    found
}

fn may_unshare() -> bool {
    let tried = Command::new("unshare").args(["--mount", "true"]).output();
    tried.is_ok_and(|tried| tried.status.success())
}

/// Everything that a server does, in one go.
fn use_all_of_it(server: &mut Server) {
    let click = server.click("id=sp7");
    let sale = server.postback(&format!("click_id={click}&event=sale&txn_id=T1"));
    assert_eq!(sale.verdict(), (200, "accepted", ""));
    let rates = r#"{"base": "USD", "rates": {"EUR": "0.92"}}"#;
    assert_eq!(server.put_api("rates/2026-11-25", rates).status, 200);
    let backed_up = crate::backup::back_up(server);
    assert_eq!(backed_up["status"], "succeeded", "{backed_up}");
    assert_eq!(server.post_api("verify", "", "").status, 202);
    server.signal("HUP");
    server.api("reports?group_by=day");
    assert!(server.stop().success());
}

#[test]
fn one_folder_to_write_to_and_no_privilege_are_enough() {
    let setup = || Setup::new().key("store.path", "data/store").key("backup.path", "data/backups");
    let mut server = setup().start();
    server.stop();
    let data = server.path("data");
    std::fs::remove_dir_all(&data).expect("removable");
    std::fs::create_dir(&data).expect("writable");
    let root = rustix::process::geteuid().is_root();
    if root {
        // Its files are others', and it may do nothing that they may.
        chown(&data, Some(NOBODY), Some(NOBODY)).expect("root may");
        std::fs::set_permissions(&data, Permissions::from_mode(0o700)).expect("root may");
        std::fs::set_permissions(server.path("."), Permissions::from_mode(0o755))
            .expect("root may");
        let nobody = NOBODY.to_string();
        let mut before = Vec::new();
        if may_unshare() {
            // Whatever it could write to, such as /tmp, is read-only, too; but for its folder.
            let lock = "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro / && \
                        for place in /tmp /var/tmp /run /dev/shm; do \
                        if [ -d $place ]; then mount --rbind $place $place && \
                        mount -o remount,bind,ro $place; fi; done && \
                        shift && exec \"$@\"";
            before.extend(["unshare", "--mount", "/bin/sh", "-c", lock, "sh"].map(str::to_owned));
            before.push(data.display().to_string());
        }
        before.extend(["setpriv", "--reuid", &nobody, "--regid", &nobody].map(str::to_owned));
        before
            .extend(["--clear-groups", "--no-new-privs", "--bounding-set=-all"].map(str::to_owned));
        before.extend(["--inh-caps=-all", "--"].map(str::to_owned));
        // Where the binary was built, nobody else may look.
        let binary = server.path("postbackd");
        std::fs::copy(env!("CARGO_BIN_EXE_postbackd"), &binary).expect("a copy");
        before.push(binary.display().to_string());
        server.run_by(before);
    } else {
        let read_only = Permissions::from_mode(0o555);
        std::fs::set_permissions(server.path("."), read_only).expect("our own folder");
    }
    server.start_again();
    use_all_of_it(&mut server);
    if root {
        for folder in ["/tmp", "/var/tmp", "/run", "/dev/shm"] {
            let left = files_of_nobody(Path::new(folder), &data);
            assert_eq!(left, BTreeSet::new(), "written outside of its folder");
        }
    }
    let backups = std::fs::read_dir(data.join("backups")).expect("backups");
    let backups = backups.map(|entry| entry.expect("an entry").metadata().expect("there"));
    let backups: Vec<_> = backups.filter(std::fs::Metadata::is_dir).collect();
    let is_secret = |backup: &std::fs::Metadata| backup.mode() & 0o077 == 0;
    assert!(backups.len() == 1 && backups.iter().all(is_secret), "the click ID key is in it");
    std::fs::set_permissions(server.path("."), Permissions::from_mode(0o755)).expect("ours");
}

#[test]
fn the_unit_gives_no_more_than_that() {
    let unit = include_str!("../../deploy/postbackd.service");
    let lines: BTreeSet<&str> = unit.lines().collect();
    for line in [
        "DynamicUser=yes",
        "StateDirectory=postbackd",
        "StateDirectoryMode=0700",
        "UMask=0077",
        "CapabilityBoundingSet=",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "ProtectHome=yes",
        "PrivateTmp=yes",
        "PrivateDevices=yes",
        "PrivateUsers=yes",
        "MemoryDenyWriteExecute=yes",
        "RestrictNamespaces=yes",
        "SystemCallFilter=@system-service",
        "SystemCallFilter=~@privileged @resources",
        "SystemCallFilter=setpriority",
        "LimitNOFILE=65536",
    ] {
        assert!(lines.contains(line), "{line} is missing");
    }
    assert!(!unit.lines().any(|line| line.starts_with("ReadWritePaths=")), "only its own folder");
}

#[test]
fn the_unit_gives_up_on_no_start_but_one_with_mistakes() {
    let unit = include_str!("../../deploy/postbackd.service");
    let (head, service) = unit.split_once("\n[Service]\n").expect("two parts");
    assert!(head.lines().any(|line| line == "StartLimitIntervalSec=0"), "it belongs to [Unit]");
    for line in ["Restart=on-failure", "RestartPreventExitStatus=2"] {
        assert!(service.lines().any(|it| it == line), "{line}");
    }
}

#[test]
fn the_configuration_for_the_unit_says_where_its_store_is() {
    let text = include_str!("../../deploy/postbackd.toml");
    let (config, warnings) = Config::load(Some(text), "postbackd.toml", []).expect("no mistakes");
    assert!(warnings.is_empty(), "{warnings}");
    assert_eq!(config.store.path, Path::new("/var/lib/postbackd"));
    // Commands read the same file, and not the unit's environment.
    let unit = include_str!("../../deploy/postbackd.service");
    let overrides = |line: &str| line.starts_with("Environment") && line.contains("POSTBACKD_");
    assert!(!unit.lines().any(overrides));
}

#[test]
fn the_container_runs_as_nobody_in_particular() {
    let file = include_str!("../../deploy/Containerfile");
    let (_, last) = file.rsplit_once("\nFROM ").expect("stages");
    let user = last.lines().position(|line| line == "USER postbackd").expect("a user");
    let entry = last.lines().position(|line| line.starts_with("ENTRYPOINT")).expect("an entry");
    assert!(user < entry);
    let after: Vec<_> = last.lines().skip(user + 1).collect();
    assert!(!after.iter().any(|line| line.starts_with("USER") || line.starts_with("RUN")));
    assert!(after.contains(&"VOLUME /var/lib/postbackd"));
    assert!(file.contains("--read-only"), "the way to run it that is shown");
}
