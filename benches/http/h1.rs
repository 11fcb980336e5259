//! A connection that speaks HTTP/1.1 and does as little as possible: requests are bytes made beforehand, and of an answer
//! only its status, length and etag are read.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::load::{Answer, Request};

/// A request as it goes over the wire, and where its condition stands in it.
struct Prepared {
    bytes: Vec<u8>,
    etag_at: Option<usize>,
}

pub(crate) struct Http1 {
    stream: TcpStream,
    requests: Vec<Prepared>,
    answer: Vec<u8>,
}

fn prepare(request: &Request) -> Prepared {
    let mut text = format!("{} {} HTTP/1.1\r\n", request.method, request.path);
    for (name, value) in &request.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    let mut etag_at = None;
    if let Some(etag) = &request.if_match {
        text.push_str("if-match: ");
        etag_at = Some(text.len());
        text.push_str(&format!("{etag}\r\n"));
    }
    if request.method != "GET" {
        text.push_str(&format!("content-length: {}\r\n", request.body.len()));
    }
    text.push_str("\r\n");
    Prepared { bytes: [text.as_bytes(), &request.body].concat(), etag_at }
}

impl Http1 {
    pub(crate) async fn connect(server: SocketAddr, requests: &[Request]) -> io::Result<Http1> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let requests = requests.iter().map(prepare).collect();
        Ok(Http1 { stream, requests, answer: Vec::with_capacity(16 * 1024) })
    }

    /// Sends one of the prepared requests.
    pub(crate) async fn send(&mut self, number: usize, if_match: Option<&str>) -> io::Result<Answer> {
        let request = &mut self.requests[number];
        if let (Some(etag), Some(at)) = (if_match, request.etag_at) {
            request.bytes[at..at + etag.len()].copy_from_slice(etag.as_bytes());
        }
        self.stream.write_all(&request.bytes).await?;
        self.read().await
    }

    /// Sends a request that was not prepared.
    pub(crate) async fn send_once(&mut self, request: &Request) -> io::Result<Answer> {
        self.stream.write_all(&prepare(request).bytes).await?;
        self.read().await
    }

    async fn read(&mut self) -> io::Result<Answer> {
        self.answer.clear();
        loop {
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let Some(end) = self.answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
            let head = std::str::from_utf8(&self.answer[..end]).map_err(io::Error::other)?;
            let field = |name: &str| {
                let mut lines = head.split("\r\n").skip(1).filter_map(|line| line.split_once(": "));
                lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
            };
            let length = field("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            let status = head.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
            let answer = Answer { status, etag: field("etag").map(str::to_owned), body_bytes: length };
            let missing = (end + 4 + length).saturating_sub(self.answer.len());
            if missing > 0 {
                let from = self.answer.len();
                self.answer.resize(from + missing, 0);
                self.stream.read_exact(&mut self.answer[from..]).await?;
            }
            return Ok(answer);
        }
    }
}
