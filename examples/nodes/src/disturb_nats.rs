//! Faults of NATS servers, as [`Show`] brings them about. Each of them ends when the servers are ready again.

use std::time::Instant;

use crate::{
    Failure,
    board::Board,
    cluster::{Cluster, PATIENCE, POLL_PERIOD},
    show::Show,
};

impl Show {
    /// Kills a server that leads a stream, and starts it again when it has been away for longer than a lease.
    pub(crate) fn kill_nats(&mut self, number: u64, board: &mut Board) -> Result<(), Failure> {
        self.with_cluster(|show, cluster| {
            let which = cluster.leader(number);
            board.tell(&show.seen, &format!("{}, is killed", cluster.describe(which)));
            cluster.server(which).kill()?;
            show.follow_for(show.standstill(), board)?;
            cluster.server(which).begin()?;
            show.await_cluster(cluster, board)
        })
    }

    /// Lets a server that leads a stream end in lame duck mode, and starts it again.
    pub(crate) fn shut_nats_down(&mut self, number: u64, board: &mut Board) -> Result<(), Failure> {
        self.with_cluster(|show, cluster| {
            let which = cluster.leader(number);
            let server = cluster.server(which);
            board.tell(&show.seen, &format!("{}, shuts down", cluster.describe(which)));
            server.enter_lame_duck_mode()?;
            let deadline = Instant::now() + PATIENCE;
            while !server.has_ended()? {
                if Instant::now() > deadline {
                    return Err(server.failure("does not end in lame duck mode"));
                }
                show.follow_for(POLL_PERIOD, board)?;
            }
            server.begin()?;
            show.await_cluster(cluster, board)
        })
    }

    /// Kills all servers, and starts them again when they have been away for longer than a lease.
    pub(crate) fn kill_all_nats(&mut self, board: &mut Board) -> Result<(), Failure> {
        self.with_cluster(|show, cluster| {
            let servers = || (0..cluster.len()).map(|which| cluster.server(which));
            servers().try_for_each(|server| server.kill())?;
            show.follow_for(show.standstill(), board)?;
            servers().try_for_each(|server| server.begin())?;
            show.await_cluster(cluster, board)
        })
    }

    /// Does something to the servers of the program's own.
    fn with_cluster(
        &mut self,
        disturb: impl FnOnce(&mut Self, &Cluster) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let nats = self.fleet.plan().nats.clone();
        nats.as_ref().and_then(|nats| nats.cluster()).map_or(Ok(()), |cluster| disturb(self, cluster))
    }

    /// Follows what is said until the servers are ready.
    fn await_cluster(&mut self, cluster: &Cluster, board: &mut Board) -> Result<(), Failure> {
        let began = Instant::now();
        while !cluster.is_ready(began + PATIENCE)? {
            self.follow_for(POLL_PERIOD, board)?;
        }
        board.tell(&self.seen, &format!("NATS is ready again, after {} ms", began.elapsed().as_millis()));
        Ok(())
    }
}
