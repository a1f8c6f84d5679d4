//! STATUS: what is wrong, as a stable code with words and a way out; and the one state that the facts add up to.

use crate::model::account::AccountProblem;
use crate::model::names::ImageRef;

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Stable; listed in docs/operations.md.
    pub code: &'static str,
    pub message: String,
    pub remediation: String,
}

impl Trouble {
    pub fn new(code: &'static str, message: impl Into<String>, remediation: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            remediation: remediation.into(),
        }
    }

    /// The store lacks the image and the configuration names no way to get it.
    pub fn image_missing(name: &ImageRef) -> Self {
        Self::new(
            "image-missing",
            format!("the image {name} is not in the store"),
            "set image.archive to an archive of it, or image.pull = \"missing\", and run `csm reload`",
        )
    }

    /// Said of a workspace while the host's image is not there.
    pub fn image_absent() -> Self {
        Self::new(
            "image-missing",
            "the image is not in the store",
            "`csm status` says what became of the image",
        )
    }
}

impl From<&AccountProblem> for Trouble {
    fn from(problem: &AccountProblem) -> Self {
        let (code, remediation) = problem.remediation();
        Self::new(code, problem.to_string(), remediation)
    }
}
