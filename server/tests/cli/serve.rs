//! `etagdb serve`: the ready line, signals, and what it says when it cannot start.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::ChildStderr;
use std::time::SystemTime;

use etagdb_server::Signer;

use crate::support::{Place, Server, documents, import, kill, run, text};

#[test]
fn the_ready_line_names_the_real_port_and_sigterm_ends_in_order() {
    for signal in ["TERM", "INT"] {
        let place = Place::new();
        let server = place.serve();
        assert!(server.ready.starts_with("etagdb ready on http://127.0.0.1:"), "{}", server.ready);
        assert!(!server.ready.contains(":0 "), "{}", server.ready);
        assert!(server.ready.contains("durability sync"), "{}", server.ready);
        let (code, stdout, log) = server.end(signal);
        assert_eq!(code, Some(0), "{log}");
        assert_eq!(stdout, "", "the ready line is the only one");
        assert!(log.contains("the store is closed"), "{log}");
    }
}

/// Sends the head of a request that makes database `d`, and waits until the server asks for its body.
fn begin_request(server: &Server, body: &str) -> TcpStream {
    let date = httpdate::fmt_http_date(SystemTime::now());
    let authorization = Signer::new(None).unwrap().authorization("POST", "dbs", "", &date);
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let length = body.len();
    let head = format!(
        "POST /dbs HTTP/1.1\r\nhost: localhost\r\nauthorization: {authorization}\r\nx-ms-date: {date}\r\n\
         x-ms-version: 2020-07-15\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = [0; 25];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(text(&answer), "HTTP/1.1 100 Continue\r\n\r\n");
    stream
}

/// Waits until the server has said in its log that it ends.
fn ask_to_end(server: &mut Server) -> BufReader<ChildStderr> {
    kill(&server.child, "TERM");
    let mut log = BufReader::new(server.child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("SIGTERM") {
        line.clear();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "the log ended");
    }
    log
}

#[test]
fn an_accepted_request_is_answered_before_the_server_ends() {
    let place = Place::new();
    let mut server = place.serve();
    let body = "{\"id\":\"d\"}";
    let mut stream = begin_request(&server, body);
    let _log = ask_to_end(&mut server);
    stream.write_all(body.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_second_signal_ends_the_server_at_once() {
    let place = Place::new();
    let mut server = place.serve();
    // Its body never comes, so an end in order would wait for it.
    let _stream = begin_request(&server, "{\"id\":\"d\"}");
    let mut log = ask_to_end(&mut server);
    kill(&server.child, "TERM");
    assert_eq!(server.child.wait().unwrap().code(), Some(1));
    let mut rest = String::new();
    log.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("a second signal (SIGTERM)"), "{rest}");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let place = Place::new();
    let server = place.serve();
    let other = place.path("other");
    let (code, stdout, stderr) = run(&["serve", "--data", &other, "--listen", server.address()]);
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.contains(&format!("cannot listen on {}", server.address())), "{stderr}");
    assert!(stderr.contains("--listen"), "{stderr}");
}

#[test]
fn a_store_in_use_is_named_with_the_way_out() {
    let place = Place::new();
    let server = place.serve();
    let data = place.path("data");
    let (code, _, stderr) = run(&["serve", "--data", &data, "--listen", "127.0.0.1:0"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("in use by") && stderr.contains(&data) && stderr.contains("--data"), "{stderr}");
    let input = place.input("input.ndjson", &documents(1));
    let output = import(&["--data", &data], &[&input]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("in use by") && stderr.contains("--url"), "{stderr}");
    drop(server);
}
