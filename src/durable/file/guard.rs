//! [`Guard`]: stands between the closure of a transactional sink and the connection of the log. The writer's rows switch it on for
//! the time of a closure. Its hooks stay installed, since SQLite prepares all statements anew when one is set.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rusqlite::{
    Connection,
    hooks::{AuthAction, AuthContext, Authorization},
};

/// Steps of SQLite's virtual machine between two looks at the clock: well below a millisecond.
const STEPS: i32 = 4000;

/// The savepoint in which a closure runs. All names that begin so are the log's own.
pub(super) const SAVEPOINT: &str = "roundlot_sink";
const OWN: &str = "roundlot_";

/// Pragmas that only read, if they are given no value to set.
const READING: [&str; 9] = [
    "foreign_key_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "schema_version",
    "table_info",
    "table_list",
    "table_xinfo",
    "foreign_key_check",
];

#[derive(Debug, Clone)]
pub(super) struct Guard(Arc<State>);

#[derive(Debug)]
struct State {
    born: Instant,
    /// When the closure is ended, in nanoseconds since `born`. `u64::MAX` while none runs.
    until: AtomicU64,
    timed_out: AtomicBool,
}

impl State {
    fn is_on(&self) -> bool {
        self.until.load(Ordering::Relaxed) != u64::MAX
    }

    fn nanos(&self) -> u64 {
        self.born.elapsed().as_nanos() as u64
    }

    fn is_over(&self) -> bool {
        let over = self.is_on() && self.nanos() >= self.until.load(Ordering::Relaxed);
        if over {
            self.timed_out.store(true, Ordering::Relaxed);
        }
        over
    }
}

impl Guard {
    /// Installs the hooks.
    pub(super) fn install(connection: &mut Connection) -> rusqlite::Result<Self> {
        let (until, timed_out) = (AtomicU64::new(u64::MAX), AtomicBool::new(false));
        let state = Arc::new(State { born: Instant::now(), until, timed_out });
        let of_hook = Arc::clone(&state);
        connection.authorizer(Some(move |context: AuthContext<'_>| {
            if of_hook.is_on() && !may(context.action) { Authorization::Deny } else { Authorization::Allow }
        }))?;
        let of_hook = Arc::clone(&state);
        connection.progress_handler(STEPS, Some(move || of_hook.is_over()))?;
        Ok(Self(state))
    }

    /// A closure begins.
    pub(super) fn enter(&self, timeout: Duration) {
        let timeout = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        self.0.timed_out.store(false, Ordering::Relaxed);
        self.0.until.store(self.0.nanos().saturating_add(timeout).min(u64::MAX - 1), Ordering::Relaxed);
    }

    /// The closure has ended. Returns whether its time was over.
    pub(super) fn leave(&self) -> bool {
        let over = self.0.is_over() || self.0.timed_out.load(Ordering::Relaxed);
        self.0.until.store(u64::MAX, Ordering::Relaxed);
        over
    }
}

/// Whether the closure of a sink may do this.
fn may(action: AuthAction<'_>) -> bool {
    use AuthAction::*;
    match action {
        Transaction { .. } | Attach { .. } | Detach { .. } => false,
        Savepoint { savepoint_name: name, .. } => !is_own(name),
        Pragma { pragma_name, pragma_value } => is_reading(pragma_name, pragma_value),
        Insert { table_name }
        | Delete { table_name }
        | Update { table_name, .. }
        | AlterTable { table_name, .. }
        | CreateTable { table_name }
        | CreateTempTable { table_name }
        | DropTable { table_name }
        | CreateIndex { table_name, .. }
        | DropIndex { table_name, .. }
        | CreateTrigger { table_name, .. }
        | CreateTempTrigger { table_name, .. }
        | DropTrigger { table_name, .. } => !is_own(table_name),
        CreateView { view_name } | CreateTempView { view_name } | DropView { view_name } => !is_own(view_name),
        _ => true,
    }
}

/// SQLite compares names without regard to case.
fn is_own(name: &str) -> bool {
    name.get(..OWN.len()).is_some_and(|start| start.eq_ignore_ascii_case(OWN))
}

fn is_reading(name: &str, value: Option<&str>) -> bool {
    READING.iter().any(|known| known.eq_ignore_ascii_case(name)) && (name != "schema_version" || value.is_none())
}
