//! The tables. `docs/presets.md` says for each where it comes from and what is our own choice.

use super::{AnswerForm, Dialect, Preset, Unnamed};
use crate::model::fields::Field;
use crate::model::status::Status;

pub(super) const fn of(preset: Preset) -> &'static Dialect {
    match preset {
        Preset::Standard => &STANDARD,
        Preset::Voluum => &VOLUUM,
        Preset::Keitaro => &KEITARO,
        Preset::Binom => &BINOM,
        Preset::Redtrack => &REDTRACK,
        Preset::Everflow => &EVERFLOW,
        Preset::Tune => &TUNE,
        Preset::Affise => &AFFISE,
        Preset::Scaleo => &SCALEO,
        Preset::Afftrax => &AFFTRAX,
        Preset::Trackier => &TRACKIER,
        Preset::Bemob => &BEMOB,
        Preset::Cake => &CAKE,
    }
}

/// What most have in common.
const COMMON: Dialect = Dialect {
    params: &[],
    statuses: &[],
    status_lists: &[],
    unsaid_status: None,
    rejects_approved: false,
    paths: &[],
    unnamed: Unnamed::OnlyEvent,
    answer: AnswerForm::Json,
};

/// As `Field::standard` reads them.
const STANDARD: Dialect = Dialect {
    params: &[
        ("click_id", Field::ClickId),
        ("cid", Field::ClickId),
        ("clickid", Field::ClickId),
        ("txn_id", Field::TxnId),
        ("txid", Field::TxnId),
        ("transaction_id", Field::TxnId),
        ("event", Field::Event),
        ("event_type", Field::Event),
        ("goal", Field::Event),
    ],
    paths: &["/postback"],
    unnamed: Unnamed::Missing,
    ..COMMON
};

const VOLUUM: Dialect = Dialect {
    params: &[
        ("cid", Field::ClickId),
        ("txid", Field::TxnId),
        ("et", Field::Event),
        ("payout", Field::Revenue),
    ],
    ..COMMON
};

const KEITARO: Dialect = Dialect {
    params: &[
        ("subid", Field::ClickId),
        ("sub_id", Field::ClickId),
        ("tid", Field::TxnId),
        ("payout", Field::Revenue),
        ("revenue", Field::Revenue),
        ("sub_id_1", Field::Sub1),
        ("sub_id_2", Field::Sub2),
        ("sub_id_3", Field::Sub3),
        ("sub_id_4", Field::Sub4),
        ("sub_id_5", Field::Sub5),
        ("sub_id_6", Field::Sub6),
        ("sub_id_7", Field::Sub7),
        ("sub_id_8", Field::Sub8),
        ("sub_id_9", Field::Sub9),
        ("sub_id_10", Field::Sub10),
    ],
    statuses: &[
        ("lead", Status::Pending),
        ("sale", Status::Approved),
        ("rebill", Status::Approved),
    ],
    status_lists: &[
        ("ignore_status", None),
        ("ignore", None),
        ("lead_status", Some(Status::Pending)),
        ("sale_status", Some(Status::Approved)),
        ("rejected_status", Some(Status::Rejected)),
        ("rejected", Some(Status::Rejected)),
    ],
    unsaid_status: Some("sale"),
    rejects_approved: true,
    ..COMMON
};

const BINOM: Dialect = Dialect {
    params: &[
        ("cnv_id", Field::ClickId),
        ("clickid", Field::ClickId),
        ("payout", Field::Revenue),
        ("cnv_currency", Field::Currency),
        ("cnv_status", Field::Status),
    ],
    statuses: &[
        ("lead", Status::Pending),
        ("hold", Status::Pending),
        ("sale", Status::Approved),
        ("declined", Status::Rejected),
        ("cancelled", Status::Rejected),
    ],
    rejects_approved: true,
    paths: &["/click.php"],
    ..COMMON
};

const REDTRACK: Dialect = Dialect {
    params: &[
        ("clickid", Field::ClickId),
        ("rdtk_event_id", Field::TxnId),
        ("type", Field::Event),
        ("sum", Field::Revenue),
    ],
    statuses: &[("declined", Status::Rejected), ("other", Status::Pending)],
    rejects_approved: true,
    ..COMMON
};

/// Here `transaction_id` is the click.
const EVERFLOW: Dialect = Dialect {
    params: &[
        ("transaction_id", Field::ClickId),
        ("event_id", Field::Event),
        ("verification_token", Field::Token),
    ],
    answer: AnswerForm::Always200,
    ..COMMON
};

/// Here `transaction_id` is the click.
const TUNE: Dialect = Dialect {
    params: &[
        ("transaction_id", Field::ClickId),
        ("conversion_unique_id", Field::TxnId),
        ("goal_id", Field::Event),
        ("goal_ref", Field::Event),
        ("security_token", Field::Token),
    ],
    paths: &["/aff_lsr", "/aff_goal", "/SL2"],
    answer: AnswerForm::Tune,
    ..COMMON
};

const AFFISE: Dialect = Dialect {
    params: &[
        ("clickid", Field::ClickId),
        ("click_id", Field::ClickId),
        ("action_id", Field::TxnId),
        ("goal", Field::Event),
        ("sum", Field::Amount),
        ("user_id", Field::CustomerId),
        ("secure", Field::Token),
    ],
    statuses: &[
        ("1", Status::Approved),
        ("2", Status::Pending),
        ("3", Status::Rejected),
        ("5", Status::Pending),
        ("declined", Status::Rejected),
        ("hold", Status::Pending),
    ],
    answer: AnswerForm::Always200,
    ..COMMON
};

/// Here `transaction_id` is the order.
const SCALEO: Dialect = Dialect {
    params: &[
        ("click_id", Field::ClickId),
        ("adv_order_id", Field::TxnId),
        ("transaction_id", Field::TxnId),
        ("goal_alias", Field::Event),
        ("goal_id", Field::Event),
        ("conv_status", Field::Status),
        ("adv_user_id", Field::CustomerId),
    ],
    statuses: &[("hold", Status::Pending)],
    status_lists: &[
        ("approved_status", Some(Status::Approved)),
        ("pending_status", Some(Status::Pending)),
        ("rejected_status", Some(Status::Rejected)),
        ("trash_status", Some(Status::Rejected)),
    ],
    rejects_approved: true,
    paths: &["/track/conv", "/track/conv-change", "/track/conv-addchange"],
    ..COMMON
};

/// Here `transaction_id` is the order.
const AFFTRAX: Dialect = Dialect {
    params: &[
        ("click_id", Field::ClickId),
        ("transaction_id", Field::TxnId),
        ("payout", Field::Revenue),
    ],
    ..COMMON
};

const TRACKIER: Dialect = Dialect {
    params: &[
        ("click_id", Field::ClickId),
        ("txn_id", Field::TxnId),
        ("goal_value", Field::Event),
        ("goal_id", Field::Event),
        ("sale_amount", Field::Amount),
        ("security_token", Field::Token),
    ],
    statuses: &[("cancelled", Status::Rejected)],
    rejects_approved: true,
    paths: &["/acquisition"],
    ..COMMON
};

const BEMOB: Dialect = Dialect {
    params: &[("cid", Field::ClickId), ("txid", Field::TxnId), ("payout", Field::Revenue)],
    statuses: &[
        ("lead", Status::Pending),
        ("hold", Status::Pending),
        ("sale", Status::Approved),
        ("declined", Status::Rejected),
        ("cancelled", Status::Rejected),
    ],
    rejects_approved: true,
    ..COMMON
};

const CAKE: Dialect = Dialect {
    params: &[
        ("r", Field::ClickId),
        ("t", Field::TxnId),
        ("e", Field::Event),
        ("p", Field::Revenue),
        ("ap", Field::Payout),
    ],
    paths: &["/p.ashx"],
    ..COMMON
};
