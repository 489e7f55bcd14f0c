//! `eds migrate` and `eds reindex`.

use crate::commands::Database;
use crate::commands::service;
use crate::commands::told;
use crate::config::Config;
use crate::store;
use crate::store::reindex;
use indicatif::ProgressBar;
use indicatif::ProgressStyle;

/// Brings the schema to this version.
pub async fn migrate(config: Config) -> Result<(), String> {
    let database = Database::open(&config).await?;
    let result = store::migrate(&database.settings).await.map_err(told);
    database.close().await;
    result.inspect(|()| println!("the database has the schema of this version"))
}

/// Builds the index of every resource and of every superseded version anew, in batches; writers may go on meanwhile.
pub async fn reindex(config: Config) -> Result<(), String> {
    let database = Database::open(&config).await?;
    let result = async {
        let service = service(&config, &database.settings).await?;
        let superseded = reindex::count_superseded(&service.store).await.map_err(told)?;
        let bar = progress(reindex::count(&service.store).await.map_err(told)? + superseded);
        let mut after = 0;
        while let Some((last, done)) = reindex::batch(&service.store, after).await.map_err(told)? {
            after = last;
            bar.inc(done);
        }
        let mut after = (0, 0);
        while let Some((last, done)) = reindex::batch_superseded(&service.store, after).await.map_err(told)? {
            after = last;
            bar.inc(done);
        }
        reindex::finish(&service.store).await.map_err(told)?;
        bar.finish();
        service.store.close().await;
        Ok(bar.position())
    };
    let result = result.await;
    database.close().await;
    result.map(|done: u64| println!("{done} resources and versions indexed anew"))
}

/// A bar that counts resources.
pub fn progress(total: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} resources, {per_sec}, {eta} to go").expect("a constant template");
    ProgressBar::new(total).with_style(style)
}
