//! Who may do what: the ACLs of a cluster (KIP-140, KIP-290).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use tidelog_protocol::messages::create_acls::{AclCreation, CreateAclsRequest};
use tidelog_protocol::messages::delete_acls::{
    DeleteAclsFilter, DeleteAclsMatchingAcl, DeleteAclsRequest,
};
use tidelog_protocol::messages::describe_acls::{DescribeAclsRequest, DescribeAclsResource};
use tidelog_types::{ErrorCode, Str};

use crate::{Client, ClientError};

/// What stands for any in a filter.
const ANY: i8 = 1;

/// An enum whose variants have a number in messages and a name of Kafka's; numbers that we do not know survive.
macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $number:literal $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
            /// One that this version does not know, by its number in messages.
            Other(i8),
        }

        impl $name {
            /// All that this version knows.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Kafka's name of it; empty if this version does not know it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                    Self::Other(_) => "",
                }
            }

            /// The one of this name, in capitals or not, with `_`, `-` or nothing between words.
            pub fn from_name(name: &str) -> Option<Self> {
                let plain = |name: &str| name.replace(['_', '-'], "").to_ascii_lowercase();
                let name = plain(name);
                Self::ALL.iter().copied().find(|it| plain(it.name()) == name)
            }

            const fn from_number(number: i8) -> Self {
                match number {
                    $($number => Self::$variant,)*
                    other => Self::Other(other),
                }
            }

            const fn number(self) -> i8 {
                match self {
                    $(Self::$variant => $number,)*
                    Self::Other(other) => other,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    Self::Other(number) => write!(f, "{number}"),
                    known => f.write_str(known.name()),
                }
            }
        }
    };
}

numbered! {
    /// What an ACL is about.
    AclResourceType {
        /// A topic.
        Topic = 2 "TOPIC",
        /// A group.
        Group = 3 "GROUP",
        /// The cluster, whose name is `kafka-cluster`.
        Cluster = 4 "CLUSTER",
        /// A transactional id.
        TransactionalId = 5 "TRANSACTIONAL_ID",
        /// A delegation token.
        DelegationToken = 6 "DELEGATION_TOKEN",
        /// A user, as who makes tokens for others sees it (KIP-373).
        User = 7 "USER",
    }
}

numbered! {
    /// How the name in an ACL is meant (KIP-290).
    AclPatternType {
        /// As it is; `*` stands for all.
        Literal = 3 "LITERAL",
        /// As the beginning of names.
        Prefixed = 4 "PREFIXED",
    }
}

numbered! {
    /// What is done.
    AclOperation {
        /// Everything.
        All = 2 "ALL",
        /// Reading.
        Read = 3 "READ",
        /// Writing.
        Write = 4 "WRITE",
        /// Creating.
        Create = 5 "CREATE",
        /// Deleting.
        Delete = 6 "DELETE",
        /// Changing.
        Alter = 7 "ALTER",
        /// Asking about it.
        Describe = 8 "DESCRIBE",
        /// What brokers do among themselves.
        ClusterAction = 9 "CLUSTER_ACTION",
        /// Asking about configs.
        DescribeConfigs = 10 "DESCRIBE_CONFIGS",
        /// Changing configs.
        AlterConfigs = 11 "ALTER_CONFIGS",
        /// Writing as an idempotent producer; implied by the right to write since Kafka 2.8.
        IdempotentWrite = 12 "IDEMPOTENT_WRITE",
        /// Making delegation tokens for another user (KIP-373).
        CreateTokens = 13 "CREATE_TOKENS",
        /// Asking about another user's delegation tokens (KIP-373).
        DescribeTokens = 14 "DESCRIBE_TOKENS",
        /// Taking part in two-phase commits (KIP-939).
        TwoPhaseCommit = 15 "TWO_PHASE_COMMIT",
    }
}

numbered! {
    /// What an ACL says. To deny is stronger than to allow.
    AclPermission {
        /// It may not be done.
        Deny = 2 "DENY",
        /// It may be done.
        Allow = 3 "ALLOW",
    }
}

/// An ACL: who may, or may not, do what to what, from where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Acl {
    /// The kind of resource.
    pub resource_type: AclResourceType,
    /// The name of the resource, its beginning, or `*` for all.
    pub resource_name: Str,
    /// How the name is meant.
    pub pattern_type: AclPatternType,
    /// Who it is, such as `User:alice`; `User:*` is everybody.
    pub principal: Str,
    /// The address from which it is done, or `*`.
    pub host: Str,
    /// What is done.
    pub operation: AclOperation,
    /// Whether that is allowed.
    pub permission: AclPermission,
}

impl Acl {
    /// The name that the cluster has as a resource.
    pub const CLUSTER: Str = Str::from_static("kafka-cluster");

    /// Lets `principal` do something to the resource of exactly this name, from anywhere.
    pub fn allow(
        principal: impl Into<Str>,
        operation: AclOperation,
        resource_type: AclResourceType,
        resource_name: impl Into<Str>,
    ) -> Self {
        Self {
            resource_type,
            resource_name: resource_name.into(),
            pattern_type: AclPatternType::Literal,
            principal: principal.into(),
            host: Str::from_static("*"),
            operation,
            permission: AclPermission::Allow,
        }
    }
}

impl fmt::Display for Acl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            resource_type,
            resource_name,
            pattern_type,
            principal,
            host,
            operation,
            permission,
        } = self;
        write!(
            f,
            "{permission} {principal} {operation} on {resource_type} {resource_name}"
        )?;
        if *pattern_type != AclPatternType::Literal {
            write!(f, " ({pattern_type})")?;
        }
        match host.as_str() {
            "*" => Ok(()),
            host => write!(f, " from {host}"),
        }
    }
}

/// How the name in an ACL has to be meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AclPatternFilter {
    /// Anyhow.
    #[default]
    Any,
    /// Such that it covers the name in the filter: that name itself, a beginning of it, or `*`.
    Match,
    /// In this way.
    Is(AclPatternType),
}

/// What ACLs have to be like. What is left out may be anything, so that the default fits all ACLs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AclFilter {
    /// The kind of resource.
    pub resource_type: Option<AclResourceType>,
    /// The name.
    pub resource_name: Option<Str>,
    /// How the name is meant.
    pub pattern: AclPatternFilter,
    /// Who it is.
    pub principal: Option<Str>,
    /// From where it is done.
    pub host: Option<Str>,
    /// What is done.
    pub operation: Option<AclOperation>,
    /// What the ACL says.
    pub permission: Option<AclPermission>,
}

impl AclFilter {
    fn request(&self) -> DescribeAclsRequest {
        DescribeAclsRequest {
            resource_type_filter: self.resource_type.map_or(ANY, AclResourceType::number),
            resource_name_filter: self.resource_name.clone(),
            pattern_type_filter: self.pattern_number(),
            principal_filter: self.principal.clone(),
            host_filter: self.host.clone(),
            operation: self.operation.map_or(ANY, AclOperation::number),
            permission_type: self.permission.map_or(ANY, AclPermission::number),
        }
    }

    const fn pattern_number(&self) -> i8 {
        match self.pattern {
            AclPatternFilter::Any => ANY,
            AclPatternFilter::Match => 2,
            AclPatternFilter::Is(pattern_type) => pattern_type.number(),
        }
    }
}

/// What became of each ACL.
pub type PerAcl = BTreeMap<Acl, Result<(), ClientError>>;

impl Client {
    /// Creates ACLs. One that exists already is created, too.
    ///
    /// A broker without an authorizer refuses (SECURITY_DISABLED); one that knows no ACLs at all, as Tidelog's of this version, is
    /// [`Unsupported`](ClientError::Unsupported), here and in the calls below.
    ///
    /// ```no_run
    /// # async fn example(client: &tidelog_client::Client) -> Result<(), tidelog_client::ClientError> {
    /// use tidelog_client::{Acl, AclOperation, AclResourceType};
    ///
    /// let acl = Acl::allow("User:alice", AclOperation::Read, AclResourceType::Topic, "orders");
    /// for (acl, created) in client.create_acls(&[acl]).await? {
    ///     created?;
    ///     println!("{acl}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn create_acls(&self, acls: &[Acl]) -> Result<PerAcl, ClientError> {
        let acls = acls.iter().cloned().collect();
        self.settle(acls, |acls: BTreeSet<Acl>| async move {
            let creations = acls.iter().map(|acl| AclCreation {
                resource_type: acl.resource_type.number(),
                resource_name: acl.resource_name.clone(),
                resource_pattern_type: acl.pattern_type.number(),
                principal: acl.principal.clone(),
                host: acl.host.clone(),
                operation: acl.operation.number(),
                permission_type: acl.permission.number(),
            });
            let request = CreateAclsRequest {
                creations: creations.collect(),
            };
            let answer = self.controller().await?.send(&request).await?;
            let results = acls.into_iter().zip(answer.results).map(|(acl, result)| {
                let message = result.error_message.as_ref();
                let checked = ClientError::check(result.error_code, message, || acl.to_string());
                (acl, checked)
            });
            Ok(results.collect())
        })
        .await
    }

    /// The ACLs that fit a filter, in order.
    pub async fn describe_acls(&self, filter: &AclFilter) -> Result<Vec<Acl>, ClientError> {
        let answer = self.ask_any(&filter.request()).await?;
        let message = answer.error_message.as_ref();
        ClientError::check(answer.error_code, message, || "the ACLs".to_owned())?;
        let mut acls: Vec<_> = answer.resources.into_iter().flat_map(of_resource).collect();
        acls.sort();
        Ok(acls)
    }

    /// Deletes the ACLs that fit any of these filters. For each filter, in their order, it says which those were.
    pub async fn delete_acls(
        &self,
        filters: &[AclFilter],
    ) -> Result<Vec<Result<PerAcl, ClientError>>, ClientError> {
        let wanted = filters.iter().map(|filter| {
            let filter = filter.request();
            DeleteAclsFilter {
                resource_type_filter: filter.resource_type_filter,
                resource_name_filter: filter.resource_name_filter,
                pattern_type_filter: filter.pattern_type_filter,
                principal_filter: filter.principal_filter,
                host_filter: filter.host_filter,
                operation: filter.operation,
                permission_type: filter.permission_type,
            }
        });
        let request = DeleteAclsRequest {
            filters: wanted.collect(),
        };
        let answer = self.ask_controller(&request, |answer| {
            let first = answer.filter_results.first();
            first.map_or(ErrorCode::NONE, |first| first.error_code)
        });
        let results = answer.await?.filter_results.into_iter().map(|result| {
            let message = result.error_message.as_ref();
            ClientError::check(result.error_code, message, || "the ACLs".to_owned())?;
            Ok(result.matching_acls.into_iter().map(deleted).collect())
        });
        Ok(results.collect())
    }
}

fn of_resource(resource: DescribeAclsResource) -> impl Iterator<Item = Acl> {
    let DescribeAclsResource {
        resource_type,
        resource_name,
        pattern_type,
        acls,
    } = resource;
    acls.into_iter().map(move |acl| Acl {
        resource_type: AclResourceType::from_number(resource_type),
        resource_name: resource_name.clone(),
        pattern_type: AclPatternType::from_number(pattern_type),
        principal: acl.principal,
        host: acl.host,
        operation: AclOperation::from_number(acl.operation),
        permission: AclPermission::from_number(acl.permission_type),
    })
}

fn deleted(matching: DeleteAclsMatchingAcl) -> (Acl, Result<(), ClientError>) {
    let acl = Acl {
        resource_type: AclResourceType::from_number(matching.resource_type),
        resource_name: matching.resource_name,
        pattern_type: AclPatternType::from_number(matching.pattern_type),
        principal: matching.principal,
        host: matching.host,
        operation: AclOperation::from_number(matching.operation),
        permission: AclPermission::from_number(matching.permission_type),
    };
    let message = matching.error_message.as_ref();
    let checked = ClientError::check(matching.error_code, message, || acl.to_string());
    (acl, checked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_go_together() {
        for operation in AclOperation::ALL {
            assert_eq!(AclOperation::from_number(operation.number()), *operation);
            assert_eq!(AclOperation::from_name(operation.name()), Some(*operation));
        }
        let described = AclOperation::from_name("DescribeConfigs");
        assert_eq!(described, Some(AclOperation::DescribeConfigs));
        let id = AclResourceType::from_name("transactional-id");
        assert_eq!(id, Some(AclResourceType::TransactionalId));
        assert_eq!(AclOperation::from_name(""), None);
        assert_eq!(AclOperation::from_number(99), AclOperation::Other(99));
        assert_eq!(AclOperation::Other(99).number(), 99);
    }
}
