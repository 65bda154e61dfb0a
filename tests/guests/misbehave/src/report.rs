//! Everything that a call can learn, as one note: what the tests compare with
//! what they gave.

use std::fmt::Write as _;

use waypost_sdk::{
    Decision, Request, Verdict, ambient, config, destination, dns, http, message, metrics, state,
    tables,
};

pub fn verdict(request: &Request) -> Verdict {
    let mut note = String::new();
    let mut add = |name: &str, value: String| {
        // A string takes every write.
        let _ = write!(note, "{name}={value};");
    };
    add(
        "request",
        format!(
            "{} {} {}",
            request.message_id, request.size, request.attempt
        ),
    );
    add("headers", request.headers.join("|"));
    add("id", message::id());
    add("count", message::recipient_count().to_string());
    add(
        "window",
        message::envelope_recipients(1, 1).len().to_string(),
    );
    add("helo", message::origin().helo);
    add(
        "sender",
        format!(
            "{:?}",
            message::envelope_sender().map(|sender| sender.declared_size)
        ),
    );
    add("subject", message::header("subject").join("|"));
    add("octets", format!("{:?}", message::header_octets("X-Odd")));
    add("fields", message::headers(1).len().to_string());
    add(
        "body",
        format!("{:?}", message::body(2, 100).map(|body| body.len())),
    );
    add(
        "spf",
        format!("{:?}", message::authentication().map(|summary| summary.spf)),
    );
    add(
        "candidates",
        format!(
            "{:?}",
            destination::candidates_with_addresses().map(|all| all.len())
        ),
    );
    add("sts", format!("{:?}", destination::mta_sts_mode()));
    add("queued", destination::queued().to_string());
    add(
        "dns",
        format!(
            "{:?}",
            dns::lookup(&dns::Question::Address("a.example".into()))
        ),
    );
    add("now", ambient::now().to_string());
    add("random", ambient::random().to_string());
    add("revision", (config::revision() != 0).to_string());
    add("tables", format!("{:?}", tables::get("t", "k")));
    add("state", format!("{:?}", state::get("k")));
    let request = http::Request {
        method: http::Method::Get,
        url: "http://a.example/".into(),
        headers: Vec::new(),
        body: Vec::new(),
        auth: None,
        timeout_ms: None,
    };
    add("http", format!("{:?}", http::send(&request)));
    metrics::count("seen", 2, &[]);
    metrics::observe("ratio", 0.5, &[]);
    metrics::count("Not a name", 1, &[]);
    Verdict::all(Decision::Proceed).note(note)
}
