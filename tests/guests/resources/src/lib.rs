//! A plugin for tests of tables, state and HTTP: the local part of the first recipient names a
//! command in its configuration, and the answer is the reason of a hold.

use waypost_sdk::{
    Decision, Hold, HookError, NextHop, Plugin, Request, Router, Verdict, config, http, routes,
    state, tables,
};

struct Resources;

impl Plugin for Resources {}

impl Router for Resources {
    fn route(request: Request) -> Result<Vec<Verdict>, HookError> {
        let name = &request.recipients[0].mailbox.local_part;
        let Some(config::Value::Text(command)) = config::get(&format!("do.{name}")) else {
            return Err(HookError::Broken(format!("there is no command {name}")));
        };
        let words: Vec<&str> = command.split(' ').collect();
        if let ["route", table] = words.as_slice() {
            return route(table, &request.domain);
        }
        let answer = command_answer(&words, &request.message_id);
        Ok(vec![Verdict::all(Decision::Hold(Hold {
            reason: answer,
            release_after: None,
        }))])
    }
}

waypost_sdk::export!(Resources: Router);

/// To where the table says; its value is an address and a port.
fn route(table: &str, domain: &str) -> Result<Vec<Verdict>, HookError> {
    let found = tables::match_domain(table, domain)
        .map_err(|error| HookError::Temporary(format!("{error:?}")))?;
    let Some((_, value)) = found else {
        return Ok(Vec::new());
    };
    // Again: a call sees one version, however often it asks.
    let again = tables::match_domain(table, domain).ok().flatten();
    if again.map(|(_, value)| value) != Some(value.clone()) {
        return Err(HookError::Broken("the table changed in a call".into()));
    }
    let (host, port) = value.rsplit_once(':').unwrap_or((&value, "25"));
    let port = port.parse().map_err(|_| HookError::Broken(value.clone()))?;
    let hop = NextHop {
        endpoint: routes::Endpoint::Address(host.into()),
        ..NextHop::host("unused.example").port(port)
    };
    Ok(vec![Verdict::all(Decision::hops([hop]))])
}

fn command_answer(words: &[&str], message_id: &str) -> String {
    match words {
        ["get", table, key] => format!("{:?}", tables::get(table, key)),
        ["get-many", table, keys @ ..] => {
            let keys: Vec<String> = keys.iter().map(|&key| key.into()).collect();
            format!("{:?}", tables::get_many(table, &keys))
        }
        ["domain", table, name] => format!("{:?}", tables::match_domain(table, name)),
        ["ip", table, address] => format!("{:?}", tables::match_ip(table, address)),
        ["add", key] => format!("{:?}", state::add(key, 1, None)),
        ["add-for", key, ttl] => format!("{:?}", state::add(key, 1, ttl.parse().ok())),
        ["read", key] => match state::get(key) {
            Ok(entry) => format!("{:?}", entry.map(|entry| entry.value.len())),
            Err(error) => format!("{error:?}"),
        },
        ["text", key] => match state::get(key) {
            Ok(entry) => format!(
                "{:?}",
                entry.map(|entry| String::from_utf8_lossy(&entry.value).into_owned())
            ),
            Err(error) => format!("{error:?}"),
        },
        ["put", key, size] => {
            let value = vec![b'v'; size.parse().unwrap_or(0)];
            format!("{:?}", state::put(key, &value, None).map(|_version| ()))
        }
        ["remove", key] => format!("{:?}", state::remove(key)),
        ["flood", count] => flood(count.parse().unwrap_or(0), message_id),
        ["cas", key] => compare_and_set(key),
        ["take", key, burst] => {
            let burst = burst.parse().unwrap_or(1);
            format!("{:?}", state::take(key, 1, 0.000_1, burst))
        }
        ["http", method, url] => shown(http::send(&request(method, url))),
        ["auth", name, url] => {
            let mut asked = request("get", url);
            asked.auth = Some((*name).into());
            shown(http::send(&asked))
        }
        ["field", name, value, url] => {
            let mut asked = request("get", url);
            asked
                .headers
                .push(((*name).into(), value.replace("\\r\\n", "\r\n")));
            shown(http::send(&asked))
        }
        ["post", size, url] => {
            let mut asked = request("post", url);
            asked.body = vec![b'b'; size.parse().unwrap_or(0)];
            shown(http::send(&asked))
        }
        ["many", urls @ ..] => {
            let asked: Vec<http::Request> = urls.iter().map(|url| request("get", url)).collect();
            let answers = http::send_many(&asked).into_iter().map(shown);
            answers.collect::<Vec<_>>().join("; ")
        }
        other => format!("{other:?} is no command"),
    }
}

/// As many keys as asked for, or as fit.
fn flood(count: u32, message_id: &str) -> String {
    for number in 0..count {
        if let Err(error) = state::put(&format!("{message_id}-{number}"), &[0; 100], None) {
            return format!("{error:?} after {number}");
        }
    }
    format!("{count} fit")
}

/// Adds one by compare-and-set, as often as it takes.
fn compare_and_set(key: &str) -> String {
    loop {
        let (number, version) = match state::get(key) {
            Ok(Some(entry)) => {
                let text = String::from_utf8(entry.value).unwrap_or_default();
                (text.parse::<u32>().unwrap_or(0), entry.version)
            }
            Ok(None) => (0, 0),
            Err(error) => return format!("{error:?}"),
        };
        let next = (number + 1).to_string();
        match state::put_if(key, next.as_bytes(), version, None) {
            Ok(Some(_)) => return next,
            Ok(None) => {}
            Err(error) => return format!("{error:?}"),
        }
    }
}

fn request(method: &str, url: &str) -> http::Request {
    http::Request {
        method: match method {
            "head" => http::Method::Head,
            "post" => http::Method::Post,
            _ => http::Method::Get,
        },
        url: url.into(),
        headers: Vec::new(),
        body: Vec::new(),
        auth: None,
        timeout_ms: None,
    }
}

fn shown(answer: Result<http::Response, http::HttpError>) -> String {
    match answer {
        Ok(response) => {
            let body = String::from_utf8_lossy(&response.body);
            let body: String = body.chars().take(100).collect();
            format!("{} {body}", response.status)
        }
        Err(error) => format!("{error:?}"),
    }
}
