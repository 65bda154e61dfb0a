//! Typed ways to the configuration, to tables, state and HTTP.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::reply::whole_seconds;
use crate::{HookError, config, http, log, message, state, tables};

/// The part of the plugin's configuration at a path (see [`config::json`]); the empty path is all
/// of it. Nothing there reads as `null`, so `Option<T>` is for what may be missing.
///
/// # Errors
/// What does not fit, as serde says it.
pub fn read_config<T: DeserializeOwned>(path: &str) -> Result<T, serde_json::Error> {
    serde_json::from_str(&config::json(path))
}

/// A key as one step of a configuration path: in quotes, so that its dots do not count.
///
/// ```
/// assert_eq!(waypost_sdk::quote_key("example.com"), r#""example.com""#);
/// ```
pub fn quote_key(key: &str) -> String {
    format!("\"{}\"", key.replace('\\', "\\\\").replace('"', "\\\""))
}

/// One line in the relay's log.
pub fn log_info(text: &str) {
    log::write(log::Level::Info, text, &[]);
}

/// One line in the relay's log, for something that an administrator should see to.
pub fn log_warning(text: &str) {
    log::write(log::Level::Warn, text, &[]);
}

/// Keeps an attribute with the message; it is seen by later phases, by retries and by later
/// plugins.
///
/// # Errors
/// [`HookError::Broken`]: not a name, or over a limit of the contract.
pub fn keep_attribute(name: &str, value: &str) -> Result<(), HookError> {
    if message::set_attribute(name, Some(value)) {
        return Ok(());
    }
    Err(HookError::broken(format!(
        "the attribute {name:?} cannot be kept"
    )))
}

/// The first of these keys that a table has, with its value; one host call for each key.
///
/// # Errors
/// The table is unknown, not granted or not available.
pub fn first_in_table(
    table: &str,
    keys: Vec<String>,
) -> Result<Option<(String, String)>, HookError> {
    let values = tables::get_many(table, &keys)?;
    let found = keys.into_iter().zip(values);
    Ok(found.filter_map(|(key, value)| Some((key, value?))).next())
}

/// What the state keeps under a key, as JSON.
///
/// # Errors
/// No state, or something there that is no `T`.
pub fn read_state<T: DeserializeOwned>(key: &str) -> Result<Option<T>, HookError> {
    let entry = state::get(key)?;
    Ok(entry
        .map(|entry| serde_json::from_slice(&entry.value))
        .transpose()?)
}

/// Keeps a value under a key, as JSON; forgotten after `ttl`, in milliseconds, where there is one.
///
/// # Errors
/// No state, or the quota is used up.
pub fn write_state<T: Serialize>(
    key: &str,
    value: &T,
    ttl: Option<Duration>,
) -> Result<(), HookError> {
    state::put(key, &serde_json::to_vec(value)?, ttl.map(milliseconds))?;
    Ok(())
}

/// Times that [`update_state`] tries when others are faster.
const UPDATE_ATTEMPTS: usize = 8;

/// Changes what is kept under a key, however many do it at a time: `change` gets the present value
/// and gives the new one, and is called again where somebody else was first.
///
/// ```no_run
/// # use std::time::Duration;
/// # fn example() -> Result<(), waypost_sdk::HookError> {
/// let seen: Vec<String> = waypost_sdk::update_state("seen", Some(Duration::from_secs(60)), |seen| {
///     let mut seen: Vec<String> = seen.unwrap_or_default();
///     seen.push("one more".into());
///     seen
/// })?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// No state, the quota is used up, something there that is no `T`, or somebody else was first
/// eight times in a row.
pub fn update_state<T: Serialize + DeserializeOwned>(
    key: &str,
    ttl: Option<Duration>,
    mut change: impl FnMut(Option<T>) -> T,
) -> Result<T, HookError> {
    for _ in 0..UPDATE_ATTEMPTS {
        let entry = state::get(key)?;
        let version = entry.as_ref().map_or(0, |entry| entry.version);
        let present = entry
            .map(|entry| serde_json::from_slice(&entry.value))
            .transpose()?;
        let value = change(present);
        let octets = serde_json::to_vec(&value)?;
        if state::put_if(key, &octets, version, ttl.map(milliseconds))?.is_some() {
            return Ok(value);
        }
    }
    Err(HookError::temporary(format!(
        "others were faster at the state's key {key:?}"
    )))
}

pub(crate) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// So many in so much time, as in `100/1h`; the time in `ms`, `s`, `m`, `h` or `d`, its number 1
/// where there is none.
///
/// ```
/// use std::time::Duration;
/// use waypost_sdk::Rate;
///
/// let rate: Rate = "100/1h".parse().unwrap();
/// assert_eq!(rate, Rate { count: 100, per: Duration::from_secs(3600) });
/// assert_eq!("5/s".parse::<Rate>().unwrap().per, Duration::from_secs(1));
/// assert!("0/1h".parse::<Rate>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many; also the most at once.
    pub count: u32,
    /// In which time.
    pub per: Duration,
}

impl Rate {
    fn parse(text: &str) -> Option<Self> {
        let (count, per) = text.split_once('/')?;
        let (count, per) = (count.trim().parse().ok()?, per.trim());
        let digits = per.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = per.split_at(digits);
        let number: u64 = if digits == 0 { 1 } else { number.parse().ok()? };
        let unit_ms = match unit.trim() {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        let per = Duration::from_millis(number.checked_mul(unit_ms)?);
        (count > 0 && !per.is_zero()).then_some(Self { count, per })
    }

    /// Takes `cost` from the bucket that the relay keeps under this key. False: over the rate.
    ///
    /// # Errors
    /// No state, or the quota is used up.
    pub fn take(&self, key: &str, cost: u32) -> Result<bool, HookError> {
        let per_second = f64::from(self.count) / self.per.as_secs_f64();
        Ok(state::take(
            key,
            cost.min(self.count),
            per_second,
            self.count,
        )?)
    }

    /// The time in which one is let through on average, in whole seconds and at least one.
    pub fn interval(&self) -> Duration {
        Duration::from_secs(u64::from(whole_seconds(self.per / self.count)))
    }
}

impl std::str::FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text).ok_or_else(|| format!("{text:?}, but a rate is wanted, as in \"100/1h\""))
    }
}

impl<'de> serde::Deserialize<'de> for Rate {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl http::Request {
    /// A request without headers or body, and the relay's own time-out.
    ///
    /// ```
    /// use waypost_sdk::http::{Method, Request};
    ///
    /// let request = Request::new(Method::Get, "https://policy.example/v1").header("Accept", "text/plain");
    /// assert_eq!(request.headers.len(), 1);
    /// ```
    pub fn new(method: http::Method, url: impl Into<String>) -> Self {
        Self {
            method,
            url: url.into(),
            headers: Vec::new(),
            body: Vec::new(),
            auth: None,
            timeout_ms: None,
        }
    }

    /// A POST of something as JSON.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn json<T: Serialize>(url: impl Into<String>, body: &T) -> Result<Self, HookError> {
        let mut request = Self::new(http::Method::Post, url)
            .header("Content-Type", "application/json")
            .header("Accept", "application/json");
        request.body = serde_json::to_vec(body)?;
        Ok(request)
    }

    /// With a header field.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// With a credential of the relay's, by its name.
    #[must_use]
    pub fn auth(mut self, name: impl Into<String>) -> Self {
        self.auth = Some(name.into());
        self
    }

    /// Given up after this time.
    #[must_use]
    pub fn timeout(mut self, time: Duration) -> Self {
        self.timeout_ms = Some(u32::try_from(time.as_millis()).unwrap_or(u32::MAX));
        self
    }

    /// Sends it; 2xx is success.
    ///
    /// # Errors
    /// No answer, or another status than 2xx.
    pub fn send(&self) -> Result<http::Response, HookError> {
        let response = http::send(self)?;
        if (200..300).contains(&response.status) {
            return Ok(response);
        }
        Err(HookError::temporary(format!(
            "{} answered {}",
            self.url, response.status
        )))
    }
}

/// What an HTTP service answered, read as JSON.
///
/// # Errors
/// [`HookError::Temporary`]: it is no such JSON; the service may be mended.
pub fn answer_as<T: DeserializeOwned>(response: &http::Response) -> Result<T, HookError> {
    serde_json::from_slice(&response.body)
        .map_err(|error| HookError::temporary(format!("the answer is not as agreed: {error}")))
}

/// Posts JSON and reads the JSON of the answer.
///
/// # Errors
/// No answer, another status than 2xx, or an answer that is no such JSON.
pub fn post_json<T: Serialize, R: DeserializeOwned>(url: &str, body: &T) -> Result<R, HookError> {
    answer_as(&http::Request::json(url, body)?.send()?)
}
