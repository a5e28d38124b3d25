//! `tidelog acl`: who may do what, over the wire, so that it serves every Kafka cluster.

use std::collections::BTreeMap;
use std::error::Error;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tidelog_client::{
    Acl, AclFilter, AclOperation, AclPatternFilter, AclPatternType, AclPermission, AclResourceType,
    Client, PerAcl,
};
use tidelog_types::Str;

use crate::connect::Common;
use crate::output::{Format, Outcome, pretty, settled, table};

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: Common,
}

#[derive(Subcommand)]
enum Command {
    /// Create ACLs: one for each principal, operation and resource that is named.
    Create {
        #[command(flatten)]
        who: Who,
        /// What is done, such as read or describe-configs, or all; several with commas between them.
        #[arg(long, short, value_name = "LIST", value_delimiter = ',', required = true, value_parser = operation)]
        operation: Vec<AclOperation>,
        #[command(flatten)]
        resources: Resources,
        /// Names are beginnings of names.
        #[arg(long)]
        prefixed: bool,
        /// From these addresses only; may be given several times.
        #[arg(long, value_name = "ADDRESS", default_value = "*")]
        host: Vec<String>,
    },
    /// List ACLs.
    List {
        #[command(flatten)]
        filter: Filter,
    },
    /// Delete the ACLs that are like this.
    Delete {
        #[command(flatten)]
        filter: Filter,
        /// All of them, if nothing else is said.
        #[arg(long)]
        all: bool,
        /// Only show which would be deleted.
        #[arg(long)]
        dry_run: bool,
    },
}

/// To whom an ACL applies, and which way.
#[derive(Args)]
#[group(required = true, multiple = true)]
struct Who {
    /// Who may do it, such as User:alice; User:* is everybody. May be given several times.
    #[arg(long, alias = "allow-principal", value_name = "PRINCIPAL", value_parser = principal)]
    allow: Vec<Str>,
    /// Who may not. May be given several times.
    #[arg(long, alias = "deny-principal", value_name = "PRINCIPAL", value_parser = principal)]
    deny: Vec<Str>,
}

/// To what.
#[derive(Args)]
#[group(required = true, multiple = true)]
struct Resources {
    /// To a topic; * is all. May be given several times, like those below.
    #[arg(long, short, value_name = "TOPIC")]
    topic: Vec<String>,
    /// To a group.
    #[arg(long, short, value_name = "GROUP")]
    group: Vec<String>,
    /// To a transactional id.
    #[arg(long, value_name = "ID")]
    transactional_id: Vec<String>,
    /// To the delegation tokens of a user.
    #[arg(long, value_name = "NAME")]
    delegation_token: Vec<String>,
    /// To a user, as who makes delegation tokens for others sees it.
    #[arg(long, value_name = "PRINCIPAL")]
    user_principal: Vec<String>,
    /// To the cluster.
    #[arg(long)]
    cluster: bool,
}

/// What ACLs have to be like. What is not said may be anything.
#[derive(Args)]
struct Filter {
    /// Those of a principal, such as User:alice.
    #[arg(long, value_name = "PRINCIPAL", value_parser = principal)]
    principal: Option<Str>,
    /// Those for an operation.
    #[arg(long, short, value_name = "OPERATION", value_parser = operation)]
    operation: Option<AclOperation>,
    /// Those that allow, or those that deny.
    #[arg(long, value_name = "allow|deny", value_parser = permission)]
    permission: Option<AclPermission>,
    /// Those for an address.
    #[arg(long, value_name = "ADDRESS")]
    host: Option<String>,
    /// Those of a topic.
    #[arg(long, short, value_name = "TOPIC", group = "resource")]
    topic: Option<String>,
    /// Those of a group.
    #[arg(long, short, value_name = "GROUP", group = "resource")]
    group: Option<String>,
    /// Those of a transactional id.
    #[arg(long, value_name = "ID", group = "resource")]
    transactional_id: Option<String>,
    /// Those of the cluster.
    #[arg(long, group = "resource")]
    cluster: bool,
    /// Those of resources of this type, whatever they are called.
    #[arg(long = "type", value_name = "TYPE", group = "resource", value_parser = resource_type)]
    resource_type: Option<AclResourceType>,
    /// Those that apply to what is named: also by a beginning of its name, or by *.
    #[arg(long, requires = "resource")]
    matching: bool,
    /// Those whose name is the beginning of names.
    #[arg(long, conflicts_with = "matching")]
    prefixed: bool,
}

fn operation(text: &str) -> Result<AclOperation, String> {
    AclOperation::from_name(text)
        .ok_or_else(|| one_of(AclOperation::ALL.iter().map(|it| it.name())))
}

fn permission(text: &str) -> Result<AclPermission, String> {
    AclPermission::from_name(text)
        .ok_or_else(|| one_of(AclPermission::ALL.iter().map(|it| it.name())))
}

fn resource_type(text: &str) -> Result<AclResourceType, String> {
    AclResourceType::from_name(text)
        .ok_or_else(|| one_of(AclResourceType::ALL.iter().map(|it| it.name())))
}

fn one_of(names: impl Iterator<Item = &'static str>) -> String {
    let names: Vec<_> = names
        .map(|name| name.replace('_', "-").to_lowercase())
        .collect();
    format!("expected one of {}", names.join(", "))
}

fn principal(text: &str) -> Result<Str, String> {
    match text.split_once(':') {
        Some((kind, name)) if !kind.is_empty() && !name.is_empty() => Ok(text.into()),
        _ => Err(format!("expected a type and a name, such as User:{text}")),
    }
}

impl Resources {
    fn all(&self) -> Vec<(AclResourceType, Str)> {
        let kinds = [
            (AclResourceType::Topic, &self.topic),
            (AclResourceType::Group, &self.group),
            (AclResourceType::TransactionalId, &self.transactional_id),
            (AclResourceType::DelegationToken, &self.delegation_token),
            (AclResourceType::User, &self.user_principal),
        ];
        let named = kinds.into_iter().flat_map(|(kind, names)| {
            names
                .iter()
                .map(move |name| (kind, Str::from(name.as_str())))
        });
        let cluster = self
            .cluster
            .then_some((AclResourceType::Cluster, Acl::CLUSTER));
        named.chain(cluster).collect()
    }
}

impl Filter {
    fn filter(&self) -> AclFilter {
        let named = [
            (AclResourceType::Topic, &self.topic),
            (AclResourceType::Group, &self.group),
            (AclResourceType::TransactionalId, &self.transactional_id),
        ];
        let named = named.into_iter().find_map(|(kind, name)| {
            let name = name.as_deref()?;
            Some((kind, Str::from(name)))
        });
        let cluster = self
            .cluster
            .then_some((AclResourceType::Cluster, Acl::CLUSTER));
        let (kind, name) = named.or(cluster).unzip();
        AclFilter {
            resource_type: kind.or(self.resource_type),
            resource_name: name,
            pattern: match (self.matching, self.prefixed) {
                (true, _) => AclPatternFilter::Match,
                (_, true) => AclPatternFilter::Is(AclPatternType::Prefixed),
                _ => AclPatternFilter::Any,
            },
            principal: self.principal.clone(),
            host: self.host.as_deref().map(Str::from),
            operation: self.operation,
            permission: self.permission,
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let run = async |client: &Client, format| match &arguments.command {
        Command::Create {
            who,
            operation,
            resources,
            prefixed,
            host,
        } => {
            let acls = acls(who, operation, resources, *prefixed, host);
            let created = client.create_acls(&acls).await?;
            Ok(changed(created, "created", "created", true, format))
        }
        Command::List { filter } => {
            let acls = client.describe_acls(&filter.filter()).await?;
            Ok(list(&acls, format).into())
        }
        Command::Delete {
            filter,
            all,
            dry_run,
        } => delete(client, &filter.filter(), *all, *dry_run, format).await,
    };
    arguments.common.run(run)
}

fn acls(
    who: &Who,
    operations: &[AclOperation],
    resources: &Resources,
    prefixed: bool,
    hosts: &[String],
) -> Vec<Acl> {
    let allowed = who.allow.iter().map(|it| (it, AclPermission::Allow));
    let denied = who.deny.iter().map(|it| (it, AclPermission::Deny));
    let mut acls = Vec::new();
    for (principal, permission) in allowed.chain(denied) {
        for (resource_type, resource_name) in resources.all() {
            for operation in operations {
                for host in hosts {
                    acls.push(Acl {
                        resource_type,
                        resource_name: resource_name.clone(),
                        // The cluster has one name only.
                        pattern_type: match prefixed && resource_type != AclResourceType::Cluster {
                            true => AclPatternType::Prefixed,
                            false => AclPatternType::Literal,
                        },
                        principal: principal.clone(),
                        host: host.as_str().into(),
                        operation: *operation,
                        permission,
                    });
                }
            }
        }
    }
    acls
}

async fn delete(
    client: &Client,
    filter: &AclFilter,
    all: bool,
    dry_run: bool,
    format: Format,
) -> Result<Outcome, Box<dyn Error>> {
    if *filter == AclFilter::default() && !all {
        return Err("this would delete every ACL; say which, or --all".into());
    }
    let deleted: PerAcl = match dry_run {
        true => {
            let acls = client.describe_acls(filter).await?;
            acls.into_iter().map(|acl| (acl, Ok(()))).collect()
        }
        false => {
            let results = client.delete_acls(std::slice::from_ref(filter)).await?;
            let mut deleted = BTreeMap::new();
            for result in results {
                deleted.extend(result?);
            }
            deleted
        }
    };
    if deleted.is_empty() && format == Format::Text {
        return Ok("there are no such ACLs".to_owned().into());
    }
    let what = match dry_run {
        true => "would be deleted",
        false => "deleted",
    };
    Ok(changed(deleted, what, "deleted", !dry_run, format))
}

/// What became of each ACL, in words and under a key of JSON.
fn changed(results: PerAcl, what: &str, key: &str, executed: bool, format: Format) -> Outcome {
    let settled = settled("acl", results);
    let done = settled.done.iter().map(|(acl, ())| acl);
    let said = match format {
        Format::Text => {
            let lines: Vec<_> = done.map(|acl| format!("{what}: {acl}")).collect();
            lines.join("\n")
        }
        Format::Json => {
            let done: Vec<_> = done.map(in_json).collect();
            pretty(&json!({ "executed": executed, key: done, "failed": settled.failed }))
        }
    };
    Outcome::new(said, settled.failures)
}

fn list(acls: &[Acl], format: Format) -> String {
    if format == Format::Json {
        let acls: Vec<_> = acls.iter().map(in_json).collect();
        return pretty(&json!({ "acls": acls }));
    }
    if acls.is_empty() {
        return "there are no such ACLs".to_owned();
    }
    let rows = acls.iter().map(|acl| {
        vec![
            acl.resource_type.to_string(),
            acl.resource_name.to_string(),
            acl.pattern_type.to_string(),
            acl.principal.to_string(),
            acl.host.to_string(),
            acl.operation.to_string(),
            acl.permission.to_string(),
        ]
    });
    let heads = [
        "TYPE",
        "RESOURCE",
        "PATTERN",
        "PRINCIPAL",
        "HOST",
        "OPERATION",
        "PERMISSION",
    ];
    table(&heads, rows)
}

fn in_json(acl: &Acl) -> Value {
    json!({
        "resourceType": acl.resource_type.to_string(),
        "resourceName": acl.resource_name.as_str(),
        "patternType": acl.pattern_type.to_string(),
        "principal": acl.principal.as_str(),
        "host": acl.host.as_str(),
        "operation": acl.operation.to_string(),
        "permission": acl.permission.to_string(),
    })
}
