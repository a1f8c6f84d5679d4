//! (being written)
use crate::model::names::WorkspaceName;
use crate::model::status::Trouble;
use std::collections::BTreeMap;

/// What nginx serves, and what keeps it from serving what it should.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NginxReport {
    pub generation: Option<String>,
    pub trouble: Option<Trouble>,
    pub culprits: BTreeMap<WorkspaceName, Trouble>,
    pub steps: Vec<String>,
}
