//! One life of a server: from opening the store to the crash.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use arc_swap::ArcSwap;
use postbackd::auth::Nonces;
use postbackd::caps::Meters;
use postbackd::catalog::Catalog;
use postbackd::click_id::{ClickId, Keyring, Minter, RecordId};
use postbackd::dedup::{Deduplicator, Original, Receipt};
use postbackd::fraud::Watch;
use postbackd::metrics::Metrics;
use postbackd::model::period::{Calendar, Day};
use postbackd::model::reasons::{AuthOutcome, Flag, Refusal, Unavailability};
use postbackd::model::status::Status;
use postbackd::postback::{Address, Again, Answer, Effects, Erased, PostbackRequest, Postbacks};
use postbackd::rates::Market;
use postbackd::store::engine::Engine;
use postbackd::store::keys::Subject;
use postbackd::store::records::{ClickRecord, InboundForm, StoredIp};
use postbackd::store::ticket::{Outcome, Settle, Ticket, Waiting};
use postbackd::store::{
    AppendBuffers, Appended, AtOnce, ChangeError, Numbers, Store, SubmitError, Touched, Turn,
    Unobserved,
};
use postbackd::throttle::Throttle;

use crate::books::{self, Books, CUSTOMERS, Key, OFFERS, Request, customer_claim, on_disk};
use crate::counts;
use crate::disk::{Disk, Faults};
use crate::erased;
use crate::rng::Rng;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// What all lives of all seeds share; making it takes longer than a life.
pub struct Setup {
    pub catalog: Arc<Catalog>,
    pub metrics: Arc<Metrics>,
}

/// Remembers that its future wants to be polled.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A future polled by hand, and only when it was woken: a lost wake-up leaves it stuck.
pub struct Task<T> {
    future: Pin<Box<dyn Future<Output = T>>>,
    woken: Arc<Woken>,
}

impl<T> Task<T> {
    pub fn new(future: impl Future<Output = T> + 'static) -> Self {
        Self { future: Box::pin(future), woken: Arc::new(Woken(AtomicBool::new(true))) }
    }

    pub fn poll(&mut self) -> Option<T> {
        self.woken.0.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&self.woken));
        match self.future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    pub fn wants_poll(&self) -> bool {
        self.woken.0.load(Ordering::Relaxed)
    }
}

struct Client {
    request: Request,
    /// Whether its customer was known to be bound when it was sent.
    must_know: bool,
    sent_ms: u64,
    /// The sales that were open when it was sent, if it is a refund of any of them.
    open: BTreeSet<RecordId>,
    /// When it was received, if it was refused then and is judged again.
    again_of_ms: Option<u64>,
    task: Task<Answer>,
}

/// An erasure under way, and what there was to erase when it began.
struct Erasing {
    subject: Subject,
    there: (Vec<RecordId>, BTreeSet<RecordId>),
    task: Task<Result<(Erased, Touched), ChangeError>>,
}

/// The server's parts, as its composition root puts them together.
pub struct Life {
    disk: Arc<Disk>,
    store: Arc<Store>,
    postbacks: Arc<Postbacks>,
    buffers: AppendBuffers,
    appended: Appended,
    clients: Vec<Client>,
    warming: Option<Task<()>>,
    rewriting: Option<Task<()>>,
    erasing: Option<Erasing>,
    waker: Task<()>,
    clicks: Vec<(RecordId, Arc<Ticket>)>,
    stragglers: Vec<(RecordId, &'static str)>,
    reads_fail: bool,
}

impl Life {
    /// Opens the store on what the last life left, with a claim cache that forgets soon.
    pub fn start(
        setup: &Setup,
        disk: Arc<Disk>,
        market: &Market,
        faults: Faults,
        now_ms: u64,
        rng: &mut Rng,
    ) -> Self {
        let engine: Arc<dyn Engine> = Arc::clone(&disk) as _;
        let (store, identity) =
            Store::on(engine, 0, [7; 32], Arc::new(Unobserved)).expect("the store opens");
        store.minting_from(now_ms.max(identity.newest_ms + 1));
        let store = Arc::new(store);
        let waiting = Arc::new(Waiting::default());
        store.writer().add_waiting(&waiting);
        let postbacks = Arc::new(Postbacks {
            catalog: Arc::new(ArcSwap::new(Arc::clone(&setup.catalog))),
            market: market.clone(),
            keyring: Arc::new(Keyring::new(identity.click_key, Vec::new())),
            minter: Arc::new(Minter::new(0, identity.starts, identity.newest_ms)),
            dedup: Deduplicator::new(1 + rng.below(8), rng.next(), Arc::clone(store.progress())),
            meters: Arc::new(count(setup, &store, now_ms)),
            watch: Arc::new(Watch::new(rng.next())),
            nonces: Arc::new(Nonces::new(1, 0)),
            throttle: Arc::new(Throttle::new(1)),
            store: Arc::clone(&store),
            metrics: Arc::clone(&setup.metrics),
            waiting: Arc::clone(&waiting),
            kept_ip: Arc::new(|_| StoredIp::None),
        });
        let mut life = Self {
            disk,
            store,
            postbacks,
            buffers: AppendBuffers::default(),
            appended: Appended::default(),
            clients: Vec::new(),
            warming: None,
            rewriting: None,
            erasing: None,
            waker: Task::new(async move { waiting.attend(|| ()).await }),
            clicks: Vec::new(),
            stragglers: Vec::new(),
            reads_fail: faults.read > 0,
        };
        life.check_numbers(&setup.catalog);
        life.look_at_sums();
        if rng.once_in(2) {
            let postbacks = Arc::clone(&life.postbacks);
            life.warming = Some(Task::new(async move { drop(postbacks.warm(5).await) }));
        }
        life.disk.set_faults(faults);
        life
    }

    /// The store gives the same numbers in every life.
    fn check_numbers(&self, catalog: &Catalog) {
        let numbers = assign_numbers(&self.store);
        for id in OFFERS {
            assert_eq!(numbers.offer(id), catalog.offer(id).map(|offer| offer.number));
        }
        assert_eq!(numbers.affiliate("pub"), catalog.affiliate("pub").map(|known| known.number));
    }

    /// Mints a click for `request`s to name; its record is under way.
    pub fn click(&mut self, offer: &'static str, sub1: &'static str, now_ms: u64) -> ClickId {
        let click = self.mint(offer, now_ms);
        self.record(click, sub1);
        self.postbacks.keyring.sign(click)
    }

    /// Mints a click whose record is not on its way yet, as on another worker.
    pub fn straggle(&mut self, offer: &'static str, sub1: &'static str, now_ms: u64) -> RecordId {
        let click = self.mint(offer, now_ms);
        self.stragglers.push((click, sub1));
        click
    }

    /// Sends the records of such clicks on their way.
    pub fn catch_up(&mut self) {
        for (click, sub1) in std::mem::take(&mut self.stragglers) {
            self.record(click, sub1);
        }
    }

    fn mint(&self, offer: &str, now_ms: u64) -> RecordId {
        let catalog = self.postbacks.catalog.load();
        let offer = catalog.offer(offer).expect("in the catalog").number;
        let affiliate = catalog.affiliate("pub").expect("in the catalog").number;
        self.postbacks.minter.mint(now_ms, offer, affiliate)
    }

    fn record(&mut self, click: RecordId, sub1: &str) {
        let ticket = Arc::new(Ticket::default());
        let catalog = self.postbacks.catalog.load();
        let watched = catalog.offer("watched").expect("in the catalog").number;
        let flags = Flag::BotUserAgent.bit_if(click.offer() == watched);
        let mut record = ClickRecord { flags, ..ClickRecord::default() };
        record.subs[0] = sub1;
        match self.store.record_click(click, &record, ticket.clone()) {
            Ok(()) => self.clicks.push((click, ticket)),
            Err(error) => self.check_submit_error(error),
        }
    }

    pub fn send(&mut self, request: Request, must_know: bool, now_ms: u64) {
        let (postbacks, query) = (Arc::clone(&self.postbacks), request.query());
        let advertiser = request.alone.then_some("acme");
        let take = async move {
            let address = Address::Shared { preset: None, advertiser };
            let request = PostbackRequest::get(address, &query, LOCALHOST, now_ms);
            postbacks.take(&request).await.answer
        };
        let task = Task::new(take);
        let open = if request.chooses() {
            let click = request.click.record();
            self.disk.with_readable(|disk| books::open_sales(click, disk))
        } else {
            BTreeSet::new()
        };
        let (sent_ms, again_of_ms) = (now_ms, None);
        self.clients.push(Client { request, must_know, sent_ms, open, again_of_ms, task });
    }

    /// Judges a postback again that was received at `received_ms`, and refused.
    pub fn judge_again(&mut self, request: Request, received_ms: u64, now_ms: u64) {
        let (postbacks, query) = (Arc::clone(&self.postbacks), request.query());
        let take = async move {
            let effects = Effects::default();
            let again = Again {
                effects: &effects,
                now_ms,
                auth: AuthOutcome::default(),
                advertiser: "acme",
                ip: StoredIp::None,
                form: InboundForm::Get,
            };
            let request = PostbackRequest {
                again: Some(&again),
                ..PostbackRequest::get(Address::POSTBACK, &query, LOCALHOST, received_ms)
            };
            let begun = postbacks.begin_patiently(&request, true).await;
            postbacks.ended(begun).await.answer
        };
        let (again_of_ms, task) = (Some(received_ms), Task::new(take));
        let (must_know, sent_ms, open) = (false, now_ms, BTreeSet::new());
        self.clients.push(Client { request, must_know, sent_ms, open, again_of_ms, task });
    }

    /// Polls one client, woken or not: a future may be polled at any time.
    pub fn poll_any(&mut self, rng: &mut Rng, books: &mut Books) {
        if !self.clients.is_empty() {
            let place = rng.below(self.clients.len());
            self.poll(place, books);
        }
    }

    /// Polls everybody who was woken; whether there was anybody.
    pub fn poll_woken(&mut self, books: &mut Books) -> bool {
        let mut moved = false;
        if self.warming.as_ref().is_some_and(Task::wants_poll) {
            moved = true;
            if self.warming.as_mut().and_then(Task::poll).is_some() {
                self.warming = None;
            }
        }
        if self.rewriting.as_ref().is_some_and(Task::wants_poll) {
            moved = true;
            if self.rewriting.as_mut().and_then(Task::poll).is_some() {
                self.rewriting = None;
            }
        }
        if self.erasing.as_ref().is_some_and(|erasing| erasing.task.wants_poll()) {
            moved = true;
            self.poll_erasing(books);
        }
        if self.waker.wants_poll() {
            moved = true;
            assert!(self.waker.poll().is_none(), "it runs for ever");
        }
        for place in (0..self.clients.len()).rev() {
            if self.clients[place].task.wants_poll() {
                moved = true;
                self.poll(place, books);
            }
        }
        moved
    }

    fn poll(&mut self, place: usize, books: &mut Books) {
        if let Some(answer) = self.clients[place].task.poll() {
            let client = self.clients.swap_remove(place);
            self.check_answer(&client, answer, books);
        }
    }

    /// A client goes away in the middle.
    pub fn hang_up(&mut self, rng: &mut Rng) {
        if !self.clients.is_empty() {
            self.clients.swap_remove(rng.below(self.clients.len()));
        }
    }

    /// What had to wait for the rates of a day is priced, one day after the other.
    pub fn reprice(&mut self, day: Day, now_ms: u64) {
        if self.rewriting.is_none() {
            let postbacks = Arc::clone(&self.postbacks);
            let reprice = async move {
                drop(postbacks.reprice(&[day].into(), &[].into(), &[].into(), || now_ms).await)
            };
            self.rewriting = Some(Task::new(reprice));
        }
    }

    /// Erases what is known of a person, one after the other.
    pub fn erase(&mut self, subject: Subject, now_ms: u64) {
        if self.erasing.is_none() {
            let postbacks = Arc::clone(&self.postbacks);
            let there = self.disk.with_durable(|disk| erased::of(subject, disk));
            let task = Task::new(async move { postbacks.erase(subject, now_ms, true).await });
            self.erasing = Some(Erasing { subject, there, task });
        }
    }

    /// Whose erasure is under way.
    pub fn erasing(&self) -> Option<Subject> {
        self.erasing.as_ref().map(|erasing| erasing.subject)
    }

    fn poll_erasing(&mut self, books: &mut Books) {
        let ended = self.erasing.as_mut().and_then(|erasing| erasing.task.poll());
        let Some(ended) = ended else { return };
        let Some(Erasing { subject, there, .. }) = self.erasing.take() else { return };
        match ended {
            Ok(_) => {
                books.erasures.done(there);
                self.disk.with_durable(|disk| books.erasures.audit(disk));
            }
            Err(_) => books.erasures.begun.push(subject),
        }
    }

    pub fn append(&mut self) {
        self.store.writer().append_once(&mut self.buffers);
    }

    pub fn sync(&mut self) {
        self.store.writer().sync_once(&mut self.appended);
    }

    pub fn file(&self) {
        self.store.file_once(true);
    }

    /// One turn of counting.
    pub fn count(&self, rng: &mut Rng) {
        let at_once = AtOnce { records: 1 + rng.below(6), rows: 1 + rng.below(6) };
        match self.store.count_once(true, at_once) {
            Ok(_) => {}
            Err(error) => assert!(self.reads_fail, "no read has failed: {error}"),
        }
    }

    /// Compares the sums, as far as they are made, with a count of everything.
    pub fn look_at_sums(&self) {
        match self.store.sums() {
            Ok(None) => {}
            Ok(Some(sums)) => match counts::sums(&sums) {
                Ok(sums) => self.disk.with_readable(|disk| counts::compare(&sums, disk)),
                Err(error) => assert!(self.reads_fail, "no read has failed: {error}"),
            },
            Err(error) => assert!(self.reads_fail, "no read has failed: {error}"),
        }
    }

    /// Counts what is there to its end.
    fn count_all(&mut self) {
        if self.reads_fail || self.is_poisoned() {
            return;
        }
        while self.store.count_once(true, AtOnce::default()).expect("no read fails")
            != Turn::Nothing
        {
            self.append();
            self.sync();
            let closed = self.store.writer().submit(Arc::new(Ticket::default()), |_| ()).is_err();
            if closed || self.is_poisoned() {
                return;
            }
        }
        self.disk.with_readable(counts::check_nothing_is_left);
    }

    pub fn read(&mut self) -> bool {
        self.store.read_once()
    }

    pub fn set_disk_full(&self, full: bool) {
        self.store.health().set_disk_full(full);
    }

    /// Lets everything under way end, then looks whether anything is left behind.
    pub fn run_dry(&mut self, sent: &[Request], now_ms: u64, books: &mut Books) {
        loop {
            let mut moved = self.poll_woken(books);
            while self.read() {
                moved = true;
            }
            moved |= self.store.writer().queued() != (0, 0);
            self.append();
            self.sync();
            if !moved {
                break;
            }
        }
        self.check_nothing_is_left(sent, now_ms, books);
        self.look_at_sums();
        self.count_all();
        self.look_at_sums();
    }

    /// Takes no more commits; those queued still end.
    pub fn close(&self) {
        self.store.writer().close();
    }

    fn check_answer(&self, client: &Client, answer: Answer, books: &mut Books) {
        let Client { request, must_know, sent_ms, again_of_ms, .. } = client;
        match &answer {
            Answer::Unavailable(reason) => return self.check_unavailable(*reason),
            Answer::Refused(refused) if refused.reason == Refusal::IllegalTransition => {
                let click = request.click.record();
                let open = self.disk.with_readable(|disk| books::open_sales(click, disk));
                let left: Vec<_> = open.intersection(&client.open).collect();
                assert!(left.is_empty(), "{request:?} was refused, and {left:?} are open");
            }
            _ => {}
        }
        self.disk.with_durable(|disk| match answer {
            Answer::Accepted { conversion: Some(conversion), status, .. } => {
                books.accepted(request, conversion, status, disk);
            }
            Answer::Duplicate { original, dry_run: false, .. } => {
                books.duplicate(request, original, disk);
                books::is_same(request, original.conversion, *sent_ms, *again_of_ms, disk);
            }
            Answer::Updated { now, dry_run: false, .. } => {
                books.updated(request, now, *sent_ms, disk);
            }
            Answer::Refused(refused) => match refused.reason {
                Refusal::IllegalTransition => {
                    assert!(request.status.is_some() || request.event == "refund", "{request:?}");
                }
                Refusal::BadStatus => assert_eq!(request.status, Some(Status::Reversed)),
                Refusal::UnknownConversion | Refusal::BadAmount if request.event == "refund" => {}
                Refusal::UnknownCustomer if request.alone => {
                    assert!(!must_know, "{request:?}: the customer was bound");
                }
                other => panic!("{request:?} was refused: {other}"),
            },
            other => panic!("{request:?} was answered {other:?}"),
        });
    }

    fn check_unavailable(&self, reason: Unavailability) {
        match reason {
            Unavailability::StorePoisoned => assert!(self.is_poisoned(), "no write has failed"),
            Unavailability::StoreBusy => assert!(self.reads_fail, "no read has failed"),
            Unavailability::DiskFull | Unavailability::Draining => {}
            other => panic!("nothing is {other:?} here"),
        }
    }

    fn check_submit_error(&self, error: SubmitError) {
        match error {
            SubmitError::Poisoned => assert!(self.is_poisoned(), "no write has failed"),
            SubmitError::Closed | SubmitError::DiskFull => {}
            SubmitError::Full => panic!("the queue is longer than any simulation"),
        }
    }

    fn is_poisoned(&self) -> bool {
        let poisoned = self.store.health().poison_reason().is_some();
        assert_eq!(poisoned, self.disk.has_failed(), "the store and its disk disagree");
        poisoned
    }

    fn check_nothing_is_left(&mut self, sent: &[Request], now_ms: u64, books: &mut Books) {
        assert!(self.clients.is_empty(), "stuck: {:?}", self.clients[0].request);
        assert!(self.warming.is_none(), "warming up is stuck");
        assert!(self.rewriting.is_none(), "a rewriting is stuck");
        assert!(self.erasing.is_none(), "an erasure is stuck");
        let (.., pending) = self.postbacks.dedup.fill();
        assert_eq!(pending, 0, "claims are left behind");
        for (click, ticket) in self.clicks.drain(..) {
            match ticket.outcome() {
                Some(Outcome::Durable) => books.click(click),
                Some(Outcome::NotDone | Outcome::Unknown) => {}
                None => panic!("click {click:?} never heard how it ended"),
            }
        }
        let poisoned = self.is_poisoned();
        self.disk.with_durable(|disk| {
            // Nothing in memory vouches for what the disk does not have.
            for key in sent.iter().flat_map(Request::keys) {
                if let Some(original) = self.known(&key, now_ms) {
                    let status = on_disk(original.conversion, disk).status();
                    // A change that nobody was told of may have reached a failing disk.
                    let follows = status == Some(original.status) || poisoned;
                    assert!(follows, "memory says {original:?}, the disk {status:?}");
                }
            }
            for customer in CUSTOMERS {
                if let Some(holder) =
                    self.postbacks.dedup.holder_now(&customer_claim(customer), now_ms)
                {
                    let record = on_disk(holder, disk);
                    assert_eq!((record.customer_id, record.claims & 16), (customer, 16));
                }
            }
            books.audit(disk);
        });
        let ticket = Arc::new(Ticket::default());
        if poisoned {
            let refused = self.store.writer().submit(ticket, |_| ());
            assert_eq!(refused, Err(SubmitError::Poisoned), "a failed disk is never tried again");
        }
    }

    fn known(&self, key: &Key, now_ms: u64) -> Option<Original> {
        key.with_claim(|claim| self.postbacks.dedup.known(&claim, Receipt::Now(now_ms)))
    }
}

/// The catalog's numbers, from a store whose disk is sound.
pub fn assign_numbers(store: &Arc<Store>) -> Numbers {
    let asked = Arc::clone(store);
    let assign = async move { asked.assign_numbers(OFFERS.into_iter(), ["pub"].into_iter()).await };
    alone(store, assign).expect("the disk is sound")
}

/// The meters of a life that begins: what the store has is counted.
fn count(setup: &Setup, store: &Arc<Store>, now_ms: u64) -> Meters {
    let meters = Arc::new(Meters::new(Calendar::new(jiff::tz::TimeZone::UTC)));
    let place = meters.want(&setup.catalog.metered());
    let (counting, counted) = (Arc::clone(&meters), Arc::clone(store));
    let count = async move { counting.count(place, &counted, now_ms).await };
    alone(store, count).expect("the disk is sound");
    Arc::into_inner(meters).expect("nobody counts any more")
}

/// Runs a future to its end on a store where nothing else happens.
pub fn alone<T>(store: &Store, future: impl Future<Output = T> + 'static) -> T {
    let mut task = Task::new(future);
    loop {
        assert!(task.wants_poll(), "it is stuck");
        if let Some(value) = task.poll() {
            return value;
        }
        store.read_once();
        store.writer().append_once(&mut AppendBuffers::default());
        store.writer().sync_once(&mut Appended::default());
    }
}
