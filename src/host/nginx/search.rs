//! Finds the files that nginx refuses, by halves, and what of a generation it takes.

use super::store::Link;
use super::{Culprit, NginxError, Publisher, Reloader};
use crate::model::nginx::generation::{BASE_FILE, Generation, workspace_of};

/// Trials before the rest is held back untried.
const MAX_TRIALS: usize = 24;

/// Files that are tried together.
struct Part {
    names: Vec<String>,
    /// They are known to fail on top of what is taken.
    fails: bool,
    /// Why what they are a part of failed.
    reason: String,
    /// The first half of a part that fails: when it passes, the second, next in line, is what fails.
    is_first: bool,
}

impl<R: Reloader + Sync> Publisher<R> {
    /// The largest part of `wanted` that nginx takes, in force when this returns, and the files that aren't in it.
    /// `reason`: why all of it failed. `Foreign` when nginx refuses what it served `before` too.
    pub(super) async fn largest_good(
        &self,
        wanted: &Generation,
        before: &Generation,
        reason: String,
    ) -> Result<(Generation, Vec<Culprit>), NginxError> {
        let unchanged = self.attempt(before, before).await?;
        let empty = Generation::empty();
        let base = [BASE_FILE.to_owned()];
        let mut changed = wanted.changed_since(before);
        let Some(place) = changed.iter().position(|name| name == BASE_FILE) else {
            // guard: F8-foreign
            unchanged.map_err(|reason| self.foreign(reason))?;
            return self
                .take_most(wanted, before, before, (Vec::new(), changed), reason)
                .await;
        };
        changed.remove(place);
        if unchanged.is_ok() && self.attempt(&wanted.on_top_of(before, &base), before).await?.is_ok() {
            return self
                .take_most(wanted, before, before, (base.into(), changed), reason)
                .await;
        }
        // Old files may need what the old base defined, or a certificate that is gone: all anew then.
        let Err(refusal) = self.attempt(&wanted.on_top_of(&empty, &base), before).await? else {
            let all = wanted
                .changed_since(&empty)
                .into_iter()
                .filter(|name| name != BASE_FILE)
                .collect();
            return self.take_most(wanted, before, &empty, (base.into(), all), reason).await;
        };
        unchanged.map_err(|reason| self.foreign(reason))?;
        self.put_in_force(before, before).await?;
        Ok((before.clone(), vec![culprit(wanted, BASE_FILE.to_owned(), refusal)]))
    }

    /// Puts the files of `wanted` on top of those of `older`: those that are taken already, and as many of the rest, of
    /// which all together are known to fail, as nginx accepts.
    async fn take_most(
        &self,
        wanted: &Generation,
        before: &Generation,
        older: &Generation,
        (mut taken, rest): (Vec<String>, Vec<String>),
        reason: String,
    ) -> Result<(Generation, Vec<Culprit>), NginxError> {
        let mut culprits = Vec::new();
        let mut trials = 0;
        let mut parts = vec![Part {
            names: rest,
            fails: true,
            reason,
            is_first: false,
        }];
        while let Some(mut part) = parts.pop() {
            if part.names.is_empty() {
                continue;
            }
            if trials == MAX_TRIALS {
                let untried = |name| culprit(wanted, name, format!("not tried, after {MAX_TRIALS} others"));
                culprits.extend(part.names.into_iter().map(untried));
                continue;
            }
            if !part.fails {
                trials += 1;
                let more: Vec<String> = taken.iter().chain(&part.names).cloned().collect();
                match self.attempt(&wanted.on_top_of(older, &more), before).await? {
                    Ok(_) => {
                        taken = more;
                        if part.is_first
                            && let Some(second) = parts.last_mut()
                        {
                            second.fails = true;
                        }
                        continue;
                    }
                    Err(reason) => part.reason = reason,
                }
            }
            // guard: F7-culprit
            let second = part.names.split_off(part.names.len().div_ceil(2));
            if second.is_empty() {
                culprits.extend(
                    part.names
                        .into_iter()
                        .map(|name| culprit(wanted, name, part.reason.clone())),
                );
            } else {
                parts.push(Part {
                    names: second,
                    fails: false,
                    reason: part.reason.clone(),
                    is_first: false,
                });
                parts.push(Part {
                    fails: false,
                    is_first: true,
                    ..part
                });
            }
        }
        culprits.sort_by(|one, other| one.file.cmp(&other.file));
        let best = wanted.on_top_of(older, &taken);
        self.put_in_force(&best, before).await?;
        Ok((best, culprits))
    }

    /// A generation that nginx is known to take. Not a reload more than needed: each leaves old workers behind, which
    /// editors are connected to.
    async fn put_in_force(&self, generation: &Generation, before: &Generation) -> Result<(), NginxError> {
        if self.served().await.as_deref() == Some(generation.digest()) {
            return self.point(Link::Current, Some(generation)).await;
        }
        // guard: F8-foreign-in-force
        self.attempt(generation, before)
            .await?
            .map_err(|reason| self.foreign(reason))?;
        Ok(())
    }
}

fn culprit(wanted: &Generation, file: String, reason: String) -> Culprit {
    Culprit {
        workspace: workspace_of(&file),
        port: wanted.tunnel_port(&file),
        file,
        reason,
    }
}
