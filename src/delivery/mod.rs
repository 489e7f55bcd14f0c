//! What leaves the repository: positions for the feed, the streams of the regions, and their delivery.
//!
//! One node leads at a time. In one transaction it gives positions to what was committed, decides which regions each resource pertains to
//! (`route`), and appends to their streams; a sender for each region (`send`) works through its stream at its own pace. Nothing here is
//! kept only in memory: after kill -9 the next leader goes on where the database stands.

pub mod changes;
pub mod route;
pub mod send;
pub mod wake;

use crate::config;
use crate::interaction::Service;
use crate::outcome::Outcome;
use crate::store;
use crate::store::database_error;
use crate::store::feed::Leader;
use crate::store::pertinence;
use reqwest::Client;
use sqlx::Connection;
use sqlx::PgConnection;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Between looks at an index that is too old to route by.
const INDEX_POLL: Duration = Duration::from_secs(10);

/// Settings of delivery and pertinence.
#[derive(Debug, Clone)]
pub struct Settings {
    pub poll: Duration,
    pub batch_entries_max: i64,
    pub retry_schedule_s: Vec<u64>,
    pub sources: Vec<config::sections::PertinenceSource>,
    pub default_region: Option<String>,
}

/// The running delivery.
#[derive(Clone)]
pub struct Delivery {
    stop: Arc<watch::Sender<bool>>,
    task: Arc<tokio::sync::Mutex<Option<JoinHandle<()>>>>,
}

impl Delivery {
    /// Enrols the configured regions and starts the loop. Errors: the database's, or a client that cannot be built.
    pub async fn start(
        service: &Service,
        delivery: &config::sections::Delivery,
        pertinence: &config::sections::Pertinence,
        redis_url: &str,
    ) -> Result<Delivery, Outcome> {
        let configured: Vec<(String, Option<String>)> = delivery
            .region
            .iter()
            .map(|r| (r.code.clone(), Some(r.url.clone()).filter(|u| !u.is_empty())))
            .collect();
        pertinence::enrol(&service.store.pools.points, &configured)
            .await
            .map_err(database_error)?;
        let settings = Settings {
            poll: Duration::from_millis(delivery.poll_ms),
            batch_entries_max: delivery.batch_entries_max as i64,
            retry_schedule_s: delivery.retry_schedule_s.clone(),
            sources: pertinence.order.clone(),
            default_region: Some(pertinence.default_region.clone()).filter(|code| !code.is_empty()),
        };
        let client = Client::builder()
            .timeout(Duration::from_millis(delivery.request_timeout_ms))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|e| Outcome::internal(format!("the HTTP client: {e}")))?;
        let (stop, stopped) = watch::channel(false);
        let wake = wake::start(service.store.changed.clone(), redis_url).await;
        let task = delivery
            .enabled
            .then(|| tokio::spawn(run(service.clone(), settings, client, wake, stopped)));
        Ok(Delivery {
            stop: Arc::new(stop),
            task: Arc::new(tokio::sync::Mutex::new(task)),
        })
    }

    /// Ends the loop after what it is doing.
    pub async fn stop(&self) {
        self.stop.send_replace(true);
        if let Some(task) = self.task.lock().await.take() {
            // What is on its way to a region gets a moment; it would only be sent again.
            let _ = timeout(Duration::from_secs(2), task).await;
        }
    }
}

/// Tries to lead, again and again.
async fn run(service: Service, settings: Settings, client: Client, wake: wake::Wake, mut stopped: watch::Receiver<bool>) {
    loop {
        if let Err(error) = lead(&service, &settings, &client, &wake, &stopped).await {
            tracing::warn!(error = %database_error(error).internal.unwrap_or_default(), "the feed could not go on");
        }
        tokio::select! {
            _ = stopped.changed() => return,
            () = tokio::time::sleep(settings.poll) => {}
        }
    }
}

/// Leads until the connection breaks, another leads, or the server stops.
async fn lead(
    service: &Service,
    settings: &Settings,
    client: &Client,
    wake: &wake::Wake,
    stopped: &watch::Receiver<bool>,
) -> Result<(), sqlx::Error> {
    if *stopped.borrow() {
        return Ok(());
    }
    let mut conn = service.store.leader_connection().await?;
    // What an old index lacks decides where patients belong.
    let complaint = match store::index_complaint(&service.store.pools.points).await {
        Ok(complaint) => complaint,
        Err(outcome) => outcome.internal,
    };
    if let Some(complaint) = complaint {
        tracing::warn!("nothing is delivered: {complaint}");
        tokio::time::sleep(INDEX_POLL).await;
        return Ok(());
    }
    let Some(mut leader) = Leader::elect(&mut conn).await? else {
        wake.pass_on(settings.poll).await;
        return Ok(());
    };
    let regions = pertinence::regions(&mut conn).await?;
    let (grown, _) = watch::channel(0u64);
    let grown = Arc::new(grown);
    let senders: Vec<JoinHandle<()>> = regions
        .into_iter()
        .filter(|region| region.url.is_some())
        .map(|region| {
            tokio::spawn(send::deliver(
                service.clone(),
                settings.clone(),
                client.clone(),
                region,
                grown.subscribe(),
                stopped.clone(),
            ))
        })
        .collect();
    let result = tick_until_stopped(service, settings, &mut leader, &mut conn, wake, stopped, &grown).await;
    for sender in senders {
        // A sender holds nothing that must be put down: what it had sent and not recorded is sent again.
        sender.abort();
    }
    // Closing gives the lock back.
    let _ = conn.close().await;
    result
}

async fn tick_until_stopped(
    service: &Service,
    settings: &Settings,
    leader: &mut Leader,
    conn: &mut PgConnection,
    wake: &wake::Wake,
    stopped: &watch::Receiver<bool>,
    grown: &watch::Sender<u64>,
) -> Result<(), sqlx::Error> {
    loop {
        let is_more = match tick(service, settings, leader, conn).await? {
            None => return Ok(()),
            Some(ticked) => {
                if ticked.is_grown {
                    grown.send_modify(|n| *n += 1);
                }
                ticked.is_more
            }
        };
        if *stopped.borrow() {
            return Ok(());
        }
        if !is_more {
            wake.wait(settings.poll).await;
        }
    }
}

struct Ticked {
    /// Streams have new items.
    is_grown: bool,
    /// There is more to do at once.
    is_more: bool,
}

/// Positions, routing and streams, in one transaction. `None`: another node leads.
async fn tick(service: &Service, settings: &Settings, leader: &mut Leader, conn: &mut PgConnection) -> Result<Option<Ticked>, sqlx::Error> {
    let mut tx = conn.begin().await?;
    let Some(changes) = leader.tick(&mut tx).await? else {
        return Ok(None);
    };
    let regions = pertinence::regions(&mut tx).await?;
    let mut ticked = Ticked {
        is_grown: false,
        is_more: !changes.is_empty(),
    };
    if !regions.is_empty() {
        let mut router = route::Router::new(service, settings, &regions);
        ticked.is_more |= router.route_changes(&mut tx, &changes).await?;
        ticked.is_more |= router.bootstrap(&mut tx).await?;
        ticked.is_grown = router.store(&mut tx).await?;
    }
    tx.commit().await?;
    Ok(Some(ticked))
}
