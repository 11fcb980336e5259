//! Clients of the server: threads of this process, each with a connection of its own, that create, replace, upsert and
//! delete items, send batches, read all pages of a query, and follow the change feed, while the server is killed and
//! started again, now and then drops an answer, and meets a failing sync, after which it takes no more writes. A write
//! that is not answered is sent again with its `Idempotency-Key`, or given up as unknown.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::history::History;
use super::said::{Answer, Expected, Intent, Said, Seen, Version};
use super::web::{Connection, Reply, Server};
use super::{PATIENCE, first_seed, judge, refuse, seconds};
use crate::random::Random;
use crate::summary;

const ITEMS: &str = "/dbs/d/colls/c/docs";
const KEY: (&str, &str) = ("x-ms-documentdb-partitionkey", "[\"p\"]");
const CLIENTS: u64 = 6;
const READERS: u64 = 2;
const DOCUMENTS: u64 = 5;
/// After so many questions there are new documents.
const TIME: usize = 300;

/// What all threads have in common.
struct Scene {
    history: Mutex<History>,
    /// A line was said.
    said: Condvar,
    /// Where the server is, and which one it is.
    place: Mutex<(u64, std::net::SocketAddr)>,
    moved: Condvar,
    over: AtomicBool,
}

impl Scene {
    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().expect("not poisoned")
    }

    fn say(&self, said: Said) {
        self.history().hear(said);
        self.said.notify_all();
    }

    fn over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// Waits until so many questions have been asked.
    fn wait_for(&self, questions: usize) {
        let history = self.history();
        let asked = |history: &mut History| history.ops.len() < questions;
        let (history, late) = self.said.wait_timeout_while(history, PATIENCE, asked).expect("not poisoned");
        drop(history);
        assert!(!late.timed_out(), "nobody asks anything any more");
    }

    /// Waits until others have asked some more.
    fn let_others_ask(&self) {
        let history = self.history();
        let enough = history.ops.len() + 25;
        let few = |history: &mut History| history.ops.len() < enough && !self.over();
        drop(self.said.wait_timeout_while(history, Duration::from_millis(100), few).expect("not poisoned"));
    }

    /// A connection to the server that is there, or the one that comes.
    fn connect(&self) -> Connection {
        loop {
            let (number, address) = *self.place.lock().expect("not poisoned");
            if let Ok(connection) = Connection::open(address) {
                return connection;
            }
            let place = self.place.lock().expect("not poisoned");
            let same = |place: &mut (u64, std::net::SocketAddr)| place.0 == number;
            let (place, late) = self.moved.wait_timeout_while(place, PATIENCE, same).expect("not poisoned");
            drop(place);
            assert!(!late.timed_out(), "the server does not come back");
        }
    }
}

struct Client<'a> {
    scene: &'a Scene,
    number: u64,
    random: Random,
    connection: Option<Connection>,
    written: u64,
    /// The etags that he last heard of.
    last: BTreeMap<String, String>,
}

impl Client<'_> {
    fn asks(&self) {
        self.scene.say(Said::Asks { client: self.number });
    }

    fn intends(&self, writes: Vec<Intent>) {
        self.scene.say(Said::Intends { client: self.number, writes });
    }

    fn told(&self, answer: Answer) {
        self.scene.say(Said::Told { client: self.number, answer });
    }

    fn value(&mut self) -> u64 {
        self.written += 1;
        (self.number << 32) | self.written
    }

    fn time(&self) -> String {
        format!("{:06}.", self.scene.history().ops.len() / TIME)
    }

    fn id(&mut self, kind: &str) -> String {
        format!("{}{kind}-{}", self.time(), self.random.below(DOCUMENTS))
    }

    /// One attempt; without an answer the connection is given up.
    fn attempt(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Option<Reply> {
        let mut connection = self.connection.take().unwrap_or_else(|| self.scene.connect());
        let reply = connection.ask(method, path, headers, body).ok()?;
        self.connection = Some(connection);
        Some(reply)
    }

    /// A question that may be asked as often as one likes.
    fn read(&mut self, path: &str, headers: &[(&str, &str)], body: Option<&str>) -> Reply {
        loop {
            let method = if body.is_some() { "POST" } else { "GET" };
            if let Some(reply) = self.attempt(method, path, headers, body.unwrap_or("")) {
                return reply;
            }
        }
    }

    /// A write, sent again until it is answered, or given up now and then.
    fn write(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Option<Reply> {
        let key = format!("{}-{}", self.number, self.random.next());
        let headers = [headers, &[KEY, ("idempotency-key", &key)]].concat();
        loop {
            // A server whose disk has failed says that it does not know, and then that it takes no more writes.
            let sure = |reply: &Reply| reply.status < 500 && reply.status != 408;
            let reply = self.attempt(method, path, &headers, body).filter(sure);
            if reply.is_some() || self.random.below(4) == 0 {
                return reply;
            }
        }
    }

    fn work(&mut self) {
        while !self.scene.over() {
            match self.random.below(12) {
                0 => self.get(),
                1..=6 => self.write_one(),
                7..=9 => self.batch(),
                _ => self.page(),
            }
        }
    }

    fn get(&mut self) {
        let id = self.id("doc");
        self.asks();
        let seen = self.look_at(&id);
        self.last.remove(&id);
        self.last.extend(seen.version.as_ref().map(|version| (id, version.etag.clone())));
        self.told(Answer::Saw { seen: vec![seen], all_of: None });
    }

    fn look_at(&mut self, id: &str) -> Seen {
        let reply = self.read(&format!("{ITEMS}/{id}"), &[KEY], None);
        match reply.status {
            200 => Seen { id: id.to_owned(), version: Some(version(&reply.json())) },
            404 => Seen { id: id.to_owned(), version: None },
            _ => panic!("{reply:?}"),
        }
    }

    /// Creates, replaces, upserts or deletes an item.
    fn write_one(&mut self) {
        let id = self.id("doc");
        let last = self.last.remove(&id);
        let path = format!("{ITEMS}/{id}");
        let (method, path, header, expected) = match (&last, self.random.below(8)) {
            (_, 0) => ("POST", ITEMS, Some(("x-ms-documentdb-is-upsert", "true")), Expected::Anything),
            (None, _) => ("POST", ITEMS, None, Expected::Nothing),
            (Some(etag), 1 | 2) => ("DELETE", &path[..], None, Expected::Exactly(etag.clone())),
            (Some(etag), _) => ("PUT", &path[..], None, Expected::Exactly(etag.clone())),
        };
        let value = (method != "DELETE").then(|| self.value());
        let body = value.map_or_else(String::new, |value| item(&id, &[value]).to_string());
        let quoted = last.map(|etag| format!("\"{etag}\""));
        let condition = quoted.as_deref().filter(|_| matches!(expected, Expected::Exactly(_)));
        let headers: Vec<_> = header.into_iter().chain(condition.map(|etag| ("if-match", etag))).collect();
        self.asks();
        self.intends(vec![Intent { id: id.clone(), value, expected: expected.clone() }]);
        let Some(reply) = self.write(method, path, &headers, &body) else { return self.told(Answer::Unknown) };
        let seen =
            |etag: Option<String>| Seen { id: id.clone(), version: etag.map(|etag| Version { etag, body: None }) };
        match reply.status {
            200 | 201 | 204 => {
                let etag = reply.etag();
                assert_eq!(etag.is_some(), value.is_some(), "{reply:?}");
                let replaced = match expected {
                    Expected::Anything => Vec::new(),
                    Expected::Nothing => vec![seen(None)],
                    Expected::Exactly(etag) => vec![seen(Some(etag))],
                };
                self.last.extend(etag.clone().map(|etag| (id.clone(), etag)));
                self.told(Answer::Wrote { seen: replaced, etags: vec![etag] });
            }
            404 => self.told(Answer::Refused { current: seen(None), expected }),
            409 | 412 => {
                let etag = reply.etag().unwrap_or_else(|| panic!("no etag: {reply:?}"));
                self.last.insert(id.clone(), etag.clone());
                self.told(Answer::Refused { current: seen(Some(etag)), expected });
            }
            _ => panic!("{reply:?}"),
        }
    }

    /// Adds to one or two lists as they were read, and reads another in the same step.
    fn batch(&mut self) {
        let mut ids = vec![self.id("list"), self.id("list"), self.id("list")];
        ids.sort();
        ids.dedup();
        let adds = 1 + self.random.below(ids.len() as u64) as usize;
        self.asks();
        let (mut operations, mut writes, mut seen) = (Vec::new(), Vec::new(), Vec::new());
        for id in &ids[..adds] {
            let found = self.look_at(id);
            let value = self.value();
            let known = found.version.as_ref();
            let mut body = known.and_then(|version| version.body.clone()).unwrap_or_default();
            body.push(value);
            let (operation, expected) = match known {
                Some(Version { etag, .. }) => {
                    let etag_in_quotes = format!("\"{etag}\"");
                    let body = item(id, &body);
                    let replace =
                        json!({"operationType": "Replace", "id": id, "resourceBody": body, "ifMatch": etag_in_quotes});
                    (replace, Expected::Exactly(etag.clone()))
                }
                None => (json!({"operationType": "Create", "resourceBody": item(id, &body)}), Expected::Nothing),
            };
            operations.push(operation);
            writes.push(Intent { id: id.clone(), value: Some(value), expected });
            seen.push(found);
        }
        // Read in the same step; the batch fails when they are not there, and that is an answer, too.
        let reads = ids[adds..].iter().map(|id| json!({"operationType": "Read", "id": id}));
        operations.extend(reads);
        self.intends(writes);
        let headers = [("x-ms-cosmos-is-batch-request", "True"), ("x-ms-cosmos-batch-atomic", "True")];
        let operations = Value::Array(operations).to_string();
        let Some(reply) = self.write("POST", ITEMS, &headers, &operations) else { return self.told(Answer::Unknown) };
        match reply.status {
            200 => {
                let results = reply.json();
                let etag = |at: usize| Some(unquoted(results[at]["eTag"].as_str().expect("an etag")));
                let etags = (0..adds).map(etag).collect();
                seen.extend(
                    ids.iter()
                        .enumerate()
                        .skip(adds)
                        .map(|(at, id)| Seen { id: id.clone(), version: Some(version(&results[at]["resourceBody"])) }),
                );
                self.told(Answer::Wrote { seen, etags });
            }
            207 => self.told(Answer::Nothing),
            _ => panic!("{reply:?}"),
        }
    }

    /// Reads all items of this time by a query, page by page.
    fn page(&mut self) {
        let time = self.time();
        let query = json!({"query": format!("SELECT * FROM c WHERE STARTSWITH(c.id, '{time}')")}).to_string();
        let size = (1 + self.random.below(5)).to_string();
        self.asks();
        let (mut seen, mut token): (Vec<Seen>, Option<String>) = (Vec::new(), None);
        loop {
            let mut headers = vec![
                KEY,
                ("x-ms-documentdb-isquery", "true"),
                ("content-type", "application/query+json"),
                ("x-ms-max-item-count", &size),
            ];
            headers.extend(token.as_deref().map(|token| ("x-ms-continuation", token)));
            let reply = self.read(ITEMS, &headers, Some(&query));
            assert_eq!(reply.status, 200, "{reply:?}");
            seen.extend(documents(&reply).iter().map(seen_item));
            token = reply.header("x-ms-continuation").map(str::to_owned);
            if token.is_none() {
                break;
            }
        }
        self.told(Answer::Saw { seen, all_of: Some(time) });
    }

    /// Follows the change feed, and says what it adds up to whenever there is nothing more.
    fn follow(&mut self) {
        let mut known: BTreeMap<String, Version> = BTreeMap::new();
        let mut position: Option<String> = None;
        while !self.scene.over() {
            let time = self.time();
            let size = (1 + self.random.below(20)).to_string();
            self.asks();
            let mut headers = vec![("a-im", "Incremental Feed"), ("x-ms-max-item-count", &size[..])];
            headers.extend(position.as_deref().map(|position| ("if-none-match", position)));
            let reply = self.read(ITEMS, &headers, None);
            let next = reply.header("etag").map(str::to_owned);
            match reply.status {
                200 => {
                    let changed = documents(&reply).iter().map(seen_item).collect::<Vec<_>>();
                    known.extend(changed.into_iter().filter_map(|seen| Some((seen.id, seen.version?))));
                    self.told(Answer::Nothing);
                }
                304 => {
                    // The feed of newest versions says nothing of deletions; lists are never deleted.
                    let all_of = format!("{time}list");
                    let lists = known.iter().filter(|(id, _)| id.starts_with(&all_of));
                    let seen = lists.map(|(id, version)| Seen { id: id.clone(), version: Some(version.clone()) });
                    self.told(Answer::Saw { seen: seen.collect(), all_of: Some(all_of) });
                    self.scene.let_others_ask();
                }
                _ => panic!("{reply:?}"),
            }
            position = next.or(position);
        }
    }
}

fn item(id: &str, body: &[u64]) -> Value {
    json!({"id": id, "pk": "p", "values": body})
}

fn documents(reply: &Reply) -> Vec<Value> {
    reply.json()["Documents"].as_array().expect("documents").clone()
}

fn unquoted(etag: &str) -> String {
    etag.trim_matches('"').to_owned()
}

fn numbers(item: &Value) -> Vec<u64> {
    item["values"].as_array().expect("values").iter().map(|value| value.as_u64().expect("a number")).collect()
}

fn version(item: &Value) -> Version {
    Version { etag: unquoted(item["_etag"].as_str().expect("an etag")), body: Some(numbers(item)) }
}

fn seen_item(item: &Value) -> Seen {
    Seen { id: item["id"].as_str().expect("an id").to_owned(), version: Some(version(item)) }
}

/// Lets clients loose on a server that is killed so many times, and returns what they saw.
pub(super) fn storm(seed: u64, kills: u64) -> [usize; 3] {
    let mut server = Server::start();
    let mut first = Connection::open(server.address()).expect("a connection");
    let container = json!({"id": "c", "partitionKey": {"paths": ["/pk"], "kind": "Hash", "version": 2}});
    for (path, body) in [("/dbs", json!({"id": "d"})), ("/dbs/d/colls", container)] {
        assert_eq!(first.ask("POST", path, &[], &body.to_string()).expect("an answer").status, 201);
    }
    let scene = Scene {
        history: Mutex::default(),
        said: Condvar::new(),
        place: Mutex::new((0, server.address())),
        moved: Condvar::new(),
        over: AtomicBool::new(false),
    };
    std::thread::scope(|scope| {
        for number in 0..CLIENTS + READERS {
            let scene = &scene;
            scope.spawn(move || {
                let random = Random::new(seed ^ (number << 32));
                let mut client = Client { scene, number, random, connection: None, written: 0, last: BTreeMap::new() };
                if number < CLIENTS { client.work() } else { client.follow() }
            });
        }
        let mut random = Random::new(seed);
        let mut asked = 0;
        for number in 1..=kills {
            asked += 50 + random.below(1_200) as usize;
            scene.wait_for(asked);
            let fault = (random.below(3) == 0).then(|| 15 + random.below(200));
            server.kill_and_start(fault);
            *scene.place.lock().expect("not poisoned") = (number, server.address());
            scene.moved.notify_all();
        }
        scene.wait_for(asked + 500);
        scene.over.store(true, Ordering::SeqCst);
    });
    let mut history = scene.history.into_inner().expect("not poisoned");
    let dir = server.kill();
    let concluded = history.conclude_items(&dir.path().join("store"));
    if let Err(wrong) = concluded {
        refuse(&format!("http {seed}"), &history, dir, &wrong.to_string());
    }
    let (operations, unknown) = history.size();
    let commits = history.commits.len();
    judge(&format!("http {seed}"), &history, dir);
    [operations, unknown, commits]
}

/// How often the server of each history is killed.
pub(super) const KILLS: u64 = 8;

#[test]
fn what_clients_of_the_server_see_across_kills_and_lost_answers_is_one_order_that_agrees_with_time() {
    let (began, first) = (Instant::now(), first_seed(0x6874_7470));
    let (mut seed, mut sums) = (first, [0; 3]);
    while seed == first || began.elapsed() < seconds() {
        sums.iter_mut().zip(storm(seed, KILLS)).for_each(|(sum, count)| *sum += count);
        seed += 1;
    }
    let ([operations, unknown, commits], stores) = (sums, seed - first);
    let test = format!("histories over HTTP, seeds {first} to {}: {} kills", seed - 1, KILLS * stores);
    let compared = format!("{operations} operations, {unknown} unknown");
    summary::row(test, format!("{stores} stores, {commits} commits"), compared, 0, began);
}
