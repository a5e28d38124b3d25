//! What must hold in a world, whatever happens.

use tidelog_types::Offset;

use super::super::{DurableWhen, Replica, Role, planted};
use super::{Machine, Step, Violation, World, id, index};

impl World {
    /// Looks at everything that must hold, after every step.
    pub(super) fn check(&mut self) -> Result<(), Violation> {
        if planted::is_sound() {
            let replicas = self.machines.iter().filter_map(|m| m.replica.as_ref());
            replicas.for_each(Replica::check);
        }
        self.check_committed()?;
        self.check_acknowledged()?;
        self.check_shown()
    }

    /// Below the high watermarks all logs are equal, for ever; and whoever may be elected has it all, flushed.
    fn check_committed(&mut self) -> Result<(), Violation> {
        for node in 0..self.rules.nodes {
            let machine = &self.machines[node];
            let Some(replica) = &machine.replica else {
                continue;
            };
            let high_watermark = replica.watermarks().high_watermark;
            for (offset, record) in machine.log.up_to(high_watermark) {
                match self.committed.get(offset.value() as usize) {
                    Some(committed) if *committed == record => {}
                    None if self.committed.len() as i64 == offset.value() => {
                        self.committed.push(record);
                    }
                    other => {
                        let node = id(node);
                        return Err(format!("{node} has {record:?} at {offset}, not {other:?}"));
                    }
                }
            }
        }
        let end = Offset::new(self.committed.len() as i64);
        for member in &self.controller.now().isr {
            let log = &self.machines[index(*member)].log;
            let durable = match self.rules.durable_when {
                DurableWhen::Flushed => log.flushed(),
                DurableWhen::Appended => log.end(),
            };
            let expected = &self.committed[log.start().value() as usize..];
            let equal = log
                .up_to(end)
                .map(|(_, record)| record)
                .eq(expected.iter().copied());
            if durable < end || !equal {
                return Err(format!(
                    "{member} is in sync, but lacks committed records: {log:?}, not {:?}",
                    self.committed
                ));
            }
        }
        Ok(())
    }

    /// The leader has every record that a producer was told is written, unless it was deleted.
    fn check_acknowledged(&self) -> Result<(), Violation> {
        let image = self.controller.now();
        let Some(leader) = image.leader else {
            return Ok(());
        };
        let machine = &self.machines[index(leader)];
        let leads = machine.replica.as_ref().is_some_and(|replica| {
            matches!(replica.role(), Role::Leader(_))
                && replica.leader_epoch() == image.leader_epoch
        });
        let log = &machine.log;
        for (offset, record) in &self.acknowledged {
            if leads && *offset >= log.start() && log.get(*offset) != Some(*record) {
                return Err(format!("{leader} lacks {record:?} at {offset}: {log:?}"));
            }
        }
        Ok(())
    }

    /// The end that consumers are told never goes back, also from one leader to the next.
    fn check_shown(&mut self) -> Result<(), Violation> {
        for (node, machine) in self.machines.iter().enumerate() {
            let Some(replica) = &machine.replica else {
                continue;
            };
            let high_watermark = replica.watermarks().high_watermark;
            let leadership = replica.leadership();
            if leadership.check_end_known(high_watermark).is_err() {
                continue;
            }
            let epoch = leadership.leader_epoch();
            let earlier = self.shown.range(..=epoch).map(|(_, shown)| *shown);
            let highest = earlier.max().unwrap_or_default();
            if high_watermark < highest {
                let node = id(node);
                return Err(format!("{node} shows {high_watermark} after {highest}"));
            }
            self.shown.insert(epoch, high_watermark);
        }
        Ok(())
    }

    /// Lets everything heal, and tells whether it settles: one leader, all in sync, all committed, on all nodes.
    pub(super) fn settle(&mut self) -> Result<(), Violation> {
        for _ in 0..60 {
            for node in 0..self.rules.nodes {
                self.step(Step::Start(node))?;
                while self.machines[node].metadata + 1 < self.controller.len() {
                    self.step(Step::LearnMetadata(node))?;
                }
                self.step(Step::Unfence(node))?;
            }
            for _ in 0..3 {
                for node in 0..self.rules.nodes {
                    self.step(Step::Flush(node))?;
                    self.step(Step::Ask(node))?;
                }
                while !self.network.is_empty() {
                    self.step(Step::Deliver(0))?;
                }
            }
            self.step(Step::Elapse(1_000))?;
            if self.is_settled() {
                return Ok(());
            }
        }
        Err(format!("it does not settle: {self:#?}"))
    }

    fn is_settled(&self) -> bool {
        let image = self.controller.now();
        let Some(leader) = image.leader else {
            return false;
        };
        let end = self.machines[index(leader)].log.end();
        let settled = |machine: &Machine| {
            let marks = machine.replica.as_ref().map(Replica::watermarks);
            marks.is_some_and(|marks| {
                // That what is committed is the same, the other checkers see.
                marks.high_watermark == end
                    && marks.durable_end_offset == end
                    && machine.log.end() == end
                    && machine.waiting.is_empty()
            })
        };
        !image.is_reassigning()
            && image.isr.len() == image.replicas.len()
            && image
                .replicas
                .iter()
                .all(|replica| settled(&self.machines[index(*replica)]))
    }
}
