//! One call to systemd for all who look at the same moment: however many workspaces look, PID 1 goes through its units
//! once. Nothing is kept: an answer goes to those who asked before the call began, and to nobody after.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::oneshot;

use crate::host::systemd::{Row, Systemd, SystemdError};

/// As glob(7) patterns: what can be a unit of ours, and a few that aren't.
pub const OURS: [&str; 2] = ["csm-*.service", "run-code*.mount"];

/// Up to so many units are asked for by name. systemd compares every unit with every pattern, and sends every row that
/// matches; from here on all of ours are the smaller question.
const FEW: usize = 16;

/// What is asked, so that tests can answer.
pub trait Lists: Send + Sync + 'static {
    fn list(&self, patterns: Vec<String>) -> impl Future<Output = Result<Vec<Row>, SystemdError>> + Send;
}

impl Lists for Systemd {
    async fn list(&self, patterns: Vec<String>) -> Result<Vec<Row>, SystemdError> {
        Systemd::list(self, &patterns).await
    }
}

/// Units by name; those that nobody asked for may be among them.
pub type Rows = HashMap<String, Row>;
/// An error is everybody's as well.
pub type Answer = Result<Arc<Rows>, Arc<SystemdError>>;

/// Where they meet.
pub struct Listing<S> {
    systemd: Arc<S>,
    gathering: Arc<Mutex<Option<Call>>>,
}

/// A call that has not begun.
struct Call {
    units: Vec<String>,
    answer: Shared<BoxFuture<'static, Answer>>,
}

impl<S: Lists> Listing<S> {
    pub fn new(systemd: Arc<S>) -> Self {
        Self {
            systemd,
            gathering: Arc::default(),
        }
    }

    /// The loaded ones among these units, as they are after this was called.
    pub async fn look(&self, units: Vec<String>) -> Answer {
        let (answer, gate) = self.join(units);
        if let Some(gate) = gate {
            // Everybody who was woken by the same thing comes before this goes on.
            tokio::task::yield_now().await;
            drop(gate);
        }
        // Whoever waits drives it: one who gives up takes nothing from the others.
        answer.await
    }

    /// The call that is gathering; with its gate for the one who began it.
    fn join(&self, units: Vec<String>) -> (Shared<BoxFuture<'static, Answer>>, Option<oneshot::Sender<()>>) {
        let mut gathering = lock(&self.gathering);
        if let Some(call) = &mut *gathering {
            call.units.extend(units);
            return (call.answer.clone(), None);
        }
        let (gate, gathered) = oneshot::channel();
        let answer = call(self.systemd.clone(), self.gathering.clone(), gathered)
            .boxed()
            .shared();
        *gathering = Some(Call {
            units,
            answer: answer.clone(),
        });
        (answer, Some(gate))
    }
}

async fn call<S: Lists>(
    systemd: Arc<S>,
    gathering: Arc<Mutex<Option<Call>>>,
    gathered: oneshot::Receiver<()>,
) -> Answer {
    // Nothing is ever sent: it ends when the gate is dropped, by whatever became of its owner.
    let _ = gathered.await;
    let units = lock(&gathering).take().map(|call| call.units).unwrap_or_default();
    let patterns = if units.len() > FEW {
        OURS.map(str::to_owned).to_vec()
    } else {
        units
    };
    let rows = systemd.list(patterns).await.map_err(Arc::new)?;
    Ok(Arc::new(rows.into_iter().map(|row| (row.name.clone(), row)).collect()))
}

fn lock(gathering: &Mutex<Option<Call>>) -> std::sync::MutexGuard<'_, Option<Call>> {
    gathering.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use tokio::task::JoinSet;

    /// Answers with what it was asked, after a while. Refuses while it is told to.
    #[derive(Default)]
    struct Fake {
        calls: Mutex<Vec<Vec<String>>>,
        refuses: Mutex<bool>,
    }

    impl Fake {
        fn calls(&self) -> Vec<Vec<String>> {
            self.calls.lock().unwrap().clone()
        }
    }

    impl Lists for Fake {
        async fn list(&self, patterns: Vec<String>) -> Result<Vec<Row>, SystemdError> {
            let number = {
                let mut calls = self.calls.lock().unwrap();
                calls.push(patterns.clone());
                calls.len()
            };
            tokio::time::sleep(Duration::from_millis(5)).await;
            if *self.refuses.lock().unwrap() {
                return Err(SystemdError::Disconnected);
            }
            let row = |name| Row {
                name,
                description: number.to_string(),
                active: "active".to_owned(),
                has_job: false,
                path: zbus::OwnedObjectPath::try_from("/unit").unwrap(),
            };
            Ok(patterns.into_iter().map(row).collect())
        }
    }

    fn rig() -> (Arc<Fake>, Arc<Listing<Fake>>) {
        let fake = Arc::new(Fake::default());
        (fake.clone(), Arc::new(Listing::new(fake)))
    }

    /// So many who look at once, each for a unit of its own.
    async fn crowd(listing: &Arc<Listing<Fake>>, count: usize) -> Vec<Answer> {
        let mut lookers = JoinSet::new();
        for number in 0..count {
            let listing = listing.clone();
            lookers.spawn(async move { listing.look(vec![format!("csm-u{number}.service")]).await });
        }
        lookers.join_all().await
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_who_look_at_once_make_one_call() {
        let (fake, listing) = rig();
        let answers = crowd(&listing, 1000).await;
        assert_eq!(answers.len(), 1000);
        assert_eq!(fake.calls(), [OURS]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_ask_for_their_own_units() {
        let (fake, listing) = rig();
        for answer in crowd(&listing, 2).await {
            assert_eq!(answer.unwrap().len(), 2);
        }
        assert_eq!(fake.calls(), [["csm-u0.service", "csm-u1.service"]]);
    }

    /// An answer under way may already be older than the look.
    #[tokio::test(start_paused = true)]
    async fn who_comes_while_a_call_is_under_way_gets_a_later_one() {
        let (fake, listing) = rig();
        let mut first = Box::pin(listing.look(vec!["a".to_owned()]));
        while fake.calls().is_empty() {
            assert!(futures_util::poll!(&mut first).is_pending());
            tokio::task::yield_now().await;
        }
        let second = listing.look(vec!["b".to_owned()]).await.unwrap();
        assert_eq!(second["b"].description, "2");
        assert_eq!(first.await.unwrap()["a"].description, "1");
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_takes_nothing_from_the_others() {
        let (fake, listing) = rig();
        let own = |unit: &str| listing.look(vec![unit.to_owned()]);
        let mut first = Box::pin(own("a"));
        assert!(futures_util::poll!(&mut first).is_pending());
        let mut second = Box::pin(own("b"));
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(first);
        assert!(second.await.unwrap().contains_key("b"));
        // Also when it was the only one, and had not begun.
        let mut lost = Box::pin(own("c"));
        assert!(futures_util::poll!(&mut lost).is_pending());
        drop(lost);
        assert!(own("d").await.unwrap().contains_key("d"));
        assert_eq!(fake.calls().len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_is_everybodys_and_is_not_kept() {
        let (fake, listing) = rig();
        *fake.refuses.lock().unwrap() = true;
        assert!(crowd(&listing, 3).await.iter().all(Result::is_err));
        *fake.refuses.lock().unwrap() = false;
        assert!(crowd(&listing, 3).await.iter().all(Result::is_ok));
        assert_eq!(fake.calls().len(), 2);
    }
}
