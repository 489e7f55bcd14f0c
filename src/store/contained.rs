//! Contained resources of a batch: rows of their own, written by the statement that writes what contains them (migration 0017). A batch without any
//! is written as if there were no such thing.

use crate::fhir::identity::contained_hash;
use crate::search::index::UnitEntry;
use crate::search::index::Word;
use crate::search::index::contained::ContainedEntry;
use crate::store::columns::Columns;
use crate::store::statements::sides;
use sqlx::Postgres;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;

/// Row ids of one container, a power of two: room for `CONTAINED_MAX`.
const PLACES: i64 = 1_024;
/// Below zero, where no resource has its row id.
const FIRST: i64 = -(1 << 62);

/// Tables of the side rows, as [`sides`] wants them.
const TABLES: [&str; 4] = ["contained_string", "contained_date", "contained_quantity", "contained_position"];

#[derive(Default)]
pub struct ContainedColumns {
    /// Place of the container in the columns of the batch.
    of: Vec<usize>,
    place: Vec<i64>,
    id_hash: Vec<i64>,
    content: Vec<String>,
    columns: Columns,
}

impl ContainedColumns {
    pub fn push(&mut self, of: usize, container: i64, contained: &ContainedEntry) {
        self.of.push(of);
        self.place.push(contained.place);
        self.id_hash.push(contained.id_hash);
        self.content.push(contained.content.clone());
        let columns = &mut self.columns;
        columns.self_hash.push(contained_hash(container, &contained.id));
        columns.type_number.push(contained.type_number);
        columns.id.push(contained.id.clone());
        columns.push_entry(self.of.len() - 1, &contained.entry);
    }

    /// Words and units, which are written with those of the containers.
    pub fn take_shared(&mut self) -> (Vec<Word>, Vec<UnitEntry>) {
        (std::mem::take(&mut self.columns.words), std::mem::take(&mut self.columns.units))
    }

    /// Binds the arguments of [`write()`], for containers with these row ids.
    pub fn bind<'q>(&self, rids: &[i64], query: Query<'q, Postgres, PgArguments>) -> Query<'q, Postgres, PgArguments> {
        let containers: Vec<i64> = self.of.iter().map(|place| rids[*place]).collect();
        let own: Vec<i64> = containers
            .iter()
            .zip(&self.place)
            .map(|(container, place)| FIRST + container * PLACES + place)
            .collect();
        let columns = &self.columns;
        let query = query
            .bind(own.clone())
            .bind(containers)
            .bind(columns.self_hash.clone())
            .bind(self.id_hash.clone())
            .bind(columns.present.clone())
            .bind(columns.date_low.clone())
            .bind(columns.date_high.clone())
            .bind(columns.type_number.clone())
            .bind(columns.reference_terms.clone())
            .bind(columns.id.clone())
            .bind(columns.term_first.clone())
            .bind(columns.term_last.clone())
            .bind(self.content.clone())
            .bind(columns.terms.clone());
        columns.bind_positions(&own, columns.bind_values(&own, query))
    }
}

/// What writes them, from arguments that begin with this one.
pub fn write(first: usize) -> String {
    let of = |offset: usize| first + offset;
    format!(
        "contained_rows as (
    insert into contained (rid, container, self_hash, id_hash, present, date_low, date_high, type, reference_terms, id, content, terms)
    select rid, container, self_hash, id_hash, present, date_low, date_high, type, reference_terms, id, content, (${terms}::bigint[])[term_first:term_last]
    from unnest(${}::bigint[], ${}::bigint[], ${}::bigint[], ${}::bigint[], ${}::bigint[], ${}::bigint[], ${}::bigint[], ${}::smallint[], ${}::smallint[],
                ${}::text[], ${}::int[], ${}::int[], ${}::text[])
         c (rid, container, self_hash, id_hash, present, date_low, date_high, type, reference_terms, id, term_first, term_last, content)
), {}",
        of(0),
        of(1),
        of(2),
        of(3),
        of(4),
        of(5),
        of(6),
        of(7),
        of(8),
        of(9),
        of(10),
        of(11),
        of(12),
        sides(&TABLES, of(14), of(29)),
        terms = of(13),
    )
}

/// The argument that has the strings, of those that begin with this one.
pub fn strings(first: usize) -> usize {
    first + 16
}
