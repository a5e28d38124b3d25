//! What the administrator asks for.

use tidelog_metadata::controller::{ControllerRequest, ControllerResponse};
use tidelog_protocol::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use tidelog_protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use tidelog_protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use tidelog_protocol::messages::elect_leaders::ElectLeadersRequest;
use tidelog_types::{ErrorCode, NodeId, TopicName};

use super::{ADMIN, TOPIC, World, passing};
use crate::message::{Message, Request, Response};
use crate::node::Node;
use crate::random::Random;
use crate::writer::UNCLEAN;

impl World {
    /// Creates what there should be, until it is there.
    pub(super) fn create_topics(&mut self) {
        let mut wanted = vec![(TopicName::from(TOPIC), self.plan.partitions)];
        if !self.consumers.is_empty() {
            wanted.push((TopicName::CONSUMER_OFFSETS, 1));
        }
        if !self.writers.is_empty() {
            wanted.push((TopicName::from(UNCLEAN), 2));
            wanted.push((passing(0), 2));
        }
        for (name, partitions) in wanted {
            if !self.is_created(&name) {
                self.create_topic(&name, partitions);
            }
        }
    }

    pub(super) fn is_created(&self, name: &str) -> bool {
        self.created.iter().any(|created| **created == *name)
    }

    pub(super) fn create_topic(&mut self, name: &str, partitions: i32) {
        let config = |name: &str, value: &str| CreatableTopicConfig {
            name: name.into(),
            value: Some(value.into()),
        };
        // With two replicas it is not rare that the one comes back which lacks what the other has committed alone.
        let (replication_factor, config) = match name {
            UNCLEAN => (2, config("unclean.leader.election.enable", "true")),
            _ => (3, config("min.insync.replicas", "2")),
        };
        let topic = CreatableTopic {
            name: TopicName::from(name),
            num_partitions: partitions,
            replication_factor,
            configs: vec![config],
            ..Default::default()
        };
        let request = ControllerRequest::CreateTopics(CreateTopicsRequest {
            topics: vec![topic],
            timeout_ms: 5_000,
            ..Default::default()
        });
        self.ask_controllers(&request);
    }

    pub(super) fn delete_topic(&mut self, name: &str) {
        let topic = DeleteTopicState {
            name: Some(TopicName::from(name)),
            ..Default::default()
        };
        let request = DeleteTopicsRequest {
            topics: vec![topic],
            timeout_ms: 5_000,
            ..Default::default()
        };
        self.ask_controllers(&ControllerRequest::DeleteTopics {
            api_version: 6,
            request,
        });
    }

    /// Moves a partition to three nodes, in any order.
    pub(super) fn reassign(&mut self, name: TopicName, partition_index: i32, seed: u64) {
        let nodes = self.any_nodes(seed);
        self.ask_for_replicas(name, partition_index, Some(nodes));
    }

    fn any_nodes(&self, seed: u64) -> Vec<NodeId> {
        let mut random = Random::new(seed);
        let mut nodes: Vec<_> = (1..=self.plan.nodes).map(NodeId::new).collect();
        while nodes.len() > 3 {
            nodes.remove(random.below(nodes.len() as u64) as usize);
        }
        nodes.rotate_left(random.below(3) as usize);
        nodes
    }

    /// Has a partition go to these nodes, or stay where it was while it is on its way.
    pub(super) fn ask_for_replicas(
        &mut self,
        name: TopicName,
        partition_index: i32,
        replicas: Option<Vec<NodeId>>,
    ) {
        let partition = ReassignablePartition {
            partition_index,
            replicas,
        };
        let topic = ReassignableTopic {
            name,
            partitions: vec![partition],
        };
        let request = AlterPartitionReassignmentsRequest {
            topics: vec![topic],
            ..Default::default()
        };
        self.ask_controllers(&ControllerRequest::AlterPartitionReassignments(request));
    }

    pub(super) fn elect(&mut self) {
        let request = ElectLeadersRequest {
            topic_partitions: None,
            timeout_ms: 5_000,
            ..Default::default()
        };
        self.ask_controllers(&ControllerRequest::ElectLeaders(request));
    }

    /// Asks whoever holds itself for the controller.
    pub(super) fn ask_controllers(&mut self, request: &ControllerRequest) {
        let controls = |node: &&Node| {
            let process = node.process.as_ref();
            process.is_some_and(|process| process.controller.is_some())
        };
        let controllers: Vec<_> = self
            .nodes
            .iter()
            .filter(controls)
            .map(|node| node.id)
            .collect();
        for node in controllers {
            self.admin_id += 1;
            let id = self.admin_id;
            let request = Request::Controller(request.clone());
            let (_, mut io) = self.at(node);
            io.send(ADMIN, node.value(), Message::Request { id, request });
        }
    }

    pub(super) fn told_admin(&mut self, message: Message) {
        if let Message::Response {
            response: Response::Controller(ControllerResponse::CreateTopics(answer)),
            ..
        } = message
        {
            let topics = answer.topics.into_iter().filter(|topic| {
                topic.error_code.is_ok() || topic.error_code == ErrorCode::TOPIC_ALREADY_EXISTS
            });
            let mut is_new = false;
            for topic in topics {
                let name = topic.name.clone();
                if self.created.insert(topic.name) {
                    is_new = true;
                    self.trace.say(self.now, || format!("{name} is created"));
                }
            }
            if is_new {
                (0..self.consumers.len()).for_each(|index| self.start_consumer(index));
            }
        }
    }
}
