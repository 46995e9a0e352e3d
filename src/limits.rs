//! Every limit of the server: name, unit, reason, and how they relate to each other.

use std::time::Duration;

/// Path and query of a request, bytes. Longer is 414.
pub const URL_BYTES_MAX: usize = 8 << 10;
/// Request line and headers together, bytes. Longer is 431.
pub const HEAD_BYTES_MAX: usize = 32 << 10;
/// Body of a postback, bytes. Longer is 413.
pub const BODY_BYTES_MAX: usize = 64 << 10;
/// Parameters of one request, of any kind. More is `too_many_parameters`.
pub const PARAMETERS_MAX: usize = 64;
/// Parameters of a postback that no mapping knows; they are stored as given.
pub const CUSTOM_PARAMETERS_MAX: usize = 20;
/// A transaction or customer ID, bytes.
pub const TXN_ID_BYTES_MAX: usize = 256;
/// A stored parameter's value, bytes; a click's is cut, a postback's refused.
pub const VALUE_BYTES_MAX: usize = 512;
/// A custom parameter's name, bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// User agent and referrer kept with a click, bytes; longer ones are cut.
pub const HEADER_VALUE_KEPT_BYTES_MAX: usize = 512;
/// How far in the future a postback's own timestamp may lie, milliseconds: clocks differ.
pub const FUTURE_TIMESTAMP_MS_MAX: u64 = 24 * 60 * 60 * 1000;
/// How far before its click an event may be said to have happened, milliseconds: clocks and time
/// zones differ.
pub const BEFORE_CLICK_MS_MAX: u64 = FUTURE_TIMESTAMP_MS_MAX;

/// Commits in the batch being collected. One batch is one append; at 100,000 a second and an
/// fsync of 10 ms a batch has 1,000.
pub const BATCH_COMMITS_MAX: usize = 16 << 10;
/// Bytes in the batch being collected.
pub const BATCH_BYTES_MAX: usize = 16 << 20;
/// Commits in the batch being collected beyond which postbacks are refused: they are sent again,
/// and clicks, which are not, have the rest.
pub const BATCH_COMMITS_POSTBACKS_MAX: usize = BATCH_COMMITS_MAX / 4 * 3;
/// The same of its bytes.
pub const BATCH_BYTES_POSTBACKS_MAX: usize = BATCH_BYTES_MAX / 4 * 3;
/// Commits in the batch being collected beyond which the admin API does nothing but what brings
/// relief: its reading and writing takes from what visitors and advertisers wait for.
pub const BATCH_COMMITS_ADMIN_MAX: usize = BATCH_COMMITS_MAX / 2;
/// Commits worth an fsync before a worker has done all that it has to do.
pub const GATHER_COMMITS: usize = 64;
/// How far off the next timer of a worker is at most: sooner than any that a connection sets by
/// the defaults.
pub const WORKER_TICK: Duration = Duration::from_secs(1);
/// How long a commit may wait for somebody to flush it.
pub const UNFLUSHED_MAX: Duration = Duration::from_millis(20);
/// Commits worth waking the append stage for while an fsync is under way.
pub const APPEND_CHUNK_COMMITS: usize = 128;
/// Commits appended and not yet confirmed by an fsync, beyond which nothing is appended.
pub const UNSYNCED_COMMITS_MAX: usize = 64 << 10;
/// A log file, bytes: when so much was appended, all tables are written out, and the next is begun.
pub const LOG_FILE_BYTES: u64 = 64 << 20;
/// Clicks and refused postbacks are written down while so many times `store.free_space_reserve` are
/// free: anybody can send them, and a disk full of them would end conversions.
pub const RESERVES_BESIDE_STRANGERS: u64 = 2;
/// Log files that a start makes ready at most.
pub const LOG_FILES_READY_MAX: u32 = 6;
/// After this time a start makes no further log file ready.
pub const LOG_PREPARATION_MAX: Duration = Duration::from_secs(1);
/// Conversions whose index rows are worth a file of their own: about 8 MiB.
pub const UNFILED_WORTH_FILING: u64 = 256 << 10;
/// Conversions whose index rows are derived and sorted at once, in memory: about 35 MiB.
pub const FILED_AT_ONCE_MAX: usize = 512 << 10;
/// Conversions whose index rows are not filed yet, beyond which none is taken. They bound what
/// memory must keep, and are filed at the next start, in about a second.
pub const UNFILED_MAX: u64 = 1 << 20;
/// How often somebody looks whether there is something to file.
pub const FILING_TURN: Duration = Duration::from_millis(50);
/// After so many turns the index rows of the last conversions are filed, however few: ten minutes.
pub const FILING_TURNS_IDLE: u32 = 12_000;
/// Rows of counters that one commit of the counting thread changes, about: a few milliseconds of
/// the append stage's time.
pub const COUNTED_ROWS_MAX: usize = 4096;
/// Clicks, and conversions, that are counted at once, in memory: about 20 MiB.
pub const COUNTED_AT_ONCE_MAX: usize = 64 << 10;
/// How often somebody looks whether there is something to count.
pub const COUNTING_TURN: Duration = Duration::from_millis(50);
/// After so many turns without work the newest clicks and conversions are counted: ten seconds.
pub const COUNTING_TURNS_IDLE: u32 = 200;
/// Values of `sub1` counted by name for an offer and affiliate in a quarter of an hour; visitors
/// choose them. Clicks with further ones are counted together.
pub const SUBS_PER_PLACE_MAX: u32 = 100;
/// Offers and affiliates whose refused postbacks are counted apart between two flushes.
pub const REFUSED_PLACES_MAX: usize = 4096;
/// Parameters kept of a postback as received, bytes; what is beyond is cut off.
pub const INBOUND_TEXT_BYTES_MAX: usize = 8 << 10;
/// A path kept of a postback as received, bytes; longer ones are cut.
pub const INBOUND_PATH_BYTES_MAX: usize = 256;
/// Postbacks as received that are written as one row: as long as a block, so that they compress
/// together, and about a hundred.
pub const INBOUND_PAGE_BYTES: usize = 16 << 10;
/// Refused postbacks of each reason, and duplicates, that are kept each second, every one.
pub const INBOUND_FULL_PER_SECOND: u64 = 100;
/// Beyond, one in so many is kept.
pub const INBOUND_SAMPLED_ONE_IN: u64 = 1000;
/// Bytes of refused postbacks of each reason, and of duplicates, that are kept each second.
pub const INBOUND_BYTES_PER_SECOND: u64 = 32 << 10;
/// Bytes of refused postbacks and duplicates that are kept each day, before they are compressed,
/// unless the configuration says otherwise: a flood of all reasons would be 96 GB without it.
pub const INBOUND_REFUSED_BYTES_PER_DAY: u64 = 2 << 30;
/// One part of so many of them is split evenly among reasons, the others are for all.
pub const INBOUND_OWN_PART: u64 = 4;
/// The part of a day's bytes that may be kept at once after a quiet time: an hour's.
pub const INBOUND_BURST_PART: u64 = 24;
/// How long a postback may have waited before it was written down, milliseconds: for its body, for
/// the offer's conversions to be counted, for its turn.
pub const INBOUND_WAITED_MS_MAX: u64 = 60 * 1000;
/// Pages that are looked at for the postback behind a step of a conversion: 4 MiB.
pub const INBOUND_PAGES_LOOKED_AT_MAX: usize = 256;
/// Rows that a listing takes a damaged page for: about what it had.
pub const INBOUND_ROWS_OF_DAMAGED: usize = 100;
/// Newest days whose refused and repeated postbacks of a click a trace shows.
pub const INBOUND_DAYS_TRACED_MAX: usize = 400;
/// Postbacks of one click that a trace shows.
pub const TRACE_INBOUND_MAX: usize = 1000;
/// Refused postbacks that one job runs again; it says where the next begins.
pub const REPROCESS_ROWS_MAX: usize = 100_000;
/// Known conversions that one job without `apply` foresees changed; it says where the next begins.
pub const REPROCESS_FORESEEN_MAX: usize = 200_000;
/// New conversions that such a job foresees, bytes; it says where the next begins.
pub const REPROCESS_FORESEEN_BYTES_MAX: usize = 64 << 20;
/// Rows of the sums of such a job: affiliates and currencies.
pub const REPROCESS_SUMS_MAX: usize = 10_000;
/// Rests of such a job after each page of postbacks, so that it hurts nobody.
pub const REPROCESS_REST: Duration = Duration::from_millis(2);
/// Reads waiting for a reader thread; each takes about 100 µs on a cold disk.
pub const READ_QUEUE_MAX: usize = 1024;
/// Reads waiting beyond which the admin API adds none.
pub const READ_QUEUE_ADMIN_MAX: usize = READ_QUEUE_MAX / 2;
/// Claims that one postback must hold to be new: its transaction (or event), and its click.
pub const HARD_CLAIMS_MAX: usize = 2;
/// Claims that one postback may hold at once: also its customer.
pub const CLAIMS_PER_POSTBACK_MAX: usize = HARD_CLAIMS_MAX + 1;
/// Events that a negative event without a click may take back, in all offers of its advertiser, beyond
/// which none is tried. Most look-ups are of what is not there, and answered from memory.
pub const REVERSED_EVENTS_TRIED_MAX: usize = 64;
/// Times that a refund chooses what it takes back; each time another refund was quicker.
pub const REFUND_TRIES_MAX: usize = 100;
/// Events that a postback without a click and an event may mean, beyond which it has to name one.
pub const UNNAMED_EVENTS_TRIED_MAX: usize = 16;
/// Names of an offer's events, and as many of its advertiser's, with which one that is none of them
/// is compared, to say what was meant: whoever has a click ID can have that done by each refusal.
pub const EVENTS_COMPARED_MAX: usize = 32;
/// Conversions that one negative event of a customer may take back.
pub const REVERSED_AT_ONCE_MAX: usize = 100;
/// Steps in a conversion's history. A few are usual; a sender whose amounts never rest is stopped.
pub const HISTORY_STEPS_MAX: usize = 200;
/// Conversions that may change while the claim cache is warmed; beyond, warming ends early.
pub const CHANGES_WHILE_WARMING_MAX: usize = 100_000;
/// A file of statuses, bytes.
pub const UPLOAD_BYTES_MAX: usize = 16 << 20;
/// Lines of a file of statuses; with their answers they are in memory at once.
pub const UPLOAD_LINES_MAX: usize = 100_000;
/// How long a file of statuses may take to come.
pub const UPLOAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Files of statuses that are worked on at once.
pub const UPLOADS_MAX: usize = 2;
/// Changes of one upload on their way to the disk at once: they share a few fsyncs.
pub const UPLOAD_CHANGES_UNDER_WAY_MAX: usize = 256;
/// Offer and affiliate numbers assigned in one commit, and owners of offers kept in one.
pub const NUMBERS_PER_COMMIT_MAX: usize = 4096;
/// Rows that one commit of a first start changes, of negative events in a store of an earlier format.
pub const OWN_IDS_CHANGES_PER_COMMIT_MAX: usize = 8192;
/// A piece of a kept catalog's text, bytes: copied while workers may wait, so a small one.
pub const CATALOG_CHUNK_BYTES: usize = 256 << 10;
/// Versions of the catalog that are remembered: all of them are listed in one answer.
pub const CATALOG_VERSIONS_KEPT: usize = 1000;
/// Texts of catalogs that are kept, bytes before compression; the newest is kept whatever it takes.
pub const CATALOG_TEXTS_BYTES_MAX: u64 = 256 << 20;
/// A catalog, bytes, from a file or by the API: 100,000 offers and 1,000,000 affiliates take 50 MB
/// at their shortest.
pub const CATALOG_BYTES_MAX: usize = 256 << 20;
/// Catalogs being sent, received or worked on at once; each takes a few times its size.
pub const CATALOG_TRANSFERS_MAX: usize = 2;
/// Answers of listings and look-ups that are made or sent at once, of up to about 16 MiB each.
pub const ADMIN_ANSWERS_MAX: usize = 16;
/// Lists of the catalog's versions and jobs that are made or sent at once: up to about 2 MiB each, of
/// postbacks judged again.
pub const ADMIN_LIGHT_ANSWERS_MAX: usize = 32;
/// How long a catalog's transfer may take.
pub const CATALOG_TRANSFER_TIMEOUT: Duration = Duration::from_secs(120);
/// Changes of one kind that a comparison of catalogs lists; the others are counted.
pub const CATALOG_CHANGES_LISTED_MAX: usize = 1000;
/// Caps of an offer; each is looked at for each of its conversions.
pub const CAPS_PER_OFFER_MAX: usize = 32;
/// How long a postback waits for its offer's conversions to be counted, after a start or after
/// the offer's first cap.
pub const METER_WAIT_MAX: Duration = Duration::from_secs(20);
/// Tiers of an event.
pub const TIERS_PER_EVENT_MAX: usize = 32;

/// A secret of an advertiser, bytes.
pub const SECRET_BYTES_MAX: usize = 1024;
/// A token shorter than this can be guessed in time.
pub const TOKEN_CHARS_MIN: usize = 16;
/// Tokens, and secrets that sign, of one advertiser; each postback is compared with all of them.
pub const SECRETS_PER_CHECK_MAX: usize = 16;
/// Networks from which an advertiser's postbacks may come.
pub const ALLOWED_NETWORKS_MAX: usize = 256;
/// How far a signature's time may be from ours at most, milliseconds: 7 days.
pub const TS_WINDOW_MS_MAX: u64 = 7 * 24 * 60 * 60 * 1000;
/// How far it may be where the catalog does not say, milliseconds: 5 minutes.
pub const TS_WINDOW_DEFAULT_MS: u64 = 5 * 60 * 1000;
/// Nonces of signed postbacks that are remembered, or signatures where there is neither nonce nor
/// `txn_id`, about 40 bytes each; beyond, the oldest of the advertiser that has the most are
/// forgotten. One advertiser has half of them at most.
pub const NONCES_MAX: usize = 1 << 20;
/// The least time for which nonces are collected before what ran out is dropped, milliseconds.
pub const NONCE_GENERATION_MS: u64 = 60 * 1000;

/// Networks and addresses whose clicks are counted at once, for offers with such fraud rules;
/// beyond, those with the fewest clicks are forgotten. About 30 MiB when all are in use.
pub const WATCHED_ADDRESSES_MAX: usize = 512 << 10;
/// Pairs of offer and affiliate whose conversion rate is watched at once. About 6 MiB.
pub const WATCHED_AFFILIATES_MAX: usize = 64 << 10;
/// Customers that are remembered for offers with such a fraud rule. About 6 MiB.
pub const WATCHED_CUSTOMERS_MAX: usize = 256 << 10;
/// Clicks that a fraud rule can count.
pub const WATCHED_CLICKS_MAX: u64 = 1_000_000;
/// Longest time over which a fraud rule counts, milliseconds: 90 days.
pub const WATCHED_PERIOD_MS_MAX: u64 = 90 * 24 * 60 * 60 * 1000;
/// The start of a user agent in which programs are looked for, bytes.
pub const USER_AGENT_JUDGED_BYTES_MAX: usize = 512;
/// Rows of a fraud report; what would need further ones is counted.
pub const FRAUD_REPORT_ROWS_MAX: usize = 10_000;
/// Turns of [`PAGE_ROWS_SCANNED_MAX`] conversions that one fraud report takes.
pub const FRAUD_REPORT_TURNS_MAX: usize = 50;
/// Fraud reports that are made at once; the others wait.
pub const FRAUD_REPORTS_AT_ONCE_MAX: usize = 1;

/// Addresses and advertisers whose requests are counted at once for rate limits; beyond, those
/// with the fewest are forgotten. About 15 MiB when all are in use.
pub const THROTTLED_SOURCES_MAX: usize = 256 << 10;

/// The part of the places of postbacks that wait which one source may have: whoever wants all of
/// them needs so many sources. An eighth of 4,096 are 512 bodies on their way at once.
pub const WAITING_SHARE_OF_SOURCE: usize = 8;

/// Days that have exchange rates, all of them in memory; about 3 KB each with every currency.
pub const RATE_DAYS_MAX: usize = 4000;
/// A file of rates, bytes: all days and currencies there may be take half of it.
pub const RATES_FILE_BYTES_MAX: u64 = 16 << 20;
/// Days without rates between two that have some, in a bank's table, that get the rates of the day
/// before: the longest holidays, and no hole in a file that was cut together.
pub const RATE_GAP_DAYS_MAX: u32 = 7;
/// Days whose rates are kept in one commit.
pub const RATE_DAYS_PER_COMMIT_MAX: usize = 100;
/// Changes of rates whose conversions are still to be priced anew.
pub const REPRICE_QUEUE_MAX: usize = 64;
/// Conversions that are priced anew in one commit.
pub const REPRICED_PER_COMMIT_MAX: usize = 100;
/// Conversions that cannot be priced and are tried again one by one by another catalog; if there
/// are more, their days are looked through.
pub const UNPRICED_KNOWN_MAX: usize = 1000;
/// Conversions that cannot be priced and are named in the log, of each walk over them.
pub const UNPRICED_NAMED_MAX: usize = 20;

/// How far the clock may be from the time that has passed for retention to believe it at once,
/// milliseconds: more than a server is off for an upgrade, less than the shortest retention.
pub const RETENTION_BELIEVES_MS: u64 = 6 * 60 * 60 * 1000;
/// How long retention does not believe a clock that is further off, milliseconds of serving: long
/// enough for somebody to hear of it.
pub const RETENTION_DOUBTS_MS: u64 = 24 * 60 * 60 * 1000;
/// How much faster than time retention then follows the clock: a server that was off for a month
/// has caught up in a day and a quarter, and a clock that is a month ahead is not believed in less.
pub const RETENTION_CATCHES_UP: u64 = 24;
/// How long retention is behind a clock at most, milliseconds of serving: by then somebody has
/// corrected it, or it was right.
pub const RETENTION_YIELDS_MS: u64 = 10 * 24 * 60 * 60 * 1000;
const _: () = assert!(RETENTION_DOUBTS_MS < RETENTION_YIELDS_MS);

/// How long after midnight a day is sealed, milliseconds: what was received before has been
/// committed by then, and a clock that is set back by less does not post to a sealed day.
pub const SEAL_AFTER_MS: u64 = 60 * 60 * 1000;
/// Seals kept in one commit, or as many more as one affiliate had days unsealed.
pub const SEALS_PER_COMMIT_MAX: usize = 1000;
/// Postings that a reader thread looks at before another may have it.
pub const POSTINGS_AT_ONCE_MAX: usize = 100_000;
/// Days of a statement.
pub const STATEMENT_DAYS_MAX: u32 = 400;
/// Proofs that are looked for at once; each walks over a whole day of an affiliate.
pub const PROOFS_AT_ONCE_MAX: usize = 2;
/// Rows of a report; they are in memory at once.
pub const REPORT_ROWS_MAX: usize = 50_000;
/// Days of a report.
pub const REPORT_DAYS_MAX: i64 = 400;
/// By how many quarters of an hour they may be longer than so many times 24 hours: clocks are put
/// back and forth by an hour at most, more than once in between.
pub const REPORT_CLOCK_CHANGE_QUARTERS_MAX: i64 = 8;
/// Clicks, and conversions, that a report counts itself because the counters are behind.
pub const REPORT_TAIL_MAX: usize = 256 << 10;
/// How long a report waits for counters that are further behind.
pub const REPORT_WAIT_MAX: Duration = Duration::from_secs(10);
/// Reports that are made or sent at once.
pub const REPORTS_AT_ONCE_MAX: usize = 2;
/// Broken records that `verify` names; further ones are counted.
pub const BROKEN_NAMED_MAX: usize = 1000;
/// Block cache of a store that is only looked through, bytes.
pub const VERIFY_CACHE_BYTES: usize = 32 << 20;
/// Bytes that are copied, or looked at, at once for a backup.
pub const BACKUP_BUFFER_BYTES: usize = 256 << 10;
/// Bytes of a copy after which the disk is told to write them, so that no fsync of the store finds
/// many of them before it; and after which free space is looked at again.
pub const BACKUP_BYTES_PER_SYNC: u64 = 4 << 20;
/// What a backup may write to the store's own disk where no file has to be copied: log, manifest,
/// and memtables that are written out earlier than they would be.
pub const BACKUP_OVERHEAD_BYTES: u64 = 256 << 20;
/// The list of a backup's files, bytes: about 130 a file.
pub const BACKUP_LIST_BYTES_MAX: u64 = 64 << 20;
/// Backups that may be kept.
pub const BACKUPS_KEPT_MAX: u32 = 1000;
/// How often somebody looks whether a backup is due.
pub const BACKUP_LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long after a backup that failed the next one is tried.
pub const BACKUP_AGAIN_AFTER: Duration = Duration::from_secs(10 * 60);
/// Starts that a restored store leaves out: half of what an ID can tell apart.
pub const RESTORE_STARTS_SKIPPED: u64 = 32;
/// Damaged rows of what caps have counted that a start counts anew, each by a walk over 32 days; more
/// are no accident.
pub const CAP_SUMS_MENDED_MAX: usize = 100;
/// Numbers of offers, and of affiliates, that a restored store leaves out at least: more than are
/// added between two backups.
pub const RESTORE_NUMBERS_SKIPPED: u32 = 100_000;
/// The part of the numbers left over which the time of a restore spreads where it begins: so that
/// two stores restored from one backup give different ones. A sixteenth is a million at first.
pub const RESTORE_NUMBERS_SPREAD: u32 = 16;
/// Conversions of one person that are read at once to be erased, and are on their way to the disk at
/// the same time.
pub const ERASED_AT_ONCE_MAX: usize = 100;
/// Conversions whose postbacks one read looks for: a reader's thread is back in a moment.
pub const ERASED_LOOKED_FOR_AT_ONCE_MAX: usize = 10;
/// Clicks that one commit erases, while nobody else changes sums.
pub const ERASED_CLICKS_AT_ONCE_MAX: usize = 32;
/// Conversions that an erasure remembers to have looked for: 4 MiB.
pub const ERASED_CONVERSIONS_KEPT_MAX: usize = 100_000;
/// Clicks that an erasure remembers to have erased, so that it does not look at them again.
pub const ERASED_CLICKS_KEPT_MAX: usize = 100_000;
/// Records that an erasure could not read and names.
pub const ERASURE_DAMAGED_NAMED_MAX: usize = 100;
/// So many conversions that are not filed are worth waiting for before an erasure begins: looking
/// through fewer takes a tenth of a millisecond, twice for each click.
pub const ERASURE_UNFILED_FEW: u64 = 1000;
/// So many are filed when somebody has to look through them: more often would make many small
/// files.
pub const UNFILED_MANY: u64 = 10_000;
/// How long an erasure waits for conversions to be filed before it begins.
pub const ERASURE_WAITS_FOR_FILING: Duration = Duration::from_secs(30);
/// How often an erasure looks for what came while it was under way.
pub const ERASURE_PASSES_MAX: usize = 3;
/// How long an erasure waits for a report that looks at the sums, or for room in the store's queues,
/// before it tries again.
pub const ERASURE_AGAIN_AFTER: Duration = Duration::from_millis(20);
/// How often it tries for which the queues have no room: a minute.
pub const ERASURE_TRIES_MAX: usize = 3000;
/// How long after an erasure that failed it is tried again.
pub const ERASURES_AGAIN_AFTER: Duration = Duration::from_secs(10 * 60);
/// How long an erasure that was taken up waits before the next one is: long enough for a backup that
/// is due.
pub const ERASURES_REST: Duration = Duration::from_secs(3);
/// The same if somebody has asked for another job meanwhile, and has to ask again.
pub const ERASURES_GIVE_WAY: Duration = Duration::from_secs(30);
/// Erasures that a start takes up again at once.
pub const ERASURES_UNDER_WAY_MAX: usize = 1000;
/// Ranges of a table's keys that are written out after an erasure, one after the other: each may
/// cost a table file of every level, 64 MiB and more.
pub const PURGED_RANGES_MAX: usize = 32;
/// Long work that is remembered after it has ended.
pub const JOBS_KEPT_MAX: usize = 16;
/// Bytes of its results as JSON, of which some have ten millions; the last one is remembered in any
/// case.
pub const JOBS_KEPT_BYTES_MAX: usize = 32 << 20;

/// What of `server.drain_deadline` is kept for the store once requests are answered or cut off, or
/// half of it if that is less: a disk that works needs a few milliseconds.
pub const STORE_CLOSE_TIME: Duration = Duration::from_secs(2);
/// How long tasks beside the traffic may take to end.
pub const BACKGROUND_END_MAX: Duration = Duration::from_secs(1);
/// Lines of the log that wait to be written, bytes: some ten thousand. What is beyond is left out.
pub const LOG_BYTES_WAITING_MAX: usize = 1 << 20;
/// How long lines of the log that wait at the end may take.
pub const LOG_END_MAX: Duration = Duration::from_secs(1);
/// How long the last line of the log may take, where a stop is cut short.
pub const LAST_WORDS_MAX: Duration = Duration::from_millis(100);

/// Tokens of the admin API in the configuration; each request is compared with all of them.
pub const ADMIN_TOKENS_MAX: usize = 64;
/// Details of an entry of the audit log, bytes of JSON.
pub const AUDIT_DETAILS_BYTES_MAX: usize = 16 << 10;
/// What of them a list may take; what does not fit is counted.
pub const AUDIT_LIST_BYTES_MAX: usize = 12 << 10;
/// A call, or what it is about, in the audit log, bytes; longer ones are cut.
pub const AUDIT_TEXT_BYTES_MAX: usize = 256;

/// Signals to read files again that wait while the store takes nothing. Their certificates and
/// tokens have taken effect; a change of tokens beyond is not in the audit log.
pub const RELOADS_BEHIND_MAX: usize = 64;
/// Table files that a store holds open; each costs a descriptor.
pub const TABLE_FILES_OPEN_MAX: u32 = 512;
/// Descriptors for each worker: its listener, its runtime's, a connection about to be closed.
pub const FILES_OPEN_PER_WORKER: u32 = 8;
/// Descriptors for all else: log files, files being written, the copy of a backup, the readers'.
pub const FILES_OPEN_BESIDE: u32 = 128;
/// Connections of the admin listener.
pub const ADMIN_CONNECTIONS_MAX: usize = 256;
/// How long an admin request's head may take, and an idle admin connection live.
pub const ADMIN_HEADER_READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Pause after a failed accept (no descriptors left, say), so that it does not spin.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long the kernel tries to bring a client what it does not take, before the connection is
/// dropped; of the public listener it is `server.header_read_timeout`.
pub const ADMIN_STALLED_MAX: Duration = Duration::from_secs(60);
/// A file of certificates or of a key, bytes: a chain takes less than ten thousand.
pub const PEM_BYTES_MAX: u64 = 1 << 20;
/// How long a TLS handshake may take: a few round trips, on the worst of mobile networks.
pub const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
/// The header in which a proxy says whose connection it passes on, bytes: addresses take 52, and
/// what proxies add of their own a few hundred.
pub const PROXY_HEADER_BYTES_MAX: usize = 4 << 10;
/// How long that header may take; proxies send it with their first packet.
pub const PROXY_HEADER_TIME_MAX: Duration = Duration::from_secs(5);
/// Requests of one HTTP/2 connection under way at once: what its RFC calls the least that does
/// not slow clients down. Each also counts as a request under way.
pub const HTTP2_STREAMS_MAX: u32 = 100;
/// The same of an admin connection: each may hold an answer that nobody reads, such as the text of
/// `/metrics`, which asks for no token.
pub const ADMIN_HTTP2_STREAMS_MAX: u32 = 8;
/// Requests of an HTTP/2 connection that the client has taken back before they were looked at.
/// More, and it is closed: a client that hurries so floods (CVE-2023-44487).
pub const HTTP2_TAKEN_BACK_MAX: usize = 20;
/// Requests of an HTTP/2 connection that were ended because the client broke the protocol in them.
/// More, and it is closed: nobody errs so often, but a flood can be made of it (CVE-2025-8671).
pub const HTTP2_BROKEN_MAX: usize = 100;
/// Bytes of one public HTTP/2 request that may be on their way before they are read: a whole body.
pub const HTTP2_WINDOW_BYTES: u32 = BODY_BYTES_MAX as u32;
/// The same of one admin request: files, over long ways.
pub const ADMIN_HTTP2_WINDOW_BYTES: u32 = 1 << 20;
/// Bytes of a large answer of the admin API that are handed on at once.
pub const ADMIN_BODY_PIECE_BYTES: usize = 64 << 10;
/// How long a large answer of the admin API may take to be sent, while it has a place in memory: at
/// 7 Mbit/s a whole catalog.
pub const ADMIN_BODY_SENT_MAX: Duration = Duration::from_secs(300);
/// Bytes of an answer that wait for an HTTP/2 client to read them.
pub const HTTP2_SEND_BYTES_MAX: usize = 64 << 10;
/// How long an HTTP/2 client that was told to go may do nothing before it is cut off.
pub const HTTP2_GOODBYE_TIME_MAX: Duration = Duration::from_secs(2);
/// How long a postback's body may take.
pub const BODY_READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Rows that one page of a listing holds at most.
pub const PAGE_ROWS_MAX: usize = 1000;
/// Bytes of what is stored that fill a page of a listing: as JSON they may be six times as many.
pub const PAGE_BYTES_MAX: usize = 2 << 20;
/// Rows that one request to a listing looks at, filtered ones included.
pub const PAGE_ROWS_SCANNED_MAX: usize = 100_000;
/// Conversions of one click that a trace shows.
pub const TRACE_CONVERSIONS_MAX: usize = 1000;
/// Conversions read back at start to warm the claim cache.
pub const WARM_CONVERSIONS_MAX: usize = 1_000_000;

const _: () = assert!(URL_BYTES_MAX < HEAD_BYTES_MAX, "414 must be reachable before 431");
const _: () = assert!(CUSTOM_PARAMETERS_MAX < PARAMETERS_MAX);
const _: () = assert!(HEAD_BYTES_MAX < 1 << 31, "as HTTP/2 says it");
const _: () = assert!(BODY_BYTES_MAX < 1 << 30, "twice a window is one, too");
const _: () = assert!(
    BODY_BYTES_MAX + HEAD_BYTES_MAX + PARAMETERS_MAX * 64 < BATCH_BYTES_MAX,
    "one conversion always fits a batch"
);
const _: () = assert!(
    BATCH_COMMITS_ADMIN_MAX < BATCH_COMMITS_POSTBACKS_MAX
        && BATCH_COMMITS_POSTBACKS_MAX < BATCH_COMMITS_MAX,
    "load is shed in this order: admin, postbacks, clicks"
);
const _: () = assert!(
    INBOUND_TEXT_BYTES_MAX + INBOUND_PATH_BYTES_MAX + 1024 < u16::MAX as usize,
    "the length of a postback as received has two bytes"
);
const _: () = assert!(UNFILED_WORTH_FILING < UNFILED_MAX, "filing begins before it must");
const _: () = assert!(COUNTED_ROWS_MAX * 1024 < BATCH_BYTES_MAX, "what is counted fits a batch");
const _: () = assert!(TXN_ID_BYTES_MAX <= VALUE_BYTES_MAX);
const _: () = assert!(
    ERASURES_REST.as_secs() > BACKUP_LOOK_EVERY.as_secs(),
    "whoever looks whether a backup is due finds no erasure under way"
);
const _: () =
    assert!(AUDIT_LIST_BYTES_MAX < AUDIT_DETAILS_BYTES_MAX, "room for what is not listed");
