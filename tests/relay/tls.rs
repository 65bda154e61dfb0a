//! TLS on both sides, with certificates made for the test: a relay in front of a relay.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::lab::{Client, Host, LIMIT, Lab, Plan, host};
use testkit::virtual_mx::Script;

const ZONE: &str = "$ORIGIN test.\n@ SOA ns hostmaster 1 60 60 60 60\n";

pub(crate) struct Certificate {
    directory: TempDir,
    der: rustls::pki_types::CertificateDer<'static>,
}

impl Certificate {
    pub(crate) fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["relay.test".to_owned()])
            .expect("a certificate");
        let directory = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(directory.path().join("cert.pem"), made.cert.pem()).expect("a file");
        std::fs::write(
            directory.path().join("key.pem"),
            made.signing_key.serialize_pem(),
        )
        .expect("a file");
        Self {
            der: made.cert.der().clone(),
            directory,
        }
    }

    pub(crate) fn config(&self) -> String {
        let at = self.directory.path().display();
        format!("[tls]\ncertificate = \"{at}/cert.pem\"\nkey = \"{at}/key.pem\"\n")
    }
}

/// A relay with a certificate that hands everything to a host.
async fn relay_with(certificate: &Certificate) -> (Host, Lab) {
    let hop = host(2, 0, Script::accept()).await;
    let top = format!("smarthost = \"127.0.0.2:{}\"", hop.port());
    let lab = Plan::new(ZONE, 25)
        .with(&certificate.config())
        .open_with(&top)
        .await;
    (hop, lab)
}

/// Puts TLS on a connection that has said EHLO.
pub(crate) async fn start_tls(
    mut client: Client,
    certificate: &Certificate,
) -> Client<TlsStream<TcpStream>> {
    client.ask("STARTTLS", "220").await;

    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.der.clone()).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("relay.test").expect("a name");
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector
        .connect(name, client.into_stream())
        .await
        .expect("TLS");
    Client::over(stream)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_starts_tls() {
    let certificate = Certificate::new();
    let (hop, lab) = relay_with(&certificate).await;
    let mut client = Client::connect(lab.smtp()).await;
    client.expect("220").await;
    let offered = client.ask("EHLO client.test", "250").await;
    assert!(offered.contains("250-STARTTLS\r\n"), "{offered}");
    let mut client = start_tls(client, &certificate).await;
    let offered = client.ask("EHLO client.test", "250").await;
    assert!(!offered.contains("STARTTLS"), "{offered}");
    client.ask("MAIL FROM:<me@sender.test>", "250").await;
    client.ask("RCPT TO:<you@dest.test>", "250").await;
    client.ask("DATA", "354").await;
    client.ask("Subject: x\r\n\r\nx\r\n.", "250").await;
    hop.wait_for_messages(1, LIMIT).await;
    let text = String::from_utf8_lossy(&hop.messages()[0].content).into_owned();
    assert!(text.contains("with ESMTPS id "), "{text}");
}

/// A relay that hands everything to another one, with this TLS policy.
async fn in_front_of(inner: &Lab, policy: &str) -> Lab {
    let port = inner.smtp().port();
    let top =
        format!("smarthost = [{{ host = \"127.0.0.1\", port = {port}, tls = \"{policy}\" }}]");
    Plan::new(ZONE, 25).open_with(&top).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hop_that_offers_tls_gets_it() {
    let certificate = Certificate::new();
    let (hop, inner) = relay_with(&certificate).await;
    for (count, policy) in (1..).zip(["opportunistic", "encrypt"]) {
        let outer = in_front_of(&inner, policy).await;
        outer.send("you@dest.test").await;
        hop.wait_for_messages(count, LIMIT).await;
        let text = String::from_utf8_lossy(&hop.messages()[count - 1].content).into_owned();
        assert!(text.contains("with ESMTPS id "), "{policy}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_does_not_verify_makes_the_mail_wait() {
    let certificate = Certificate::new();
    let (hop, inner) = relay_with(&certificate).await;
    let outer = in_front_of(&inner, "verify").await;
    outer.send("you@dest.test").await;
    let reason = outer.deferral().await;
    assert!(reason.starts_with("451 4.7.5"), "{reason}");
    assert_eq!(hop.connection_count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hop_without_tls_gets_nothing_where_tls_is_required() {
    let hop = host(2, 0, Script::accept()).await;
    let top = format!(
        "smarthost = [{{ host = \"127.0.0.2\", port = {}, tls = \"encrypt\" }}]",
        hop.port()
    );
    let lab = Plan::new(ZONE, 25).open_with(&top).await;
    lab.send("you@dest.test").await;
    let reason = lab.deferral().await;
    assert!(reason.starts_with("451 4.7.4"), "{reason}");
    assert_eq!(hop.messages().len(), 0);
}
