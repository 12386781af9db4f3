//! Random interleavings of live nodes and zombies, checked step by step against a small model and the state machine.

use std::time::Duration;

use consistency_core::new_task::NewTask;
use consistency_core::retry::Decision;
use consistency_core::state::{Cause, State};
use consistency_core::store::{ClaimedTask, Losses, Settled, Settlement};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::steps::{BUDGET, Claim, LONG, NAME, SHORT, insert, let_short_leases_end, row, status};
use crate::store_under_test::StoreUnderTest;

/// What somebody does next. Leases are drawn from all ever claimed, so most settlements are those of zombies.
#[derive(Debug, Clone)]
enum Step {
    Insert { most: Option<i64> },
    Claim { limit: usize, short: bool },
    Settle { lease: prop::sample::Index, how: How },
    Renew { lease: prop::sample::Index },
    Rescue { limit: usize },
    RequestCancel { row: prop::sample::Index },
}

#[derive(Debug, Clone, Copy)]
enum How {
    Succeed,
    Retry,
    GiveUp,
    Defer,
    Release,
    Cancel,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let index = any::<prop::sample::Index>;
    let how = prop::sample::select(vec![How::Succeed, How::Retry, How::GiveUp, How::Defer, How::Release, How::Cancel]);
    let step = prop_oneof![
        2 => prop::option::weighted(0.3, 1..4_i64).prop_map(|most| Step::Insert { most }),
        5 => (1..4_usize, any::<bool>()).prop_map(|(limit, short)| Step::Claim { limit, short }),
        6 => (index(), how).prop_map(|(lease, how)| Step::Settle { lease, how }),
        2 => index().prop_map(|lease| Step::Renew { lease }),
        3 => (1..4_usize).prop_map(|limit| Step::Rescue { limit }),
        1 => index().prop_map(|row| Step::RequestCancel { row }),
    ];
    prop::collection::vec(step, 1..60)
}

/// What the model knows of a row.
#[derive(Debug, Clone, PartialEq)]
struct Expected {
    id: i64,
    task_id: String,
    state: State,
    most: Option<i64>,
    execute_times: i64,
    lost_times: i64,
    has_error: bool,
    cancel: bool,
    /// The version it is held under, and whether that lease has ended.
    held: Option<(i64, bool)>,
    /// The version its last settlement was written under, until a claim or a rescue.
    settled: Option<i64>,
    newest_version: i64,
}

struct Play<'a> {
    on: &'a dyn StoreUnderTest,
    /// The name of this play's rows, which lie beside those of others.
    name: String,
    rows: Vec<Expected>,
    claimed: Vec<ClaimedTask>,
}

/// Every observed change of state is one the state machine allows for what was done, and no fenced write overwrites.
pub fn random_interleavings_move_rows_only_along_the_state_machine(on: &dyn StoreUnderTest) {
    let in_memory = on.store().connections().is_empty();
    let config = Config { cases: if in_memory { 300 } else { 15 }, failure_persistence: None, ..Config::default() };
    let played = TestRunner::new(config).run(&steps(), |steps| {
        // What a play that failed has left behind is none of this one's.
        let_short_leases_end(on);
        while !on.store().rescue(BUDGET, 100).unwrap().is_empty() {}
        let name = format!("{NAME}/{:x}", rand::random::<u64>());
        let mut play = Play { on, name, rows: Vec::new(), claimed: Vec::new() };
        steps.into_iter().for_each(|step| play.step(step));
        Ok(())
    });
    if let Err(error) = played {
        panic!("{error}");
    }
}

impl Play<'_> {
    fn step(&mut self, step: Step) {
        let before = self.rows.clone();
        let causes = match step {
            Step::Insert { most } => self.insert(most),
            Step::Claim { limit, short } => self.claim(limit, short),
            Step::Settle { lease, how } if !self.claimed.is_empty() => self.settle(&lease, how),
            Step::Renew { lease } if !self.claimed.is_empty() => self.renew(&lease),
            Step::Rescue { limit } => self.rescue(limit),
            Step::RequestCancel { row } if !self.rows.is_empty() => {
                let row = row.index(self.rows.len());
                self.rows[row].cancel = true;
                self.on.request_cancel(self.rows[row].id);
                &[]
            }
            _ => &[],
        };
        self.compare(&before, causes);
    }

    /// The table says what the model says, and every change is a legal one.
    fn compare(&self, before: &[Expected], causes: &[Cause]) {
        for (position, row) in self.rows.iter().enumerate() {
            let found = status(self.on, &row.task_id);
            if let Some(before) = before.get(position).filter(|before| before.state != found.state) {
                let legal = causes.iter().any(|cause| before.state.after(*cause) == Some(found.state));
                assert!(legal, "{} became {} by one of {causes:?}: {row:?}", before.state, found.state);
            }
            let seen = (found.state, found.execute_times, found.lost_times, found.error_message.is_some());
            assert_eq!(seen, (row.state, row.execute_times, row.lost_times, row.has_error), "{row:?}");
            assert_eq!(found.lease_owner.is_some(), row.held.is_some(), "{row:?}");
        }
    }

    fn insert(&mut self, most: Option<i64>) -> &'static [Cause] {
        let task_id = format!("{}/{}", self.name, self.rows.len());
        insert(self.on, &[NewTask { method_name: self.name.clone(), max_execute_times: most, ..row(&task_id) }]);
        let id = status(self.on, &task_id).id;
        self.rows.push(Expected {
            id,
            task_id,
            state: State::Pending,
            most,
            execute_times: 0,
            lost_times: 0,
            has_error: false,
            cancel: false,
            held: None,
            settled: None,
            newest_version: 0,
        });
        &[]
    }

    fn claim(&mut self, limit: usize, short: bool) -> &'static [Cause] {
        let lease = if short { SHORT } else { LONG };
        let names = vec![self.name.clone()];
        let taken = Claim { names, limit, lease, ..Claim::default() }.take(self.on);
        assert!(taken.len() <= limit);
        for task in &taken {
            let row = self.row(task.lease.id);
            assert!(row.state.is_claimable(), "{row:?} was claimed");
            assert!(task.lease.version > row.newest_version, "{task:?} has a version that was there before: {row:?}");
            assert_eq!((task.failed_before, task.cancel_requested), (row.has_error, row.cancel));
            row.newest_version = task.lease.version;
            row.state = State::Running;
            row.execute_times += 1;
            row.held = Some((task.lease.version, short));
            row.settled = None;
            assert_eq!(task.execute_times, row.execute_times);
        }
        self.claimed.extend(taken);
        &[Cause::Claim]
    }

    fn settle(&mut self, lease: &prop::sample::Index, how: How) -> &'static [Cause] {
        use Cause::*;
        let task = lease.get(&self.claimed).clone();
        let decided = |decision, error: Option<&str>| task.settled(decision, error.map(str::to_owned), Vec::new());
        let settlement = match how {
            How::Succeed => decided(Decision::Succeed, None),
            How::Retry => decided(Decision::Retry(Duration::ZERO), Some("retry")),
            How::GiveUp => decided(Decision::GiveUp, Some("give up")),
            How::Defer => decided(Decision::Defer(Duration::ZERO), Some("defer")),
            How::Release => task.released(),
            How::Cancel => task.cancelled(),
        };
        let expected = self.row(task.lease.id).settle(&settlement);
        assert_eq!(self.on.store().settle(&[settlement]).unwrap(), [expected]);
        &[Succeed, Retry, GiveUp, Defer, Release, Cancel]
    }

    fn renew(&mut self, lease: &prop::sample::Index) -> &'static [Cause] {
        let lease = lease.get(&self.claimed).lease;
        let renewed = self.on.store().renew(&[lease], LONG).unwrap();
        let row = self.row(lease.id);
        match row.held {
            Some((version, _)) if version == lease.version => {
                assert_eq!(renewed.len(), 1, "{row:?}");
                assert_eq!((renewed[0].id, renewed[0].cancel_requested), (row.id, row.cancel));
                row.held = Some((version, false));
            }
            _ => assert_eq!(renewed, [], "{row:?}"),
        }
        &[]
    }

    fn rescue(&mut self, limit: usize) -> &'static [Cause] {
        let_short_leases_end(self.on);
        let ended = self.rows.iter().filter(|row| matches!(row.held, Some((_, true)))).count();
        let rescued = self.on.store().rescue(BUDGET, limit).unwrap();
        assert_eq!(rescued.len(), ended.min(limit));
        for taken in &rescued {
            let row = self.row(taken.id);
            assert!(matches!(row.held, Some((_, true))), "{row:?} was rescued");
            row.rescue();
            assert_eq!((taken.state, taken.lost_times), (row.state, row.lost_times));
        }
        &[Cause::Rescue, Cause::RescueTooOften, Cause::Cancel]
    }

    fn row(&mut self, id: i64) -> &mut Expected {
        self.rows.iter_mut().find(|row| row.id == id).unwrap_or_else(|| panic!("row {id} is not of this play"))
    }
}

impl Expected {
    /// What a settlement does to the row, and what it is answered.
    fn settle(&mut self, settlement: &Settlement) -> Settled {
        let version = settlement.lease.version;
        let puts_back = matches!(settlement.state, State::Pending | State::Failed);
        if self.held.is_none_or(|(held, _)| held != version) {
            let same = self.state == settlement.state || (self.state == State::Cancelled && puts_back);
            return if self.settled == Some(version) && same { Settled::Written } else { Settled::Lost };
        }
        self.state = if self.cancel && puts_back { State::Cancelled } else { settlement.state };
        self.execute_times += settlement.charge;
        self.has_error = settlement.state != State::Succeeded && (settlement.error.is_some() || self.has_error);
        match settlement.losses {
            Losses::Kept => {}
            Losses::OneMore => self.lost_times += 1,
            Losses::Cleared => self.lost_times = 0,
        }
        self.held = None;
        self.settled = Some(version);
        Settled::Written
    }

    fn rescue(&mut self) {
        self.lost_times += 1;
        let used_up = self.most.is_some_and(|most| self.execute_times >= most);
        self.state = if self.cancel {
            State::Cancelled
        } else if used_up || self.lost_times >= i64::from(BUDGET) {
            State::Dead
        } else {
            State::Failed
        };
        self.has_error = true;
        self.held = None;
        self.settled = None;
    }
}
