//! Statements over many rows at once. A statement is prepared for 1, 2, 4 ... 64 rows and used
//! again, so that a batch of any size needs few round trips and few statements.

use sqlx::AssertSqlSafe;
use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Sqlite, query};

/// The most rows of one statement.
const MAX_ROWS: usize = 64;

/// Cuts `items` into runs whose lengths are powers of two, at most [`MAX_ROWS`].
pub(crate) fn runs<T>(mut items: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let rows = items.len().min(MAX_ROWS).checked_ilog2().map(|log| 1 << log)?;
        let (run, rest) = items.split_at(rows);
        items = rest;
        Some(run)
    })
}

/// A statement with `group` repeated for each row, between `before` and `after`. Nothing but the
/// number of placeholders varies, so there is nothing to inject.
pub(crate) fn statement<'q>(
    before: &str,
    group: &str,
    rows: usize,
    after: &str,
) -> Query<'q, Sqlite, SqliteArguments> {
    let groups = vec![group; rows].join(", ");
    query(AssertSqlSafe(format!("{before} {groups} {after}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_cover_everything_in_order() {
        for len in [0, 1, 3, 63, 64, 65, 200] {
            let items: Vec<usize> = (0..len).collect();
            let lengths: Vec<usize> = runs(&items).map(<[usize]>::len).collect();
            assert!(lengths.iter().all(|len| len.is_power_of_two() && *len <= MAX_ROWS));
            assert_eq!(runs(&items).flatten().copied().collect::<Vec<_>>(), items);
        }
        assert_eq!(runs(&[0; 200]).map(<[i32]>::len).collect::<Vec<_>>(), [64, 64, 64, 8]);
    }
}
