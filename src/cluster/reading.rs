//! What can be read of the runs of a cluster.

use serde::{Deserialize, Serialize};

use super::life::Row;
use crate::names::RunKey;

/// As many as there are: the most that a question can ask for.
pub(super) const ALL: usize = usize::MAX >> 1;

/// Something to be read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Read {
    /// The records of a run.
    Records { id: String },
    /// A pinned definition.
    Definition { fingerprint: [u8; 32] },
    /// Runs, newest first.
    Rows { which: Which, most: usize },
}

/// Which runs are wanted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Which {
    /// The one with this id.
    Id(String),
    /// The one with this key.
    Key(RunKey),
    /// Those whose id or key begins like this.
    Prefix(String),
    /// Those that are not final.
    Live,
    /// All that are older than this one.
    Before(Option<RunKey>),
}

/// What was read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Found {
    Records(Vec<Vec<u8>>),
    Definition(Vec<u8>),
    Rows(Vec<Row>),
}
