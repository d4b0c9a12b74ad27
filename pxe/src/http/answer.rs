//! From an HTTP request to a response. No socket.

use std::net::Ipv4Addr;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::header::{
    ACCEPT_RANGES, ALLOW, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderValue, IF_RANGE, RANGE,
};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};

use crate::catalog::{Catalog, Content, Request as Asked};
use crate::events::{BootEvent, Events, Service};
use crate::http::body::FileBody;
use crate::http::places::Taking;
use crate::http::range::{Wanted, wanted};
use crate::names;

/// A response whose body is a file or one line of text.
pub(super) type Answer = Response<Either<FileBody, Full<Bytes>>>;

/// Both addresses of a connection, and the record of the bytes that it takes.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) addr: Ipv4Addr,
    pub(super) local: Ipv4Addr,
    pub(super) taking: Taking,
}

/// Answers one request. Ignores the request's body and does not wait for it.
pub(super) async fn answer<B>(
    request: Request<B>,
    peer: Peer,
    catalog: Arc<Catalog>,
    events: Events,
) -> Answer {
    let is_head = match *request.method() {
        Method::GET => false,
        Method::HEAD => true,
        _ => {
            let mut refusal = line(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD only\n");
            refusal
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refusal;
        }
    };
    let name = decoded(request.uri().path());
    let plain = names::plain(&name).unwrap_or_default();
    let asked = Asked {
        peer: peer.addr,
        local: peer.local,
    };
    let found = tokio::task::spawn_blocking(move || catalog.find(&name, asked)).await;
    let content = match found {
        Ok(Ok(Some(content))) => content,
        Ok(Ok(None)) => return line(StatusCode::NOT_FOUND, "no such file\n"),
        Ok(Err(err)) => {
            events.warn(format!("HTTP to {}: {plain}: {err}", peer.addr));
            return line(StatusCode::INTERNAL_SERVER_ERROR, "the file cannot be read\n");
        }
        Err(_) => return line(StatusCode::INTERNAL_SERVER_ERROR, "stopping\n"),
    };
    let wanted = if is_head {
        // RFC 9110 §14.2 defines Range for GET only. Firmware that sizes a file by HEAD wants the whole
        // length.
        Wanted::All
    } else {
        part_of(request.headers(), content.len())
    };
    file(content, wanted, is_head, plain, peer, events)
}

fn part_of(headers: &HeaderMap, len: u64) -> Wanted {
    // Our responses have no validators, so none can match. RFC 9110 §13.1.5 then requires the whole file.
    if headers.contains_key(IF_RANGE) {
        return Wanted::All;
    }
    match headers.get(RANGE).and_then(|value| value.to_str().ok()) {
        Some(header) => wanted(header, len),
        None => Wanted::All,
    }
}

fn file(content: Content, wanted: Wanted, is_head: bool, name: String, peer: Peer, events: Events) -> Answer {
    let len = content.len();
    let (status, range) = match wanted {
        Wanted::All => (StatusCode::OK, 0..len),
        Wanted::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Wanted::Beyond => {
            let mut refusal = line(StatusCode::RANGE_NOT_SATISFIABLE, "the file has no such bytes\n");
            insert(&mut refusal, CONTENT_RANGE, &format!("bytes */{len}"));
            return refusal;
        }
    };
    let bytes = range.end - range.start;
    let content_type = content_type(&name);
    let body = if is_head {
        Either::Right(Full::default())
    } else {
        let (told, began) = (range.clone(), Instant::now());
        let finished = move || events.tell(fetched(peer.addr, name, &told, began.elapsed()));
        Either::Left(FileBody::new(
            content,
            range.clone(),
            peer.taking,
            Box::new(finished),
        ))
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes));
    if status == StatusCode::PARTIAL_CONTENT {
        insert(
            &mut response,
            CONTENT_RANGE,
            &format!("bytes {}-{}/{len}", range.start, range.end - 1),
        );
    }
    response
}

fn fetched(peer: Ipv4Addr, file: String, range: &Range<u64>, took: Duration) -> BootEvent {
    BootEvent::Fetched {
        peer: peer.into(),
        file,
        bytes: range.end - range.start,
        service: Service::Http,
        took,
    }
}

/// Content type of a file. UEFI HTTP boot recognizes a program by the end of its name or by this type (UEFI
/// 2.10 §24.7.7.2).
fn content_type(name: &str) -> &'static str {
    if name.ends_with(".efi") {
        "application/efi"
    } else {
        "application/octet-stream"
    }
}

fn line(status: StatusCode, text: &'static str) -> Answer {
    let mut response = Response::new(Either::Right(Full::new(Bytes::from_static(text.as_bytes()))));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

fn insert(response: &mut Answer, name: hyper::header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// Decodes percent-encoding. A `%` without two hex digits stays as it is.
fn decoded(path: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let pair = behind.first_chunk::<2>().filter(|_| *first == b'%');
        let byte = pair
            .filter(|pair| pair.iter().all(u8::is_ascii_hexdigit))
            .and_then(|pair| std::str::from_utf8(pair).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &behind[2..] } else { behind };
    }
    decoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn percent_encoding_is_undone_once() {
        for (path, name) in [
            ("/a%2fb", &b"/a/b"[..]),
            ("/52%3A54", b"/52:54"),
            ("/%252e", b"/%2e"),
            ("/100%", b"/100%"),
            ("/%zz%4", b"/%zz%4"),
            ("/%ff%00", b"/\xff\0"),
        ] {
            assert_eq!(decoded(path), name);
        }
    }

    proptest! {
        #[test]
        fn any_path_is_decoded(path in ".{0,60}") {
            prop_assert!(decoded(&path).len() <= path.len());
        }
    }
}
