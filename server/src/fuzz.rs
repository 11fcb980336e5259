//! Fuzzers of everything that reads what a client sent: mutations of good inputs, in this process, from a seed.
//!
//! Owns the mutations and the properties; it is compiled for tests only. An ordinary run tries a fixed number of inputs,
//! the same each time. `make fuzz SECONDS=600` tries new ones for so long; what fails says with which seed it does so
//! again.

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::auth::{self, MasterKey};
use crate::batch_request;
use crate::binary_json;
use crate::chaos::Chaos;
use crate::continuation::{Place, Position, Token};
use crate::document::Body;
use crate::framing::Framing;
use crate::headers::{Condition, Headers};
use crate::idempotency::tests::fixture;
use crate::item_key;
use crate::items::Item;
use crate::partition_key::{self, tests as keys};
use crate::patch::Patch;
use crate::strict::Conditions;
use crate::{as_of, metadata, offers, query, routes};

/// Inputs of an ordinary run, for each fuzzer.
const INPUTS: u64 = 10_000;
/// Most inputs that are kept because they were accepted, to be mutated further.
const POOL_MAX: usize = 1_000;
/// Longest input.
const BYTES_MAX: usize = 4_096;

/// SplitMix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// A number from the environment.
fn setting(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}, and not a number")))
}

/// Tries inputs made of `corpus` and `words` on `target`, which says whether it accepted one, and panics where something
/// is wrong.
fn fuzz<S: AsRef<[u8]>>(name: &str, corpus: &[S], words: &[&str], target: impl Fn(&[u8]) -> bool) {
    let seconds = setting("ETAGDB_FUZZ_SECONDS");
    let until = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let since_1970 = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
    let seed = setting("ETAGDB_FUZZ_SEED").unwrap_or_else(|| if seconds.is_some() { since_1970() } else { 1 });
    let mut random = Random(seed);
    let mut pool: Vec<Vec<u8>> = corpus.iter().map(|input| input.as_ref().to_vec()).collect();
    let (mut tried, mut accepted) = (0u64, 0u64);
    while until.map_or(tried < INPUTS, |until| Instant::now() < until) {
        // The corpus itself comes first: it is there to be accepted.
        let input = match pool.get(tried as usize).filter(|_| tried < corpus.len() as u64) {
            Some(input) => input.clone(),
            None => mutation(&mut random, &pool, words),
        };
        tried += 1;
        match catch_unwind(AssertUnwindSafe(|| target(&input))) {
            Ok(true) => {
                accepted += 1;
                if pool.len() < POOL_MAX {
                    pool.push(input);
                } else {
                    let index = corpus.len() + random.below(POOL_MAX - corpus.len());
                    pool[index] = input;
                }
            }
            Ok(false) => {}
            Err(panic) => {
                eprintln!(
                    "fuzzer {name}: input {tried} of ETAGDB_FUZZ_SEED={seed} failed: {:?}",
                    String::from_utf8_lossy(&input)
                );
                eprintln!("in hex: {}", input.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
                resume_unwind(panic);
            }
        }
    }
    println!("fuzzer {name}: {tried} inputs of seed {seed}, {accepted} accepted");
    assert!(accepted >= corpus.len() as u64 && accepted < tried, "{name}: {accepted} of {tried} were accepted");
}

/// A few changes to one of the pool.
fn mutation(random: &mut Random, pool: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
    let mut input = random.pick(pool).clone();
    for _ in 0..=random.below(4) {
        let at = random.below(input.len() + 1);
        match random.below(9) {
            0 if !input.is_empty() => {
                let at = at.min(input.len() - 1);
                input[at] ^= 1 << random.below(8);
            }
            1 if !input.is_empty() => {
                let at = at.min(input.len() - 1);
                input[at] = *random.pick(&[0, 0x7F, 0x80, 0xFF, b'"', b'\\', b'{', b'[', b',', b'%', b'\n', b'9']);
            }
            2 => input.truncate(at),
            3 => drop(input.drain(at..(at + random.below(8)).min(input.len()))),
            4 => {
                let other = random.pick(pool).clone();
                let from = random.below(other.len() + 1);
                input.splice(at.., other[from..].iter().copied());
            }
            5 => {
                // The same again and again, nested or in a row.
                let end = (at + random.below(16)).min(input.len());
                let piece = input[at..end].repeat(1 + random.below(64));
                input.splice(at..at, piece);
            }
            6 => {
                let number = (random.next() as i64 >> random.below(64)).to_string();
                input.splice(at..at, number.bytes());
            }
            7 => {
                let character = char::from_u32(random.next() as u32 % 0x11_0000).unwrap_or('\u{fffd}');
                input.splice(at..at, character.to_string().bytes());
            }
            _ if !words.is_empty() => drop(input.splice(at..at, random.pick(words).bytes())),
            _ => {}
        }
    }
    input.truncate(BYTES_MAX);
    input
}

/// Most readers take text, and are never called with anything else.
fn text(input: &[u8]) -> Option<&str> {
    std::str::from_utf8(input).ok()
}

#[test]
fn paths() {
    let corpus = ["/", "/dbs/d/colls/c/docs/a%20b/", "/dbs/AQ==/colls/AQAAAIA=/pkranges", "/offers/x", "/dbs/d/users"];
    let words = ["/dbs", "/colls", "/docs", "/", "%2F", "%00", "%", "%E2%80%8B", "%ff", "?", "..", "operations"];
    fuzz("paths", &corpus, &words, |input| {
        let Some(input) = text(input) else { return false };
        let (path, query) = match input.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (input, None),
        };
        let Ok(target) = routes::parse(path, query) else { return false };
        assert!(target.signed.texts().next().is_some(), "nothing to sign for {path:?}");
        true
    });
}

/// How many requests hyper finds in the bytes of a connection.
async fn found_by_hyper(bytes: &[u8]) -> usize {
    let found = AtomicUsize::new(0);
    let service = service_fn(|request: hyper::Request<Incoming>| {
        found.fetch_add(1, Ordering::Relaxed);
        async {
            // A body that is no body ends the connection.
            request.into_body().collect().await?;
            Ok::<_, hyper::Error>(hyper::Response::new(Full::<Bytes>::default()))
        }
    });
    let (mut client, server) = tokio::io::duplex(1 << 20);
    client.write_all(bytes).await.unwrap();
    client.shutdown().await.unwrap();
    // It ends with an error, unless the bytes end where a request does.
    let _ = http1::Builder::new().half_close(true).serve_connection(TokioIo::new(server), service).await;
    found.into_inner()
}

/// The look at raw bytes and hyper are two readers themselves: there must be no request that only hyper sees.
#[test]
fn heads() {
    let corpus = [
        "GET / HTTP/1.1\r\nhost: x\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: 4\r\n\r\na\n\nbGET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
        "PUT / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3;x=y\r\n\n\n\n\r\n0\r\na: b\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        "PUT / HTTP/1.1\r\nTransfer-Encoding: CHUNKED\r\n\r\n1A\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    ];
    let words = [
        "\r\n",
        "\n",
        "\r",
        "\r\n\r\n",
        "content-length: 5\r\n",
        "Content-Length:0\r\n",
        "+",
        "0\r\n\r\n",
        "5 \r\n",
        "\t",
        ":",
        "transfer-encoding: chunked\r\n",
        "GET / HTTP/1.1\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "connection: close\r\n",
    ];
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    fuzz("heads", &corpus, &words, |input| {
        let mut whole = Framing::new(BYTES_MAX);
        let refused = whole.look(input);
        let mut in_pieces = Framing::new(BYTES_MAX);
        assert_eq!(input.iter().find_map(|byte| in_pieces.look(std::slice::from_ref(byte))), refused);
        let found = runtime.block_on(found_by_hyper(input));
        assert!(refused.is_some() || found <= whole.heads(), "{found} requests, {} of them seen", whole.heads());
        refused.is_none() && found > 1
    });
}

#[test]
fn headers() {
    let names = [
        "x-ms-documentdb-partitionkey",
        "x-ms-documentdb-partitionkeyrangeid",
        "x-ms-start-epk",
        "x-ms-end-epk",
        "x-ms-max-item-count",
        "x-ms-session-token",
        "x-ms-offer-throughput",
        "x-ms-cosmos-offer-autopilot-settings",
        "x-ms-activity-id",
        "x-etagdb-as-of",
        "if-match",
        "if-none-match",
        "if-modified-since",
        "if-unmodified-since",
        "prefer",
    ];
    let corpus = [
        "x-ms-documentdb-partitionkey: [\"a\", 1, {}]\nx-ms-max-item-count: -1",
        "x-ms-start-epk: 05C1\nx-ms-end-epk: FF",
        "x-ms-session-token: 0:0#41,0:-1#41#3=7\nprefer: return=minimal, wait=5",
        "x-etagdb-as-of: 2026-02-28T12:00:00.5+01:00\nif-none-match: \"a\", W/\"b\"",
        "x-ms-cosmos-offer-autopilot-settings: {\"maxThroughput\":4000}\nif-modified-since: Sun, 06 Nov 1994 08:49:37 GMT",
    ];
    let fixture = fixture();
    let container = &fixture.container;
    fuzz("headers", &corpus, &names, |input| {
        let mut map = HeaderMap::new();
        for line in input.split(|byte| *byte == b'\n') {
            let at = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
            let value = line.get(at + 1..).unwrap_or_default().trim_ascii();
            let (Ok(name), Ok(value)) = (HeaderName::from_bytes(&line[..at]), HeaderValue::from_bytes(value)) else {
                return false;
            };
            map.append(name, value);
        }
        let headers = Headers(&map);
        let accepted = [
            headers.partition_key().is_ok(),
            headers.scope(container).is_ok(),
            headers.page_items().is_ok(),
            headers.check_session(etagdb::CommitSeq::new(41)).is_ok(),
            headers.throughput().is_ok(),
            as_of::requested(headers).is_ok(),
            Conditions::of_request(headers).is_ok(),
        ];
        headers.if_modified_since();
        headers.activity_id();
        headers.wants_minimal();
        Condition::parse(input);
        accepted.iter().all(|accepted| *accepted)
    });
}

#[test]
fn batches() {
    let corpus = [
        r#"[{"operationType":"Create","resourceBody":{"id":"a","pk":"p"}},{"operationType":"Read","id":"a"}]"#,
        r#"[{"operationType":"Patch","id":"a","resourceBody":{"operations":[]},"ifMatch":"*","partitionKey":"[\"p\"]"}]"#,
        r#"[{"operationType":"Delete","id":"a","partitionKey":[{}],"ifNoneMatch":"\"x\""}]"#,
    ];
    let words = ["operationType", "Upsert", "Replace", "null", "{}", "[]", "\"id\":", "\\ud800", "1e999"];
    fuzz("batches", &corpus, &words, |input| batch_request::parse(input).is_ok());
}

#[test]
fn patches() {
    let corpus = [
        r#"[{"op":"set","path":"/x/y","value":1},{"op":"incr","path":"/n","value":-1.5}]"#,
        r#"{"condition":"from c where c.n > 1","operations":[{"op":"remove","path":"/list/0"}]}"#,
        r#"[{"op":"add","path":"/list/-","value":{}},{"op":"move","from":"/n","path":"/m"},{"op":"replace","path":"/s","value":null}]"#,
    ];
    let words =
        ["\"op\":\"", "incr", "add", "move", "remove", "/list/", "/-", "~1", "~0", "9223372036854775807", "1e308"];
    let document = json!({"id": "a", "n": 9_007_199_254_740_993_i64, "s": "x", "list": [1, [2], {}], "x": {"y": {}}});
    fuzz("patches", &corpus, &words, |input| {
        let Ok(patch) = Patch::parse(input) else { return false };
        if let Some(condition) = patch.condition() {
            // It may be anything; reading it must do no harm.
            query::parse_predicate(condition).map(|query| query.matches(&document)).ok();
        }
        if let Ok(patched) = patch.apply(&document) {
            let written = serde_json::to_vec(&patched).expect("what was patched is JSON");
            serde_json::from_slice::<Value>(&written).expect("and can be read again");
        }
        true
    });
}

#[test]
fn binary_bodies() {
    let values: [&[u8]; 8] = [
        &[0xD0],
        &[0x82, 0x68, 0x69],
        &[0xC0, 0x05, b'h', b'e', b'l', b'l', b'o'],
        &[0xCC, 0, 0, 0, 0, 0, 0, 0x0C, 0x40],
        &[0x71, 0x01, 0x00, 0x66, 0x6F, 0x6F],
        &[0xC7, 0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
        &[0xE0],
        &[0xE8],
    ];
    let corpus: Vec<Vec<u8>> = values.iter().map(|value| [&[0x80], *value].concat()).collect();
    fuzz("binary bodies", &corpus, &[], |input| {
        let Ok(written) = binary_json::to_text(input) else { return false };
        serde_json::from_slice::<&serde_json::value::RawValue>(&written).expect("what was decoded is JSON");
        true
    });
}

#[test]
fn partition_keys() {
    let corpus = ["[\"a\"]", "[1.5, null, true]", "[{}]", "[]", "[\"t\\u00e9\", -0.0, false]"];
    let words = ["\\ud83e\\udd80", "1e308", "null", "{}", ",", "\"", "[", "-0"];
    let definitions = [keys::v2(), keys::hierarchical(3), keys::definition(json!({"paths": ["/pk"]}))];
    fuzz("partition keys", &corpus, &words, |input| {
        let Some(Ok(key)) = text(input).map(partition_key::parse_header) else { return false };
        let header = key.to_header();
        let again = partition_key::parse_header(&header).unwrap_or_else(|error| panic!("{header}: {error}"));
        assert_eq!(again.to_header(), header, "a key is read back as it was written");
        for definition in &definitions {
            if key.0.is_empty() || definition.is_full(&key) {
                let (prefix, whole) =
                    (item_key::partition_prefix(definition, &key), item_key::item_key(definition, &key, "id"));
                assert!(whole.starts_with(&prefix) && whole.ends_with(b"id"));
                assert_eq!(whole, item_key::item_key(definition, &again, "id"), "{header}");
            }
            if definition.is_prefix(&key) {
                let (start, end) = item_key::epk_range(definition, &key);
                assert!(start < end, "{header}");
            }
        }
        true
    });
}

#[test]
fn continuation_tokens() {
    let place = Place { key: b"\x01key\xFFid".to_vec(), passed: 0, results: 3 };
    let tokens = [
        Token { seq: etagdb::CommitSeq::new(41), position: Position::Document(place) },
        Token { seq: etagdb::CommitSeq::new(u64::MAX), position: Position::Offset(7) },
    ];
    let corpus: Vec<String> = tokens.iter().map(|token| token.encode(b"what")).collect();
    fuzz("continuation tokens", &corpus, &["AAAA", "_", "-", "="], |input| {
        let Some(input) = text(input) else { return false };
        let Ok(token) = Token::decode(input, b"what") else { return false };
        let again = Token::decode(&token.encode(b"what"), b"what");
        assert_eq!(again.ok(), Some(token), "a token goes on where it says");
        assert!(Token::decode(input, b"other").is_err(), "and is of no use elsewhere");
        true
    });
}

#[test]
fn items() {
    let corpus = [
        r#"{"id":"a","pk":"p","n":1.0,"_etag":"x","_ts":5}"#,
        r#"{"id":"\u00e9\n","ttl":-1,"nested":{"list":[[],{},"\\",null]}}"#,
    ];
    let words = ["\"id\":", "\"ttl\":", "\\ud800", "\\u0000", "1e999", "[[[[[[[[", "}", "\"_rid\":", "\u{feff}"];
    fuzz("items", &corpus, &words, |input| {
        let Ok(text) = binary_json::as_text(input) else { return false };
        let Ok(item) = Item::parse(&text) else { return false };
        let stored =
            Body::parse(&item.stored.bytes).unwrap_or_else(|error| panic!("what is stored cannot be read: {error}"));
        assert_eq!(stored.id().ok().flatten(), Some(item.id));
        assert_eq!(stored.stored(), item.stored.bytes, "storing it again changes nothing");
        serde_json::from_slice::<Value>(&item.stored.bytes).is_ok()
    });
}

#[test]
fn queries() {
    let corpus = [
        "SELECT * FROM c WHERE c.n > @x AND ARRAY_CONTAINS(c.list, 1) ORDER BY c.n DESC OFFSET 1 LIMIT 2",
        "SELECT DISTINCT VALUE c.x.y FROM c JOIN l IN c.list WHERE NOT (c.s LIKE 'a%' OR c.s = \"b\")",
        "SELECT c.s AS t, COUNT(1) AS n FROM c GROUP BY c.s",
        "SELECT TOP 3 VALUE {a: c.n + 1, \"b\": [c.n * 2, -c.n]} FROM c WHERE c.n BETWEEN 1 AND 5 ?? true ? 1 : 2",
    ];
    let words = [" IN ", " EXISTS(", "SELECT ", " FROM ", "@x", "((((", "))))", "c.", "[0]", "'", "\"", "1e999"];
    let document = json!({"id": "a", "n": 3, "s": "ab", "list": [1, [2], {"z": null}], "x": {"y": {}}});
    fuzz("queries", &corpus, &words, |input| {
        let parse = |input| query::parse_with(input, vec![("@x".to_owned(), json!(1))], &[]);
        let Some(Ok(query)) = text(input).map(parse) else { return false };
        if query.streams() {
            query.apply(&document, &mut Vec::new()).ok();
        } else {
            let mut collector = query.collect_within(1 << 20);
            if collector.push(&document).is_ok() {
                collector.finish().ok();
            }
        }
        query.key_equality();
        true
    });
}

#[test]
fn definitions_and_signatures() {
    let corpus = [
        r#"{"id":"c","partitionKey":{"paths":["/a/b","/\"c\""],"kind":"MultiHash","version":2},"defaultTtl":5}"#,
        r#"{"id":"c","partitionKey":{"paths":["/pk"],"kind":"Hash"},"indexingPolicy":{"includedPaths":[{"path":"/*"}]}}"#,
    ];
    let words = [
        "\"paths\":[",
        "/",
        "Hash",
        "version",
        "defaultTtl",
        "content",
        "offerThroughput",
        "sig%3D",
        "type%3Dmaster%26",
    ];
    let key = MasterKey::from_base64(MasterKey::EMULATOR).expect("the well-known key");
    let date = "Sun, 06 Nov 1994 08:49:37 GMT";
    let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
    fuzz("definitions and signatures", &corpus, &words, |input| {
        let Some(junk) = text(input) else { return false };
        assert!(auth::verify(&key, "GET", "docs", "dbs/d", Some(date), None, junk, now).is_err(), "{junk:?} signs");
        auth::verify(&key, junk, junk, junk, Some(junk), Some(junk), junk, now).ok();
        junk.parse::<Chaos>().ok();
        offers::replacement(input).ok();
        metadata::database_id(input).ok();
        metadata::container(input).is_ok()
    });
}
