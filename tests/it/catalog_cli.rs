//! `catalog diff` and `catalog apply`, with their exit codes.

use std::process::Stdio;

use crate::harness::{CATALOG, Ended, Server, Setup, binary, run};
use crate::inbound::put_text;

/// Runs `catalog …` in a server's folder.
fn catalog(server: &Server, arguments: &[&str]) -> Ended {
    run(&server.path("."), &[&["catalog"], arguments].concat())
}

fn server() -> Server {
    let server = Setup::new().without_catalog_file().start();
    server.write("token", "an-admin-token-for-tests\n");
    server.write("wrong-token", "another\n");
    server.write("dearer.toml", &CATALOG.replace("15.00", "16.00"));
    server.write("broken.toml", &CATALOG.replace("advertiser = \"mapped\"", "advertiser = \"m\""));
    server
}

#[test]
fn a_catalog_is_applied_by_the_command_line() {
    let server = server();
    let url = format!("http://{}", server.admin);
    let apply = |file: &str, more: &[&str]| {
        let arguments = ["apply", file, "--admin", &url, "--token-file", "token"];
        catalog(&server, &[&arguments[..], more].concat())
    };
    let ended = apply("catalog.toml", &[]);
    assert_eq!((ended.code, &*ended.err), (Some(0), ""));
    let first = server.catalog_version();
    let first = first.as_str().expect("a version");
    assert_eq!(ended.out, format!("version {first} is in force\n"));
    assert_eq!(server.get("/c/sp7").status, 302);

    let ended = apply("dearer.toml", &["--dry-run"]);
    assert_eq!((ended.code, &*ended.err), (Some(0), ""));
    assert!(ended.out.contains("money: events.sale.payout.fixed: 15.00 -> 16.00"), "{}", ended.out);
    assert_eq!(server.catalog_version(), first, "a dry run changes nothing");

    let ended = apply("broken.toml", &[]);
    assert_eq!(ended.code, Some(2));
    assert!(
        ended.err.contains("broken.toml:86: offers[6] \"theirs\".advertiser: "),
        "{}",
        ended.err
    );
    let ended = apply("dearer.toml", &["--if-match", "0000000000000001"]);
    assert_eq!(ended.code, Some(4), "{}", ended.err);
    assert!(ended.err.contains("412: stale_version"), "{}", ended.err);
    assert_eq!(server.catalog_version(), first);
    assert_eq!(apply("dearer.toml", &["--if-match", first]).code, Some(0));
    assert_ne!(server.catalog_version(), first);
}

#[test]
fn a_command_that_asks_the_public_listener_is_told_so() {
    let server = server();
    for command in [&["apply", "catalog.toml"][..], &["show"]] {
        let url = format!("http://{}", server.public);
        let access = ["--admin", &url, "--token-file", "token"];
        let ended = catalog(&server, &[command, &access].concat());
        assert_eq!((ended.code, &*ended.out), (Some(1), ""), "{}", ended.err);
        assert!(ended.err.contains("--admin names admin.listen"), "{}", ended.err);
    }
}

#[test]
fn two_catalogs_are_compared_as_files_or_with_a_server() {
    let server = server();
    let url = format!("http://{}", server.admin);
    let diff = |file: &str, against: &str| {
        catalog(&server, &["diff", file, "--against", against, "--token-file", "token"])
    };
    let same = diff("catalog.toml", "catalog.toml");
    assert_eq!((same.code, &*same.out, &*same.err), (Some(0), "no differences\n", ""));
    let dearer = diff("dearer.toml", "catalog.toml");
    assert_eq!(dearer.code, Some(4));
    let expected = "offers: 0 added, 2 changed, 0 removed\n  \
                    ~ spring: events.sale.payout.fixed\n      \
                    money: events.sale.payout.fixed: 15.00 -> 16.00\n  \
                    ~ lenient: events.sale.payout.fixed\n      \
                    money: events.sale.payout.fixed: 15.00 -> 16.00\n";
    assert_eq!(dearer.out, expected);
    let all = diff("catalog.toml", &url);
    assert_eq!(all.code, Some(4));
    assert!(
        all.out.starts_with("advertisers: 2 added, 0 changed, 0 removed\n  + acme\n"),
        "{}",
        all.out
    );
    server.put_catalog("", "application/toml", "If-Match: *\r\n", CATALOG);
    assert_eq!(diff("catalog.toml", &url).out, "no differences\n");
    assert_eq!(diff("dearer.toml", &url).out, expected);
    // Whoever puts the file into place hears before that it would be refused.
    let broken = diff("broken.toml", &url);
    assert_eq!(broken.code, Some(2), "{}", broken.said());
    assert_eq!(
        broken.out,
        "offers: 0 added, 1 changed, 0 removed\n  ~ theirs: advertiser\n      \
         money: advertiser: mapped -> m\n"
    );
    assert!(broken.err.contains("broken.toml:86: offers[6] \"theirs\".advertiser: \"m\" is not"));
    let alike = diff("broken.toml", "broken.toml");
    assert_eq!((alike.code, &*alike.out, alike.err), (Some(2), "no differences\n", broken.err));
    server.write("syntax.toml", "a = 1 2\n");
    assert_eq!(diff("syntax.toml", "catalog.toml").code, Some(2));
    assert_eq!(diff("nothing.toml", "catalog.toml").code, Some(1));
}

#[test]
fn what_decides_about_money_is_compared_item_by_item() {
    let server = server();
    let offer = |more: &str, overrides: &str, tiers: &str| {
        format!(
            "[[advertisers]]\nid = 'a'\n[[affiliates]]\nid = 'one'\n[[affiliates]]\nid = 'two'\n\
             [[offers]]\nid = 'o'\nadvertiser = 'a'\nurl = 'https://a.example/?c={{click_id}}'\n{more}\n\
             [[offers.events]]\nid = 'sale'\npayout = {{ fixed = '1', currency = 'USD' }}\n\
             overrides = [{overrides}]\ntiers = [{tiers}]\n"
        )
    };
    let one = |fixed: &str| format!("{{ affiliate = 'one', payout = {{ fixed = '{fixed}' }} }}");
    let two = "{ affiliate = 'two', payout = { fixed = '7' } }";
    let tier =
        |from: u32, fixed: &str| format!("{{ from = {from}, payout = {{ fixed = '{fixed}' }} }}");
    let both = format!("{}, {two}", one("15"));
    server.write("old.toml", &offer("", &both, &format!("{}, {}", tier(10, "2"), tier(20, "3"))));
    let check = |more: &str, overrides: &str, tiers: &str, expected: &[&str]| {
        server.write("new.toml", &offer(more, overrides, tiers));
        let ended = catalog(&server, &["diff", "new.toml", "--against", "old.toml"]);
        assert_eq!(ended.err, "");
        let money = ended.out.lines().filter_map(|line| line.trim().strip_prefix("money: "));
        assert_eq!(money.collect::<Vec<_>>(), expected, "{}", ended.out);
    };
    let same = format!("{}, {}", tier(10, "2.00"), tier(20, "3"));
    // Neither the order nor the way an amount is written means anything.
    check("", &format!("{two}, {}", one("15.00")), &same, &[]);
    let dearer = format!("{}, {two}", one("16"));
    check("", &dearer, &same, &["events.sale.overrides.one.payout.fixed: 15 -> 16"]);
    let tiers = format!("{}, {}", tier(10, "2"), tier(20, "4"));
    check("", &both, &tiers, &["events.sale.tiers.20.payout.fixed: 3 -> 4"]);
    check("trust_payout = true", &both, &same, &["trust_payout: nothing -> true"]);
}

#[test]
fn a_comparison_warns_of_what_a_dry_run_warns_of() {
    let server = server();
    let offer = |id: &str, more: &str, currency: &str, own: &str| {
        format!(
            "[[offers]]\nid = '{id}'\nadvertiser = 'a'\nurl = 'https://a.example/?c={{click_id}}'\n{more}\n\
             [[offers.events]]\nid = 'sale'\npayout = {{ fixed = '1', currency = '{currency}' }}\n{own}\n"
        )
    };
    let owner = "[[advertisers]]\nid = 'a'\n";
    let leaving = "[[affiliates]]\nid = 'pub-7'\n";
    let own = "overrides = [{ affiliate = 'pub-7', payout = { fixed = '2' } }]";
    let (one, gone) = (offer("o", "", "USD", own), offer("gone", "", "USD", ""));
    let old = format!("{owner}{leaving}{one}{gone}");
    server.write("old.toml", &old);
    let once = "one_conversion_per_click = true\ncaps = [{ period = 'day', payout = '5' }]";
    let new = format!("{owner}{}", offer("o", once, "EUR", "revenue = { fixed = '0.5' }"));
    server.write("new.toml", &new);
    put_text(&server, &old);
    let compared = catalog(&server, &["diff", "new.toml", "--against", "old.toml"]);
    assert_eq!(compared.code, Some(4));
    for warning in [
        "\"gone\" is removed",
        "\"pub-7\" is removed",
        "only conversions from now on",
        "is in EUR and was in USD",
        "is above revenue",
    ] {
        assert!(compared.err.contains(warning), "{}", compared.said());
    }
    let url = format!("http://{}", server.admin);
    let access = ["--admin", &*url, "--token-file", "token"];
    let dry = catalog(&server, &[&["apply", "new.toml", "--dry-run"][..], &access].concat());
    assert_eq!((dry.code, dry.err), (Some(0), compared.err));
}

#[test]
fn an_earlier_catalog_is_shown() {
    let server = server();
    let url = format!("http://{}", server.admin);
    let show = |more: &[&str]| {
        let arguments = ["show", "--admin", &url, "--token-file", "token"];
        catalog(&server, &[&arguments[..], more].concat())
    };
    server.put_catalog("", "application/toml", "If-Match: *\r\n", CATALOG);
    let first = server.catalog_version();
    let first = first.as_str().expect("a version");
    let dearer = CATALOG.replace("15.00", "16.00");
    server.put_catalog("", "application/toml", "If-Match: *\r\n", &dearer);
    for (more, expected) in [(&[][..], &*dearer), (&["--version", first], CATALOG)] {
        let ended = show(more);
        assert_eq!((ended.code, &*ended.out, &*ended.err), (Some(0), expected, ""));
    }
    let ended = show(&["--version", "0000000000000001"]);
    assert_eq!((ended.code, &*ended.out), (Some(1), ""));
    assert!(ended.err.contains("404: version_not_kept"), "{}", ended.err);
}

#[test]
fn what_cannot_be_reached_or_is_not_allowed_is_a_failure() {
    let server = server();
    let url = format!("http://{}", server.admin);
    let check = |admin: &str, token: &str, code: i32, expected: &str| {
        let arguments = ["apply", "catalog.toml", "--admin", admin, "--token-file", token];
        let ended = catalog(&server, &arguments);
        assert_eq!(ended.code, Some(code), "{admin}: {}", ended.err);
        assert!(ended.err.contains(expected), "{admin}: {}", ended.err);
    };
    check(&url, "wrong-token", 1, "401: unauthorized");
    check(&url, "no-token", 1, "cannot read no-token");
    check("http://127.0.0.1:1", "token", 1, "cannot reach 127.0.0.1:1");
    check("ftp://127.0.0.1:1", "token", 2, "is not an admin listener's address");
    let ended = catalog(&server, &["apply", "catalog.toml", "--admin", &url]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("--token-file"), "{}", ended.err);
    let with_file = Server::start();
    with_file.write("token", "an-admin-token-for-tests");
    let url = format!("http://{}", with_file.admin);
    let ended =
        catalog(&with_file, &["apply", "catalog.toml", "--admin", &url, "--token-file", "token"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("409: catalog_is_a_file"), "{}", ended.err);
}

#[test]
fn output_that_nobody_reads_any_more_ends_a_command_quietly() {
    let server = server();
    let affiliates = (0..20_000).map(|n| format!("[[affiliates]]\nid = 'pub-{n}'\n"));
    server.write("many.toml", &affiliates.collect::<String>());
    server.write("none.toml", "");
    let mut diff = binary()
        .args(["catalog", "diff", "many.toml", "--against", "none.toml"])
        .current_dir(server.path("."))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    drop(diff.stdout.take());
    let ended = diff.wait_with_output().expect("it ends");
    assert_eq!((ended.status.code(), ended.stderr), (Some(141), Vec::new()));
}
