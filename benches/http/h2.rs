//! A connection that speaks HTTP/2 from its first byte, with one stream at a time.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::{self, SendRequest};
use http::header::{HeaderName, HeaderValue, IF_MATCH};
use tokio::net::TcpStream;

use crate::load::{Answer, Request};

pub(crate) struct Http2 {
    sender: SendRequest<Bytes>,
    requests: Vec<(http::Request<()>, Bytes)>,
}

fn prepare(server: SocketAddr, request: &Request) -> (http::Request<()>, Bytes) {
    let mut head = http::Request::new(());
    *head.method_mut() = request.method.parse().expect("a method");
    *head.uri_mut() = format!("http://{server}{}", request.path).parse().expect("a URI");
    *head.version_mut() = http::Version::HTTP_2;
    // Here the authority says what the field `host` says in HTTP/1.1.
    for (name, value) in request.headers.iter().filter(|(name, _)| *name != "host") {
        let value = HeaderValue::from_str(value).expect("a header's value");
        head.headers_mut().insert(HeaderName::from_static(name), value);
    }
    (head, request.body.clone())
}

impl Http2 {
    pub(crate) async fn connect(server: SocketAddr, requests: &[Request]) -> io::Result<Http2> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = client::handshake(stream).await.map_err(io::Error::other)?;
        tokio::spawn(async move {
            // It ends when the load does.
            let _ = connection.await;
        });
        Ok(Http2 { sender, requests: requests.iter().map(|request| prepare(server, request)).collect() })
    }

    pub(crate) async fn send(&mut self, number: usize, if_match: Option<&str>) -> io::Result<Answer> {
        let (head, body) = &self.requests[number];
        let (mut head, body) = (head.clone(), body.clone());
        if let Some(etag) = if_match {
            head.headers_mut().insert(IF_MATCH, HeaderValue::from_str(etag).map_err(io::Error::other)?);
        }
        let mut sender = self.sender.clone().ready().await.map_err(io::Error::other)?;
        let (response, mut sending) = sender.send_request(head, body.is_empty()).map_err(io::Error::other)?;
        if !body.is_empty() {
            sending.send_data(body, true).map_err(io::Error::other)?;
        }
        let response = response.await.map_err(io::Error::other)?;
        let status = response.status().as_u16();
        let etag = response.headers().get("etag").and_then(|etag| etag.to_str().ok()).map(str::to_owned);
        let mut body = response.into_body();
        let mut body_bytes = 0;
        while let Some(data) = body.data().await {
            let data = data.map_err(io::Error::other)?;
            body_bytes += data.len();
            body.flow_control().release_capacity(data.len()).map_err(io::Error::other)?;
        }
        Ok(Answer { status, etag, body_bytes })
    }
}
