//! What an agent stated, in a checkpoint.

use aviary_core::{Second, Timestamp};

use super::{Schedule, Statement};
use crate::checkpoint::{
    Unreadable, message,
    pool::{Pool, Shared},
};

impl Schedule {
    /// The statements, up to where those before were forgotten, and where the first that was not begins.
    pub(in crate::state) fn keep(&self, pool: &mut Pool) -> (Vec<message::Statement>, [Second; 2]) {
        let Self { statements, forgotten_until, settled_until } = self;
        let statement = |statement: &Statement| {
            let Statement { since, told, roster_id, boot, series } = statement;
            message::Statement {
                since: since.0,
                told_us: told.0,
                roster_id: *roster_id,
                boot: *boot,
                list: pool.list(series),
            }
        };
        (statements.iter().map(statement).collect(), [*forgotten_until, *settled_until])
    }

    /// The schedule of which [`Self::keep`] told.
    pub(in crate::state) fn restore(
        statements: &[message::Statement],
        [forgotten_until, settled_until]: [Second; 2],
        shared: &Shared,
    ) -> Result<Self, Unreadable> {
        let statement = |kept: &message::Statement| {
            Ok(Statement {
                since: Second(kept.since),
                told: Timestamp(kept.told_us),
                roster_id: kept.roster_id,
                boot: kept.boot,
                series: shared.list(kept.list)?,
            })
        };
        let statements = statements.iter().map(statement).collect::<Result<_, _>>()?;
        Ok(Self { statements, forgotten_until, settled_until })
    }
}
