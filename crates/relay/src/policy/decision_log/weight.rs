//! What a record takes of memory, about: what is large in it is counted as it is, and the rest as
//! it would be written.

use std::io;

use plugin::record::{Asked, Exchange, Record, Told};
use serde::Serialize;

/// Octets of one question and its answer beside what they hold.
const EXCHANGE_BYTES: usize = 128;

/// In octets.
pub(super) fn of(record: &Record) -> usize {
    let exchanges = record.tape.exchanges.iter().map(exchange);
    let rest = [written(&record.input), written(&record.ending)];
    exchanges.chain(rest).fold(0, usize::saturating_add)
}

fn exchange(exchange: &Exchange) -> usize {
    let asked = match &exchange.asked {
        Asked::Http(request) => request.url.len() + fields(&request.headers) + request.body.len(),
        other => written(other),
    };
    let told = match &exchange.told {
        Told::Body(Some(octets)) => octets.0.len(),
        Told::Http(Ok(response)) => fields(&response.headers) + response.body.len(),
        other => written(other),
    };
    EXCHANGE_BYTES + asked + told
}

fn fields(of: &[(String, String)]) -> usize {
    of.iter()
        .map(|(name, value)| name.len() + value.len())
        .sum()
}

/// Octets of a value's JSON.
fn written(value: &impl Serialize) -> usize {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0 = self.0.saturating_add(octets.len());
            Ok(octets.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // What cannot be written is found out by whoever writes it.
    drop(serde_json::to_writer(&mut count, value));
    count.0
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use plugin::record::Octets;
    use plugin::{HttpMethod, HttpRequest, HttpResponse};

    use super::super::Load;
    use super::*;

    #[test]
    fn what_is_large_counts() {
        let body = Exchange {
            asked: Asked::Body {
                offset: 0,
                limit: 5000,
            },
            told: Told::Body(Some(Octets::from([7; 5000].as_slice()))),
        };
        assert!((5000..6000).contains(&exchange(&body)));
        let request = HttpRequest {
            method: HttpMethod::Post,
            url: "https://policy.test/".to_owned(),
            headers: Vec::new(),
            body: vec![7; 3000].into(),
            auth: None,
            timeout_ms: None,
        };
        let response = HttpResponse {
            status: 200,
            headers: vec![("x".to_owned(), "y".repeat(1000))],
            body: vec![7; 4000].into(),
        };
        let http = Exchange {
            asked: Asked::Http(request),
            told: Told::Http(Ok(response)),
        };
        assert!((8000..9000).contains(&exchange(&http)));
    }

    #[test]
    fn what_waits_is_within_its_limit() {
        let waiting = Arc::default();
        let first = Load::take(&waiting, 60, 100).expect("there is room");
        assert!(Load::take(&waiting, 41, 100).is_none());
        let second = Load::take(&waiting, 40, 100).expect("there is room");
        drop(first);
        assert!(Load::take(&waiting, 60, 100).is_some());
        drop(second);
        assert!(Load::take(&waiting, 101, 100).is_none());
    }
}
