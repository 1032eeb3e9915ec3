//! [`Nats`]: the NATS servers that nodes share, which hold the log, while its ledger is in PostgreSQL. Private ones are killed, shut down
//! and cut off now and then, those of the user are not.

use std::{fmt, path::PathBuf};

use crate::{Failure, cluster::Cluster};

/// The servers of one cluster.
pub(crate) enum Nats {
    /// Servers of the user: their URLs, and those of their monitoring ports, if they are known.
    Named {
        urls: String,
        monitoring: Option<String>,
    },
    Private(Cluster),
}

impl Nats {
    /// Starts so many private servers. Each node has a link of its own to each of them.
    pub(crate) fn start(servers: usize, nodes: usize) -> Result<Self, Failure> {
        Cluster::start(servers, nodes).map(Self::Private)
    }

    /// The URLs by which a node reaches the servers, with commas between them.
    pub(crate) fn urls(&self, node: usize) -> String {
        match self {
            Self::Named { urls, .. } => urls.clone(),
            Self::Private(cluster) => cluster.urls(node),
        }
    }

    /// The URLs of the monitoring ports, with commas between them.
    pub(crate) fn monitoring(&self) -> Option<String> {
        match self {
            Self::Named { monitoring, .. } => monitoring.clone(),
            Self::Private(cluster) => Some(cluster.monitoring()),
        }
    }

    /// Private servers.
    pub(crate) fn cluster(&self) -> Option<&Cluster> {
        match self {
            Self::Named { .. } => None,
            Self::Private(cluster) => Some(cluster),
        }
    }

    /// Keeps the folder of private servers, which are stopped.
    pub(crate) fn keep(self) -> Option<PathBuf> {
        match self {
            Self::Named { .. } => None,
            Self::Private(mut cluster) => Some(cluster.keep()),
        }
    }
}

impl fmt::Display for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A whole URL may have a password.
            Self::Named { .. } => f.write_str("NATS servers"),
            Self::Private(cluster) => cluster.fmt(f),
        }
    }
}
