//! Writes one batch in one transaction: at once, or after a failed row in ever smaller parts. Rows not among the failed
//! have landed. The sink calls it.
//!
//! ```text
//! write --> at once:  BEGIN, all rows, COMMIT
//!             | a row fails
//!             v
//!           in parts: BEGIN, each half, and again the halves of a half that fails, down to the row that stays
//!                     out, COMMIT
//! ```

use std::ops::Range;

use super::{classify::ClassifiedError, connection::Connection, plan::Plan};
use crate::sink::table::classified::{Failed, Phase, Scope};

/// Constraints that wait for the COMMIT would not tell which row they are about.
const BEGIN_IN_PARTS: &str = "ROLLBACK; BEGIN; SET CONSTRAINTS ALL IMMEDIATE";

/// Writes the rows of the connection; all rows not among the failed have landed. After an error nothing has landed,
/// unless the error says otherwise, and the transaction may still be open.
pub(super) async fn write(connection: &mut Connection, plan: &Plan) -> Result<Failed, ClassifiedError> {
    let all = 0..connection.rows.len();
    connection.ready(plan).await?;
    match at_once(connection, plan, all.clone()).await {
        Ok(()) => Ok(Failed::new()),
        Err(classified) if classified.scope == Scope::Batch => Err(classified),
        Err(classified) if all.len() == 1 => {
            connection.control("ROLLBACK", Phase::Statement).await?;
            Ok(vec![(0, classified.into())])
        }
        Err(_) => in_parts(connection, plan, all).await,
    }
}

async fn at_once(connection: &Connection, plan: &Plan, rows: Range<usize>) -> Result<(), ClassifiedError> {
    if !connection.insert(plan, "BEGIN", rows).await? {
        return Ok(());
    }
    // Sent separately from the rows: up to here a lost connection means that nothing has landed.
    connection.control("COMMIT", Phase::Commit).await
}

async fn in_parts(connection: &Connection, plan: &Plan, rows: Range<usize>) -> Result<Failed, ClassifiedError> {
    // Waited for: were it canceled, the parts would land one by one.
    connection.control(BEGIN_IN_PARTS, Phase::Statement).await?;
    let mut failed = Failed::new();
    let mut parts = halves(rows).to_vec();
    let mut before = SAVE.to_owned();
    let go_on = go_on(connection, plan);
    while let Some(part) = parts.pop() {
        match connection.insert(plan, &before, part.clone()).await {
            // A transaction is open, or the statements before the rows had failed and the rows with them.
            Ok(_) => before.clone_from(&go_on),
            Err(classified) if classified.scope == Scope::Batch => return Err(classified),
            Err(classified) => {
                UNDO.clone_into(&mut before);
                if part.len() == 1 {
                    failed.push((part.start, classified.into()));
                } else {
                    parts.extend(halves(part));
                }
            }
        }
    }
    let end = if before == UNDO { format!("{UNDO}; COMMIT") } else { "COMMIT".to_owned() };
    connection.control(&end, Phase::Commit).await?;
    Ok(failed)
}

const SAVE: &str = "SAVEPOINT roundlot";
const UNDO: &str = "ROLLBACK TO SAVEPOINT roundlot";

/// Statements that keep a part and prepare the next.
fn go_on(connection: &Connection, plan: &Plan) -> String {
    match plan.bulk.as_ref().and_then(|bulk| bulk.stage.as_ref()) {
        Some(stage) if connection.has_bulk() => format!("RELEASE SAVEPOINT roundlot; {}; {SAVE}", stage.empty),
        _ => format!("RELEASE SAVEPOINT roundlot; {SAVE}"),
    }
}

/// The second half first, so that the first is popped first: rows keep their order.
pub(super) fn halves(rows: Range<usize>) -> [Range<usize>; 2] {
    let middle = rows.start + rows.len() / 2;
    [middle..rows.end, rows.start..middle]
}
