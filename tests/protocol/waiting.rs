//! Writes that wait for the disk: no thread waits with them, and when their client goes away they are done whole or not
//! at all.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::SendRequest;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::served::Served;
use crate::support::{Client, Host};

const ITEMS: &str = "/dbs/d/colls/c/docs";
const KEY: (&str, &str) = ("x-ms-documentdb-partitionkey", "[\"p\"]");
const UPSERT: (&str, &str) = ("x-ms-documentdb-is-upsert", "true");
const BATCH: (&str, &str) = ("x-ms-cosmos-is-batch-request", "true");

/// A signed POST of items, to be sent over HTTP/2.
struct Post {
    address: SocketAddr,
    /// The date and the signature.
    signed: [(&'static str, String); 2],
}

impl Post {
    fn new(client: &Client, address: SocketAddr) -> Post {
        let request = String::from_utf8(client.request("POST", ITEMS, &[], b"")).expect("text");
        let signed = ["x-ms-date", "authorization"].map(|name| {
            let found = request.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            (name, found.expect("a header").to_owned())
        });
        Post { address, signed }
    }

    async fn connect(&self) -> SendRequest<Bytes> {
        let stream = tokio::net::TcpStream::connect(self.address).await.expect("a connection");
        let (requests, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        tokio::spawn(connection);
        requests
    }

    /// Sends a body, and returns the answer to come and the stream.
    async fn send(
        &self,
        requests: &SendRequest<Bytes>,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> (h2::client::ResponseFuture, h2::SendStream<Bytes>) {
        let mut request = http::Request::post(format!("http://{}{ITEMS}", self.address)).header(KEY.0, KEY.1);
        for (name, value) in &self.signed {
            request = request.header(*name, value);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut ready = requests.clone().ready().await.expect("a connection that takes requests");
        let request = request.body(()).expect("a request");
        let (response, mut stream) = ready.send_request(request, false).expect("a stream");
        stream.send_data(Bytes::from(body.to_string()), true).expect("the body is sent");
        (response, stream)
    }
}

#[test]
fn two_thousand_writes_at_once_have_no_thread_each() {
    const CONNECTIONS: usize = 10;
    const STREAMS: usize = 200;
    let served = Served::start();
    let mut client = Client::of(served.address());
    client.make_container();
    let post = Post::new(&client, served.address());
    let before = served.threads();
    let mut most = before;
    Runtime::new().expect("a runtime").block_on(async {
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(post.connect().await);
        }
        // First they make the items, then they replace what is in memory.
        for round in 0..2 {
            let mut answers = Vec::new();
            for stream in 0..STREAMS {
                for (number, requests) in connections.iter().enumerate() {
                    let item = json!({"id": format!("{number}-{stream}"), "pk": "p", "round": round});
                    answers.push(post.send(requests, &[UPSERT], &item).await.0);
                }
            }
            for answer in answers {
                let status = answer.await.expect("an answer").status().as_u16();
                assert_eq!(status, if round == 0 { 201 } else { 200 });
            }
            // Threads that were needed are still there: the runtime keeps them for seconds.
            most = most.max(served.threads());
        }
    });
    // Some judge what is not in memory; and one that has just done so is not free for the next at once, least of all on a
    // busy machine.
    let writes = (CONNECTIONS * STREAMS) as u64;
    assert!(most <= before + writes / 10, "{before} threads before, {most} for {writes} writes");
    assert!(served.stop().success());
}

#[test]
fn a_client_that_goes_away_leaves_a_write_done_whole_or_not_at_all() {
    let host = Host::start();
    let mut client = host.with_container();
    let post = Post::new(&client, host.address());
    let runtime = Runtime::new().expect("a runtime");
    let batch = |number: usize| {
        let create = |part: &str| {
            let item = json!({"id": format!("{part}{number}"), "pk": "p"});
            json!({"operationType": "Create", "resourceBody": item})
        };
        json!([create("a"), create("b")])
    };
    let (mut done, mut undone) = (0, 0);
    for number in 0..150 {
        let key = format!("request {number}");
        let named = ("idempotency-key", key.as_str());
        runtime.block_on(async {
            let requests = post.connect().await;
            let (answer, mut stream) = post.send(&requests, &[BATCH, named], &batch(number)).await;
            // A little later each time, so that it is met everywhere on its way.
            for _ in 0..number % 50 {
                tokio::task::yield_now().await;
                tokio::net::TcpStream::connect(host.address()).await.expect("a connection");
            }
            stream.send_reset(h2::Reason::CANCEL);
            drop(answer);
        });
        // Sent again, it is answered as if nothing had happened, and has happened once.
        let again = client.post(ITEMS, &[KEY, BATCH, named], &batch(number)).expect_status(200);
        match again.header("idempotency-replayed") {
            Some(_) => done += 1,
            None => undone += 1,
        }
        for (part, answer) in ["a", "b"].iter().zip(again.json().as_array().expect("a list")) {
            assert_eq!(answer["statusCode"], 201, "{answer}");
            let path = format!("{ITEMS}/{part}{number}");
            let versions = client.get(&path, &[KEY, ("x-etagdb-versions", "true")]).expect_status(200);
            assert_eq!(versions.json()["_count"], 1, "{part}{number} was written once");
            assert_eq!(client.get(&path, &[KEY]).etag(), answer["eTag"].as_str().expect("an etag"));
        }
    }
    println!("of 150 writes whose clients went away {done} had been done");
    assert_eq!(done + undone, 150);
    client.expect_alive();
}
