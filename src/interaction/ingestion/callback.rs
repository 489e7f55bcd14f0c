//! The final status of asynchronous operations, pushed to the caller: `POST {callback}/v1/ingestion/status`.
//!
//! Due callbacks are rows: taken with a lease, repeated by schedule until a 2xx, lost by no restart. The caller may get one twice.
//! A caller's `X-Callback-Url` may only name an origin that the operator allows (`ingestion.callback_url`, `ingestion.callback_origins`):
//! nobody can make the server call into the operator's network. Redirects are not followed and no proxy is asked.
//! Source: integrazione-gateway.md 11.2; `X-Callback-Url` of its `swagger_status.yaml`.

use crate::interaction::ingestion::Status;
use crate::interaction::ingestion::Work;
use crate::outcome::Outcome;
use crate::store::database_error;
use crate::store::ingestion;
use crate::store::ingestion::Callback;
use chrono::DateTime;
use chrono::TimeDelta;
use chrono::Utc;
use reqwest::Client;
use reqwest::Response;
use reqwest::Url;
use reqwest::header::RETRY_AFTER;
use reqwest::redirect::Policy;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What `ingestion.callback_origins` writes for any port of this machine.
const LOOPBACK: &str = "loopback";
/// Calls at the same time: an endpoint that hangs must not hold up the others.
const PARALLEL: usize = 32;
const POLL: Duration = Duration::from_secs(1);
/// A lease outlives the call by this much.
const LEASE_MARGIN: Duration = Duration::from_secs(5);
/// An endpoint that has not answered for so long is given up; the status can still be asked for.
const AGE_MAX: TimeDelta = TimeDelta::days(7);
/// Longest wait that an endpoint may ask for.
const RETRY_AFTER_MAX: TimeDelta = TimeDelta::hours(1);
/// Longest X-Callback-Url, in bytes.
const URL_LENGTH_MAX: usize = 500;

/// Whom to call, and how.
pub struct Callbacks {
    client: Client,
    default: Option<String>,
    allowed: Vec<Url>,
    allows_loopback: bool,
    timeout: Duration,
    retry_schedule_s: Vec<u64>,
}

impl Callbacks {
    /// Errors: a setting that is no address.
    pub fn new(settings: &crate::config::sections::Ingestion) -> Result<Callbacks, Outcome> {
        let timeout = Duration::from_millis(settings.callback_timeout_ms);
        let client = Client::builder().redirect(Policy::none()).no_proxy().timeout(timeout).build();
        let default = (!settings.callback_url.is_empty()).then(|| settings.callback_url.clone());
        let origins = settings
            .callback_origins
            .iter()
            .filter(|origin| *origin != LOOPBACK)
            .chain(&default);
        let allowed: Result<Vec<Url>, Outcome> = origins
            .map(|origin| parse(origin).map_err(|_| Outcome::internal("ingestion.callback_url or callback_origins: no http(s) address")))
            .collect();
        Ok(Callbacks {
            client: client.map_err(Outcome::internal)?,
            allowed: allowed?,
            allows_loopback: settings.callback_origins.iter().any(|origin| origin == LOOPBACK),
            default,
            timeout,
            retry_schedule_s: settings.retry_schedule_s.clone(),
        })
    }

    /// Where the caller wants to be told: as it says, or as configured. Errors: 400 for an address that may not be called.
    pub fn url(&self, asked: Option<&str>) -> Result<Option<String>, Outcome> {
        let Some(asked) = asked else { return Ok(self.default.clone()) };
        let url = parse(asked)?;
        let is_allowed = self.allowed.iter().any(|allowed| allowed.origin() == url.origin()) || self.allows_loopback && is_loopback(&url);
        match is_allowed {
            true => Ok(Some(asked.to_owned())),
            false => Err(wrong(
                "This server does not call that origin: ask its operator to allow it (ingestion.callback_origins)",
            )),
        }
    }

    /// When to try again after a failed attempt.
    fn next(&self, attempts: i32, asked: Option<TimeDelta>, now: DateTime<Utc>) -> DateTime<Utc> {
        let place = (attempts.max(1) as usize - 1).min(self.retry_schedule_s.len() - 1);
        let jitter: f64 = rand::random_range(0.8..1.2);
        let wait_ms = self.retry_schedule_s[place] as f64 * 1000.0 * jitter;
        now + TimeDelta::milliseconds(wait_ms as i64).max(asked.unwrap_or_default().min(RETRY_AFTER_MAX))
    }
}

fn wrong(text: &str) -> Outcome {
    Outcome::invalid(text).with_code("value").at("X-Callback-Url")
}

fn parse(text: &str) -> Result<Url, Outcome> {
    let url = Url::parse(text)
        .ok()
        .filter(|url| text.len() <= URL_LENGTH_MAX && url.has_host() && matches!(url.scheme(), "http" | "https"));
    let url = url.filter(|url| url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none());
    url.ok_or_else(|| wrong("Send an http or https address without user, query or fragment"))
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Runs until told to stop; a call that is cut off is made again by its lease.
pub async fn run(work: Arc<Work>, mut stop: watch::Receiver<bool>) {
    let mut calls = JoinSet::new();
    while !*stop.borrow() {
        while calls.try_join_next().is_some() {}
        match take(&work, PARALLEL - calls.len().min(PARALLEL)).await {
            Ok(due) => due.into_iter().for_each(|callback| {
                calls.spawn(call(work.clone(), callback));
            }),
            Err(sqlx::Error::PoolClosed) => return,
            Err(error) => tracing::warn!(error = database_error(error).internal, "due callbacks cannot be read"),
        }
        tokio::select! {
            _ = stop.changed() => {}
            () = work.callback_due.notified() => {}
            () = tokio::time::sleep(POLL) => {}
        }
    }
}

async fn take(work: &Work, limit: usize) -> Result<Vec<Callback>, sqlx::Error> {
    if limit == 0 {
        return Ok(Vec::new());
    }
    let now = work.service.store.clock.now();
    let lease = now + work.callbacks.timeout + LEASE_MARGIN;
    ingestion::take_callbacks(&mut *work.conn().await?, now, lease, limit as i64).await
}

async fn call(work: Arc<Work>, callback: Callback) {
    let Callback {
        id,
        callback_url,
        callback_attempts,
        finished,
        standing,
    } = callback;
    let url = format!("{}/v1/ingestion/status", callback_url.trim_end_matches('/'));
    let answer = work.callbacks.client.post(url).json(&Status::from(standing)).send().await;
    let now = work.service.store.clock.now();
    let next = match &answer {
        Ok(response) if response.status().is_success() => None,
        _ if now - finished > AGE_MAX => {
            tracing::warn!(
                operation = id,
                attempts = callback_attempts,
                "a callback is given up: its endpoint has not taken it for a week"
            );
            None
        }
        failed => {
            let status = failed.as_ref().ok().map(|response| response.status().as_u16());
            tracing::info!(
                operation = id,
                attempts = callback_attempts,
                status,
                "a callback failed and will be repeated"
            );
            let asked = failed.as_ref().ok().and_then(|response| retry_after(response, now));
            Some(work.callbacks.next(callback_attempts, asked, now))
        }
    };
    let set = match work.conn().await {
        Ok(mut conn) => ingestion::set_callback(&mut conn, id, next).await,
        Err(error) => Err(error),
    };
    if let Err(error) = set {
        tracing::warn!(
            operation = id,
            error = database_error(error).internal,
            "a callback is made again when its lease ends"
        );
    }
}

/// Seconds or a date.
fn retry_after(response: &Response, now: DateTime<Utc>) -> Option<TimeDelta> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    match text.parse::<u32>() {
        Ok(seconds) => Some(TimeDelta::seconds(i64::from(seconds))),
        Err(_) => DateTime::parse_from_rfc2822(text).ok().map(|at| at.with_timezone(&Utc) - now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn callbacks(origins: &[&str]) -> Callbacks {
        let mut settings = crate::config::Config::defaults().unwrap().ingestion;
        settings.callback_url = "https://gateway.example/base".to_owned();
        settings.callback_origins = origins.iter().map(|o| (*o).to_owned()).collect();
        settings.retry_schedule_s = vec![1, 10];
        Callbacks::new(&settings).unwrap()
    }

    #[test]
    fn only_allowed_origins_are_called() {
        let strict = callbacks(&["http://other.example:8080"]);
        assert_eq!(strict.url(None).unwrap().as_deref(), Some("https://gateway.example/base"));
        for good in [
            "https://gateway.example",
            "https://gateway.example:443/x/",
            "http://other.example:8080/y",
        ] {
            assert!(strict.url(Some(good)).is_ok(), "{good}");
        }
        for bad in [
            "http://gateway.example",
            "https://gateway.example.evil.example",
            "https://gateway.example@evil.example",
            "https://gateway.example:8443",
            "http://127.0.0.1:80",
            "http://169.254.169.254/latest",
            "file:///etc/passwd",
            "gopher://gateway.example",
            "https://gateway.example/?q=1",
            "",
            "//gateway.example",
            "http://localhost:1",
        ] {
            assert!(strict.url(Some(bad)).is_err(), "{bad}");
        }
        let development = callbacks(&["loopback"]);
        for good in ["http://127.0.0.1:9000", "http://localhost:1/x", "http://[::1]:5"] {
            assert!(development.url(Some(good)).is_ok(), "{good}");
        }
        for bad in ["http://127.0.0.1.evil.example", "http://10.0.0.1", "http://0.0.0.0"] {
            assert!(development.url(Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn attempts_follow_the_schedule_and_what_the_endpoint_asks() {
        let (callbacks, now) = (callbacks(&[]), DateTime::UNIX_EPOCH);
        for (attempts, asked, low_ms, high_ms) in [
            (1, None, 800, 1200),
            (2, None, 8000, 12_000),
            (9, None, 8000, 12_000),
            (1, Some(60), 60_000, 60_000),
            (1, Some(1_000_000), 3_600_000, 3_600_000),
            (2, Some(-5), 8000, 12_000),
        ] {
            let wait = callbacks.next(attempts, asked.map(TimeDelta::seconds), now) - now;
            assert!(
                (low_ms..=high_ms).contains(&wait.num_milliseconds()),
                "{attempts} {asked:?}: {wait}"
            );
        }
    }
}
