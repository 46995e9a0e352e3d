use super::*;

/// Names that mean something in a preset, and names that must not.
fn check(preset: Preset, known: &[(&str, Field)], unknown: &[&str]) {
    for (name, field) in known {
        assert_eq!(preset.meaning(name), Some(*field), "{name} in {preset}");
    }
    for name in unknown {
        assert_eq!(preset.meaning(name), None, "{name} in {preset}");
    }
}

fn check_statuses(preset: Preset, expected: &[(&str, Status)]) {
    assert_eq!(preset.dialect().statuses, expected, "{preset}");
}

#[test]
fn the_table_of_standard_says_what_the_quick_way_says() {
    let names = Preset::ALL.iter().flat_map(|preset| preset.dialect().params);
    let names = names.map(|(name, _)| *name).chain(Field::ALL.iter().map(|field| field.as_str()));
    for name in names {
        let by_table = Preset::Standard.dialect().meaning(name);
        assert_eq!(by_table, Field::standard(name), "{name}");
    }
}

#[test]
fn voluum_names_the_click_cid_and_the_event_et() {
    check(
        Preset::Voluum,
        &[
            ("cid", Field::ClickId),
            ("txid", Field::TxnId),
            ("et", Field::Event),
            ("payout", Field::Revenue),
            ("currency", Field::Currency),
        ],
        &["click_id", "clickid", "txn_id", "transaction_id", "event", "revenue", "param1"],
    );
}

#[test]
fn keitaro_names_the_click_subid_and_has_statuses_of_its_own() {
    check(
        Preset::Keitaro,
        &[
            ("subid", Field::ClickId),
            ("sub_id", Field::ClickId),
            ("tid", Field::TxnId),
            ("payout", Field::Revenue),
            ("revenue", Field::Revenue),
            ("status", Field::Status),
            ("currency", Field::Currency),
            ("sub_id_1", Field::Sub1),
            ("sub_id_10", Field::Sub10),
        ],
        &["sub_id_11", "sub1", "extra_param_1", "return", "lead_status", "cost"],
    );
    let approved = Status::Approved;
    let expected = [("lead", Status::Pending), ("sale", approved), ("rebill", approved)];
    check_statuses(Preset::Keitaro, &expected);
}

#[test]
fn binom_speaks_its_first_and_its_second_version() {
    check(
        Preset::Binom,
        &[
            ("cnv_id", Field::ClickId),
            ("clickid", Field::ClickId),
            ("payout", Field::Revenue),
            ("cnv_status", Field::Status),
            ("cnv_currency", Field::Currency),
            ("txn_id", Field::TxnId),
            ("event", Field::Event),
        ],
        &["cnv_status2", "status", "currency", "event1", "to_offer", "disable_postback"],
    );
    assert_eq!(Preset::at("/click.php"), Some((Preset::Binom, None)));
}

#[test]
fn redtrack_counts_by_its_event_id() {
    check(
        Preset::Redtrack,
        &[
            ("clickid", Field::ClickId),
            ("rdtk_event_id", Field::TxnId),
            ("type", Field::Event),
            ("sum", Field::Revenue),
            ("sub10", Field::Sub10),
        ],
        &["cid", "event", "sub20"],
    );
    check_statuses(Preset::Redtrack, &[("declined", Status::Rejected), ("other", Status::Pending)]);
}

#[test]
fn transaction_id_is_the_click_in_everflow_and_tune_and_the_order_elsewhere() {
    let name = "transaction_id";
    check(Preset::Everflow, &[(name, Field::ClickId), ("event_id", Field::Event)], &["click_id"]);
    check(Preset::Tune, &[(name, Field::ClickId), ("goal_id", Field::Event)], &["click_id"]);
    for order in [Preset::Standard, Preset::Scaleo, Preset::Afftrax] {
        check(order, &[(name, Field::TxnId), ("click_id", Field::ClickId)], &[]);
    }
}

#[test]
fn tune_has_paths_and_an_answer_of_its_own() {
    check(
        Preset::Tune,
        &[
            ("goal_ref", Field::Event),
            ("conversion_unique_id", Field::TxnId),
            ("amount", Field::Amount),
            ("security_token", Field::Token),
        ],
        &["offer_id", "adv_sub", "adv_sub2", "adv_unique1", "promo_code"],
    );
    assert_eq!(Preset::at("/aff_lsr"), Some((Preset::Tune, None)));
    assert_eq!(Preset::at("/SL2"), Some((Preset::Tune, None)));
    assert_eq!(Preset::at("/aff_goal"), Some((Preset::Tune, None)));
    assert_eq!(Preset::Tune.dialect().answer, AnswerForm::Tune);
}

#[test]
fn affise_has_numbers_for_statuses() {
    check(
        Preset::Affise,
        &[
            ("clickid", Field::ClickId),
            ("click_id", Field::ClickId),
            ("action_id", Field::TxnId),
            ("goal", Field::Event),
            ("sum", Field::Amount),
            ("user_id", Field::CustomerId),
            ("secure", Field::Token),
        ],
        &["ip", "amount", "custom_field1", "referrer", "comment", "token"],
    );
    let (rejected, pending) = (Status::Rejected, Status::Pending);
    let numbers = [("1", Status::Approved), ("2", pending), ("3", rejected), ("5", pending)];
    let words = [("declined", rejected), ("hold", pending)];
    check_statuses(Preset::Affise, &[&numbers[..], &words[..]].concat());
    assert_eq!(Preset::Affise.dialect().answer, AnswerForm::Always200);
    assert_eq!(Preset::Everflow.dialect().answer, AnswerForm::Always200);
}

#[test]
fn scaleo_has_three_paths_that_are_not_taken_for_each_other() {
    check(
        Preset::Scaleo,
        &[
            ("adv_order_id", Field::TxnId),
            ("adv_user_id", Field::CustomerId),
            ("goal_id", Field::Event),
            ("goal_alias", Field::Event),
            ("conv_status", Field::Status),
            ("token", Field::Token),
            ("amount", Field::Amount),
            ("payout", Field::Payout),
            ("revenue", Field::Revenue),
        ],
        &["status", "adv_track_id", "adv_param1"],
    );
    check_statuses(Preset::Scaleo, &[("hold", Status::Pending)]);
    for path in ["/track/conv", "/track/conv-change", "/track/conv-addchange"] {
        assert_eq!(Preset::at(path), Some((Preset::Scaleo, None)));
        assert_eq!(Preset::at(&format!("{path}/a")), Some((Preset::Scaleo, Some("a"))));
    }
}

#[test]
fn trackier_afftrax_bemob_and_cake_have_their_names() {
    check(
        Preset::Trackier,
        &[
            ("click_id", Field::ClickId),
            ("txn_id", Field::TxnId),
            ("goal_value", Field::Event),
            ("goal_id", Field::Event),
            ("sale_amount", Field::Amount),
            ("revenue", Field::Revenue),
            ("security_token", Field::Token),
        ],
        &["sub15", "amount", "event"],
    );
    check_statuses(Preset::Trackier, &[("cancelled", Status::Rejected)]);
    check(Preset::Afftrax, &[("payout", Field::Revenue)], &["txn_id", "cid"]);
    check(
        Preset::Bemob,
        &[("cid", Field::ClickId), ("txid", Field::TxnId), ("status", Field::Status)],
        &["clickid"],
    );
    check(
        Preset::Cake,
        &[
            ("r", Field::ClickId),
            ("t", Field::TxnId),
            ("e", Field::Event),
            ("p", Field::Revenue),
            ("ap", Field::Payout),
        ],
        &["o", "f", "a", "u", "click_id", "payout"],
    );
}

#[test]
fn no_table_says_a_name_a_word_or_a_path_twice() {
    let mut paths: Vec<&str> = Vec::new();
    for preset in Preset::ALL {
        let dialect = preset.dialect();
        for (place, (name, _)) in dialect.params.iter().enumerate() {
            assert!(dialect.params[..place].iter().all(|(other, _)| other != name), "{name}");
        }
        for (place, (word, _)) in dialect.statuses.iter().enumerate() {
            assert!(dialect.statuses[..place].iter().all(|(other, _)| other != word), "{word}");
            assert_eq!(Status::parse(word), None, "{word} is ours already");
        }
        for path in dialect.paths {
            assert!(path.starts_with('/') && !path.ends_with('/') && !paths.contains(path));
            let is_click = *path == "/click" || is_of_clicks(path) && *preset != Preset::Binom;
            assert!(!is_click, "{path} is a click's");
            paths.push(path);
        }
    }
}

#[test]
fn every_preset_has_names_for_what_decides() {
    for preset in Preset::ALL {
        for field in [Field::ClickId, Field::TxnId, Field::Event, Field::Status, Field::Currency] {
            let name = preset.names(field).next();
            let name = name.unwrap_or_else(|| panic!("{field} has no name in {preset}"));
            assert_eq!(preset.meaning(name), Some(field), "{name} in {preset}");
        }
    }
    assert_eq!(Preset::Cake.names(Field::Event).collect::<Vec<_>>(), ["e"]);
    assert_eq!(Preset::Affise.names(Field::Token).collect::<Vec<_>>(), ["secure"]);
    assert_eq!(Preset::Voluum.names(Field::Payout).count(), 0, "payout is the network's there");
}

#[test]
fn a_path_is_a_presets_alone_or_with_an_advertiser_behind_it() {
    let at = |path| Preset::at(path);
    assert_eq!(at("/acquisition"), Some((Preset::Trackier, None)));
    assert_eq!(at("/acquisition/acme"), Some((Preset::Trackier, Some("acme"))));
    for path in [
        "",
        "/",
        "/acquisitions",
        "/acquisition/",
        "/acquisition/a/b",
        "/track",
        "/sl2",
        "/AFF_LSR",
    ] {
        assert_eq!(at(path), None, "{path}");
    }
}
