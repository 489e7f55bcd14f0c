//! The database's statistics of the index: which terms and strings are dense. Read at start, and again as `analyze` renews them.

use crate::search::density::Density;
use crate::search::density::Strings;
use crate::search::index::INDEX_VERSION;
use sqlx::PgPool;

type Shares = (Option<Vec<String>>, Option<Vec<f32>>, Option<Vec<String>>);

/// Resources from which on statistics are worth having.
const ROWS_MIN: i64 = 1_000;

/// Makes the statistics when there are none: after a restore, or a first load that `analyze` has not seen. Returns whether it did.
pub async fn make_first(pool: &PgPool) -> Result<bool, sqlx::Error> {
    let is_needed: bool = sqlx::query_scalar(
        "select exists (select from resource offset $1)
            and not exists (select from pg_stats where schemaname = current_schema() and tablename = 'resource' and attname = 'terms')",
    )
    .bind(ROWS_MIN)
    .fetch_one(pool)
    .await?;
    if is_needed {
        for table in ["analyze resource", "analyze string_index", "analyze contained"] {
            sqlx::query(table).execute(pool).await?;
        }
    }
    Ok(is_needed)
}

pub async fn density(pool: &PgPool) -> Result<Density, sqlx::Error> {
    let rows = "select greatest(reltuples, 0)::float8 from pg_class where oid = $1::regclass";
    let terms = "select most_common_elems::text::bigint[], most_common_elem_freqs
         from pg_stats
         where schemaname = current_schema() and tablename = $1 and attname = 'terms' and most_common_elems is not null";
    let of_resources: Option<(Vec<i64>, Vec<f32>)> = sqlx::query_as(terms).bind("resource").fetch_optional(pool).await?;
    let of_contained: Option<(Vec<i64>, Vec<f32>)> = sqlx::query_as(terms).bind("contained").fetch_optional(pool).await?;
    let contained_rows: f64 = sqlx::query_scalar(rows).bind("contained").fetch_one(pool).await?;
    let strings: Option<Shares> = sqlx::query_as(
        "select most_common_vals::text::text[], most_common_freqs, histogram_bounds::text::text[]
         from pg_stats
         where schemaname = current_schema() and tablename = 'string_index' and attname = 'value'",
    )
    .fetch_optional(pool)
    .await?;
    let version: i32 = sqlx::query_scalar("select index_version from repository").fetch_one(pool).await?;
    let (terms, shares) = of_resources.unwrap_or_default();
    let (contained, contained_shares) = of_contained.unwrap_or_default();
    let (common, common_shares, bounds) = strings.unwrap_or_default();
    Ok(Density {
        is_index_current: version >= INDEX_VERSION,
        rows: sqlx::query_scalar(rows).bind("resource").fetch_one(pool).await?,
        // The shares end with three of another meaning, which have no element.
        terms: terms.into_iter().zip(shares).collect(),
        contained: contained
            .into_iter()
            .zip(contained_shares)
            .map(|(term, share)| (term, f64::from(share) * contained_rows))
            .collect(),
        strings: Strings {
            rows: sqlx::query_scalar(rows).bind("string_index").fetch_one(pool).await?,
            common: common
                .unwrap_or_default()
                .into_iter()
                .zip(common_shares.unwrap_or_default())
                .collect(),
            bounds: bounds.unwrap_or_default(),
        },
    })
}
