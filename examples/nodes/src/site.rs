//! [`Sites`]: a new log for each show, in a folder or on a server.

use std::{path::PathBuf, rc::Rc};

use tempfile::TempDir;

use crate::{Failure, place::Place, server::Server};

/// Where one show takes place.
pub(crate) struct Site {
    pub(crate) log: Place,
    pub(crate) server: Option<Rc<Server>>,
    /// The file of the venue, if the show has one.
    pub(crate) venue: PathBuf,
}

/// The engine of the logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    File,
    Postgres,
}

pub(crate) struct Sites {
    folder: TempDir,
    server: Option<Rc<Server>>,
    /// Databases that were made.
    databases: Vec<String>,
    made: usize,
}

impl Sites {
    /// Logs in files, or on a server.
    pub(crate) fn new(server: Option<Server>) -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        Ok(Self { folder, server: server.map(Rc::new), databases: Vec::new(), made: 0 })
    }

    pub(crate) fn engine(&self) -> Engine {
        if self.server.is_some() { Engine::Postgres } else { Engine::File }
    }

    /// A log in a file of the user's.
    pub(crate) fn at(log: PathBuf) -> Site {
        Site { venue: log.with_extension("venue"), log: Place::File(log), server: None }
    }

    /// The next log.
    pub(crate) fn next(&mut self) -> Result<Site, Failure> {
        self.made += 1;
        let log = self.folder.path().join(format!("orders-{}.db", self.made));
        let Some(server) = &self.server else { return Ok(Self::at(log)) };
        let name = format!("roundlot_nodes_{}_{}", std::process::id(), self.made);
        let url = server.create(&name)?;
        self.databases.push(name);
        Ok(Site { log: Place::Database(url), server: Some(Rc::clone(server)), venue: log.with_extension("venue") })
    }

    /// Keeps what is there, and returns where.
    pub(crate) fn keep(mut self) -> Vec<String> {
        let mut kept = std::mem::take(&mut self.databases);
        let server = self.server.take().and_then(|server| Rc::into_inner(server)?.keep());
        kept.extend([Some(self.folder.keep()), server].into_iter().flatten().map(|path| path.display().to_string()));
        kept
    }

    /// Removes what was made. An error is what is left.
    pub(crate) fn remove(self) -> Result<(), Failure> {
        let server = self.server.as_ref();
        server.into_iter().try_for_each(|server| self.databases.iter().try_for_each(|name| server.remove(name)))
    }
}
