//! What wakes the loop: a commit of this node, a commit of another node told through Redis, or the time between two looks.
//! Redis may be away or flushed at any moment: then the look at the clock finds what it would have told.

use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::timeout;

const CHANNEL: &str = "eds:changed";
/// Between attempts to reach Redis.
const RECONNECT: Duration = Duration::from_secs(5);

pub struct Wake {
    /// Commits of this node.
    here: Arc<Notify>,
    /// Commits of others.
    elsewhere: Arc<Notify>,
    redis: Option<redis::aio::ConnectionManager>,
}

/// Listens to Redis if there is one. That it cannot be reached is told in the log, and is no error.
pub async fn start(here: Arc<Notify>, redis_url: &str) -> Wake {
    let elsewhere = Arc::new(Notify::new());
    let client = (!redis_url.is_empty()).then(|| redis::Client::open(redis_url)).transpose();
    let client = client.unwrap_or_else(|error| {
        tracing::warn!(kind = error.category(), "redis.url cannot be used; the server goes on without");
        None
    });
    let mut redis = None;
    if let Some(client) = client {
        match timeout(Duration::from_secs(2), client.get_connection_manager()).await {
            Ok(Ok(manager)) => redis = Some(manager),
            _ => tracing::warn!("Redis is not reached; the server goes on without, and tries again"),
        }
        tokio::spawn(listen(client, elsewhere.clone()));
    }
    Wake { here, elsewhere, redis }
}

async fn listen(client: redis::Client, elsewhere: Arc<Notify>) {
    loop {
        if let Ok(mut subscription) = client.get_async_pubsub().await
            && subscription.subscribe(CHANNEL).await.is_ok()
        {
            let mut messages = subscription.into_on_message();
            while futures_util::StreamExt::next(&mut messages).await.is_some() {
                elsewhere.notify_one();
            }
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

impl Wake {
    /// For the leader: until something was committed anywhere, but not longer than `at_most`.
    pub async fn wait(&self, at_most: Duration) {
        tokio::select! {
            () = self.here.notified() => {}
            () = self.elsewhere.notified() => {}
            () = tokio::time::sleep(at_most) => {}
        }
    }

    /// For a node that does not lead: tells the leader of commits here, for as long as `during`.
    pub async fn pass_on(&self, during: Duration) {
        let Some(redis) = &self.redis else { return };
        let pass = async {
            loop {
                self.here.notified().await;
                let mut redis = redis.clone();
                let told: Result<i64, _> = redis::cmd("PUBLISH").arg(CHANNEL).arg("").query_async(&mut redis).await;
                if told.is_err() {
                    return;
                }
            }
        };
        // The end of the time is the normal end.
        let _ = timeout(during, pass).await;
    }
}
