//! Requests of plugins in a whole relay: to what was granted and nothing else, within bounds.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Barrier;

use crate::asking::{answer, guest, lab};
use crate::lab::Lab;

/// A web server that answers by path.
struct Server {
    port: u16,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let connections = Arc::new(AtomicUsize::new(0));
        let requests = Arc::new(AtomicUsize::new(0));
        let together = Arc::new(Barrier::new(3));
        let (seen, asked) = (Arc::clone(&connections), Arc::clone(&requests));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                seen.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, Arc::clone(&together), Arc::clone(&asked)));
            }
        });
        Self {
            port,
            connections,
            requests,
        }
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

/// Answers requests until the client goes.
async fn serve(stream: TcpStream, together: Arc<Barrier>, requests: Arc<AtomicUsize>) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await.unwrap_or(0) == 0 {
                return;
            }
        }
        requests.fetch_add(1, Ordering::SeqCst);
        let field = |name: &str| {
            let mut lines = head.lines().filter_map(|line| line.split_once(": "));
            let found = lines.find(|(found, _)| found.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.to_owned()).unwrap_or_default()
        };
        let mut body = vec![0; field("content-length").parse().unwrap_or(0)];
        if stream.read_exact(&mut body).await.is_err() {
            return;
        }
        let ok = |text: &str| {
            format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}",
                text.len()
            )
        };
        let path = head.split(' ').nth(1).expect("a target");
        let response = match path {
            "/hello" => ok("hello"),
            "/length" => ok(&body.len().to_string()),
            "/authorization" => ok(&field("authorization")),
            "/host" => ok(&format!("{} {}", field("host"), field("x-test"))),
            "/together" => {
                together.wait().await;
                ok("together")
            }
            "/closes" => ok("bye").replace("OK\r\n", "OK\r\nConnection: close\r\n"),
            "/redirect" => {
                "HTTP/1.1 302 Found\r\nLocation: /hello\r\nContent-Length: 0\r\n\r\n".to_owned()
            }
            "/large" => ok(&"x".repeat(100_000)),
            "/endless" => {
                let mut stream = stream.into_inner();
                let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
                let mut sent = stream.write_all(head.as_bytes()).await;
                while sent.is_ok() {
                    sent = stream.write_all(b"4\r\nmore\r\n").await;
                }
                return;
            }
            "/garbage" => "this is no HTTP\r\n\r\n".to_owned(),
            "/never" => std::future::pending().await,
            _ => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
        };
        if stream.write_all(response.as_bytes()).await.is_err() || path == "/closes" {
            return;
        }
    }
}

/// A laboratory whose guest may ask the server, by its address and by the name `inside.test`.
async fn lab_with(server: &Server, grants: &str, commands: &[(&str, &str)]) -> Lab {
    let port = server.port;
    let commands: Vec<(&str, String)> = commands
        .iter()
        .map(|(name, command)| (*name, command.replace("PORT", &port.to_string())))
        .collect();
    let commands: Vec<(&str, &str)> = commands
        .iter()
        .map(|(name, command)| (*name, command.as_str()))
        .collect();
    let origins = format!("http = [\"http://127.0.0.1:{port}\", \"http://inside.test:{port}\"]\n");
    let grants = if grants.contains("http =") {
        grants.replace("PORT", &port.to_string())
    } else {
        origins + grants
    };
    lab(&guest(&grants, &commands)).await
}

async fn counted(lab: &Lab, result: &str) -> f64 {
    let name = "waypost_plugin_http_requests_total{plugin=\"resources\"";
    lab.metric(&format!("{name},result=\"{result}\"}}")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_was_granted_answers() {
    let server = Server::start().await;
    let commands = [
        ("hello", "http get http://127.0.0.1:PORT/hello"),
        ("head", "http head http://127.0.0.1:PORT/hello"),
        ("missing", "http get http://127.0.0.1:PORT/missing?x=1"),
        ("post", "post 5000 http://127.0.0.1:PORT/length"),
        ("host", "field x-test tested http://127.0.0.1:PORT/host"),
        ("closes", "http get http://127.0.0.1:PORT/closes"),
    ];
    let lab = lab_with(&server, "", &commands).await;
    assert_eq!(answer(&lab, "hello").await, "200 hello");
    assert_eq!(answer(&lab, "missing").await, "404");
    assert_eq!(answer(&lab, "post").await, "200 5000");
    let host = format!("200 127.0.0.1:{} tested", server.port);
    assert_eq!(answer(&lab, "host").await, host);
    assert_eq!(
        server.connections.load(Ordering::SeqCst),
        1,
        "it is kept open"
    );
    for _ in 0..3 {
        assert_eq!(answer(&lab, "closes").await, "200 bye");
    }
    assert_eq!(answer(&lab, "hello").await, "200 hello");
    assert_eq!(counted(&lab, "ok").await, 8.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_go_out_at_once() {
    let server = Server::start().await;
    let url = "http://127.0.0.1:PORT/together";
    let many = format!("many {url} {url} {url}");
    let lab = lab_with(&server, "", &[("many", &many)]).await;
    // The server answers none before it has all three.
    let answers = answer(&lab, "many").await;
    assert_eq!(answers, "200 together; 200 together; 200 together");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_granted_is_not_asked() {
    let (server, other) = (Server::start().await, Server::start().await);
    let elsewhere = format!("http get http://127.0.0.1:{}/hello", other.port);
    let commands = [
        ("port", elsewhere.as_str()),
        ("scheme", "http get https://127.0.0.1:PORT/hello"),
        ("name", "http get http://localhost:PORT/hello"),
        ("user", "http get http://127.0.0.1:PORT@evil.test/hello"),
        ("file", "http get file:///etc/passwd"),
        ("redirect", "http get http://127.0.0.1:PORT/redirect"),
        (
            "smuggle",
            "field x-test a\\r\\nhost:evil http://127.0.0.1:PORT/host",
        ),
        ("host", "field host evil http://127.0.0.1:PORT/host"),
        (
            "length",
            "field content-length 3 http://127.0.0.1:PORT/host",
        ),
    ];
    let lab = lab_with(&server, "", &commands).await;
    for command in ["port", "scheme", "name"] {
        let denied = answer(&lab, command).await;
        assert!(
            denied.starts_with("HttpError::Denied("),
            "{command}: {denied}"
        );
    }
    for command in ["user", "file", "smuggle", "host", "length"] {
        let refused = answer(&lab, command).await;
        assert!(
            refused.starts_with("HttpError::Protocol("),
            "{command}: {refused}"
        );
    }
    assert_eq!((server.requests(), other.requests()), (0, 0));
    // A redirect is an answer like another.
    assert_eq!(answer(&lab, "redirect").await, "302");
    assert_eq!(server.requests(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leads_inside_is_followed_only_with_leave() {
    let server = Server::start().await;
    let commands = [
        ("inside", "http get http://inside.test:PORT/hello"),
        ("literal", "http get http://127.0.0.1:PORT/hello"),
        ("nowhere", "http get http://nowhere.test:PORT/hello"),
    ];
    let named = "http = [\"http://inside.test:PORT\", \"http://127.0.0.1:PORT\", \"http://nowhere.test:PORT\"]\n";
    let lab = lab_with(&server, named, &commands).await;
    let denied = answer(&lab, "inside").await;
    assert!(
        denied.contains("Denied") && denied.contains("127.0.0.1"),
        "{denied}"
    );
    assert_eq!(server.requests(), 0);
    assert_eq!(answer(&lab, "literal").await, "200 hello");
    // The connection that the address has is not one for the name.
    let denied = answer(&lab, "inside").await;
    assert!(denied.starts_with("HttpError::Denied("), "{denied}");
    let nowhere = answer(&lab, "nowhere").await;
    assert!(nowhere.starts_with("HttpError::Connect("), "{nowhere}");
    assert_eq!(counted(&lab, "denied").await, 2.0);
    assert_eq!(counted(&lab, "connect").await, 1.0);
    let leave = lab.config.replace(
        "[plugin.grants]\n",
        "[plugin.grants]\nhttp_private = true\n",
    );
    lab.reload(&leave).await;
    assert_eq!(answer(&lab, "inside").await, "200 hello");
    // And is taken back again, with the connection still open.
    lab.reload(&lab.config).await;
    let denied = answer(&lab, "inside").await;
    assert!(denied.starts_with("HttpError::Denied("), "{denied}");
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_large_and_broken_answers_end() {
    let server = Server::start().await;
    let commands = [
        ("never", "http get http://127.0.0.1:PORT/never"),
        ("large", "http get http://127.0.0.1:PORT/large"),
        ("endless", "http get http://127.0.0.1:PORT/endless"),
        ("garbage", "http get http://127.0.0.1:PORT/garbage"),
        ("post", "post 20000 http://127.0.0.1:PORT/length"),
        ("hello", "http get http://127.0.0.1:PORT/hello"),
    ];
    let grants = "http_timeout = \"2s\"\nhttp_response_size = \"50kB\"\nhttp_request_size = \"10kB\"\n\
                  http_concurrency = 1\n";
    let lab = lab_with(&server, grants, &commands).await;
    assert_eq!(answer(&lab, "never").await, "HttpError::Timeout");
    assert_eq!(answer(&lab, "large").await, "HttpError::TooLarge");
    assert_eq!(answer(&lab, "endless").await, "HttpError::TooLarge");
    assert_eq!(answer(&lab, "post").await, "HttpError::TooLarge");
    let garbage = answer(&lab, "garbage").await;
    assert!(garbage.starts_with("HttpError::Protocol("), "{garbage}");
    assert_eq!(answer(&lab, "hello").await, "200 hello");
    for (result, count) in [
        ("timeout", 1.0),
        ("too_large", 3.0),
        ("protocol", 1.0),
        ("ok", 1.0),
    ] {
        assert_eq!(counted(&lab, result).await, count, "{result}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_goes_with_its_origin_and_nowhere_else() {
    let server = Server::start().await;
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("token");
    std::fs::write(&path, "geheim\n").expect("it is written");
    let port = server.port;
    let config = format!(
        "[[credential]]\nname = \"token\"\nfile = \"{0}\"\n\
         [[credential]]\nname = \"login\"\nfile = \"{0}\"\nscheme = \"basic\"\n{1}",
        path.display(),
        guest(
            &format!(
                "http = [{{ origin = \"http://127.0.0.1:{port}\", auth = [\"token\"] }}, \
                 \"http://inside.test:{port}\"]\nhttp_private = true"
            ),
            &[
                (
                    "token",
                    &format!("auth token http://127.0.0.1:{port}/authorization")
                ),
                (
                    "login",
                    &format!("auth login http://127.0.0.1:{port}/authorization")
                ),
                (
                    "other",
                    &format!("auth token http://inside.test:{port}/authorization")
                ),
                (
                    "none",
                    &format!("http get http://127.0.0.1:{port}/authorization")
                ),
            ]
        )
    );
    let lab = lab(&config).await;
    assert_eq!(answer(&lab, "token").await, "200 Bearer geheim");
    assert_eq!(answer(&lab, "none").await, "200");
    for command in ["login", "other"] {
        let denied = answer(&lab, command).await;
        assert!(
            denied.starts_with("HttpError::Denied("),
            "{command}: {denied}"
        );
        assert!(!denied.contains("geheim"), "{denied}");
    }
    // A secret is read anew with a reload.
    std::fs::write(&path, "neu\n").expect("it is written");
    lab.reload(&lab.config).await;
    assert_eq!(answer(&lab, "token").await, "200 Bearer neu");
    std::fs::write(&path, "\n").expect("it is written");
    let parsed = crate::lab::parse(lab.directory.path(), &lab.config);
    let refused = lab
        .relay
        .reload(parsed)
        .await
        .expect_err("there is no secret");
    assert!(
        refused.to_string().contains("credential token"),
        "{refused}"
    );
    assert_eq!(answer(&lab, "token").await, "200 Bearer neu");
}
