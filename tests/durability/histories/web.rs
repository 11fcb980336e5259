//! The server as a process that can be killed, and a connection to it that can break. Every failure of a connection is an
//! error value here, for it is what the tests are about.

use std::io::{self, BufRead, BufReader, Error, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::SystemTime;

use etagdb_server::Signer;
use serde_json::Value;

use super::PATIENCE;
use crate::recorder::memory_dir;

/// A running `etagdb serve` that drops an answer or a connection now and then.
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    dir: Option<tempfile::TempDir>,
}

impl Server {
    pub(crate) fn start() -> Server {
        let dir = memory_dir();
        let (child, address) = spawn(&dir);
        Server { child, address, dir: Some(dir) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// SIGKILL, and another one on the same store.
    pub(crate) fn kill_and_start(&mut self) {
        self.child.kill().expect("a process that runs");
        self.child.wait().expect("its end");
        (self.child, self.address) = spawn(self.dir.as_ref().expect("not killed for good"));
    }

    /// SIGKILL for good; what is left of the store is below the directory.
    pub(crate) fn kill(mut self) -> tempfile::TempDir {
        self.dir.take().expect("not killed before")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(dir: &tempfile::TempDir) -> (Child, SocketAddr) {
    let mut child = Command::new(crate::binary::find())
        .args(["serve", "--listen", "127.0.0.1:0", "--chaos=drop=0.01,reset=0.005", "--data"])
        .arg(dir.path().join("store"))
        .env("ETAGDB_LOG", "error")
        .env_remove("ETAGDB_KEY")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("spawn");
    let mut ready = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut ready).expect("a line");
    let address = ready.split_once("http://").and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok());
    (child, address.unwrap_or_else(|| panic!("not a ready line: {ready:?}")))
}

pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    signer: Signer,
}

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The etag, without its quotes.
    pub(crate) fn etag(&self) -> Option<String> {
        self.header("etag").map(|etag| etag.trim_matches('"').to_owned())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> io::Result<Connection> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let signer = Signer::new(None).expect("the well-known key");
        Ok(Connection { stream: BufReader::new(stream), signer })
    }

    /// Sends a signed request and reads the answer.
    pub(crate) fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> io::Result<Reply> {
        let date = httpdate::fmt_http_date(SystemTime::now());
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        // A list is signed as its parent's.
        let link = parts[..parts.len() / 2 * 2].join("/");
        let kind = if parts.len() % 2 == 1 { parts[parts.len() - 1] } else { parts[parts.len() - 2] };
        let signature = self.signer.authorization(method, kind, &link, &date);
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nx-ms-date: {date}\r\n");
        request.push_str(&format!("authorization: {signature}\r\ncontent-length: {}\r\n", body.len()));
        headers.iter().for_each(|(name, value)| request.push_str(&format!("{name}: {value}\r\n")));
        request.push_str("\r\n");
        request.push_str(body);
        self.stream.get_mut().write_all(request.as_bytes())?;
        let status = self.line()?.split(' ').nth(1).and_then(|status| status.parse().ok());
        let mut reply = Reply { status: status.ok_or_else(broken)?, headers: Vec::new(), body: Vec::new() };
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            reply.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        if reply.status != 204 && reply.status != 304 {
            let len = reply.header("content-length").and_then(|len| len.parse().ok()).ok_or_else(broken)?;
            reply.body = vec![0; len];
            self.stream.read_exact(&mut reply.body)?;
        }
        Ok(reply)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        if line.ends_with('\n') { Ok(line.trim_end().to_owned()) } else { Err(broken()) }
    }
}

fn broken() -> Error {
    Error::from(io::ErrorKind::UnexpectedEof)
}
