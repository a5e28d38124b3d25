use tidelog_types::{ErrorCode, LeaderEpoch, NodeId};

use super::super::{AlterPartition, AlteredPartition, Broker, IsrMember, UNKNOWN_BROKER_EPOCH};

/// What the metadata says at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Image {
    pub(super) leader: Option<NodeId>,
    pub(super) leader_epoch: LeaderEpoch,
    pub(super) partition_epoch: i32,
    /// All replicas, during a reassignment those that are added and those that are removed, too.
    pub(super) replicas: Vec<NodeId>,
    /// What a reassignment leads to.
    target: Option<Vec<NodeId>>,
    pub(super) isr: Vec<NodeId>,
    pub(super) brokers: Vec<Broker>,
}

impl Image {
    pub(super) fn is_reassigning(&self) -> bool {
        self.target.is_some()
    }
}

/// The controller, as far as one partition and its brokers are concerned. It makes no mistakes and never fails.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Controller {
    /// The metadata log, from the oldest state on that some node has yet to see.
    history: Vec<Image>,
    /// How many states were forgotten.
    forgotten: usize,
}

impl Controller {
    /// All nodes are registered, and the first of the ISR leads.
    pub(super) fn new(nodes: &[NodeId], isr: &[NodeId]) -> Self {
        let brokers = nodes.iter().map(|id| Broker {
            id: *id,
            broker_epoch: i64::from(id.value()),
            fenced: false,
            in_controlled_shutdown: false,
        });
        let image = Image {
            leader: Some(isr[0]),
            leader_epoch: LeaderEpoch::new(0),
            partition_epoch: 0,
            replicas: nodes.to_vec(),
            target: None,
            isr: isr.to_vec(),
            brokers: brokers.collect(),
        };
        Self {
            history: vec![image],
            forgotten: 0,
        }
    }

    pub(super) fn now(&self) -> &Image {
        self.history.last().expect("there is a first state")
    }

    /// How many states there have been.
    pub(super) fn len(&self) -> usize {
        self.forgotten + self.history.len()
    }

    pub(super) fn image(&self, index: usize) -> &Image {
        &self.history[index - self.forgotten]
    }

    /// Forgets what all have seen.
    pub(super) fn forget(&mut self, before: usize) {
        self.history.drain(..before - self.forgotten);
        self.forgotten = before;
    }

    pub(super) fn is_fenced(&self, id: NodeId) -> bool {
        broker(self.now(), id).fenced
    }

    fn change(&mut self, change: impl FnOnce(&mut Image)) {
        let before = self.now();
        let mut image = before.clone();
        change(&mut image);
        let removed = complete_reassignment(&mut image);
        if image.leader != before.leader || removed {
            image.leader_epoch = image.leader_epoch.next();
        }
        let same = (image.leader_epoch, &image.isr, &image.replicas)
            == (before.leader_epoch, &before.isr, &before.replicas);
        if !same {
            image.partition_epoch += 1;
        }
        if image != *before {
            self.history.push(image);
        }
    }

    /// Adds a replica, or removes it; one such change at a time.
    pub(super) fn reassign(&mut self, id: NodeId) {
        let image = self.now();
        let mut target = image.replicas.clone();
        if target.contains(&id) {
            target.retain(|replica| *replica != id);
        } else {
            target.push(id);
        }
        if image.target.is_none() && !target.is_empty() {
            self.change(|image| {
                if !image.replicas.contains(&id) {
                    image.replicas.push(id);
                }
                image.target = Some(target);
            });
        }
    }

    /// Takes a broker out of service: its replica leaves the ISR, unless it is the last, and leads no more.
    pub(super) fn fence(&mut self, id: NodeId) {
        self.change(|image| {
            broker_mut(image, id).fenced = true;
            if image.isr.len() > 1 {
                image.isr.retain(|member| *member != id);
            }
            if image.leader == Some(id) {
                image.leader = image.isr.first().copied().filter(|next| *next != id);
            }
        });
    }

    /// Registers a broker that has started anew; gives its epoch.
    pub(super) fn register(&mut self, id: NodeId) -> i64 {
        self.fence(id);
        let epochs = self.now().brokers.iter().map(|broker| broker.broker_epoch);
        let next = epochs.max().unwrap_or(0) + 1;
        self.change(|image| broker_mut(image, id).broker_epoch = next);
        next
    }

    pub(super) fn unfence(&mut self, id: NodeId) {
        self.change(|image| {
            broker_mut(image, id).fenced = false;
            if image.leader.is_none() && image.isr.contains(&id) {
                image.leader = Some(id);
            }
        });
    }

    /// Elects another leader out of the ISR.
    pub(super) fn transfer(&mut self, to: NodeId) {
        if self.now().isr.contains(&to) && !self.is_fenced(to) {
            self.change(|image| image.leader = Some(to));
        }
    }

    pub(super) fn alter_partition(
        &mut self,
        from: NodeId,
        broker_epoch: i64,
        request: &AlterPartition,
    ) -> Result<AlteredPartition, ErrorCode> {
        let image = self.now();
        if broker(image, from).broker_epoch != broker_epoch {
            return Err(ErrorCode::STALE_BROKER_EPOCH);
        }
        if request.leader_epoch > image.leader_epoch
            || request.partition_epoch > image.partition_epoch
        {
            return Err(ErrorCode::NOT_CONTROLLER);
        }
        if request.leader_epoch < image.leader_epoch {
            return Err(ErrorCode::FENCED_LEADER_EPOCH);
        }
        if image.leader != Some(from) {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        if request.partition_epoch < image.partition_epoch {
            return Err(ErrorCode::INVALID_UPDATE_VERSION);
        }
        let known = |member: &IsrMember| image.replicas.contains(&member.id);
        if !request.new_isr.iter().all(known) {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        let ineligible = request.new_isr.iter().any(|member| {
            let broker = broker(image, member.id);
            let unchecked = member.broker_epoch == UNKNOWN_BROKER_EPOCH;
            broker.fenced || !unchecked && member.broker_epoch != broker.broker_epoch
        });
        if ineligible {
            return Err(ErrorCode::INELIGIBLE_REPLICA);
        }
        self.change(|image| image.isr = request.new_isr.iter().map(|m| m.id).collect());
        let image = self.now();
        if image.leader != Some(from) {
            return Err(ErrorCode::NEW_LEADER_ELECTED);
        }
        Ok(AlteredPartition {
            leader_epoch: image.leader_epoch,
            partition_epoch: image.partition_epoch,
            isr: image.isr.clone(),
            recovering: false,
        })
    }
}

/// Ends a reassignment when all replicas that are to stay are in sync; tells whether one has left.
fn complete_reassignment(image: &mut Image) -> bool {
    let in_sync = |replica: &NodeId| image.isr.contains(replica);
    let Some(target) = image.target.take_if(|target| target.iter().all(in_sync)) else {
        return false;
    };
    let removed = target.len() < image.replicas.len();
    image.isr.retain(|member| target.contains(member));
    if image.leader.is_none_or(|leader| !target.contains(&leader)) {
        let live = |id: &&NodeId| !broker(image, **id).fenced;
        image.leader = image.isr.iter().find(live).copied();
    }
    image.replicas = target;
    removed
}

pub(super) fn broker(image: &Image, id: NodeId) -> Broker {
    let found = image.brokers.iter().find(|broker| broker.id == id);
    *found.expect("every node is registered")
}

fn broker_mut(image: &mut Image, id: NodeId) -> &mut Broker {
    let found = image.brokers.iter_mut().find(|broker| broker.id == id);
    found.expect("every node is registered")
}
