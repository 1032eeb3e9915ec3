//! [`Server`]: the PostgreSQL server that nodes share. A private one is killed and cut off now and then, one of the user's is not.

use std::path::PathBuf;

use crate::{Failure, destination::connect, network::Network, private::Private};

pub(crate) struct Server {
    /// The URL of a database in which others can be made.
    url: String,
    private: Option<Private>,
}

impl Server {
    /// The server of a URL.
    pub(crate) fn at(url: &str) -> Self {
        Self { url: url.to_owned(), private: None }
    }

    /// Starts a private server with a standby. Each node has a link of its own to it, and so has the program.
    pub(crate) fn start(nodes: usize) -> Result<Self, Failure> {
        let private = Private::start(nodes)?;
        Ok(Self { url: url_at(private.network.port(nodes)), private: Some(private) })
    }

    /// Makes a database, and returns its URL.
    pub(crate) fn create(&self, name: &str) -> Result<String, Failure> {
        execute(&self.url, &[&format!("CREATE DATABASE {name}")])?;
        Ok(with_database(&self.url, name))
    }

    /// Removes a database, and all sessions on it.
    pub(crate) fn remove(&self, name: &str) -> Result<(), Failure> {
        execute(&self.url, &[&format!("DROP DATABASE {name} WITH (FORCE)")])
    }

    /// The URL by which a node reaches a database.
    pub(crate) fn url_of(&self, url: &str, node: usize) -> String {
        match self.network() {
            Some(network) => with_database(&url_at(network.port(node)), database_of(url)),
            None => url.to_owned(),
        }
    }

    /// The links to a private server.
    pub(crate) fn network(&self) -> Option<&Network> {
        self.private.as_ref().map(|private| &private.network)
    }

    /// Kills a private server, and starts it again.
    pub(crate) fn crash(&self) -> Result<(), Failure> {
        self.private.as_ref().map_or(Ok(()), Private::crash)
    }

    /// Kills a private server, and lets the standby take its place.
    pub(crate) fn fail_over(&self) -> Result<(), Failure> {
        self.private.as_ref().map_or(Ok(()), Private::fail_over)
    }

    /// Keeps the folder of a private server, which is stopped.
    pub(crate) fn keep(mut self) -> Option<PathBuf> {
        self.private.as_mut().map(Private::keep)
    }
}

/// The URL of a private server.
pub(crate) fn url_at(port: u16) -> String {
    format!("postgres://roundlot@127.0.0.1:{port}/postgres")
}

/// Runs statements on a database, each by itself.
pub(crate) fn execute(url: &str, statements: &[&str]) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = connect(url).await?;
        for statement in statements {
            client.batch_execute(statement).await?;
        }
        Ok(())
    })
}

/// The number that a query returns.
pub(crate) fn number(url: &str, sql: &str) -> Result<i64, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { Ok(connect(url).await?.query_one(sql, &[]).await?.get(0)) })
}

/// A URL with another database.
fn with_database(url: &str, name: &str) -> String {
    let (base, query) = url.split_once('?').map_or((url, String::new()), |(base, query)| (base, format!("?{query}")));
    let (scheme, rest) = base.split_once("://").unwrap_or(("postgres", base));
    let authority = rest.split('/').next().unwrap_or_default();
    format!("{scheme}://{authority}/{name}{query}")
}

/// The name of the database of a URL.
pub(crate) fn database_of(url: &str) -> &str {
    let base = url.split('?').next().unwrap_or_default();
    base.split("://").last().and_then(|rest| rest.split_once('/')).map_or("", |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_gets_another_database() {
        for (url, expected) in [
            ("postgres://bob@db:5432/books?sslmode=disable", "postgres://bob@db:5432/nodes_1?sslmode=disable"),
            ("postgres://bob:secret@db", "postgres://bob:secret@db/nodes_1"),
        ] {
            let url = with_database(url, "nodes_1");
            assert_eq!(url, expected);
            assert_eq!(database_of(&url), "nodes_1");
        }
    }
}
