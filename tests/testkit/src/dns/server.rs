//! A name server on loopback.

use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;

use hickory_proto::op::{Edns, Message, ResponseCode};
use hickory_proto::rr::rdata::NS;
use hickory_proto::rr::{LowerName, Name, RData, Record};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

use super::script::{Fault, Script};
use super::zone::Zone;

/// Largest answer over UDP without EDNS (RFC 1035 section 4.2.1).
const PLAIN_UDP_MAX_BYTES: usize = 512;
/// Tries to find a port that is free for both UDP and TCP.
const BIND_ATTEMPTS: usize = 20;

/// Answers over UDP and TCP on one port of 127.0.0.1 until it is dropped. Has
/// all methods of [`Script`].
#[derive(Debug)]
pub struct DnsServer {
    addr: SocketAddr,
    script: Arc<Script>,
    /// Dropping it ends the tasks.
    _tasks: JoinSet<()>,
}

impl DnsServer {
    /// Starts a server with these zones.
    ///
    /// # Panics
    /// When no socket can be bound.
    pub async fn start(zones: impl IntoIterator<Item = Zone>) -> Self {
        Self::start_with(Arc::new(Script::new(zones))).await
    }

    /// Starts a server on a script that others may use too.
    ///
    /// # Panics
    /// When no socket can be bound.
    pub async fn start_with(script: Arc<Script>) -> Self {
        let (udp, tcp) = bind().await.expect("a port on loopback");
        let addr = udp.local_addr().expect("the socket is bound");
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_udp(Arc::new(udp), Arc::clone(&script)));
        tasks.spawn(serve_tcp(tcp, Arc::clone(&script)));
        Self {
            addr,
            script,
            _tasks: tasks,
        }
    }

    /// Where it answers, over UDP and TCP.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What it answers from.
    #[must_use]
    pub fn script(&self) -> &Arc<Script> {
        &self.script
    }
}

impl Deref for DnsServer {
    type Target = Script;

    fn deref(&self) -> &Script {
        &self.script
    }
}

async fn bind() -> io::Result<(UdpSocket, TcpListener)> {
    let mut last = io::Error::other("no attempt was made");
    for _ in 0..BIND_ATTEMPTS {
        let tcp = TcpListener::bind("127.0.0.1:0").await?;
        match UdpSocket::bind(tcp.local_addr()?).await {
            Ok(udp) => return Ok((udp, tcp)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn serve_udp(socket: Arc<UdpSocket>, script: Arc<Script>) {
    let mut buffer = vec![0; 65_535];
    let mut answers = JoinSet::new();
    loop {
        // An error is the echo of an answer to a port that is closed by now.
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let Ok(request) = Message::from_vec(&buffer[..length]) else {
            continue;
        };
        let (socket, script) = (Arc::clone(&socket), Arc::clone(&script));
        answers.spawn(async move {
            if let Some(answer) = answer(&script, &request, false).await {
                // A peer that has gone away is none of the server's business.
                socket.send_to(&answer, peer).await.ok();
            }
        });
        while answers.try_join_next().is_some() {}
    }
}

async fn serve_tcp(listener: TcpListener, script: Arc<Script>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let script = Arc::clone(&script);
        connections.spawn(async move {
            // The end of the connection, in whatever way, is its end.
            serve_connection(stream, &script).await.ok();
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn serve_connection(mut stream: TcpStream, script: &Script) -> io::Result<()> {
    loop {
        let mut request = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut request).await?;
        let request = Message::from_vec(&request).map_err(io::Error::other)?;
        if let Some(answer) = answer(script, &request, true).await {
            let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
            stream
                .write_all(&[&length.to_be_bytes(), answer.as_slice()].concat())
                .await?;
        }
    }
}

/// The octets of the answer; none where there is to be none.
async fn answer(script: &Script, request: &Message, is_tcp: bool) -> Option<Vec<u8>> {
    let query = request.queries.first()?;
    let name = LowerName::new(query.name());
    let mut response = Message::response(request.metadata.id, request.metadata.op_code);
    response.add_query(query.clone());
    response.metadata.recursion_desired = request.metadata.recursion_desired;
    response.metadata.recursion_available = true;
    if request.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(1232);
        response.set_edns(edns);
    }
    match script.ask(&name, query.query_type(), is_tcp) {
        Some(Fault::Silent) => return None,
        Some(Fault::ServFail) => response.metadata.response_code = ResponseCode::ServFail,
        Some(Fault::Refused) => response.metadata.response_code = ResponseCode::Refused,
        Some(Fault::NxDomain) => response.metadata.response_code = ResponseCode::NXDomain,
        Some(Fault::BareNoData) => {}
        Some(Fault::Referral) => {
            response.add_authority(referral());
        }
        Some(Fault::Truncate) if !is_tcp => response.metadata.truncation = true,
        Some(Fault::TruncateAlways) => response.metadata.truncation = true,
        fault => {
            if let Some(Fault::Delay(time)) = fault {
                tokio::time::sleep(time).await;
            }
            let finding = script.find(&name, query.query_type());
            response.metadata.response_code = finding.code;
            response.add_answers(finding.answers);
            response.add_authorities(finding.soa);
        }
    }
    let octets = response
        .to_vec()
        .expect("records that were parsed can be written");
    let room = request
        .edns
        .as_ref()
        .map_or(PLAIN_UDP_MAX_BYTES, |edns| edns.max_payload().into());
    if is_tcp || octets.len() <= room {
        return Some(octets);
    }
    Some(
        response
            .truncate()
            .to_vec()
            .expect("a header and a question can be written"),
    )
}

fn referral() -> Record {
    let zone = Name::from_ascii("test.").expect("a constant name");
    let server = Name::from_ascii("ns.test.").expect("a constant name");
    Record::from_rdata(zone, 300, RData::NS(NS(server)))
}
