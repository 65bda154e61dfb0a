//! A laboratory: one relay in this process, an authoritative DNS server, next hops on their own
//! loopback addresses, and a client that speaks by hand.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use relay::{Clock, Config, Relay};
use tempfile::TempDir;
use testkit::dns::{DnsServer, Zone};
use testkit::virtual_mx::{Script, Step, VirtualMx};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// How long anything may take that should take a moment; only waited out when it is broken.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// Between two looks at what only an answer over HTTP shows.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// The relay with its surroundings.
pub(crate) struct Lab {
    pub(crate) dns: DnsServer,
    pub(crate) relay: Relay,
    pub(crate) directory: TempDir,
    pub(crate) config: String,
}

/// A laboratory that has not been opened yet.
pub(crate) struct Plan {
    zones: String,
    listen: String,
    extra: String,
    delivery: String,
    port: u16,
}

impl Plan {
    /// DNS zones as text; MX hosts listen on `port`.
    pub(crate) fn new(zones: &str, port: u16) -> Self {
        Self {
            zones: zones.to_owned(),
            listen: "listen = [\"127.0.0.1:0\"]".to_owned(),
            extra: String::new(),
            delivery: String::new(),
            port,
        }
    }

    /// More keys of `[delivery]`.
    pub(crate) fn delivery(mut self, keys: &str) -> Self {
        self.delivery.push_str(keys);
        self
    }

    /// Takes mail there, in place of any port of 127.0.0.1.
    pub(crate) fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = format!("listen = [\"{address}\"]");
        self
    }

    /// More configuration: whole tables.
    pub(crate) fn with(mut self, text: &str) -> Self {
        self.extra.push_str(text);
        self
    }

    /// These listeners and no others: `[[listener]]` tables.
    pub(crate) fn with_listeners(mut self, tables: &str) -> Self {
        self.listen.clear();
        self.with(tables)
    }

    /// Starts everything.
    pub(crate) async fn open(self) -> Lab {
        self.open_with("").await
    }

    /// Starts everything with more top-level keys.
    pub(crate) async fn open_with(self, top: &str) -> Lab {
        let dns = DnsServer::start([Zone::parse(&self.zones)]).await;
        let directory = tempfile::tempdir().expect("a temporary directory");
        let config = format!(
            r#"
hostname = "relay.test"
{}
relay_from = ["127.0.0.1"]
spool = "spool"
{top}
[dns]
servers = ["{}"]
loopback_mx = true
timeout = "500ms"
attempts = 1
ttl_floor = "0s"
[delivery]
port = {}
connect_timeout = "10s"
greeting_timeout = "500ms"
command_timeout = "2s"
{}
[admin]
listen = "127.0.0.1:0"
{}"#,
            self.listen,
            dns.addr(),
            self.port,
            self.delivery,
            self.extra
        );
        let relay = start(directory.path(), &config).await;
        Lab {
            dns,
            relay,
            directory,
            config,
        }
    }
}

/// Starts a relay whose configuration lies in `directory`.
pub(crate) async fn start(directory: &Path, config: &str) -> Relay {
    let config = parse(directory, config);
    match Relay::start(config, Clock::system()).await {
        Ok(relay) => relay,
        Err(error) => panic!("the relay does not start: {error}"),
    }
}

pub(crate) fn parse(directory: &Path, config: &str) -> Config {
    match Config::parse(config, directory.join("waypost.toml")) {
        Ok(config) => config,
        Err(errors) => panic!("{errors}"),
    }
}

impl Lab {
    /// Where the relay takes mail.
    pub(crate) fn smtp(&self) -> SocketAddr {
        self.relay
            .addresses()
            .first()
            .expect("there is a listener")
            .1
    }

    /// Sends a message from `me@sender.test` and gives the final reply.
    pub(crate) async fn send(&self, to: &str) -> String {
        self.send_from("me@sender.test", to).await
    }

    /// Sends a message and gives the final reply.
    pub(crate) async fn send_from(&self, from: &str, to: &str) -> String {
        let mut client = Client::begin(self.smtp(), from, &[to]).await;
        let reply = client
            .ask(&format!("Subject: to {to}\r\n\r\nHello {to}\r\n."), "250")
            .await;
        client.ask("QUIT", "221").await;
        reply
    }

    /// What the control socket says of the queue.
    pub(crate) async fn queue(&self) -> serde_json::Value {
        let text = http(self.control().await, "GET", "/queue").await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// What `waypost queue show` prints of a message.
    pub(crate) async fn story(&self, id: &str) -> String {
        let text = http(self.control().await, "GET", &format!("/queue/{id}")).await;
        let story: relay::admin::Story =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        story.to_string()
    }

    /// Waits until that is as wanted, and gives it.
    pub(crate) async fn wait_for_story(&self, id: &str, wanted: impl Fn(&str) -> bool) -> String {
        let waiting = async {
            loop {
                let story = self.story(id).await;
                if wanted(&story) {
                    return story;
                }
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        match tokio::time::timeout(LIMIT, waiting).await {
            Ok(story) => story,
            Err(_) => panic!("waited for another story than {}", self.story(id).await),
        }
    }

    /// A command to the control socket.
    pub(crate) async fn command(&self, path: &str) {
        http(self.control().await, "POST", path).await;
    }

    /// What the control socket answers: the status and the text.
    pub(crate) async fn ask_control(&self, method: &str, path: &str) -> (u16, String) {
        exchange(self.control().await, method, path).await
    }

    async fn control(&self) -> tokio::net::UnixStream {
        let path = relay::admin::control_path(&self.spool());
        tokio::net::UnixStream::connect(path)
            .await
            .expect("the control socket answers")
    }

    fn spool(&self) -> PathBuf {
        self.directory.path().join("spool")
    }

    /// Waits until the queue is as wanted, and gives it.
    pub(crate) async fn wait_for_queue(
        &self,
        what: &str,
        wanted: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        let waiting = async {
            loop {
                let queue = self.queue().await;
                if wanted(&queue) {
                    return queue;
                }
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        match tokio::time::timeout(LIMIT, waiting).await {
            Ok(queue) => queue,
            Err(_) => panic!("waited for {what}; the queue is {:#}", self.queue().await),
        }
    }

    /// Waits until the first message has been deferred, and gives the reason.
    pub(crate) async fn deferral(&self) -> String {
        let reason = |queue: &serde_json::Value| {
            queue["messages"][0]["reason"]
                .as_str()
                .map(ToOwned::to_owned)
        };
        let queue = self
            .wait_for_queue("a deferral", |queue| reason(queue).is_some())
            .await;
        reason(&queue).expect("it was waited for")
    }

    /// Waits until nothing is left in the queue.
    pub(crate) async fn wait_until_empty(&self) {
        self.wait_for_queue("an empty queue", |queue| queue["total"] == 0)
            .await;
    }

    /// Waits until the metric is as wanted.
    pub(crate) async fn wait_for_metric(&self, name: &str, wanted: impl Fn(f64) -> bool) {
        let waiting = async {
            while !wanted(self.metric(name).await) {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        if tokio::time::timeout(LIMIT, waiting).await.is_err() {
            panic!("waited for {name}; it is {}", self.metric(name).await);
        }
    }

    /// Takes this configuration instead.
    pub(crate) async fn reload(&self, config: &str) {
        let config = parse(self.directory.path(), config);
        if let Err(error) = self.relay.reload(config).await {
            panic!("the configuration is refused: {error}");
        }
    }

    /// The value of a metric with exactly these labels, 0 where it has not happened.
    pub(crate) async fn metric(&self, name_and_labels: &str) -> f64 {
        let stream = TcpStream::connect(self.relay.admin_address())
            .await
            .expect("it listens");
        let text = http(stream, "GET", "/metrics").await;
        text.lines()
            .find_map(|line| line.strip_prefix(name_and_labels)?.strip_prefix(' '))
            .map_or(0.0, |value| value.parse().expect("a metric is a number"))
    }

    /// Ends the relay and starts it again on the same spool.
    pub(crate) async fn restart(self) -> Self {
        self.relay.shutdown().await;
        let relay = start(self.directory.path(), &self.config).await;
        Self { relay, ..self }
    }
}

/// The path of a plugin or guest that `cargo xtask plugins` has built.
pub(crate) fn component(name: &str) -> String {
    let directory = std::env::var_os("WAYPOST_PLUGINS_DIR").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/plugins"),
        PathBuf::from,
    );
    let path = directory.join(format!("{name}.wasm"));
    assert!(
        path.is_file(),
        "{} is missing: run `cargo xtask plugins`",
        path.display()
    );
    path.canonicalize()
        .expect("it is there")
        .display()
        .to_string()
}

/// What would become of a message from `me@sender.test` to these by this configuration.
pub(crate) async fn explain(lab: &Lab, config: &str, to: &[&str]) -> relay::explain::Explanation {
    let config = parse(lab.directory.path(), config);
    let to = to.iter().map(|one| one.parse().expect("a recipient"));
    let request = relay::explain::Request {
        from: "<me@sender.test>".parse().expect("a path"),
        to: to.collect(),
        listener: None,
        size_bytes: 100,
        attempt: 0,
        header: String::new(),
    };
    relay::explain::explain(config, &Clock::system(), request)
        .await
        .expect("the configuration is good")
}

/// One request, one body; the connection ends with it.
async fn http<S>(stream: S, method: &str, path: &str) -> String
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let (status, body) = exchange(stream, method, path).await;
    assert!(
        (200..300).contains(&status),
        "{method} {path}: {status} {body}"
    );
    body
}

async fn exchange<S>(mut stream: S, method: &str, path: &str) -> (u16, String)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let request = format!(
        "{method} {path} HTTP/1.0\r\nHost: waypost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream
        .write_all(request.as_bytes())
        .await
        .expect("the door is open");
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .await
        .expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    (status.expect("a status"), body.to_owned())
}

/// A next hop on a loopback address of its own.
pub(crate) struct Host(VirtualMx);

/// A message that a host took, in the words of the tests.
pub(crate) struct Taken {
    pub(crate) reverse_path: String,
    pub(crate) recipients: Vec<String>,
    pub(crate) content: bytes::Bytes,
    /// The relay's own side: its address, and its name in EHLO.
    pub(crate) source: (Option<IpAddr>, String),
}

/// A host on 127.0.0.`last_octet`; with port 0 on one that the others can share.
pub(crate) async fn host(last_octet: u8, port: u16, script: Script) -> Host {
    let address = IpAddr::from([127, 0, 0, last_octet]);
    if port != 0 {
        let host = VirtualMx::start(address, port, script).await;
        return Host(host.expect("the address is free"));
    }
    for port in shared_ports() {
        if let Ok(host) = VirtualMx::start(address, port, script.clone()).await {
            return Host(host);
        }
    }
    panic!("no port is free on all of the addresses");
}

/// Ports that are free on all the addresses that hosts have here. The system never gives them
/// to anybody who lets it choose, and each test process begins somewhere else.
fn shared_ports() -> impl Iterator<Item = u16> {
    const FIRST: u16 = 12_000;
    const COUNT: u16 = 16_000;
    let begin = u16::try_from(std::process::id() * 61 % u32::from(COUNT)).expect("below COUNT");
    let ports = (0..COUNT).map(move |step| FIRST + (begin + step) % COUNT);
    ports.filter(|port| {
        let mut addresses = (1..=9).map(|octet| IpAddr::from([127, 0, 0, octet]));
        addresses.all(|address| std::net::TcpListener::bind((address, *port)).is_ok())
    })
}

/// The queue id at the end of the reply to a message.
pub(crate) fn id_of(reply: &str) -> String {
    let id = reply.trim_end().rsplit(' ').next();
    id.expect("the reply ends with the id").to_owned()
}

/// A step that answers with this line.
pub(crate) fn says(line: &str) -> Step {
    let (code, rest) = line.split_once(' ').expect("a code and a text");
    let code = code.parse().expect("a code");
    let (first, text) = rest.split_once(' ').unwrap_or((rest, ""));
    Step::Reply(match first.parse::<smtp::EnhancedStatusCode>() {
        Ok(enhanced) => smtp::Reply::new(code, enhanced, text),
        Err(_) => smtp::Reply::bare(code, rest),
    })
}

impl Host {
    /// The port that it shares with the other hosts.
    pub(crate) fn port(&self) -> u16 {
        self.0.address().port()
    }

    /// Does as this script says from now on.
    pub(crate) fn set_script(&self, script: Script) {
        self.0.set_script(script);
    }

    /// Connections made to it.
    pub(crate) fn connection_count(&self) -> usize {
        self.0.connection_count()
    }

    /// Transactions begun with it.
    pub(crate) fn mail_count(&self) -> usize {
        self.0.record().mail_count
    }

    /// What it took, in order.
    pub(crate) fn messages(&self) -> Vec<Taken> {
        taken(self.0.messages())
    }

    /// What it took since the last time, forgetting it.
    pub(crate) fn take_messages(&self) -> Vec<Taken> {
        taken(self.0.take_messages())
    }

    /// Waits until it has taken so many.
    pub(crate) async fn wait_for_messages(&self, count: usize, limit: Duration) {
        let waited = self.0.wait_for_messages(count, limit).await;
        assert!(
            waited.is_ok(),
            "waited for {count} messages at {}",
            self.0.address()
        );
    }
}

/// In the words of the tests.
fn taken(messages: Vec<testkit::virtual_mx::ReceivedMessage>) -> Vec<Taken> {
    let taken = messages.into_iter().map(|message| Taken {
        reverse_path: message.envelope.reverse_path.to_string(),
        recipients: message
            .envelope
            .recipients
            .iter()
            .filter_map(|recipient| recipient.path.mailbox().map(ToString::to_string))
            .collect(),
        content: message.content,
        source: (message.client_address, message.client_name),
    });
    taken.collect()
}

/// A client that speaks by hand.
pub(crate) struct Client<S = TcpStream> {
    stream: BufReader<S>,
}

impl Client {
    /// Connects.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.expect("it listens"))
    }

    /// Connects and begins a message, up to the 354 to DATA.
    pub(crate) async fn begin(address: SocketAddr, from: &str, to: &[&str]) -> Self {
        let mut client = Self::connect(address).await;
        client.expect("220").await;
        client.ask("EHLO client.test", "250").await;
        client.ask(&format!("MAIL FROM:<{from}>"), "250").await;
        for recipient in to {
            client.ask(&format!("RCPT TO:<{recipient}>"), "250").await;
        }
        client.ask("DATA", "354").await;
        client
    }

    /// Connects from this address.
    pub(crate) async fn connect_from(source: IpAddr, address: SocketAddr) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket
            .bind(SocketAddr::new(source, 0))
            .expect("a loopback address");
        Self::over(socket.connect(address).await.expect("it listens"))
    }
}

impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> Client<S> {
    /// Over a stream that is there.
    pub(crate) fn over(stream: S) -> Self {
        Self {
            stream: BufReader::new(stream),
        }
    }

    /// The stream; nothing may be buffered.
    pub(crate) fn into_stream(self) -> S {
        assert!(
            self.stream.buffer().is_empty(),
            "something was said unasked"
        );
        self.stream.into_inner()
    }

    /// Sends a line and waits for a reply that begins as given.
    pub(crate) async fn ask(&mut self, line: &str, wanted: &str) -> String {
        self.say(line).await;
        self.expect(wanted).await
    }

    /// Sends a line.
    pub(crate) async fn say(&mut self, line: &str) {
        let line = format!("{line}\r\n");
        self.stream
            .write_all(line.as_bytes())
            .await
            .expect("the peer listens");
    }

    /// Waits for a reply that begins as given; gives all of its lines.
    pub(crate) async fn expect(&mut self, wanted: &str) -> String {
        let reply = tokio::time::timeout(LIMIT, self.reply())
            .await
            .expect("there is a reply");
        assert!(reply.starts_with(wanted), "wanted {wanted}, got {reply}");
        reply
    }

    /// Waits until the peer hangs up, having said nothing more.
    pub(crate) async fn expect_end(&mut self) {
        let mut rest = Vec::new();
        tokio::time::timeout(LIMIT, self.stream.read_to_end(&mut rest))
            .await
            .expect("the peer hangs up")
            .expect("and not by a reset");
        assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    }

    async fn reply(&mut self) -> String {
        let mut reply = String::new();
        loop {
            let start = reply.len();
            let count = self.stream.read_line(&mut reply).await.expect("a line");
            if count == 0 || reply.as_bytes().get(start + 3) == Some(&b' ') {
                return reply;
            }
        }
    }
}
