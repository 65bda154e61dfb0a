//! HTTP over the control socket of a running relay.

use std::path::Path;

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// Asks the relay whose spool is in `spool`.
pub(crate) async fn call(spool: &Path, method: Method, path: &str) -> anyhow::Result<Bytes> {
    let socket = relay::admin::control_path(spool);
    let stream = UnixStream::connect(&socket).await.with_context(|| {
        format!(
            "no relay answers at {} (is it running, and may you?)",
            socket.display()
        )
    })?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(hyper::header::HOST, "waypost")
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    drop(sender);
    connection.await??;
    if status == StatusCode::OK || status == StatusCode::ACCEPTED {
        Ok(body)
    } else {
        bail!("{}", String::from_utf8_lossy(&body).trim_end())
    }
}
