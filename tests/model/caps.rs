//! What must be true of caps and tiers, by the bytes on the disk.

use std::collections::BTreeMap;

use postbackd::click_id::RecordId;
use postbackd::model::reasons::Flag;
use postbackd::model::status::Status;
use postbackd::store::keys;
use postbackd::store::records::ConversionRecord;
use postbackd::store::schema::Table;

use crate::books::on_disk;
use crate::disk::Tables;

/// What the caps and tiers of `capped` say, by the times at which its conversions were minted: a
/// day pays for two sales, the month pays 9, all of time for three deposits, and a sale pays 3 from
/// the month's third on. What has become of a conversion since, and of its amount, changes nothing of that; what was rejected from
/// the start, and refunds, are not among them.
///
/// Both ways: nothing is paid over a cap, and nothing goes unpaid without a full cap. A place
/// that was taken is never lost alone, since whoever came after it is lost with it.
pub fn audit(disk: &Tables) {
    let mut paid = Paid::default();
    let mut over = Vec::new();
    for id in disk.of(Table::Conversions).keys() {
        let id = keys::record(id).expect("a conversion's key");
        let record = on_disk(id, disk);
        let first = record.history.first().expect("a first step");
        if record.offer == "capped" && record.event != "refund" {
            assert_eq!(record.revenue, 5_000_000, "revenue knows no cap");
            if record.flags & Flag::OverCap.bit() != 0 {
                over.push((id, record));
            } else if first.status != Status::Rejected.code() {
                paid.add(id, &record);
            }
        }
    }
    assert!(paid.sales_by_day.values().all(|sales| *sales <= 2), "{paid:?}");
    assert!(paid.payout <= 9_000_000, "{paid:?}");
    assert!(paid.deposits <= 3, "{paid:?}");
    assert_eq!(paid.in_tier, paid.sales.saturating_sub(2), "{paid:?}");
    for (id, record) in over {
        assert_eq!(record.payout, 0, "{id:?} is over a cap");
        let reason = reason(&record);
        let full = match (reason, record.event) {
            ("cap:offer:day:count", "sale") => paid.sales_by_day.get(&day_of(id)) == Some(&2),
            ("cap:affiliate:month:payout", "sale") => paid.payout > 6_000_000,
            ("cap:affiliate:month:payout", _) => paid.payout == 9_000_000,
            ("cap:offer:total:count", "deposit") => paid.deposits == 3,
            _ => false,
        };
        assert!(full, "{id:?} is over {reason:?}, which is not full: {paid:?}");
    }
}

#[derive(Default, Debug)]
struct Paid {
    sales_by_day: BTreeMap<u64, u32>,
    sales: u32,
    deposits: u32,
    in_tier: u32,
    payout: i64,
}

impl Paid {
    fn add(&mut self, id: RecordId, record: &ConversionRecord<'_>) {
        self.payout += record.payout;
        let in_tier = reason(record) == "tier:3";
        let price = match record.event {
            "sale" if in_tier => 3_000_000,
            "sale" => 2_000_000,
            _ => 1_000_000,
        };
        assert_eq!(record.payout, price, "{id:?}");
        if record.event == "sale" {
            *self.sales_by_day.entry(day_of(id)).or_default() += 1;
            self.sales += 1;
            self.in_tier += u32::from(in_tier);
        } else {
            self.deposits += 1;
        }
    }
}

fn day_of(id: RecordId) -> u64 {
    id.time_ms() / (24 * 60 * 60 * 1000)
}

/// Why it pays what it does, whether or not the offer has held it back.
fn reason<'a>(record: &ConversionRecord<'a>) -> &'a str {
    let reason = record.history.first().map_or("", |first| first.reason);
    reason.strip_prefix("held:").unwrap_or(reason)
}
