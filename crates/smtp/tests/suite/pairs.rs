//! Client and server back to back: what goes in comes out, however the stream
//! between them is cut.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use smtp::{
    Answer, ClientAction, ClientConfig, ClientSession, ClientTransaction, DotStuffer, Envelope,
    Question, RecipientOutcome, Reply, ServerAction, ServerSession, ServerTls, TransactionOutcome,
};

use crate::support::{domain, server_config, transaction};

/// Both machines, the octets between them, and what became of them.
struct Pair {
    client: ClientSession,
    server: ServerSession,
    to_client: Vec<u8>,
    to_server: Vec<u8>,
    /// Sizes of the fragments delivered, used round and round.
    fragments: Vec<usize>,
    fragment_count: usize,
    messages: Vec<(Envelope, Vec<u8>)>,
    content: Vec<u8>,
    outcomes: Vec<TransactionOutcome>,
    to_send: Vec<(ClientTransaction, Vec<u8>)>,
    sending: Vec<u8>,
    handshakes: usize,
    is_closed: bool,
}

impl Pair {
    fn new(
        tls: ServerTls,
        fragments: Vec<usize>,
        to_send: Vec<(ClientTransaction, Vec<u8>)>,
    ) -> Self {
        let mut config = server_config();
        config.tls = tls;
        Self {
            client: ClientSession::new(ClientConfig::new(domain("client.example"))),
            server: ServerSession::new(Arc::new(config)),
            to_client: Vec::new(),
            to_server: Vec::new(),
            fragments,
            fragment_count: 0,
            messages: Vec::new(),
            content: Vec::new(),
            outcomes: Vec::new(),
            to_send,
            sending: Vec::new(),
            handshakes: 0,
            is_closed: false,
        }
    }

    /// Runs until both are silent.
    fn run(&mut self) {
        loop {
            self.run_server();
            self.run_client();
            let to_server = self.fragment_of(self.to_server.len());
            if to_server > 0 && self.server.wants_input() {
                let fragment: Vec<u8> = self.to_server.drain(..to_server).collect();
                self.server.receive(Bytes::from(fragment));
            }
            let to_client = self.fragment_of(self.to_client.len());
            let fragment: Vec<u8> = self.to_client.drain(..to_client).collect();
            self.client.receive(&fragment);
            if to_client == 0 && (to_server == 0 || self.is_closed) {
                return;
            }
        }
    }

    fn fragment_of(&mut self, length: usize) -> usize {
        self.fragment_count += 1;
        self.fragments[self.fragment_count % self.fragments.len()].min(length)
    }

    fn run_server(&mut self) {
        while let Some(action) = self.server.poll() {
            match action {
                ServerAction::Send(octets) => self.to_client.extend_from_slice(&octets),
                ServerAction::Ask(Question::Rcpt { path, .. }) => {
                    let refused = path.to_string().starts_with("refused");
                    self.server.answer(if refused {
                        Answer::Reply(Reply::new(550, (5, 1, 1), "unknown"))
                    } else {
                        Answer::Accept
                    });
                }
                ServerAction::Ask(_) => self.server.answer(Answer::Accept),
                ServerAction::Content(piece) => self.content.extend_from_slice(&piece),
                ServerAction::DiscardContent => self.content.clear(),
                ServerAction::Commit => {
                    let envelope = self.server.take_envelope().expect("an envelope");
                    self.messages
                        .push((envelope, std::mem::take(&mut self.content)));
                    self.server.committed(Reply::new(250, (2, 0, 0), "queued"));
                }
                ServerAction::UpgradeTls => {
                    assert!(self.to_server.is_empty(), "the client said more in clear");
                    self.server.tls_started();
                    self.handshakes += 1;
                }
                ServerAction::Close(_) => self.is_closed = true,
            }
        }
    }

    fn run_client(&mut self) {
        while let Some(action) = self.client.poll() {
            match action {
                ClientAction::Send(octets) => self.to_server.extend_from_slice(&octets),
                ClientAction::SendContent => {
                    let mut stuffer = DotStuffer::new();
                    for piece in stuffer.stuff(&self.sending) {
                        self.to_server.extend_from_slice(piece);
                    }
                    self.to_server.extend_from_slice(stuffer.terminator());
                    self.client.content_sent();
                }
                ClientAction::UpgradeTls => self.client.tls_started(),
                ClientAction::Ready if self.to_send.is_empty() => self.client.quit(),
                ClientAction::Ready => {
                    let (transaction, content) = self.to_send.remove(0);
                    self.sending = content;
                    self.client.start(transaction);
                }
                ClientAction::Outcome(outcome) => self.outcomes.push(outcome),
                ClientAction::Close => {}
            }
        }
    }
}

fn message() -> impl Strategy<Value = (ClientTransaction, Vec<u8>)> {
    let to = prop_oneof![
        Just("b@b.example"),
        Just("\"b c\"@b.example"),
        Just("refused@b.example"),
        Just("Postmaster"),
    ];
    let from = prop_oneof![
        Just("<>"),
        Just("a@a.example"),
        Just("\"a\\\\b\"@[192.0.2.1]")
    ];
    let lines = proptest::collection::vec("[.a ]{0,5}", 0..6);
    (from, proptest::collection::vec(to, 1..5), lines).prop_map(|(from, to, lines)| {
        let content: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        (
            transaction(from, &to, content.len() as u64),
            content.into_bytes(),
        )
    })
}

proptest! {
    #[test]
    fn every_message_arrives_once_and_as_it_was(
        messages in proptest::collection::vec(message(), 0..5),
        fragments in proptest::collection::vec(1usize..200, 1..6),
        with_tls in any::<bool>(),
    ) {
        let tls = if with_tls { ServerTls::Required } else { ServerTls::Off };
        let mut pair = Pair::new(tls, fragments, messages.clone());
        pair.run();
        prop_assert!(pair.is_closed, "QUIT was not reached");
        prop_assert_eq!(pair.handshakes, usize::from(with_tls));
        prop_assert_eq!(pair.outcomes.len(), messages.len());
        let mut arrived = pair.messages.iter();
        for ((sent, content), outcome) in messages.iter().zip(&pair.outcomes) {
            prop_assert!(outcome.reusable && outcome.host_failure.is_none());
            let mut expected = Vec::new();
            for (recipient, outcome) in sent.recipients.iter().zip(&outcome.recipients) {
                if recipient.path.to_string().starts_with("refused") {
                    prop_assert_eq!(outcome.reply().code, 550);
                } else {
                    prop_assert!(matches!(outcome, RecipientOutcome::Delivered(_)));
                    expected.push(recipient.clone());
                }
            }
            if expected.is_empty() {
                continue;
            }
            let (envelope, received) = arrived.next().expect("it arrived");
            prop_assert_eq!(&envelope.reverse_path, &sent.reverse_path);
            prop_assert_eq!(&envelope.recipients, &expected);
            prop_assert_eq!(envelope.parameters.size, Some(content.len() as u64));
            prop_assert_eq!(received, content);
        }
        prop_assert!(arrived.next().is_none(), "one that was not sent");
    }

    /// A client that hears anything at all neither panics nor loses a recipient.
    #[test]
    fn noise_from_a_server_gives_at_most_one_outcome(
        chunks in proptest::collection::vec(
            prop_oneof![
                "(220|250|354|421|450|550)[ -][a-z0-9. ]{0,8}\r\n".prop_map(String::into_bytes),
                "[2-5][0-9]{2}[ -]x?\r?\n?".prop_map(String::into_bytes),
                proptest::collection::vec(any::<u8>(), 0..20),
            ],
            0..20,
        ),
    ) {
        let mut client = ClientSession::new(ClientConfig::new(domain("client.example")));
        client.start(transaction("<>", &["a@b.example", "c@b.example"], 3));
        let mut outcomes = Vec::new();
        let mut closed = 0;
        for chunk in chunks.iter().map(Some).chain([None]) {
            match chunk {
                Some(chunk) => client.receive(chunk),
                None => client.disconnected(smtp::Cause::Closed),
            }
            while let Some(action) = client.poll() {
                match action {
                    ClientAction::SendContent => client.content_sent(),
                    ClientAction::UpgradeTls => client.tls_started(),
                    ClientAction::Outcome(outcome) => outcomes.push(outcome),
                    ClientAction::Close => closed += 1,
                    ClientAction::Send(_) | ClientAction::Ready => {}
                }
            }
        }
        prop_assert_eq!(closed, 1);
        prop_assert_eq!(outcomes.len(), 1);
        prop_assert_eq!(outcomes[0].recipients.len(), 2);
    }
}
