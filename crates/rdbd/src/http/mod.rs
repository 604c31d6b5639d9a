//! `http` in `rdbd.toml`: the page, the metrics and the state as JSON, for browsers and monitors. It answers questions only; nobody
//! need say who he is, so that it is off unless it is asked for.

mod own;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderValue,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rdb_watch::{Courses, OPENMETRICS_TYPE, PAGE_SCRIPT, Seen, openmetrics, page};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::node::Node;

/// Connections at once; for one more, the oldest one ends: who asks is answered in a moment, and who does not holds nobody up.
const CONNECTIONS_MAX: usize = 16;
/// How long a client may take for the head of its request.
const HEAD: Duration = Duration::from_secs(10);
/// How long a connection may last, whatever it asks for: what takes the answer byte by byte holds nothing up for ever.
const WHOLE: Duration = Duration::from_secs(60);
/// How long it takes until the address is tried again that could not be bound: the program before this one may still have it.
const AGAIN: Duration = Duration::from_secs(2);
/// Longest head of a request, in bytes.
const HEAD_MAX: usize = 16 * 1024;

/// What a browser may do with an answer: run the script and read the page from here, and nothing from anywhere else.
const POLICY: &str = "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'unsafe-inline'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What the answers are made of.
struct Site {
    node: Rc<Node>,
    address: SocketAddr,
    /// What the volumes have done, seen by whoever looks at the page: nothing is kept while nobody does.
    courses: RefCell<Courses>,
    begun: Instant,
}

/// Serves on this address for as long as the daemon runs.
pub(crate) async fn serve(node: Rc<Node>, address: SocketAddr) {
    let listener = bind(address).await;
    tracing::info!("http: serves the page and the metrics on {address}");
    let site = Rc::new(Site {
        node,
        address,
        courses: RefCell::default(),
        begun: Instant::now(),
    });
    let mut running: VecDeque<JoinHandle<()>> = VecDeque::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                running.retain(|task| !task.is_finished());
                if running.len() >= CONNECTIONS_MAX
                    && let Some(oldest) = running.pop_front()
                {
                    oldest.abort();
                }
                let site = Rc::clone(&site);
                running.push_back(tokio::task::spawn_local(connection(site, stream)));
            }
            Err(error) => {
                // Descriptors are short, or the client has gone.
                tracing::debug!("http: {error}");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// The listener, whenever it can be had.
async fn bind(address: SocketAddr) -> TcpListener {
    let mut told: Option<io::ErrorKind> = None;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) => {
                if told.replace(error.kind()) != Some(error.kind()) {
                    tracing::error!(
                        "http: {address} can not be served, it is tried again: {error}"
                    );
                }
                sleep(AGAIN).await;
            }
        }
    }
}

async fn connection(site: Rc<Site>, stream: TcpStream) {
    let service = service_fn(|request: Request<Incoming>| {
        let site = Rc::clone(&site);
        async move { Ok::<_, Infallible>(answer(&site, &request).await) }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_MAX);
    let served = builder.serve_connection(TokioIo::new(stream), service);
    match timeout(WHOLE, served).await {
        Ok(Ok(())) | Err(_) => {}
        Ok(Err(error)) => tracing::debug!("http: {error}"),
    }
}

async fn answer(site: &Site, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let mut hosts = request.headers().get_all(HOST).iter();
    // Of two it is not known which one is meant.
    let host = hosts.next().filter(|_| hosts.next().is_none());
    if let Err((status, text)) = check(request.method(), host, site.address) {
        return plain(status, text);
    }
    let node = &site.node;
    let version = env!("CARGO_PKG_VERSION");
    let content = match request.uri().path() {
        "/" | "/index.html" => {
            let report = node.status().await;
            let seen = Seen {
                report: &report,
                version,
            };
            let mut courses = site.courses.borrow_mut();
            let now_ms = u64::try_from(site.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            courses.note(now_ms, &report);
            ("text/html; charset=utf-8", page(seen, &courses))
        }
        "/page.js" => ("text/javascript; charset=utf-8", PAGE_SCRIPT.to_owned()),
        "/metrics" => {
            let report = node.status().await;
            let seen = Seen {
                report: &report,
                version,
            };
            (OPENMETRICS_TYPE, openmetrics(seen, own::figures()))
        }
        "/status.json" => match serde_json::to_string_pretty(&node.status().await) {
            Ok(text) => ("application/json", text + "\n"),
            Err(error) => return plain(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        },
        _ => {
            return plain(
                StatusCode::NOT_FOUND,
                "there are /, /metrics and /status.json",
            );
        }
    };
    let (kind, text) = content;
    let mut response = Response::new(Full::new(Bytes::from(text)));
    dress(&mut response, kind);
    response
}

/// Whether a request is served at all. An address of this machine alone is only served by such a name: a page from elsewhere, whose name
/// its owner lets point here, would read it through the browser of somebody who sits here.
fn check(
    method: &Method,
    host: Option<&HeaderValue>,
    address: SocketAddr,
) -> Result<(), (StatusCode, &'static str)> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Err((
            StatusCode::METHOD_NOT_ALLOWED,
            "questions only: GET and HEAD",
        ));
    }
    let named = host.and_then(|host| host.to_str().ok());
    if address.ip().is_loopback() && !named.is_some_and(is_this_machine) {
        return Err((
            StatusCode::FORBIDDEN,
            "this address is served by the names localhost, 127.0.0.1 and [::1] alone",
        ));
    }
    Ok(())
}

/// Whether a `Host` is this machine by its own name for itself.
fn is_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let number = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || number.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(format!("{text}\n"))));
    *response.status_mut() = status;
    dress(&mut response, "text/plain; charset=utf-8");
    response
}

/// The headers of every answer.
fn dress(response: &mut Response<Full<Bytes>>, kind: &'static str) {
    let is_refused = response.status() == StatusCode::METHOD_NOT_ALLOWED;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if is_refused {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(method: &Method, host: Option<&str>, address: &str) -> Option<StatusCode> {
        let host = host.map(|host| HeaderValue::from_str(host).unwrap());
        check(method, host.as_ref(), address.parse().unwrap())
            .err()
            .map(|(status, _)| status)
    }

    #[test]
    fn only_questions_are_served() {
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
            assert_eq!(
                verdict(&method, Some("localhost"), "127.0.0.1:80"),
                Some(StatusCode::METHOD_NOT_ALLOWED)
            );
        }
        for method in [Method::GET, Method::HEAD] {
            assert_eq!(verdict(&method, Some("localhost"), "127.0.0.1:80"), None);
        }
    }

    #[test]
    fn a_strange_name_for_this_machine_is_refused() {
        for host in [
            "localhost",
            "LOCALHOST:9942",
            "127.0.0.1:9942",
            "[::1]:80",
            "127.9.9.9",
        ] {
            assert_eq!(
                verdict(&Method::GET, Some(host), "127.0.0.1:9942"),
                None,
                "{host}"
            );
        }
        for host in [
            Some("evil.example"),
            Some("localhost.evil.example:9942"),
            Some("127.0.0.1.evil.example"),
            Some("127.0.0.1:evil.example"),
            Some("localhost:9942@evil.example"),
            Some("evil.example:9942"),
            Some("10.0.0.1:9942"),
            Some("0.0.0.0"),
            Some(""),
            None,
        ] {
            let refused = Some(StatusCode::FORBIDDEN);
            assert_eq!(
                verdict(&Method::GET, host, "[::1]:9942"),
                refused,
                "{host:?}"
            );
        }
        // Who serves the network has chosen to.
        assert_eq!(verdict(&Method::GET, Some("alice"), "10.0.0.1:9942"), None);
    }
}
